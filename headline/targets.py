"""What the run was to reach, asked of its scores: a pure function from rows to a table."""

from typing import NamedTuple

from metrics.comparison import PIXELS

FLOW_FACTOR = 5  # how many times nearer the student is than the flow at one evaluation
FLOOR_FACTOR = 1.5
COVERAGE_SHARE = 0.8
COPIES = 0.01  # share of new images nearer to a training image than 99 % of the held-out ones


class Target(NamedTuple):
    """`holds`: True, False, or None where a score that it needs is not there."""

    name: str
    found: str
    wanted: str
    holds: bool | None


def targets(rows, space):
    """The targets as a list of `Target`, from rows of `scores.json` and a feature space's name.

    Rows are found by their `model` ("real", "teacher", "flow", "student") and `nfe`; of the
    teacher's the one with most evaluations counts. A target whose rows are missing is not known.
    """
    table = {(row["model"], row["nfe"]): row for row in rows}
    most = max((nfe for model, nfe in table if model == "teacher"), default=None)
    real, teacher = table.get(("real", None)), table.get(("teacher", most))
    flow = table.get(("flow", 1))
    one, two, four = (table.get(("student", nfe)) for nfe in (1, 2, 4))
    distances = [_distance(row, space) for row in (one, two, four)]
    floor = _distance(real, space)
    return [
        _at_most(f"student at NFE 1: at most the teacher's at NFE {most}", one, teacher, 1, space),
        _at_most(
            f"student at NFE 1: at most 1/{FLOW_FACTOR} of the rectified flow's at NFE 1",
            one,
            flow,
            1 / FLOW_FACTOR,
            space,
        ),
        Target(
            "student: NFE 4 no farther than NFE 2, no farther than NFE 1",
            " / ".join(map(_number, distances[::-1])) + _spread_text(one, two, four, space),
            "rising",
            None if None in distances else distances[2] <= distances[1] <= distances[0],
        ),
        Target(
            f"student at NFE 1: at most {FLOOR_FACTOR} times the floor",
            _number(distances[0]),
            _number(floor and FLOOR_FACTOR * floor),
            None if None in (distances[0], floor) else distances[0] <= FLOOR_FACTOR * floor,
        ),
        _coverage(one, real, space),
        *(_copies(one, where) for where in (space, PIXELS)),
    ]


def markdown(found):
    """The targets as a Markdown table."""
    lines = ["| target | found | wanted | holds |", "|---|---|---|---|"]
    for target in found:
        holds = {True: "yes", False: "**no**", None: "not known"}[target.holds]
        lines.append(f"| {target.name} | {target.found} | {target.wanted} | {holds} |")
    return "\n".join(lines) + "\n"


def _score(row, space, key):
    """The mean of a score, or None where it was not taken."""
    return row["scores"][space][key]["mean"] if row and key in row["scores"][space] else None


def _distance(row, space):
    return _score(row, space, "frechet")


def _at_most(name, row, other, factor, space):
    """Distance of `row` at most `factor` times that of `other`, the AUCs beside."""
    found, limit = _distance(row, space), _distance(other, space)
    return Target(
        name,
        _number(found) + _auc_text(row),
        _number(limit and factor * limit) + _auc_text(other),
        None if None in (found, limit) else found <= factor * limit,
    )


def _coverage(row, real, space):
    found, limit = _score(row, space, "coverage"), _score(real, space, "coverage")
    return Target(
        f"student at NFE 1: coverage at least {COVERAGE_SHARE} of the real images'",
        _number(found, 3),
        _number(limit and COVERAGE_SHARE * limit, 3),
        None if None in (found, limit) else found >= COVERAGE_SHARE * limit,
    )


def _copies(row, space):
    """No more images close to a training image than chance allows for so many: three standard
    deviations above what is expected of new images."""
    found = _score(row, space, "share_closer")
    limit = None
    if found is not None:
        limit = COPIES + 3 * (2 * COPIES * (1 - COPIES) / row["count"]) ** 0.5
    return Target(
        f"student at NFE 1: no closer to training images than held-out ones ({space})",
        _percent(found),
        _percent(limit),
        None if found is None else found <= limit,
    )


def _spread_text(*rows_and_space):
    *rows, space = rows_and_space
    if not all(rows):
        return ""
    spreads = [row["scores"][space]["frechet"]["sd"] for row in rows]
    return "" if None in spreads else f" (sd over seeds at most {max(spreads):.2f})"


def _auc_text(row):
    auc = _score(row, PIXELS, "auc")
    return "" if auc is None else f" (AUC {auc:.3f})"


def _number(value, digits=2):
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value):
    return "-" if value is None else f"{100 * value:.1f} %"
