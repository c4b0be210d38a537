"""Images from which nothing can be learnt, by which nothing can be measured, or which the levels of
sampling do not fit: said before the work."""

import hashlib
import math

import numpy as np

from fewstep.engine.batches import pixel_std
from src.utils import UserError

MOST_COMPARED = 20000  # images of a set: a fraction of a second
FEW_TO_LEARN = 100  # images, so few that a generator gives them back
HIDDEN = 2  # of noise over what it hides, as standard deviations


def check_variety(images):
    """Say what is odd about a run's `ImageSets`. Raises `UserError` where all training images are
    of one colour: there is no spread to scale the network's input by."""
    if not pixel_std(images.train):
        raise UserError(
            f"{images.description}: all training images are of one colour, so there is nothing to"
            " learn; look at the files, or name others with --data_root DIR"
        )
    if len(images.train) < FEW_TO_LEARN:
        print(f"warning: only {len(images.train)} training images: they will be learnt by heart")
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


def visible_colour(config, cache):
    """A line where the level at which a model begins to sample hides too little, else "".

    Noise of independent pixels hardly moves an image's mean colour. Where the first level does not
    hide it, a network can read it from a noised image, and expects it in pure noise, which has
    none: all samples then get one hue. config: its `model_config.json`; cache: training images.
    """
    levels = config.get("few_step_sigmas")
    if not levels:
        return ""
    first = max(level for row in levels.values() for level in row)
    pixels = math.prod(cache.images.shape[1:3])
    hidden_by = math.sqrt(1 / pixels + config["noise_offset"] ** 2)  # at level 1
    means = np.stack([row.mean(axis=(0, 1)) for row in _sample(cache)]) / 127.5
    differ = float(means.std(axis=0).mean())
    if first * hidden_by >= HIDDEN * differ:
        return ""
    return (
        f"sampling begins at level {first:g}, whose noise moves the mean colour of an image by"
        f" {first * hidden_by:.2g}, and those of training images differ by {differ:.2g}: samples"
        f" will tend to one hue; begin at {HIDDEN * differ / hidden_by:.0f} or more, or train with"
        " --noise_offset"
    )


def _sample(cache):
    picks = np.linspace(0, len(cache) - 1, min(MOST_COMPARED, len(cache))).astype(np.int64)
    return (cache.images[pick] for pick in picks)


def _digests(cache):
    rows = _sample(cache)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]
