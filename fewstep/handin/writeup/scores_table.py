"""The table of scores and its caption, from what `fewstep evaluate` wrote."""

from fewstep.handin.writeup.wording import listed
from fewstep.scores.comparison import PIXELS
from fewstep.scores.random_features import NAME as RANDOM
from fewstep.studies.evaluate.tables import (
    DISTANCE,
    TRAININGS,
    Column,
    score_text,
    whose_seeds,
    without_folders,
)


def score_table(scores):
    """(head, rows, caption) of the content of `evaluation/scores.json`: lists of texts.

    A distance is called FID only in a space that says it is FID's own. Of the first such space, or
    else of the first space, kernel distance and coverage are in it too.
    """
    spaces = sorted(scores["spaces"], key=lambda space: not space["is_fid"])
    first = spaces[0]["name"]
    columns = [
        (DISTANCE._replace(title=_distance(space)), space["name"], "frechet") for space in spaces
    ]
    kernel = Column("Kernel distance", "", 1)
    if spaces[0]["is_fid"]:
        kernel = Column("KID × 1000", "", 2, 1000)
    columns[1:1] = [(kernel, first, "kid"), (Column("Coverage", ""), first, "coverage")]
    columns.append((Column("AUC, real or not", ""), PIXELS, "auc"))
    columns = [column for column in columns if any(_scores(scores, *column[1:]))]
    # Levels that were given up by tuning are of no interest here.
    kept = [row for row in scores["rows"] if row["model"] != "untuned student"]
    rows = [
        [
            row["images"],
            f"{row['count']:,}",
            *(
                score_text(row["scores"].get(space, {}).get(key), column)
                for column, space, key in columns
            ),
        ]
        for row in kept
    ]
    keys = [column[2] for column in columns]
    head = ["Images", "n", *(column.title for column, _, _ in columns)]
    return head, rows, _caption(scores, spaces, keys)


def _scores(scores, space, key):
    return [row["scores"].get(space, {}).get(key) for row in scores["rows"]]


def _distance(space):
    return "FID" if space["is_fid"] else f"Fréchet in {space['name']}"


def _caption(scores, spaces, keys):
    seeds = [str(seed) for seed in scores["seeds"]]
    spread = f"mean ± standard deviation over {len(seeds)} seeds ({listed(seeds)})"
    if any(row["model"] == TRAININGS for row in scores["rows"]):
        spread += f" ({whose_seeds(scores['rows'])})"
    sentences = [
        f"Scores of n\u00a0=\u00a0{scores['num_samples']:,} generated images against"
        f" {scores['reference_count']:,} reference images ({without_folders(scores['reference'])});"
        f" {spread if len(seeds) > 1 else f'one seed ({seeds[0]})'}; computed on"
        f" {scores['hardware']}, {scores['date']}."
    ]
    for space in spaces:
        if space["is_fid"]:
            sentences.append(f"FID@fid@clean_fid: with the features of {space['name']}.")
        else:
            kind = " has fixed random weights@prdc" if space["name"] == RANDOM else ""
            sentences.append(
                f"The space {space['name']} (SHA-256 {space['sha256'][:12]}){kind}: its Fréchet"
                " distance is not FID and compares these rows with each other only."
            )
    kernel = "KID" if spaces[0]["is_fid"] else "Kernel distance: that of KID"
    explained = {
        "kid": f"{kernel}@kid in the space of the first column.",
        "coverage": "Coverage@prdc: share of reference images with a generated one near them.",
        "auc": "AUC@c2st of a classifier of real and generated: 0.5 is best.",
    }
    return " ".join([*sentences, *(text for key, text in explained.items() if key in keys)])
