"""The table of scores and its caption, from what `fewstep evaluate` wrote."""

from fewstep.handin.writeup.wording import listed
from fewstep.scores.comparison import PIXELS
from fewstep.studies.evaluate.tables import without_folders


def score_table(scores):
    """(head, rows, caption) of the content of `evaluation/scores.json`: lists of texts.

    A distance is called FID only in a space that says it is FID's own. Of the first such space, or
    else of the first space, kernel distance and coverage are shown too.
    """
    spaces = sorted(scores["spaces"], key=lambda space: not space["is_fid"])
    first = spaces[0]["name"]
    columns = [
        ("FID" if space["is_fid"] else f"Fréchet in {space['name']}", space["name"], "frechet")
        for space in spaces
    ]
    kernel = "KID" if spaces[0]["is_fid"] else "Kernel distance"
    columns[1:1] = [(kernel, first, "kid"), ("Coverage", first, "coverage")]
    columns.append(("AUC, real or not", PIXELS, "auc"))
    columns = [column for column in columns if any(_values(scores, *column[1:]))]
    # Levels that were given up by tuning are of no interest here.
    kept = [row for row in scores["rows"] if row["model"] != "untuned student"]
    rows = [
        [
            row["images"],
            f"{row['count']:,}",
            *(_cell(row, scores, *column[1:]) for column in columns),
        ]
        for row in kept
    ]
    head = ["Images", "n", *(title for title, _, _ in columns)]
    return head, rows, _caption(scores, spaces, {key for _, _, key in columns})


def _values(scores, space, key):
    return [row["scores"].get(space, {}).get(key) for row in scores["rows"]]


def _cell(row, scores, space, key):
    """Mean and spread with the decimals that suit the largest value of the column."""
    value = row["scores"].get(space, {}).get(key)
    if not value:
        return ""
    largest = max(abs(other["mean"]) for other in _values(scores, space, key) if other)
    digits = 2 if largest >= 10 else 3 if largest >= 0.1 else 4
    text = f"{value['mean']:.{digits}f}".replace("-", "−")
    return text if value.get("sd") is None else f"{text} ± {value['sd']:.{digits}f}"


def _caption(scores, spaces, keys):
    seeds = [str(seed) for seed in scores["seeds"]]
    spread = f"mean ± standard deviation over {len(seeds)} seeds ({listed(seeds)})"
    sentences = [
        f"Scores of n\u00a0=\u00a0{scores['num_samples']:,} generated images against"
        f" {scores['reference_count']:,} reference images ({without_folders(scores['reference'])});"
        f" {spread if len(seeds) > 1 else f'one seed ({seeds[0]})'}; computed on"
        f" {scores['hardware']}, {scores['date']}."
    ]
    for space in spaces:
        if space["is_fid"]:
            kid = " and KID@kid" if "kid" in keys else ""
            sentences.append(f"FID@fid@clean_fid{kid}: with the features of {space['name']}.")
        else:
            sentences.append(
                f"The space {space['name']} (SHA-256 {space['sha256'][:12]}) has fixed random"
                " weights@prdc: its Fréchet distance is not FID and compares these rows with each"
                " other only."
            )
    if "kid" in keys and not spaces[0]["is_fid"]:
        sentences.append("Kernel distance: that of KID@kid in the same space.")
    if "coverage" in keys:
        sentences.append("Coverage@prdc: share of reference images with a generated one near them.")
    if "auc" in keys:
        sentences.append("AUC@c2st of a classifier of real and generated: 0.5 is best.")
    return " ".join(sentences)
