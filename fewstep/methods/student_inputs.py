"""The student's inputs: pure noise, noised real images, and its own re-noised outputs."""

from itertools import accumulate
from typing import NamedTuple

import numpy as np
import torch

from fewstep.engine.batches import send_indices
from src.utils import UserError


class Visit(NamedTuple):
    """A place on a sampling path: evaluation number `place`, from 0, of path number `path`."""

    path: int
    place: int


class Parts(NamedTuple):
    """Which inputs of a batch are of each kind, as slices in this order: pure noise at the first
    level, the student's own outputs re-noised, real images noised."""

    pure: slice
    own: slice
    real: slice


class StudentInputs:
    """Noisy inputs at the levels of the sampling paths.

    E.g. levels a > b > c > d and the shares 0.5, 0.125, 0.25, 0.125 of them: the paths are a (NFE
    1), a c (NFE 2) and a b c d (NFE 4). Half of a batch is pure noise at a. Beyond it are d and c
    of the longest path, c of the second one, and b, each with the weight 0.125: c stands on two
    paths, which share its 0.25.

    levels: {nfe: falling sigmas}, the longest of which has every level. device: of the inputs.
    denoise(x, sigma, next_sigma): the student. noise_like(x): fresh noise. settings: the fields
    `level_shares` (how often each level of the longest path is trained) and `self_input_share` (of
    the inputs below the first level, how many are the student's own).
    """

    def __init__(self, levels, device, denoise, noise_like, settings):
        self.denoise, self.noise_like, self.device = denoise, noise_like, device
        paths = list(levels.values())
        every, shares = max(paths, key=len), settings.level_shares
        self.longest = len(every)
        # Row: path, column: place, then 0 for all that follows the last level.
        rows = [list(path) + [0.0] * (self.longest + 1 - len(path)) for path in paths]
        self.table = torch.tensor(rows, device=device)
        self.first_share = shares[0] / sum(shares)
        self.self_input_share = settings.self_input_share
        # All places beyond the first, the farthest first, and how often each is visited.
        later = [
            Visit(path, place) for path, row in enumerate(paths) for place in range(1, len(row))
        ]
        self.later = sorted(later, key=lambda visit: -visit.place)
        wanted = [_share(paths, visit, every, shares) for visit in self.later]
        self.later_shares = [share / (sum(wanted) or 1.0) for share in wanted]

    def parts(self, batch):
        """The `Parts` of `batch` inputs: of each kind a fixed number."""
        first = round(batch * self.first_share)
        last_own = first + round((batch - first) * self.self_input_share)
        return Parts(slice(first), slice(first, last_own), slice(last_own, batch))

    @torch.no_grad()
    def draw(self, x0, seed, with_own=True):
        """(inputs, their levels, the levels that follow) for real images `[B, C, H, W]`.

        In the order of `Parts`. The student's own are re-noised along the very path that sampling
        takes (backward simulation, DMD2, arXiv:2405.14867, sec. 4.5), real images as in ADD
        (arXiv:2311.17042). seed: of which levels are visited; the rest is torch's. with_own: else
        real images stand in for the student's own.
        """
        rng, batch = np.random.default_rng(seed), len(x0)
        pure, own, real = self.parts(batch)
        if not with_own:
            own, real = slice(own.start, own.start), slice(own.start, batch)
        own_visits = self.visits_beyond_first(own.stop - own.start, rng)
        visits = self.first_visits(pure.stop, rng) + own_visits
        visits += self.visits_beyond_first(real.stop - real.start, rng)
        paths, places = self._on_device(visits)
        sigma, next_sigma = self.table[paths, places], self.table[paths, places + 1]
        noise = self.noise_like(x0)
        x = x0 + per_image(sigma) * noise
        x[pure] = per_image(sigma[pure]) * noise[pure]
        if own_visits:
            x[own] = self._simulate(own_visits, paths[own], self.noise_like(x0[own]))
        return x, sigma, next_sigma

    def first_visits(self, count, rng):
        """`count` first evaluations, of paths drawn at random."""
        return [Visit(int(path), 0) for path in rng.integers(len(self.table), size=count)]

    def visits_beyond_first(self, count, rng):
        """`count` evaluations beyond the first by their shares, the farthest first.

        Systematic sampling: one random number, then even spacing, so each is visited as often as
        its share says, up to one.
        """
        # Off the very ends, where rounding could lead into a neighbour.
        offset = rng.uniform(0.001, 0.999)
        points = (offset + np.arange(count)) / max(1, count)
        bounds = list(accumulate(self.later_shares))[:-1]
        return [self.later[pick] for pick in np.searchsorted(bounds, points, side="right")]

    def _on_device(self, visits):
        """(paths, places) of a list of visits, as tensors on the device."""
        numbers = np.array(visits, dtype=np.int64).reshape(-1, 2).T
        return send_indices(numbers, self.device)

    def _simulate(self, visits, paths, noise):
        """Follow each visit's path from pure noise up to its place. Returns noisy images there."""
        x = per_image(self.table[paths, 0]) * noise
        for hop in range(self.longest - 1):
            # Farthest first: those that are still on their way come before all that have arrived.
            count = sum(visit.place > hop for visit in visits)
            if not count:
                break
            sigma, next_sigma = self.table[paths[:count], hop], self.table[paths[:count], hop + 1]
            denoised = self.denoise(x[:count], sigma, next_sigma)
            x[:count] = denoised + per_image(next_sigma) * self.noise_like(denoised)
        return x


def per_image(values):
    """`(B,)` -> a shape that multiplies images `[B, C, H, W]`."""
    return values.reshape(-1, 1, 1, 1)


def _share(paths, visit, every, shares):
    """How often a place is visited: paths that share a level are taken equally often there."""
    level = paths[visit.path][visit.place]
    return shares[every.index(level)] / sum(level in path for path in paths)


def check_falling(flags, sigmas):
    """Raise `UserError`, naming the flags, unless the four levels fall."""
    if any(a <= b for a, b in zip(sigmas, sigmas[1:])):
        raise UserError(f"{flags}: {sigmas} must be four levels from largest to smallest")


def nfe_table(sigmas):
    """The levels of each number of evaluations, from the four: {"1": [s0], "2": [s0, s2], ...}."""
    return {"1": [sigmas[0]], "2": [sigmas[0], sigmas[2]], "4": list(sigmas)}
