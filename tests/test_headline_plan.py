"""Arithmetic of the real run: the plan of its time, the flags of its trainings, its targets."""

import pytest

from headline import plan
from headline.programs import training_arguments
from headline.rates import WARM_SHARE, rate_of, ways
from headline.recipe import levels_from, student_flags, teacher_flags
from headline.targets import COPIES, markdown, targets
from metrics.comparison import PIXELS
from src.utils import UserError
from training.command_line import parse_settings

SPACE = "space"
COSTS = plan.image_costs(teacher_rate=300, student_rate=100)


# -- the plan ----------------------------------------------------------------------------------


def test_costs_leave_out_what_a_half_does_not_compute():
    assert COSTS["teacher"] == COSTS["flow"] == pytest.approx(1 / 300)
    forward = COSTS["teacher"] / 3
    assert COSTS["disc_only"] == pytest.approx(COSTS["student"] - forward)
    assert COSTS["distill_only"] == pytest.approx(plan.DISTILL_ONLY_PASSES * forward)
    cheap = plan.image_costs(teacher_rate=300, student_rate=250)
    assert cheap["distill_only"] == cheap["student"]


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_steps_fill_the_time_and_others_follow_from_teacher_and_student(share):
    wanted = ["teacher", "student", "flow", "disc_only", "distill_only"]
    steps = plan.steps_that_fit(600, COSTS, 10, wanted, {}, share)
    assert steps["flow"] == steps["teacher"] + steps["student"]
    assert steps["disc_only"] == steps["distill_only"] == steps["student"]
    seconds = plan.training_seconds(steps, COSTS, 10)
    assert sum(seconds.values()) == pytest.approx(600, rel=0.01)
    both = seconds["teacher"] + seconds["student"]
    assert seconds["teacher"] / both == pytest.approx(share, rel=0.01)


def test_what_is_settled_stays_and_the_rest_fits_around_it():
    wanted, fixed = ["student", "flow"], {"teacher": 1000}
    steps = plan.steps_that_fit(300, COSTS, 10, wanted, fixed)
    assert set(steps) == {"student", "flow"} and steps["flow"] == 1000 + steps["student"]
    seconds = plan.training_seconds(steps, COSTS, 10)
    assert sum(seconds.values()) == pytest.approx(300, rel=0.01)
    fixed |= {"student": 70}
    assert plan.steps_that_fit(1, COSTS, 10, ["flow", "disc_only"], fixed) == {
        "flow": 1070,
        "disc_only": 70,
    }


def test_too_little_time_is_no_steps_and_trials_are_capped():
    wanted = ["teacher", "student"]
    assert plan.steps_that_fit(-5, COSTS, 10, wanted, {}) == {"teacher": 0, "student": 0}
    found = plan.steps_that_fit(600, COSTS, 10, [*wanted, "flow"], {}, most=7)
    assert found == {"teacher": 7, "student": 7, "flow": 14}


def test_tasks_are_laid_out_over_commands():
    tasks = [("speed", 60, False), ("teacher", 100, True), ("pack", 50, False)]
    commands = plan.schedule(tasks, 100, restart=10)
    # The teacher goes on for 60 s and its restart; what cannot be stopped waits for room.
    assert commands == [[("speed", 60), ("teacher", 40)], [("teacher", 70)], [("pack", 50)]]
    assert plan.schedule([("long", 300, False)], 100, 10) == [[("long", 300)]]
    with pytest.raises(ValueError, match="restarts"):
        plan.schedule(tasks, 20, restart=10)


def test_scoring_takes_evaluations_and_metrics():
    assert plan.score_seconds([0, 1, 4], 2, 100, 0.1, 3) == pytest.approx(2 * (3 * 3 + 5 * 10))
    one = 7 * (2 + 50 * 0.1)
    assert plan.tuning_seconds(50, 0.1, 2) > one * 3


def test_eager_speed_is_measured_first():
    assert ways(["a", "b"], False) == [("teacher", "eager"), ("a", "eager"), ("b", "eager")]
    assert ways(["a", "b"], True)[3:] == [("teacher", "compiled"), ("a", "compiled")]


def measured(**rates):
    rows = []
    for what, modes in rates.items():
        for mode, rate in modes.items():
            told = {"images_per_second": rate, "warmup_seconds": 100.0}
            rows.append({"what": what, "mode": mode} | told)
    return {"rows": rows}


def test_compiled_is_chosen_where_it_shows_more_images_in_the_time():
    found = measured(teacher={"eager": 100, "compiled": 200}, resnet={"compiled": 60})
    warm = WARM_SHARE * 100
    assert rate_of(found, "teacher", 2 * warm - 1, 1) == (100, "off", 0.0)
    assert rate_of(found, "teacher", 2 * warm + 1, 1) == (200, "auto", warm)
    assert rate_of(found, "unet", 1000, 1).images == 60  # that of the one that was measured
    found["rows"] += measured(resnet={"eager": 20}, unet={"eager": 10})["rows"]
    assert rate_of(found, "unet", 1000, 1) == (30, "auto", warm)  # it gains what the first gains
    assert rate_of(found, "unet", warm, 1) == (10, "off", 0.0)
    assert rate_of({}, "teacher", 1000, 5) == (5, "auto", 0.0)
    failed = {"rows": [{"what": "teacher", "mode": "compiled", "failure": "?"}]}
    assert rate_of(failed, "teacher", 1000, 5).images == 5


# -- the flags of each training ----------------------------------------------------------------


def test_levels_follow_the_first_one():
    assert levels_from(80, "full") == [80, 4.0, 1.5, 0.54]
    low = levels_from(2.5, "full")
    assert low[0] == 2.5 and low[-1] == 0.54
    ratios = [a / b for a, b in zip(low, low[1:])]
    assert max(ratios) == pytest.approx(min(ratios), rel=1e-3)
    with pytest.raises(UserError, match="0.54"):
        levels_from(0.5, "full")


@pytest.mark.parametrize("preset", ["full", "tiny"])
@pytest.mark.parametrize("steps", [4, 25, 100000])
def test_warm_ups_fit_any_number_of_steps(preset, steps, tmp_path):
    for name in ("teacher", "student", "disc_only", "distill_only"):
        common = {"preset": preset, "data_root": tmp_path}
        program, *flags = training_arguments(
            name, steps, tmp_path, preset, 64, common, {}, {}, "off"
        )
        settings = parse_settings(flags)[0]
        assert program == "train.py" and settings.speed.compile == "off"
        told = settings.teacher.num_iterations, settings.student.student_iterations
        assert steps == (told[0] if name == "teacher" else told[1])
    assert settings.discriminator.disc == "none"
    assert teacher_flags(preset, 10**6)["warmup"] == {"full": 500, "tiny": 30}[preset]
    assert student_flags(preset, 10**6, 64)["disc_warmup"] == {"full": 200, "tiny": 30}[preset]


def test_given_flags_replace_the_recipes_and_a_half_keeps_its_own(tmp_path):
    chosen = {"disc": "patch", "sigmas": [10.0, 4.0, 1.5, 0.54], "student_lr": 0.01}
    told = dict(work=tmp_path, preset="full", batch_size=8, base={"lr": 0.5}, compile="off")
    common = {"preset": "full", "data_root": tmp_path}
    for name, disc, distill in (("student", "patch", "add"), ("disc_only", "patch", "none")):
        flags = training_arguments(name, 100, common=common, student=chosen, **told)[1:]
        settings = parse_settings(flags)[0]
        assert settings.student.student_lr == 0.01 and settings.teacher.lr == 0.5
        assert settings.discriminator.disc == disc and settings.distillation.distill == distill
    flags = training_arguments("distill_only", 100, common=common, student=chosen, **told)[1:]
    assert parse_settings(flags)[0].discriminator.disc == "none"
    teacher = training_arguments("teacher", 100, common=common, student=chosen, **told)[1:]
    same = training_arguments("flow", 100, common=common, student=chosen, **told)[2:]
    for flag in ("--lr=0.5", "--num_iterations=100", "--warmup=10", "--ema_share"):
        assert [f for f in same if f.startswith(flag)] == [f for f in teacher if f.startswith(flag)]


# -- the targets -------------------------------------------------------------------------------


def row(model, nfe, frechet, coverage=0.5, closer=COPIES, auc=0.9):
    def score(value):
        return {"mean": value, "sd": 0.1, "values": [value]}

    features = {"frechet": score(frechet), "coverage": score(coverage)}
    pixels = {"auc": score(auc)}
    if model != "real":
        features["share_closer"] = pixels["share_closer"] = score(closer)
    scores = {SPACE: features, PIXELS: pixels}
    return {"model": model, "nfe": nfe, "count": 1000, "scores": scores}


def good_rows():
    return [
        row("real", None, 10),
        row("flow", 1, 75),
        row("teacher", 35, 15),
        row("teacher", 1, 200),
        *(row("student", nfe, 16 - nfe) for nfe in (1, 2, 4)),
    ]


def test_all_targets_hold_where_they_are_just_met():
    found = targets(good_rows(), SPACE)
    assert [target.holds for target in found] == [True] * 7
    assert "15.00 (AUC 0.900)" in markdown(found) and "**no**" not in markdown(found)


@pytest.mark.parametrize(
    ("model", "nfe", "changed", "broken"),
    [
        ("teacher", 35, {"frechet": 14.9}, [0]),
        ("flow", 1, {"frechet": 74.9}, [1]),
        ("student", 4, {"frechet": 14.5}, [2]),
        ("student", 2, {"frechet": 15.5}, [2]),
        ("real", None, {"frechet": 9.9}, [3]),
        ("real", None, {"frechet": 10, "coverage": 0.7}, [4]),
        ("student", 1, {"frechet": 15, "closer": 0.05}, [5, 6]),
    ],
)
def test_each_target_can_be_missed_alone(model, nfe, changed, broken):
    rows = [r for r in good_rows() if (r["model"], r["nfe"]) != (model, nfe)]
    found = targets([*rows, row(model, nfe, **changed)], SPACE)
    assert [place for place, target in enumerate(found) if target.holds is False] == broken


def test_what_was_not_scored_is_not_known():
    found = targets([row("student", 1, 5)], SPACE)
    assert [target.holds for target in found] == [None] * 5 + [True] * 2
    assert [target.holds for target in targets([], SPACE)] == [None] * 7
