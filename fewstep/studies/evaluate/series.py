"""What makes images, scored over several seeds: each gives one row of the table."""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from fewstep.scores.folders import load_images
from fewstep.studies.evaluate.pictures import real_images, sample_images
from fewstep.studies.evaluate.tables import (
    distance_of,
    distance_title,
    score_row,
    score_text,
    space_record,
)
from src.samplers import IMAGE_SHAPE


class Series(NamedTuple):
    """`sample(seed)` -> uint8 images `[N, H, W, 3]` of `kind` "real", "teacher", "student" (what is
    evaluated) or "folder", made with `nfe` network evaluations (None: not by a model here)."""

    title: str
    kind: str
    nfe: int | None
    sample: Callable


def real_series(cache, count):
    """The floor: `count` of the training images of `cache`."""
    return Series("real training images", "real", None, partial(real_images, cache, count))


def folder_series(name, files, count):
    """`count` of the images of these files, decoded as training images are."""
    images = load_images(files, IMAGE_SHAPE[-1])

    def sample(seed):
        picks = np.random.default_rng(seed).permutation(len(images))[:count]
        return images[np.sort(picks)]

    return Series(name, "folder", None, sample)


def model_series(name, kind, nfe, model, count, batch_size):
    """`count` samples of a model."""
    title = f"{name}, NFE {nfe}"
    sample = partial(sample_images, model, nfe, count, batch_size, title=title)
    return Series(title, kind, nfe, sample)


def score_series(series, spaces, score, seeds):
    """Score each `Series` over the seeds: (rows of the table, {title: first seed's images}).

    score(pixels, seed, generated) -> {space: {score: value}}, as `Comparison.scores`. spaces: the
    distance in the first one is printed.
    """
    rows, first_images, space = [], {}, space_record(spaces[0])
    for title, kind, nfe, sample in series:
        began, sampling, scores, count = time.perf_counter(), 0.0, [], 0
        for seed in seeds:
            start = time.perf_counter()
            pixels = sample(seed)
            sampling += time.perf_counter() - start
            if title in first_images and np.array_equal(pixels, first_images[title]):
                break  # all the real images there are: another seed says nothing new
            count += len(pixels)
            first_images.setdefault(title, pixels)
            scores.append(score(pixels, seed, generated=kind != "real"))
        rate = count / sampling if nfe else None
        rows.append(score_row(title, kind, nfe, len(pixels), scores, rate))
        distance, minutes = score_text(distance_of(rows[-1], space)), time.perf_counter() - began
        text = f"{title}: {distance_title(space)} {distance} ({minutes / 60:.1f} min)"
        print(text, flush=True)
    return rows, first_images
