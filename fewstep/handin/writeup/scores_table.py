"""The table of scores and its caption, from what fewstep evaluate wrote."""

from fewstep.handin.writeup.wording import listed
from fewstep.scores.comparison import PIXELS
from fewstep.studies.evaluate.tables import without_folders


def score_table(scores, cite):
    """(head, rows, caption) of the content of `evaluation/scores.json`: lists of texts.

    A distance is called FID only in a space that says it is FID's own. Of the first such space, or
    else of the first space, kernel distance and coverage are shown too.
    """
    spaces = sorted(scores["spaces"], key=lambda space: not space["is_fid"])
    columns = []  # (head, space, key)
    for place, space in enumerate(spaces):
        name = space["name"]
        columns.append(("FID" if space["is_fid"] else f"Fréchet in\n{name}", name, "frechet"))
        if not place:
            kernel = "KID" if space["is_fid"] else "Kernel\ndistance"
            columns += [(kernel, name, "kid"), ("Coverage", name, "coverage")]
    columns.append(("AUC\nreal or not", PIXELS, "auc"))
    columns = [column for column in columns if _values(scores, *column[1:])]
    head = ["Images", "n", *(title for title, _, _ in columns)]
    rows = []
    # Levels that were given up by tuning are of no interest here.
    for row in (row for row in scores["rows"] if row["model"] != "untuned student"):
        cells = [row["images"], f"{row['count']:,}"]
        for _, space, key in columns:
            digits = _digits(_values(scores, space, key))
            cells.append(_cell(row["scores"].get(space, {}).get(key), digits))
        rows.append(cells)
    return head, rows, _caption(scores, spaces, {key for _, _, key in columns}, cite)


def _values(scores, space, key):
    found = [row["scores"].get(space, {}).get(key) for row in scores["rows"]]
    return [value["mean"] for value in found if value]


def _digits(values):
    """Decimals at which the larger values of a column have three digits or more."""
    largest = max(abs(value) for value in values)
    return 2 if largest >= 10 else 3 if largest >= 0.1 else 4


def _cell(value, digits):
    if not value:
        return ""
    text = f"{value['mean']:.{digits}f}".replace("-", "−")
    return text if value.get("sd") is None else f"{text} ± {value['sd']:.{digits}f}"


def _caption(scores, spaces, keys, cite):
    seeds = [str(seed) for seed in scores["seeds"]]
    if len(seeds) > 1:
        drawn = f"mean ± standard deviation over {len(seeds)} seeds ({listed(seeds)})"
    else:
        drawn = f"one seed ({seeds[0]})"
    reference = without_folders(scores["reference"])
    sentences = [
        f"Scores of n\u00a0=\u00a0{scores['num_samples']:,} generated images against"
        f" {scores['reference_count']:,} reference images ({reference}); {drawn}; computed on"
        f" {scores['hardware']}, {scores['date']}."
    ]
    for space in spaces:
        if space["is_fid"]:
            text = f"FID{cite('fid', 'clean_fid')}"
            text += f" and KID{cite('kid')}" if "kid" in keys else ""
            text += f": with the features of {space['name']}."
        else:
            text = (
                f"The space {space['name']} (SHA-256 {space['sha256'][:12]}) has fixed random"
                f" weights{cite('prdc')}: its Fréchet distance is not FID and compares these rows"
                " with each other only."
            )
        sentences.append(text)
    if "kid" in keys and not spaces[0]["is_fid"]:
        sentences.append(f"Kernel distance: that of KID{cite('kid')} in the same space.")
    if "coverage" in keys:
        sentences.append(
            f"Coverage{cite('prdc')}: share of reference images with a generated one near them."
        )
    if "auc" in keys:
        sentences.append(f"AUC{cite('c2st')} of a classifier of real and generated: 0.5 is best.")
    return " ".join(sentences)
