"""Images from which nothing can be learnt, or by which nothing can be measured: said before the
work."""

import hashlib

import numpy as np

from fewstep.engine.batches import pixel_std
from src.utils import UserError

MOST_COMPARED = 20000  # images of a set: a fraction of a second


def check_variety(images):
    """Say what is odd about a run's `ImageSets`. Raises `UserError` where all training images are
    of one colour: there is no spread to scale the network's input by."""
    if not pixel_std(images.train):
        raise UserError(
            f"{images.description}: all training images are of one colour, so there is nothing to"
            " learn; look at the files, or name others with --data_root DIR"
        )
    for line in oddities(images.train, images.val):
        print(f"warning: {line}")


def oddities(train, val):
    """Lines on equal images within the training set, and in both sets (`ImageCache`); of very large
    sets an even sample is compared."""
    trained, held_out = _digests(train), _digests(val)
    distinct, lines = set(trained), []
    if 2 * len(distinct) < len(trained):
        lines.append(f"of {len(trained)} training images only {len(distinct)} differ")
    shared = sum(digest in distinct for digest in held_out)
    if shared:
        lines.append(
            f"{shared} of {len(held_out)} held-out images are training images too, pixel for pixel:"
            " held-out losses and scores will flatter"
        )
    return lines


def _digests(cache):
    picks = np.linspace(0, len(cache) - 1, min(MOST_COMPARED, len(cache))).astype(np.int64)
    rows = (cache.images[pick] for pick in picks)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
