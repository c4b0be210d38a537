"""One table of scores: rows over seeds, and which columns are shown of them, as Markdown.

A row is plain values: {"images": title, "model": kind, "nfe": evaluations or None, "count": images,
"images_per_second": rate or None, "scores": {space: {score: {"mean", "sd", "values"}}}}.
"""

import re
from typing import NamedTuple

import numpy as np

from fewstep.scores.comparison import PIXELS
from fewstep.scores.frechet import distance_name
from src.formatting import markdown_table


class Column(NamedTuple):
    """How a score is shown: times `factor`, with so many decimals. best: what its best value is."""

    title: str
    best: str
    digits: int = 3
    factor: float = 1


DISTANCE = Column("distance", "the floor", 2)
CLOSER = {"share_closer": Column("nearer than new ones, %", "1", 1, 100)}
MANIFOLD = ("precision", "recall", "density", "coverage")
FEATURE_COLUMNS = {key: Column(key, "as real") for key in MANIFOLD} | CLOSER
PIXEL_COLUMNS = {
    "auc": Column("classifier's AUC", "0.5"),
    "swd_64": Column("SWD 64 px", "as real", 1),
    "swd_32": Column("32 px", "as real", 1),
    "swd_16": Column("16 px", "as real", 1),
    "mean_r": Column("red, grey levels", "0", 1),
    "mean_g": Column("green", "0", 1),
    "mean_b": Column("blue", "0", 1),
    "contrast_r": Column("contrast of red", "1"),
    "contrast_g": Column("of green", "1"),
    "contrast_b": Column("of blue", "1"),
    "nearest_median": Column("median to nearest training image", "as held-out", 2),
    "nearest_median_heldout": Column("the held-out images' own", "", 2),
    **CLOSER,
}


def score_row(title, kind, nfe, count, scores, images_per_second=None):
    """A row of `count` images each time. scores: [{space: {score: value}}], one a seed.

    The standard deviation is the sample's, None for a single seed.
    """
    merged = {}
    for space in scores[0]:
        merged[space] = {}
        for key in scores[0][space]:
            values = [one[space][key] for one in scores]
            sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
            merged[space][key] = {"mean": float(np.mean(values)), "sd": sd, "values": values}
    row = {"images": title, "model": kind, "nfe": nfe, "count": count}
    return row | {"images_per_second": images_per_second, "scores": merged}


def merge_rows(rows):
    """One row of several of equal title, each of another training: scores are over their means."""
    scores = [
        {space: {key: score["mean"] for key, score in part.items()} for space, part in parts}
        for parts in (row["scores"].items() for row in rows)
    ]
    return score_row(*(rows[0][key] for key in ("images", "model", "nfe", "count")), scores)


def space_record(space):
    """What is recorded of a feature space beside scores in it."""
    return {"name": space.name, "sha256": space.digest, "is_fid": space.is_fid}


def distance_title(space):
    """How the Fréchet distance in a space (of `space_record`) is called."""
    return distance_name(space["name"], space["is_fid"])


def distance_of(row, space):
    """{"mean", "sd", "values"} of the Fréchet distance of a row in a space."""
    return row["scores"][space["name"]]["frechet"]


def score_text(score, column=DISTANCE):
    """{"mean", "sd"} of a score -> `4.20 ± 0.10`; "" for None."""
    if score is None:
        return ""
    parts = [score["mean"]] if score["sd"] is None else [score["mean"], score["sd"]]
    return " ± ".join(f"{part * column.factor:.{column.digits}f}" for part in parts)


def without_folders(text):
    """Paths in a text shortened to their last names: where data lies is nobody else's business."""
    return re.sub(r"(\S*[/\\])+", "", text)


def tables(content):
    """`scores.json` -> [(title, header, rows)] of texts: a table for each space and for pixels."""
    made, rows = [], content["rows"]
    for space in content["spaces"]:
        # Outside Inception's features neither distance has the name that everyone knows it by.
        kid = Column("kernel distance", "0", 1)
        if space["is_fid"]:
            kid = Column("KID × 1000", "0", 2, 1000)
        columns = {"frechet": DISTANCE._replace(title=distance_title(space)), "kid": kid}
        table = _table(rows, space["name"], columns | FEATURE_COLUMNS)
        made.append((f"In {space['name']}", *table))
    header, body = _table(rows, PIXELS, PIXEL_COLUMNS)
    rates = [row["images_per_second"] for row in rows]
    for texts, rate in zip(body, [*rates, None]):
        texts.append("" if rate is None else f"{rate:.1f}")
    return [*made, ("In pixels", [*header, "images/s"], body)]


def markdown(content):
    """All tables as Markdown, each with how to read it."""
    made = [f"**{title}**\n\n{markdown_table(*table)}" for title, *table in tables(content)]
    return "\n\n".join([content["reference"], *made, notes(content)]) + "\n"


def notes(content):
    """What the numbers are, in a sentence each."""
    seeds = content["seeds"]
    over = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    spaces = [f"{space['name']} (sha256 {space['sha256'][:12]})" for space in content["spaces"]]
    classifier = ""
    if any("auc" in row["scores"][PIXELS] for row in content["rows"]):
        classifier = " AUC: of a network trained to tell them from held-out images, 0.5 is perfect."
    return (
        f"{content['num_samples']} images against {content['reference_count']} held-out ones,"
        f" {over}; features: {', '.join(spaces)}. Distances depend on the number of images: compare"
        " equal n only. The row of real training images is the floor; its ± is less than it should"
        f" be, since its subsets overlap.{classifier} Nearer than new ones: the share of images"
        " nearer to a training image than all but 1 % of the held-out images are; far above 1 %"
        " means copies. SWD: sliced Wasserstein distance of patches x 1000."
        f" {content['hardware']}, {content['date']}."
    )


def _table(rows, space, columns):
    """(header, rows) of the columns that some row has a score for; the last row says what is
    best."""
    scores = [row["scores"][space] for row in rows]
    used = {key: column for key, column in columns.items() if any(key in one for one in scores)}
    body = []
    for row, one in zip(rows, scores):
        texts = [score_text(one.get(key), column) for key, column in used.items()]
        body.append([row["images"], str(row["count"]), *texts])
    best = ["*best*", "", *(column.best for column in used.values())]
    return ["images", "n", *(column.title for column in used.values())], [*body, best]
