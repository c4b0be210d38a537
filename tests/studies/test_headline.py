"""The first screen of a report says how good, compared with what, and whether to trust it."""

import pytest

from fewstep.studies.evaluate.headline import headline
from fewstep.studies.evaluate.tables import score_row

SPACES = [{"name": "a", "is_fid": False}, {"name": "b", "is_fid": False}]


def row(title, kind, first, second, recall=0.8, copies=None, auc=None):
    """A row of three seeds with these distances in two spaces."""
    scores = []
    for noise in (0.0, 0.1, 0.2):
        a = {"frechet": first + noise, "recall": recall}
        pixels = {} if auc is None else {"auc": auc}
        if copies is not None:
            pixels["share_closer"] = copies
        scores.append({"a": a, "b": {"frechet": second + noise}, "pixels": pixels})
    return score_row(title, kind, 1, 10, scores)


REAL = row("real training images", "real", 2.0, 4.0, auc=0.7)
TEACHER = row("teacher, NFE 35", "teacher", 30.0, 30.0)


def said(*rows):
    return headline({"rows": [REAL, *rows], "spaces": SPACES})


def test_the_nearest_model_stands_beside_floor_and_teacher_in_every_space():
    worse = row("teacher, NFE 1", "teacher", 90.0, 90.0)
    students = row("student, NFE 1", "student", 20.0, 8.0), row("student, NFE 2", "student", 21, 7)
    first = said(TEACHER, worse, *students)
    assert first["title"] == "student, NFE 1"
    (_, distance, others), (space, _, _) = first["distances"]
    assert distance == "20.10 ± 0.10" and space["name"] == "b"
    assert [name for name, _ in others] == ["real training images (the floor)", "teacher, NFE 35"]
    assert "student, NFE 1 lies at 9.6 and 2.0 times the distance of real" in first["verdict"]
    assert "in a and b, nearer than teacher, NFE 35" in first["verdict"]


@pytest.mark.parametrize(
    "first, second, words",
    [
        (40.0, 50.0, ", farther than teacher"),
        (20.0, 50.0, ", the spaces disagreeing on whether that is nearer than teacher"),
        (20.0, 30.05, ", not surely in another place than teacher"),
    ],
)
def test_the_verdict_says_no_more_than_the_spaces_do(first, second, words):
    assert words in said(TEACHER, row("mine", "folder", first, second))["verdict"]


def test_copies_variety_and_the_classifier_are_in_the_verdict():
    good = said(row("mine", "folder", 3.0, 5.0, recall=0.7, copies=0.02, auc=0.6))
    assert "no sign of copies; enough variety (recall 0.70)" in good["verdict"]
    assert "often wrong about it (AUC 0.60)" in good["verdict"]
    assert [answer for _, answer, _ in good["trust"]] == ["2 %", "0.70", "0.60"]
    assert good["trust"][2][2] == "0.5, real 0.70"
    bad = said(row("mine", "folder", 3.0, 5.0, recall=0.1, copies=0.4, auc=1.0))
    assert "it may copy training images (40 %); too little variety" in bad["verdict"]
    assert "tells it apart at sight" in bad["verdict"]
    unasked = said(row("mine", "folder", 3.0, 5.0))
    assert "AUC" not in unasked["verdict"] and len(unasked["trust"]) == 1
