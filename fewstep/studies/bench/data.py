"""Batches from the decoded cache against a torch DataLoader that decodes PNG files one by one.

    python -m fewstep bench data --device cpu

A turn takes all images once. Files and cache are drawn to a temporary folder.
"""

import itertools
from functools import partial

from fewstep.engine.batches import StepBatches
from fewstep.studies.bench.faces import WORKERS, decoded, loader_batches, write_faces
from fewstep.studies.bench.turns import compare, seconds_of
from src.arguments import LARGEST_BATCH, MOST_IMAGES, InRange, whole_number
from src.utils import UserError

ROUNDS = 6


def add_flags(parser):
    add = partial(parser.add_argument, type=whole_number, action=InRange, low=1)
    add("--images", high=MOST_IMAGES, default=2000, help="PNG files (%(default)s)")
    add("--batch_size", high=LARGEST_BATCH, default=32, help="(%(default)s)")


def measure(args, device, folder):
    """Compare the cache with a loader in this process and with one that has workers; a dict."""
    images, size = args.images, args.batch_size
    if images < size:
        raise UserError(f"--images {images}: fewer than --batch_size {size}; give more")
    files, steps = folder / "files", images // size
    decode = partial(decoded, write_faces(files, images), folder / "cache")
    rate = images / seconds_of(decode, device)
    print(f"decoding {images} files once: {rate:.0f} images/s")
    cached = map(StepBatches(decode(), size, 0, True, device), itertools.count())
    comparisons = []
    for workers in sorted({0, WORKERS}):
        loaded = loader_batches(files, size, workers, device)
        ways = {
            "cache": partial(taking, cached, steps),
            f"DataLoader with {workers} workers": partial(taking, loaded, steps),
        }
        comparisons.append(compare("data", ways, steps * size, args.rounds, device))
    return {"decoded_images_per_second": rate, "comparisons": comparisons}


def taking(batches, count):
    """A function that takes the next `count` of an iterator's batches at each call."""

    def take():
        for _ in range(count):
            next(batches)

    return take
