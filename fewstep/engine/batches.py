"""Batches as a function of the step alone, so that a resumed run sees the same images."""

import numpy as np
import torch

from fewstep.engine.processes import ALONE

BLOCK = 4096  # images copied to the device at once


class StepBatches:
    """`batches(step)` -> float images `[B / count, 3, H, W]` in [-1, 1] on `device`: the share of
    one of `count` processes in the step's batch of B.

    Every epoch is a permutation drawn from (seed, epoch); a step mirrors the images that (seed,
    step) says. channels_last: memory layout of the result. on_device: keep all images, as bytes, in
    the device's memory; else each batch is read from the cache.
    """

    def __init__(
        self,
        cache,
        batch_size,
        seed,
        x_flip,
        device,
        on_device=False,
        channels_last=False,
        processes=ALONE,
    ):
        self.cache, self.batch_size, self.seed = cache, batch_size, seed
        self.x_flip, self.device = x_flip, device
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        share = batch_size // processes.count
        self.mine = slice(processes.rank * share, (processes.rank + 1) * share)
        self.epoch, self.order = -1, None
        self.stored = _on_device(cache, device) if on_device else None

    def __call__(self, step):
        indices, mirrored = self._indices(step)[self.mine], self._mirrored(step)[self.mine]
        if self.stored is None:
            pixels = self.cache.take(indices)
            pixels[torch.from_numpy(mirrored)] = pixels[torch.from_numpy(mirrored)].flip(2)
            pixels = send(pixels, self.device)
        else:
            indices, mirrored = send_indices(np.stack([indices, mirrored]), self.device)
            pixels = self.stored[indices]
            pixels = torch.where(mirrored.bool()[:, None, None, None], pixels.flip(2), pixels)
        return to_float(pixels).contiguous(memory_format=self.layout)

    def _indices(self, step):
        """Which images are in the step's batch, those of all processes."""
        places = np.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, places = np.divmod(places, len(self.cache))
        return np.concatenate(
            [self._order(epoch)[places[epochs == epoch]] for epoch in np.unique(epochs)]
        )

    def _mirrored(self, step):
        if not self.x_flip:
            return np.zeros(self.batch_size, dtype=bool)
        return np.random.default_rng([self.seed, step, 1]).random(self.batch_size) < 0.5

    def _order(self, epoch):
        if epoch != self.epoch:
            generator = np.random.default_rng([self.seed, int(epoch)])
            self.epoch, self.order = epoch, generator.permutation(len(self.cache))
        return self.order


def fits_on_device(choice, cache, device):
    """Whether --data_on_device `choice` keeps these images there; auto: on a GPU, where they take
    less than a quarter of the memory that is free."""
    if choice == "auto" and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return cache.images.nbytes < free / 4
    return choice == "on"


def _on_device(cache, device):
    stored = torch.empty(cache.images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(cache), BLOCK):
        block = range(start, min(start + BLOCK, len(cache)))
        stored[block.start : block.stop] = cache.take(block).to(device)
    return stored


def send(tensor, device):
    """To the device; from pinned memory the host need not wait until it has arrived."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def send_indices(indices, device):
    """An integer array to the device, an int64 tensor; the host need not wait until it arrived."""
    host = torch.empty(indices.shape, dtype=torch.int64, pin_memory=device.type == "cuda")
    host.numpy()[...] = indices
    return host.to(device, non_blocking=True)


def to_float(pixels):
    """uint8 `[B, H, W, 3]` -> float32 `[B, 3, H, W]` in [-1, 1]."""
    return pixels.movedim(-1, 1).float().div(127.5).sub(1)


def pixel_std(cache, sample=4096):
    """Standard deviation of the pixels in [-1, 1] over an even sample of the images: sigma_data."""
    picks = np.linspace(0, len(cache) - 1, min(sample, len(cache))).astype(int)
    pixels = cache.take(picks).numpy()
    return round(float(pixels.std(dtype=np.float64)) / 127.5, 4)
