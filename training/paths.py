"""The noise levels that few-step sampling visits, as a table to draw training inputs from."""

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
        visits = [sum(level in row for row in paths) for level in every]
        # Paths that share a level are taken equally often there.
        which = [every.index(paths[r][p]) for r, p in later]
        weights = [shares[level] / visits[level] for level in which]
        self.later = torch.tensor(later, device=device)
        self.weights = torch.tensor(weights, dtype=torch.float32, device=device)

    def draw(self, first, rest):
        """Random (rows, places): `first` at place 0, then `rest` later ones by their shares."""
        device = self.table.device
        starts = torch.randint(len(self.table), (first,), device=device)
        if not rest:
            return starts, torch.zeros_like(starts)
        picks = self.later[torch.multinomial(self.weights, rest, replacement=True)]
        rows = torch.cat([starts, picks[:, 0]])
        return rows, torch.cat([torch.zeros_like(starts), picks[:, 1]])

    def at(self, rows, places):
        """The levels there and the levels that follow (0 after the last)."""
        return self.table[rows, places], self.table[rows, places + 1]
