"""A cache of N images, for several N: what opening it and taking batches of it cost."""

import hashlib
import tempfile
from functools import partial
from statistics import median

import numpy as np
import torch

from fewstep.engine.batches import StepBatches
from fewstep.images import cached_images
from fewstep.studies.bench.device import own_memory, waiter
from fewstep.studies.bench.report import memory_text
from fewstep.studies.bench.turns import seconds_of

BATCHES = 200
CPU = torch.device("cpu")


def random_images(count):
    """Yield `count` uint8 images `[64, 64, 3]` of noise."""
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)


def measure_growth(count, batch_size):
    """Write a cache of `count` images to a temporary folder, open it, and take `BATCHES` batches.

    Returns seconds of writing, of opening and of a batch (the median), and the process's own memory
    before and after in bytes, pages of the mapped file left out: the system takes them back.
    """
    wait, digest = waiter(CPU), hashlib.sha256(str(count).encode()).hexdigest()
    with tempfile.TemporaryDirectory() as folder:
        opened = partial(cached_images, folder, digest, count, lambda: random_images(count))
        writing = seconds_of(opened, wait)
        opening = seconds_of(opened, wait)
        batches = StepBatches(opened(), batch_size, 0, True, CPU, on_device=False)
        batches(0)  # what the first of all brings along is not the cache's
        before = own_memory()
        seconds = [seconds_of(partial(batches, step), wait) for step in range(1, BATCHES + 1)]
        after = own_memory()
    return {
        "images": count,
        "write_seconds": writing,
        "open_seconds": opening,
        "batch_seconds": median(seconds),
        "memory_before": before,
        "memory_after": after,
    }


def growth_line(row, batch_size):
    """One line of what `measure_growth` found."""
    return (
        f"{row['images']} images: written in {row['write_seconds']:.2f} s,"
        f" opened in {1e3 * row['open_seconds']:.2f} ms,"
        f" {1e3 * row['batch_seconds']:.3f} ms a batch of {batch_size}; memory"
        f" {memory_text(row['memory_before'])} before, {memory_text(row['memory_after'])} after"
        f" {BATCHES} batches"
    )
