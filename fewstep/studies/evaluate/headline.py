"""The first screen of a report: how good, compared with what, and whether to trust it."""

from fewstep.scores.comparison import PIXELS
from fewstep.studies.evaluate.tables import (
    TRAININGS,
    are_of_one_seed,
    distance_of,
    order_of,
    score_text,
)

MANY_COPIES = 0.05  # of the generated images; 0.01 is expected where nothing is copied
LITTLE_VARIETY = 0.5  # of the recall that real training images have
SCORED = ("student", "folder")  # kinds of rows, the nearest of which stands first
TOLD_APART, MOSTLY = 0.95, 0.75  # AUC from which a classifier hardly errs, and is mostly right


def headline(content):
    """`scores.json` -> {"title": the scored row that is nearest in the first space, "verdict": one
    sentence, "distances": [(space, its distance, [(what, distance) to compare it with])], "trust":
    [(question, answer, what is expected)]}."""
    spaces, rows = content["spaces"], content["rows"]
    best = _nearest(rows, spaces[0], SCORED)
    count = sum(row["model"] in SCORED for row in rows)
    (real,) = [row for row in rows if row["model"] == "real"]
    teacher = _nearest(rows, spaces[0], ("teacher",))
    others = [(f"{real['images']} (the floor)", real)]
    others += [(teacher["images"], teacher)] if teacher else []
    means = [row for row in rows if row["model"] == TRAININGS and row["nfe"] == best["nfe"]]
    others += [(row["images"], row) for row in means]
    distances = [
        (
            space,
            score_text(distance_of(best, space)),
            [(name, score_text(distance_of(row, space))) for name, row in others],
        )
        for space in spaces
    ]
    recall, own_recall = (_mean(row, spaces[0]["name"], "recall") for row in (best, real))
    auc, own_auc = (_mean(row, PIXELS, "auc") for row in (best, real))
    trust = [
        ("nearer to a training image than new ones are", _percent(_copies(best)), "1 %"),
        ("recall: real images that it could make", _text(recall), f"as real, {_text(own_recall)}"),
        ("a classifier's AUC", _text(auc), f"0.5, real {_text(own_auc)}"),
    ]
    return {
        "title": best["images"],
        "verdict": _verdict(best, count, real, teacher, spaces),
        "distances": distances,
        "trust": [one for one in trust if one[1]],
    }


def _verdict(best, count, real, teacher, spaces):
    times = [
        distance_of(best, space)["mean"] / max(distance_of(real, space)["mean"], 1e-9)
        for space in spaces
    ]
    title = best["images"][:1].upper() + best["images"][1:]
    title += f" (the nearest of {count})" if count > 1 else ""
    parts = [
        f"{title} lies at {' and '.join(f'{one:.1f}' for one in times)} times the distance"
        f" of real training images in {' and '.join(space['name'] for space in spaces)}"
    ]
    if teacher and not are_of_one_seed([best, teacher], spaces):
        orders = [order_of(distance_of(best, s), distance_of(teacher, s)) for s in spaces]
        parts[0] += f", {_against(orders)} {teacher['images']}"
    copies, auc = _copies(best), _mean(best, PIXELS, "auc")
    recall, own = (_mean(row, spaces[0]["name"], "recall") for row in (best, real))
    if copies is not None:
        warning = f"it may copy training images ({_percent(copies)})"
        parts.append(warning if copies > MANY_COPIES else "no sign of copies")
    if recall is not None and own:
        little = recall < LITTLE_VARIETY * own
        parts.append(f"{'too little' if little else 'enough'} variety (recall {recall:.2f})")
    if auc is not None:
        apart = "mostly tells it apart" if auc >= MOSTLY else "is often wrong about it"
        apart = "tells it apart at sight" if auc >= TOLD_APART else apart
        parts.append(f"a classifier {apart} (AUC {auc:.2f})")
    return "; ".join(parts) + "."


def _against(orders):
    """What the orders in all spaces say, as of `order_of` with the other row second."""
    if min(orders) == 1:
        return "nearer than"
    if max(orders) == -1:
        return "farther than"
    if {1, -1} <= set(orders):
        return "the spaces disagreeing on whether that is nearer than"
    return "not clearly nearer or farther than"


def _nearest(rows, space, kinds):
    """The row of one of these kinds with the smallest distance in a space, or None."""
    rows = [row for row in rows if row["model"] in kinds]
    return min(rows, key=lambda row: distance_of(row, space)["mean"], default=None)


def _mean(row, space, key):
    """The mean of a score in the space of that name, None where there is none."""
    score = row["scores"][space].get(key)
    return score and score["mean"]


def _copies(row):
    """The largest share of images that are too near to a training image, in any space."""
    shares = [_mean(row, space, "share_closer") for space in row["scores"]]
    return max((share for share in shares if share is not None), default=None)


def _text(value):
    return "" if value is None else f"{value:.2f}"


def _percent(share):
    return "" if share is None else f"{100 * share:.0f} %"
