"""What makes images, scored over several seeds: each gives one row of the table."""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from fewstep.scores.feature_cache import pixels_digest
from fewstep.scores.folders import load_images
from fewstep.studies.evaluate.kept import NOTHING, Part
from fewstep.studies.evaluate.pictures import SHEET_IMAGES, real_images, sample_images
from fewstep.studies.evaluate.subjects import has_levels
from fewstep.studies.evaluate.tables import (
    distance_of,
    distance_title,
    score_row,
    score_text,
    space_record,
)
from src.feedback import Progress, say
from src.samplers import IMAGE_SHAPE
from src.utils import weights_digest


class Series(NamedTuple):
    """`sample(seed)` -> uint8 images `[N, H, W, 3]` of `kind` "real", "teacher", "student" (what is
    evaluated) or "folder", made with `nfe` network evaluations (None: not by a model here).
    identity: plain values that say which images these are, given the seed."""

    title: str
    kind: str
    nfe: int | None
    sample: Callable
    identity: dict


def real_series(cache, count):
    """The floor: `count` of the training images of `cache`."""
    identity = {"real": cache.digest, "count": count}
    sample = partial(real_images, cache, count)
    return Series("real training images", "real", None, sample, identity)


def folder_series(name, files, count):
    """`count` of the images of these files, decoded as training images are."""
    images = load_images(files, IMAGE_SHAPE[-1])

    def sample(seed):
        picks = np.random.default_rng(seed).permutation(len(images))[:count]
        return images[np.sort(picks)]

    identity = {"folder": pixels_digest(images), "count": count}
    return Series(name, "folder", None, sample, identity)


def model_series(name, kind, nfe, model, count, batch_size):
    """`count` samples of a model."""
    title = f"{name}, NFE {nfe}"
    sample = partial(sample_images, model, nfe, count, batch_size, title=title)
    identity = {"weights": weights_digest(model), "nfe": nfe, "count": count, "batch": batch_size}
    identity["sampler"] = getattr(model, "sampler", None)
    public = {key: value for key, value in vars(model.scheduler).items() if key[0] != "_"}
    if has_levels(model):  # its own alone: others may be tuned meanwhile
        public["few_step_table"] = model.scheduler.few_step_sigmas(nfe)
    return Series(title, kind, nfe, sample, identity | {"scheduler": public})


def score_series(series, spaces, score, seeds, kept=NOTHING):
    """Score each `Series` over the seeds: (rows of the table, {title: first seed's first images}).

    score(pixels, seed, generated) -> {space: {score: value}}, as `Comparison.scores`. spaces: the
    distance in the first one is printed. kept: `Kept`, from which an interrupted one goes on.
    """
    rows, first_images, space = [], {}, space_record(spaces[0])
    with Progress("sets of images scored", len(series) * len(seeds), "set") as report:
        for one in series:
            began = time.perf_counter()
            parts = _parts(one, score, seeds, kept, report)
            title, count = one.title, sum(part.count for part in parts)
            rate = count / sum(part.seconds for part in parts) if one.nfe else None
            first_images[title] = parts[0].images
            scores = [part.scores for part in parts]
            rows.append(score_row(title, one.kind, one.nfe, parts[0].count, scores, rate))
            distance, spent = score_text(distance_of(rows[-1], space)), time.perf_counter() - began
            say(f"{title}: {distance_title(space)} {distance} ({spent / 60:.1f} min)")
    return rows, first_images


def _parts(series, score, seeds, kept, report):
    """The scored `Part` of each seed that says something new; all seeds count in the `report`."""
    parts = []
    for place, seed in enumerate(seeds):
        part = _sampled(series, seed, kept)
        if parts and part.digest == parts[0].digest:
            report.update(len(seeds) - place)
            break  # all the real images there are: another seed says nothing new
        if part.scores is None:
            scores = score(part.images, seed, generated=series.kind != "real")
            part = part._replace(images=part.images[:SHEET_IMAGES], scores=scores)
            kept.put(series, seed, part)
        parts.append(part)
        report.update()
    return parts


def _sampled(series, seed, kept):
    """The `Part` of a seed, sampled now unless it is kept; a model's samples are kept at once."""
    part = kept.get(series, seed)
    if part is None:
        start = time.perf_counter()
        pixels = series.sample(seed)
        seconds = time.perf_counter() - start
        part = Part(pixels, len(pixels), pixels_digest(pixels), seconds)
        if series.nfe:
            kept.put(series, seed, part)
    return part
