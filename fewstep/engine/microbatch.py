"""A step's batch in micro-batches, each with a seed of its own.

A micro-batch is what one process takes at once. All that is drawn, and all that images of a batch
are compared by (spread of the minibatch, balance of gradients), stays within one, and gradients are
means over them. So the same micro-batches give the same step, whether one process takes them in
turn (gradient accumulation) or several take them at once.
"""

import hashlib

import torch

from src.utils import UserError


class MicroBatch:
    """images: `[B, 3, H, W]` in [-1, 1] on the device. seed: of all that is drawn for them.
    is_only: the process takes no other in this step, so graphs may be kept from turn to turn."""

    def __init__(self, images, seed, is_only=True):
        self.images, self.seed, self.is_only = images, seed, is_only
        self.results = {}

    def reseed(self, name):
        """Seed torch for what is called `name`: it draws the same whatever was done before it."""
        torch.manual_seed(hashed_seed(self.seed, name))

    def once(self, name, make):
        """The result of `make()`, made the first time: turns of a step share what they look at."""
        if name not in self.results:
            self.results[name] = make()
        return self.results[name]


def micro_batches_of(batch_size, micro_batch, processes):
    """How many micro-batches each of so many processes takes of a batch. Raises `UserError` where
    they would not be equally large."""
    share, left = divmod(batch_size, processes)
    if left or not share:
        raise UserError(f"--batch_size {batch_size}: {processes} processes need a multiple of that")
    size = micro_batch or share
    if size > share or share % size:
        raise UserError(
            f"--micro_batch {micro_batch}: must divide the {share} images of a process's batch"
        )
    return share // size


def split(images, seeds):
    """Images of equally large micro-batches, one after the other, and a seed each -> a list."""
    pairs = zip(images.chunk(len(seeds)), seeds, strict=True)
    return [MicroBatch(*pair, is_only=len(seeds) == 1) for pair in pairs]


def hashed_seed(*names):
    """A seed in [0, 2^32) that depends on all of `names`."""
    digest = hashlib.sha256(" ".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:4], "big")
