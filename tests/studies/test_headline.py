"""The first screen of a report says how good, compared with what, and whether to trust it."""

import pytest

from fewstep.runs.settings import Run, Settings
from fewstep.studies.evaluate.headline import headline
from fewstep.studies.evaluate.tables import notes, score_row
from fewstep.studies.evaluate.trainings import check_seed_runs, over_trainings
from src.utils import UserError, write_json

SPACES = [{"name": name, "sha256": name, "is_fid": False} for name in "ab"]
CONTENT = dict(seeds=[1, 2, 3], spaces=SPACES, num_samples=10, reference_count=9)
CONTENT |= dict(hardware="a processor", date="2026-01-31")


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
    assert (
        "Student, NFE 1 (the nearest of 2) lies at 9.6 and 2.0 times the distance of real"
        in first["verdict"]
    )
    assert "in a and b, nearer than teacher, NFE 35" in first["verdict"]


def test_of_one_seed_no_order_is_in_the_verdict():
    def single(*values):
        scores = {"a": {"frechet": 20.0}, "b": {"frechet": 20.0}, "pixels": {}}
        return score_row(*values, 1, 10, [scores])

    rows = [single("real", "real"), single("teacher, NFE 1", "teacher"), single("mine", "folder")]
    verdict = headline({"rows": rows, "spaces": SPACES})["verdict"]
    assert "Mine lies at 1.0 and 1.0 times" in verdict and "teacher" not in verdict


def test_the_spread_over_trainings_stands_beside_that_over_samples():
    student, other = row("student, NFE 1", "student", 20, 8), row("x", "student of seed 7", 24, 9)
    (merged,) = over_trainings([REAL, student, other])
    first = said(student, other, merged)
    assert first["title"] == "student, NFE 1" and first["distances"][0][1] == "20.10 ± 0.10"
    wanted = ("student, NFE 1, mean of 2 trainings", "22.10 ± 2.83")
    assert wanted in first["distances"][0][2]
    assert "seeds of training" in notes(CONTENT | {"rows": [REAL, student, other, merged]})
    assert over_trainings([REAL, student]) == []


def test_only_the_seed_of_other_trainings_may_differ(tmp_path):
    def run(name, seed, export="last", **identity):
        content = {"settings": Settings(run=Run(seed=seed, export=export)).as_dict()}
        content["identities"] = {"student": {"lr": 0.1, "seed": seed} | identity}
        write_json(tmp_path / name / "training_config.json", content)
        return str(tmp_path / name)

    first, second = run("a", 1), run("b", 2)
    check_seed_runs(first, [second])
    for other, message in [
        (run("c", 3, lr=0.2), "c: its lr of the student is not that of .*a; only the seed may"),
        (run("e", 4, export="best"), "e: its best_features of the run is not that of"),
        (run("d", 1), "d: it has the seed 1 of .*a too"),
        (str(tmp_path / "absent"), "--seed_runs .*absent"),
    ]:
        with pytest.raises(UserError, match=message):
            check_seed_runs(first, [second, other])
    with pytest.raises(UserError, match="--seed_runs: give --run_dir too"):
        check_seed_runs(None, [second])


@pytest.mark.parametrize(
    "first, second, words",
    [
        (40.0, 50.0, ", farther than teacher"),
        (20.0, 50.0, ", the spaces disagreeing on whether that is nearer than teacher"),
        (20.0, 30.05, ", not clearly nearer or farther than teacher"),
    ],
)
def test_the_verdict_says_no_more_than_the_spaces_do(first, second, words):
    assert words in said(TEACHER, row("mine", "folder", first, second))["verdict"]


def test_copies_variety_and_the_classifier_are_in_the_verdict():
    good = said(row("mine", "folder", 3.0, 5.0, recall=0.7, copies=0.02, auc=0.6))
    assert "no sign of copies; enough variety (recall 0.70)" in good["verdict"]
    assert "often wrong about it (AUC 0.60)" in good["verdict"]
    mostly = said(row("student, NFE 1", "student", 20, 8, auc=0.9))["verdict"]
    assert "a classifier mostly tells it apart (AUC 0.90)" in mostly
    assert [answer for _, answer, _ in good["trust"]] == ["2 %", "0.70", "0.60"]
    assert good["trust"][2][2] == "0.5, real 0.70"
    bad = said(row("mine", "folder", 3.0, 5.0, recall=0.1, copies=0.4, auc=1.0))
    assert "it may copy training images (40 %); too little variety" in bad["verdict"]
    assert "tells it apart at sight" in bad["verdict"]
    unasked = said(row("mine", "folder", 3.0, 5.0))
    assert "AUC" not in unasked["verdict"] and len(unasked["trust"]) == 1
