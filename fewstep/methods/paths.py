"""The noise levels that few-step sampling visits, as a table to draw training inputs from."""

import itertools
import math

import torch


class Paths:
    """The noise levels along each sampling path as one table, drawn from and looked up in batches.

    levels: {nfe: [falling sigmas]}, the longest of which has every level; shares: how often each of
    those is wanted. Row r, place p is the level of evaluation p of path r.
    """

    def __init__(self, levels, device, shares):
        paths = list(levels.values())
        every = max(paths, key=len)
        self.longest = len(every)
        rows = [list(row) + [0.0] * (self.longest + 1 - len(row)) for row in paths]
        self.table = torch.tensor(rows, device=device)
        later = [(r, p) for r, row in enumerate(paths) for p in range(1, len(row))]
        later.sort(key=lambda pair: -pair[1])
        visits = [sum(level in row for row in paths) for level in every]
        # Paths that share a level are taken equally often there.
        which = [every.index(paths[r][p]) for r, p in later]
        weights = [shares[level] / visits[level] for level in which]
        total = sum(weights)
        self.weights = [weight / total if total else 0.0 for weight in weights]
        self.places = [place for _, place in later]
        self.pairs = torch.tensor(later, device=device)
        # The last bound is left out, so that no rounding can lead beyond it.
        bounds = list(itertools.accumulate(self.weights))[:-1]
        self.bounds = torch.tensor(bounds, dtype=torch.float32, device=device)

    def first(self, count):
        """`count` random (rows, places) at place 0."""
        rows = torch.randint(len(self.table), (count,), device=self.table.device)
        return rows, torch.zeros_like(rows)

    def later(self, count):
        """`count` random (rows, places) beyond place 0 by their shares, farthest places first.

        Systematic sampling: one random number, then even spacing. Each kind is drawn as often as
        its share says, up to one, so `most_beyond` can be a fixed number.
        """
        device = self.table.device
        # Off the very ends, where rounding could pass a bound.
        offset = 0.001 + 0.998 * torch.rand(1, device=device)
        points = (offset + torch.arange(count, device=device)) / max(1, count)
        picks = self.pairs[torch.bucketize(points, self.bounds, right=True)]
        return picks[:, 0], picks[:, 1]

    def most_beyond(self, place, count):
        """How many of `later(count)`, from the first on, can lie beyond `place`."""
        share = sum(w for w, p in zip(self.weights, self.places) if p > place)
        return math.ceil(count * share - 1e-4)

    def at(self, rows, places):
        """The levels there and the levels that follow (0 after the last)."""
        return self.table[rows, places], self.table[rows, places + 1]
