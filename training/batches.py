"""Batches as a function of the step alone, so that a resumed run sees the same images."""

import numpy as np
import torch


class StepBatches:
    """`batches(step)` -> float images `[B, 3, H, W]` in [-1, 1] on `device`.

    Every epoch is a permutation drawn from (seed, epoch). Mirroring draws from torch's global
    generator, which the loop seeds anew at each step.
    """

    def __init__(self, cache, batch_size, seed, x_flip, device):
        self.cache, self.batch_size, self.seed = cache, batch_size, seed
        self.x_flip, self.device = x_flip, device
        self.epoch, self.order = -1, None

    def __call__(self, step):
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, places = np.divmod(places, len(self.cache))
        indices = np.concatenate(
            [self._order(epoch)[places[epochs == epoch]] for epoch in np.unique(epochs)]
        )
        x = to_float(self.cache.take(indices).to(self.device, non_blocking=True))
        if self.device.type == "cpu":
            # Bytes lie channels-last, which GPUs want and which slows a CPU's convolutions by half.
            x = x.contiguous()
        if self.x_flip:
            mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
            x = torch.where(mirrored, x.flip(-1), x)
        return x

    def _order(self, epoch):
        if epoch != self.epoch:
            generator = np.random.default_rng([self.seed, int(epoch)])
            self.epoch, self.order = epoch, generator.permutation(len(self.cache))
        return self.order


def to_float(pixels):
    """uint8 `[B, H, W, 3]` -> float32 `[B, 3, H, W]` in [-1, 1]."""
    return pixels.movedim(-1, 1).float().div(127.5).sub(1)


def pixel_std(cache, sample=4096):
    """Standard deviation of the pixels in [-1, 1] over an even sample of the images: sigma_data."""
    picks = np.linspace(0, len(cache) - 1, min(sample, len(cache))).astype(int)
    pixels = cache.take(picks).numpy()
    return round(float(pixels.std(dtype=np.float64)) / 127.5, 4)
