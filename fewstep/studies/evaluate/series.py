"""Rows of the table: each a way to make images, scored over several seeds."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fewstep.scores import distance_name
from fewstep.studies.evaluate.tables import over_seeds


class Series(NamedTuple):
    """`sample(seed)` -> uint8 images `[N, H, W, 3]` of `kind` "real", "teacher", "student" or
    "untuned student", made with `nfe` network evaluations (None: not generated)."""

    title: str
    kind: str
    nfe: int | None
    sample: Callable


def score_series(series, comparison, seeds):
    """Score each `Series` over the seeds: rows of `scores.json`, {title: first seed's images}."""
    rows, shown = [], {}
    for title, kind, nfe, sample in series:
        began, sampling, scores, count = time.perf_counter(), 0.0, [], 0
        for seed in seeds:
            start = time.perf_counter()
            pixels = sample(seed)
            sampling += time.perf_counter() - start
            if title in shown and np.array_equal(pixels, shown[title]):
                break  # all the real images there are: another seed says nothing new
            count += len(pixels)
            shown.setdefault(title, pixels)
            scores.append(comparison.scores(pixels, seed, generated=kind != "real"))
        rows.append(
            {
                "images": title,
                "model": kind,
                "nfe": nfe,
                "count": len(pixels),
                "images_per_second": None if kind == "real" else count / sampling,
                "scores": over_seeds(scores),
            }
        )
        space = comparison.spaces[0]
        score = rows[-1]["scores"][space.name]["frechet"]
        distance = distance_name(space.name, space.is_fid)
        sd = "" if score["sd"] is None else f" ± {score['sd']:.2f}"
        minutes = (time.perf_counter() - began) / 60
        print(f"{title}: {distance} {score['mean']:.2f}{sd} ({minutes:.1f} min)", flush=True)
    return rows, shown
