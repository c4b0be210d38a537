"""What the student is shown: pure noise, noised real images, and its own re-noised outputs."""

import torch

from fewstep.methods.paths import Paths


class StudentInputs:
    """Noisy inputs at the levels of the sampling paths.

    denoise(x, sigma, next_sigma): the student. level_shares: share of each level of the longest
    path. self_input_share: of the inputs below the first level, how many are the student's own.
    """

    def __init__(self, levels, device, denoise, noise_like, level_shares, self_input_share):
        self.paths = Paths(levels, device, level_shares)
        self.denoise, self.noise_like = denoise, noise_like
        self.first_share = level_shares[0] / sum(level_shares)
        self.self_input_share = self_input_share

    def count_first(self, batch):
        """How many of `batch` inputs are pure noise at the first level: a fixed number."""
        return round(batch * self.first_share)

    @torch.no_grad()
    def draw(self, x0):
        """(inputs, their levels, the levels that follow) for real images `[B, C, H, W]`.

        First come pure noise, then the student's own output re-noised along the very path that
        sampling takes (backward simulation, DMD2, arXiv:2405.14867, sec. 4.5), then real images
        noised (ADD, arXiv:2311.17042).
        """
        batch = len(x0)
        first = self.count_first(batch)
        own = round((batch - first) * self.self_input_share)
        later = self.paths.later
        drawn = self.paths.first(first), later(own), later(batch - first - own)
        rows, places = (torch.cat(pieces) for pieces in zip(*drawn))
        sigma, next_sigma = self.paths.at(rows, places)
        noise = self.noise_like(x0)
        x = x0 + sigma.reshape(-1, 1, 1, 1) * noise
        x[:first] = sigma[:first].reshape(-1, 1, 1, 1) * noise[:first]
        mine = slice(first, first + own)
        if own:
            x[mine] = self._simulate(rows[mine], places[mine], self.noise_like(x0[mine]))
        return x, sigma, next_sigma

    def draw_first(self, x0):
        """The same with all inputs pure noise at the first level."""
        sigma, next_sigma = self.paths.at(*self.paths.first(len(x0)))
        return sigma.reshape(-1, 1, 1, 1) * self.noise_like(x0), sigma, next_sigma

    def _simulate(self, rows, places, noise):
        """Follow each row's path from pure noise up to its place. Returns noisy images there."""
        start, _ = self.paths.at(rows, torch.zeros_like(places))
        x = start.reshape(-1, 1, 1, 1) * noise
        for hop in range(self.paths.longest - 1):
            # Rows come with the farthest places first: the others have arrived.
            count = self.paths.most_beyond(hop, len(rows))
            if not count:
                break
            active = (places[:count] > hop).reshape(-1, 1, 1, 1)
            before = (places[:count] - 1).clamp(max=hop)
            sigma, next_sigma = self.paths.at(rows[:count], before)
            denoised = self.denoise(x[:count], sigma, next_sigma)
            renoised = denoised + next_sigma.reshape(-1, 1, 1, 1) * self.noise_like(denoised)
            x[:count] = torch.where(active, renoised, x[:count])
        return x
