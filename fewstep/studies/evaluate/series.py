"""Rows of scores: each a way to make images, scored over several seeds."""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from fewstep.studies.evaluate.pictures import real_images, sample_images
from fewstep.studies.evaluate.tables import cell_text, distance_title


class Series(NamedTuple):
    """`sample(seed)` -> uint8 images `[N, H, W, 3]` of `kind` "real", "teacher", "student" (what is
    evaluated) or "untuned student", made with `nfe` network evaluations (None: not generated)."""

    title: str
    kind: str
    nfe: int | None
    sample: Callable


def real_series(cache, count):
    """The floor: `count` of the training images of `cache`."""
    return Series("real training images", "real", None, partial(real_images, cache, count))


def model_series(title, kind, nfe, model, sigmas, count, batch_size):
    """`count` samples of a model; `sigmas` (None: do not) replaces its own noise levels."""
    how = dict(title=title, sigmas=sigmas)
    return Series(title, kind, nfe, partial(sample_images, model, nfe, count, batch_size, **how))


def score_series(series, comparison, seeds):
    """Score each `Series` over the seeds: rows of `scores.json`, {title: first seed's images}."""
    rows, first_images = [], {}
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
            scores.append(comparison.scores(pixels, seed, generated=kind != "real"))
        rate = None if kind == "real" else count / sampling
        rows.append(score_row(title, kind, nfe, len(pixels), scores, rate))
        space = comparison.spaces[0]
        name = distance_title({"name": space.name, "is_fid": space.is_fid})
        distance = cell_text(rows[-1]["scores"][space.name]["frechet"])
        minutes = (time.perf_counter() - began) / 60
        print(f"{title}: {name} {distance} ({minutes:.1f} min)", flush=True)
    return rows, first_images


def score_row(title, kind, nfe, count, scores, images_per_second=None):
    """A row of scores, plain values: `count` images of a `Series` each time, and `scores`, a list
    of {space: {score: value}} over seeds."""
    row = {"images": title, "model": kind, "nfe": nfe, "count": count}
    return row | {"images_per_second": images_per_second, "scores": over_seeds(scores)}


def merge_rows(rows):
    """One row of several of equal title, each of another training: scores are over their means."""
    scores = []
    for row in rows:
        parts = row["scores"].items()
        scores.append({space: {key: v["mean"] for key, v in part.items()} for space, part in parts})
    return rows[0] | {"images_per_second": None, "scores": over_seeds(scores)}


def over_seeds(scores):
    """A list of {space: {score: value}} -> {space: {score: {"mean", "sd", "values"}}}.

    The standard deviation is the sample's, None for a single seed.
    """
    merged = {}
    for space in scores[0]:
        merged[space] = {}
        for key in scores[0][space]:
            values = [one[space][key] for one in scores]
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
            merged[space][key] = {"mean": float(np.mean(values)), "sd": sd, "values": values}
    return merged
