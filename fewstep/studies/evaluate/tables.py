"""Which scores a table shows and how: as Markdown, with a sentence on what each number is."""

import re

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


def tables(content):
    """`scores.json` -> [(title, header, rows)] of texts: a table for each space and for pixels."""
    made = []
    for space in content["spaces"]:
        # Outside Inception's features neither distance has the name that everyone knows it by.
        kernel = ("KID × 1000", 1000, 2, "0") if space["is_fid"] else ("kernel distance", 1, 1, "0")
        columns = {"frechet": (distance_title(space), 1, 2, "the floor"), "kid": kernel}
        header, rows = _table(content["rows"], space["name"], columns | FEATURE_COLUMNS)
        made.append((f"In {space['name']}", header, rows))
    header, rows = _table(content["rows"], PIXELS, PIXEL_COLUMNS)
    rates = [row["images_per_second"] for row in content["rows"]]
    for row, rate in zip(rows, [*rates, None]):
        row.append("" if rate is None else f"{rate:.1f}")
    made.append(("In pixels", [*header, "images/s"], rows))
    return made


def markdown(content):
    """All tables as Markdown, each with how to read it."""
    parts = [content["reference"]]
    for title, header, rows in tables(content):
        parts.append(f"**{title}**\n\n{markdown_table(header, rows)}")
    parts.append(notes(content))
    return "\n\n".join(parts) + "\n"


def markdown_table(header, rows):
    """Lists of texts -> a Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def cell_text(score, factor=1, digits=2):
    """{"mean", "sd"} of a score -> `4.20 ± 0.10`; "" for None."""
    if score is None:
        return ""
    text = f"{score['mean'] * factor:.{digits}f}"
    return text if score["sd"] is None else f"{text} ± {score['sd'] * factor:.{digits}f}"


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
    used = {
        key: columns[key] for key in columns if any(key in row["scores"][space] for row in rows)
    }
    body = []
    for row in rows:
        scores = row["scores"][space]
        values = [cell_text(scores.get(k), factor, n) for k, (_, factor, n, _) in used.items()]
        body.append([row["images"], str(row["count"]), *values])
    best = ["*best*", "", *(best for *_, best in used.values())]
    return ["images", "n", *(title for title, *_ in used.values())], [*body, best]
