"""Which scores a table shows and how, and their means over seeds."""

import re

import numpy as np

from fewstep.scores import distance_name
from fewstep.scores.comparison import PIXELS

CLOSER = {"share_closer": ("nearer than new ones, %", 100, 1, "1")}
# key -> (title, factor, digits, what is best); the order is the table's.
FEATURE_COLUMNS = {
    "precision": ("precision", 1, 3, "as real"),
    "recall": ("recall", 1, 3, "as real"),
    "density": ("density", 1, 3, "as real"),
    "coverage": ("coverage", 1, 3, "as real"),
    **CLOSER,
}
PIXEL_COLUMNS = {
    "auc": ("classifier's AUC", 1, 3, "0.5"),
    "swd_64": ("SWD 64 px", 1, 1, "as real"),
    "swd_32": ("32 px", 1, 1, "as real"),
    "swd_16": ("16 px", 1, 1, "as real"),
    "mean_r": ("red, grey levels", 1, 1, "0"),
    "mean_g": ("green", 1, 1, "0"),
    "mean_b": ("blue", 1, 1, "0"),
    "contrast_r": ("contrast of red", 1, 3, "1"),
    "contrast_g": ("of green", 1, 3, "1"),
    "contrast_b": ("of blue", 1, 3, "1"),
    "nearest_median": ("median to nearest training image", 1, 2, "as held-out"),
    "nearest_median_heldout": ("the held-out images' own", 1, 2, ""),
    **CLOSER,
}


def distance_title(space):
    """How the Fréchet distance in a space, as of `scores.json`, is called."""
    return distance_name(space["name"], space["is_fid"])


def without_folders(text):
    """Paths in a text shortened to their last names: where data lies is nobody else's business."""
    return re.sub(r"(\S*[/\\])+", "", text)


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


def tables(content):
    """`scores.json` -> [(title, header, rows)] of texts: a table for each space and for pixels."""
    made = []
    for space in content["spaces"]:
        # Outside Inception's features neither distance has the name that everyone knows it by.
        kernel = ("KID × 1000", 1000, 2, "0") if space["is_fid"] else ("kernel distance", 1, 1, "0")
        columns = {"frechet": (distance_title(space), 1, 2, "the floor"), "kid": kernel}
        columns |= FEATURE_COLUMNS
        made.append((f"In {space['name']}", *_table(content["rows"], space["name"], columns)))
    made.append(("In pixels", *_table(content["rows"], PIXELS, PIXEL_COLUMNS, rates=True)))
    return made


def markdown(content):
    """All tables as Markdown, each with how to read it."""
    parts = [content["reference"]]
    for title, header, rows in tables(content):
        lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
        parts.append(f"**{title}**\n\n" + "\n".join(lines))
    parts.append(notes(content))
    return "\n\n".join(parts) + "\n"


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


def _table(rows, space, columns, rates=False):
    present = [key for key in columns if any(key in row["scores"][space] for row in rows)]
    header = ["images", "n", *(columns[key][0] for key in present), *(["images/s"] * rates)]
    best = ["*best*", "", *(columns[key][3] for key in present), *([""] * rates)]
    body = [
        [
            row["images"],
            str(row["count"]),
            *(_value(row["scores"][space].get(key), *columns[key][1:3]) for key in present),
            *([_rate(row["images_per_second"])] * rates),
        ]
        for row in rows
    ]
    return header, [*body, best]


def _rate(images_per_second):
    return "" if images_per_second is None else f"{images_per_second:.1f}"


def _value(score, factor, digits):
    if score is None:
        return ""
    text = f"{score['mean'] * factor:.{digits}f}"
    return text if score["sd"] is None else f"{text} ± {score['sd'] * factor:.{digits}f}"
