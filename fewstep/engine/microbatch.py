"""A step's batch in parts, each with a seed of its own.

A part is what one process takes at once. All that is drawn, and all that images of a batch are
compared by (spread of the minibatch, balance of gradients), stays within a part, and gradients are
means over parts. So the same parts give the same step, whether one process takes them in turn
(gradient accumulation) or several take them at once.
"""

import hashlib
from typing import NamedTuple

import torch

from src.utils import UserError


class Part(NamedTuple):
    """Images `[B, 3, H, W]` in [-1, 1] on the device, and the seed of all that is drawn for
    them."""

    images: torch.Tensor
    seed: int

    def begin(self, turn):
        """Seed torch for `turn`, a name: a turn draws the same whatever was done before it."""
        torch.manual_seed(hashed_seed(self.seed, turn))


def parts_of(batch_size, micro_batch, processes):
    """How many parts each of so many processes takes of a batch. Raises `UserError` where parts
    would not be equally large."""
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
    """Images of equally large parts, one after the other, and a seed a part -> list of `Part`."""
    return [Part(*pair) for pair in zip(images.chunk(len(seeds)), seeds, strict=True)]


def hashed_seed(*names):
    """A seed in [0, 2^32) that depends on all of `names`."""
    digest = hashlib.sha256(" ".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def mean_metrics(rows):
    """The mean of dicts with the same keys, of scalar tensors."""
    return {key: torch.stack([row[key] for row in rows]).mean() for key in rows[0]}
