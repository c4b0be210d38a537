"""One table of scores: rows over seeds, and which columns are shown of them, as Markdown.

A row is plain values: {"images": title, "model": kind, "nfe": evaluations or None, "count": images,
"images_per_second": rate or None, "scores": {space: {score: {"mean", "sd", "values"}}}}.
"""

import re
from typing import NamedTuple

import numpy as np

from fewstep.scores.comparison import PIXELS
from fewstep.scores.frechet import distance_name
from fewstep.scores.random_features import NAME as RANDOM
from src.formatting import markdown_table, text_table


class Column(NamedTuple):
    """How a score is shown: times `factor`, with so many decimals. best: what its best value is;
    interval: the names of the scores that bound it, if it has such."""

    title: str
    best: str
    digits: int = 3
    factor: float = 1
    interval: tuple = ()


TRAININGS = "trainings"  # kind of a row whose ± is over seeds of training, not of sampling
ONE_SEED = "One seed: no order can be tested"
SURE = 0.01  # chance of calling a difference that is none
SIGNS = (  # of `ranking`
    f"<: farther in all feature spaces beyond the noise of the seeds, p < {SURE}; ≈: not sure;"
    " ?: the spaces contradict each other"
)

DISTANCE = Column("distance", "the floor", 2)
UNBIASED = Column("extrapolated to infinitely many images", "0", 2)
KERNEL = Column("kernel distance, 95 % interval", "0", 1, 1, ("kid_low", "kid_high"))
CLOSER = {"share_closer": Column("nearer than new ones, %", "1", 1, 100)}
MANIFOLD = ("precision", "recall", "density", "coverage")
FEATURE_COLUMNS = {key: Column(key, "as real") for key in MANIFOLD} | CLOSER
# Of pixels, a table each: together they would be too wide for a screen.
DETAIL_COLUMNS = {
    "auc": Column("classifier's AUC", "0.5"),
    "swd_64": Column("SWD 64 px", "as real", 1),
    "swd_32": Column("32 px", "as real", 1),
    "swd_16": Column("16 px", "as real", 1),
}
COLOUR_COLUMNS = {
    "mean_r": Column("red, grey levels", "0", 1),
    "mean_g": Column("green", "0", 1),
    "mean_b": Column("blue", "0", 1),
    "contrast_r": Column("contrast of red", "1"),
    "contrast_g": Column("of green", "1"),
    "contrast_b": Column("of blue", "1"),
}
COPY_COLUMNS = {
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


def interval_text(scores, column):
    """The bounds of a score, ` [4.1, 4.3]`; "" where it has none."""
    if not all(key in scores for key in column.interval) or not column.interval:
        return ""
    bounds = [scores[key]["mean"] * column.factor for key in column.interval]
    return f" [{', '.join(f'{bound:.{column.digits}f}' for bound in bounds)}]"


def ranking(content):
    """All rows by their distance in the first space, nearest first, as one line.

    Between neighbours: "<" where the second is farther in every space beyond the noise of the
    seeds, "≈" where that is not sure, "?" where spaces contradict each other beyond noise.
    """
    spaces = content["spaces"]
    rows = sorted(content["rows"], key=lambda row: distance_of(row, spaces[0])["mean"])
    line = rows[0]["images"]
    for near, far in zip(rows, rows[1:]):
        orders = [order_of(distance_of(near, s), distance_of(far, s)) for s in spaces]
        sign = "<" if min(orders) == 1 else "?" if {1, -1} <= set(orders) else "≈"
        line += f" {sign} {far['images']}"
    return line


def order_sentence(content, note=""):
    """`ranking` with what its signs mean, and `note` on the seeds; of rows of one seed each that
    nothing can be said."""
    if are_of_one_seed(content["rows"], content["spaces"]):
        return ONE_SEED
    return f"Nearest first: {ranking(content)} ({SIGNS}{note})"


def are_of_one_seed(rows, spaces):
    """Whether no row has more than one value, so that nothing is known of its noise."""
    return all(len(_values(distance_of(row, spaces[0]))) < 2 for row in rows)


def order_of(first, second):
    """1 where the second of two scores over seeds is larger beyond their noise, -1 where it is
    smaller, 0 where that is not sure: Welch's t-test, p < `SURE`. A score of a single seed is taken
    as it stands, and two of them are never sure."""
    from scipy import stats  # takes half a second to load

    values = [_values(one) for one in (first, second)]
    if max(map(len, values)) == 1:
        return 0
    if min(map(len, values)) > 1:
        p = stats.ttest_ind(*values, equal_var=False).pvalue
    else:
        several, (one,) = sorted(values, key=len, reverse=True)
        p = stats.ttest_1samp(several, one).pvalue
    is_sure = p < SURE
    return int(np.sign(second["mean"] - first["mean"])) if is_sure else 0


def _values(score):
    """A score's value of each seed."""
    return score.get("values", [score["mean"]])


def without_folders(text):
    """Paths in a text shortened to their last names: where data lies is nobody else's business."""
    return re.sub(r"(\S*[/\\])+", "", text)


def tables(content):
    """`scores.json` -> [(title, header, rows)] of texts: a table a space, and three of pixels."""
    made, rows = [], content["rows"]
    for space in content["spaces"]:
        # Outside Inception's features neither distance has the name that everyone knows it by.
        kid = KERNEL
        if space["name"] != RANDOM:  # of its features alone kernel distances are in tens
            name = "KID" if space["is_fid"] else "kernel distance"
            kid = kid._replace(title=f"{name} × 1000, 95 % interval", digits=2, factor=1000)
        columns = {"frechet": DISTANCE._replace(title=distance_title(space))}
        columns |= {"frechet_unbiased": UNBIASED, "kid": kid}
        table = _table(rows, space["name"], columns | FEATURE_COLUMNS)
        made.append((f"In {space['name']}", *table))
    header, body = _table(rows, PIXELS, DETAIL_COLUMNS)
    rates = [row["images_per_second"] for row in rows]
    for texts, rate in zip(body, [*rates, None]):
        texts.append(rate_text(rate))
    made.append(("In pixels: details, and speed", [*header, "images/s"], body))
    made.append(
        (
            "In pixels: colours, which no feature space sees well",
            *_table(rows, PIXELS, COLOUR_COLUMNS),
        )
    )
    return [*made, ("In pixels: copies", *_table(rows, PIXELS, COPY_COLUMNS))]


def whose_seeds(rows):
    """What the seeds are of, in a few words."""
    if any(row["model"] == TRAININGS for row in rows):
        return "seeds of training in the means of several trainings, of sampling in other rows"
    return "seeds of sampling, not of training"


def markdown(content):
    """All tables as Markdown, each with how to read it."""
    made = [f"**{title}**\n\n{markdown_table(*table)}" for title, *table in tables(content)]
    return "\n\n".join([content["reference"], *made, notes(content)]) + "\n"


def narrow_table(content, width):
    """`scores.json` -> what a terminal shows of it, in lines of at most `width` characters: the
    distance in each space, and a few other scores as far as there is room."""
    spaces, rows = content["spaces"], content["rows"]
    header = ["images", *(space["name"] for space in spaces), "AUC", "coverage", "images/s"]
    body = []
    for row in rows:
        auc, coverage = row["scores"][PIXELS].get("auc"), row["scores"][spaces[0]["name"]]
        texts = [score_text(distance_of(row, space)) for space in spaces]
        # Their means alone: there is no room for more.
        for score in (auc, coverage.get("coverage")):
            texts.append("" if score is None else f"{score['mean']:.3f}")
        body.append([row["images"], *texts, rate_text(row["images_per_second"])])
    return text_table(header, body, width)


def rate_text(rate):
    """Images a second; "" for None."""
    return "" if rate is None else f"{rate:.1f}"


def notes(content):
    """What the numbers are, in a sentence each."""
    seeds = content["seeds"]
    over = f"mean ± standard deviation over {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    spaces = [f"{space['name']} (sha256 {space['sha256'][:12]})" for space in content["spaces"]]
    whose, classifier = f"; {whose_seeds(content['rows'])}", ""
    extrapolated = ""
    if any(
        "frechet_unbiased" in part for row in content["rows"] for part in row["scores"].values()
    ):
        extrapolated = (
            " Extrapolated: of 256 random directions of the features, where there are more."
        )
    if any("auc" in row["scores"][PIXELS] for row in content["rows"]):
        classifier = " AUC: of a network trained to tell them from held-out images, 0.5 is perfect."
    return (
        f"{content['num_samples']} images against {content['reference_count']} held-out ones,"
        f" {over}; features: {', '.join(spaces)}. Distances depend on the number of images: compare"
        " equal n only. The row of real training images is the floor; its ± is less than it should"
        f" be, since its subsets overlap.{classifier} Nearer than new ones: the share of images"
        " nearer to a training image than all but 1 % of the held-out images are; far above 1 %"
        " means copies. SWD: sliced Wasserstein distance of patches x 1000. Intervals: by bootstrap"
        f" of the images.{extrapolated} {order_sentence(content, whose)}."
        f" {content['hardware']}, {content['date']}."
    )


def _table(rows, space, columns):
    """(header, rows) of the columns that some row has a score for; the last row says what is
    best."""
    scores = [row["scores"][space] for row in rows]
    used = {key: column for key, column in columns.items() if any(key in one for one in scores)}
    body = []
    for row, one in zip(rows, scores):
        texts = [
            score_text(one.get(key), column) + interval_text(one, column)
            for key, column in used.items()
        ]
        body.append([row["images"], str(row["count"]), *texts])
    best = ["*best*", "", *(column.best for column in used.values())]
    return ["images", "n", *(column.title for column in used.values())], [*body, best]
