"""NaN and infinity in losses, gradients, weights and batches: skipped, counted, never saved."""

import json
from contextlib import suppress

import pytest
import torch

from discriminator.augment import Augment
from fewstep.engine.checkpoints import list_checkpoints
from fewstep.engine.fit import first_not_finite
from fewstep.engine.log import append_row, read_rows
from fewstep.engine.loop import train
from fewstep.methods.sentinels import REMEDIES, concerns
from src.utils import UserError, torch_load
from tests.students import build_teacher, job_in, student_of, tiny_settings

SMALL = dict(batch_size=4, disc_channels=8, disc_warmup=0, adv_ramp=0, warmup=0, student_warmup=0)
NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Drawn after each checkpoint they would take most of the time."""
    monkeypatch.setattr("fewstep.engine.loop.draw_curves", lambda *_: None)


def teacher_phase(**flags):
    torch.manual_seed(0)
    return build_teacher(tiny_settings(SMALL, flags))


def student_phase(**flags):
    return student_of(tiny_settings(SMALL, flags))


def batch_of(step):
    generator = torch.Generator().manual_seed(step)
    return torch.rand(4, 3, 64, 64, generator=generator) * 2 - 1


def run(folder, phase, total, batch_of=batch_of, **options):
    rows_drawn = len(phase.nfe_rows)
    phase.total, phase.pictures = (
        total,
        lambda count, side: torch.zeros(rows_drawn * count, 3, 8, 8),
    )
    usual = dict(log_interval=1, save_interval=1, sample_interval=100, max_skips=4)
    return train(phase, job_in(folder, **usual | options), batch_of, identity={})


def rows(folder):
    return [row for row in read_rows(folder / "log.jsonl") if "concern" not in row]


def skips(folder):
    """Whether each row's update of the phase's own network was dropped."""
    return [row[f"{row['phase']}_skipped"] for row in rows(folder)]


def assert_sound(phase):
    assert first_not_finite(phase.state_dict()) is None


def weights(phase):
    return [p.detach().clone() for p in phase.model.parameters()]


def bad_batch(value, steps):
    def batches(step):
        images = batch_of(step)
        if step in steps:
            images[0, 2, 3, 4] = value
        return images

    return batches


def bad_loss(phase, value, steps):
    """Let the loss of the phase's own network be `value` at some steps."""
    plain, own = phase.turns, phase.learners[0]

    def turns(step):
        for turn in plain(step):
            if turn.learner is not own or step not in steps:
                yield turn
                continue

            def loss(micro_batch, turn=turn):
                _, metrics = turn.loss(micro_batch)
                return sum(p.sum() for p in own.parameters) * value, metrics

            yield turn._replace(loss=loss)

    phase.turns = turns


def bad_gradient(phase, value, steps):
    """Let one number of one gradient be `value` at some steps."""
    learner = phase.learners[0]
    plain = learner.update

    def update(step):
        if step in steps:
            learner.parameters[3].grad.view(-1)[0] = value
        return plain(step)

    learner.update = update


MAKERS = {"teacher": teacher_phase, "student": student_phase}


@pytest.mark.parametrize("kernels", ["fused", "foreach", "loop"])
@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("name", MAKERS)
def test_a_bad_gradient_is_skipped_and_counted(tmp_path, name, value, kernels):
    phase = MAKERS[name](updates=kernels)
    bad_gradient(phase, value, {1})
    before = {}

    def batches(step):
        before[step] = weights(phase)
        return batch_of(step)

    run(tmp_path, phase, 3, batch_of=batches)
    assert_sound(phase)
    assert all(torch.equal(a, b) for a, b in zip(before[1], before[2]))  # the update was dropped
    assert not all(torch.equal(a, b) for a, b in zip(before[0], before[1]))
    assert skips(tmp_path) == [0, 1, 0]


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("name", MAKERS)
def test_a_bad_loss_is_skipped_and_counted(tmp_path, name, value):
    phase = MAKERS[name]()
    bad_loss(phase, value, {1})
    run(tmp_path, phase, 3)
    assert_sound(phase)
    assert skips(tmp_path) == [0, 1, 0]


@pytest.mark.parametrize(
    ("name", "flags", "hit"),
    [
        ("teacher", {}, {"teacher_skipped"}),
        ("student", {}, {"student_skipped", "disc_skipped"}),
        ("student", {"disc": "resnet", "penalty": "r1r2"}, {"student_skipped", "disc_skipped"}),
        (
            "student",
            {"distill": "dmd", "augment": "color", "augment_p": 0.3, "ada_target": 0.6},
            {"student_skipped", "disc_skipped", "fake_score_skipped"},
        ),
    ],
)
@pytest.mark.parametrize("value", [NAN, INF])
def test_a_bad_batch_leaves_no_trace(tmp_path, name, flags, hit, value):
    """Whatever it reaches: networks, averages, optimisers, spectral norms, ADA's probability."""
    phase = MAKERS[name](**flags)
    run(tmp_path, phase, 3, batch_of=bad_batch(value, {1}))
    assert_sound(phase)
    first, second, third = rows(tmp_path)
    assert {key for key in phase.remedies if second.get(key)} >= hit & {"disc_skipped"}
    assert any(second.get(key) for key in hit)
    assert all(not first.get(key) and not third.get(key) for key in phase.remedies)
    assert all(value is not None for value in third.values())


def test_numbers_too_large_for_the_networks_precision_are_skipped(tmp_path):
    """bf16 has fp32's range: what overflows one overflows the other."""
    phase = teacher_phase(precision="bf16")
    run(tmp_path, phase, 3, batch_of=lambda step: bad_batch(3e38, {1})(step)[:1])
    assert_sound(phase)
    assert skips(tmp_path) == [0, 1, 0]


@pytest.mark.parametrize("name", MAKERS)
def test_after_the_limit_the_run_ends_with_the_last_good_state(tmp_path, name):
    phase = MAKERS[name]()
    with pytest.raises(UserError, match="not finite for the last 5 updates up to step 8") as caught:
        run(tmp_path, phase, 100, batch_of=bad_batch(NAN, range(3, 100)))
    text = str(caught.value)
    assert "\n" not in text and str(tmp_path / name) in text
    assert any(remedy in text for remedy in phase.remedies.values())
    newest = torch_load(
        tmp_path / name / f"checkpoint_iter_{list_checkpoints(tmp_path / name)[0]}.pt"
    )
    assert first_not_finite(newest["phase"]) is None
    good = MAKERS[name]()  # and it can be gone on with
    run(tmp_path, good, 10)
    assert_sound(good)


@pytest.mark.parametrize(
    ("part", "seen"),
    [
        ("student", "student"),
        ("student_average", "student_average"),
        ("student_optimizer", "student"),
        ("disc", "disc"),
    ],
)
def test_weights_that_are_lost_are_never_saved(tmp_path, part, seen):
    phase = student_phase()

    def batches(step):
        if step == 2:
            spoil(phase, part)
        return batch_of(step)

    with pytest.raises(UserError, match="not all numbers are finite at step 3") as caught:
        run(tmp_path, phase, 100, batch_of=batches)
    assert f"({seen}." in str(caught.value) and REMEDIES["student_skipped"] in str(caught.value)
    assert list_checkpoints(tmp_path / "student") == [2, 1]
    for step in (1, 2):
        stored = torch_load(tmp_path / "student" / f"checkpoint_iter_{step}.pt")
        assert first_not_finite(stored["phase"]) is None


@torch.no_grad()
def spoil(phase, part):
    kept = phase._stateful()[part]
    if part.endswith("optimizer"):
        next(iter(kept.state.values()))["exp_avg_sq"].view(-1)[0] = NAN
    else:
        next(kept.parameters()).view(-1)[0] = NAN


def test_a_number_that_is_lost_is_null_in_the_log(tmp_path):
    append_row(tmp_path / "log.jsonl", {"step": 1, "loss": NAN, "other": INF, "name": "nan"})

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    row = json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=refuse)
    assert row == {"step": 1, "loss": None, "other": None, "name": "nan"}


def test_adas_probability_outlives_a_lost_logit():
    augment = Augment(["color"], 0.5)
    augment.steer(torch.tensor(NAN), 0.6, 10, 100)
    assert augment.p == 0.5
    augment.steer(torch.tensor(1.0), 0.6, 10, 100)
    assert augment.p == pytest.approx(0.6)


def test_a_diverging_discriminator_is_noticed(tmp_path, capsys):
    """At this learning rate its loss leaves every sane range; training says so, with a remedy."""
    phase = student_phase(disc="resnet", disc_lr=0.1, student_iterations=6)
    row_concerns = []

    def noted(row):
        row_concerns.append(concerns(row, settled=0))
        return row_concerns[-1]

    phase.concerns = noted
    with suppress(UserError):  # on some processors its gradients end the run, after it was said
        run(tmp_path, phase, 6, max_skips=100)
    assert any("discriminator's loss" in found for found in row_concerns)
    logged = [row for row in read_rows(tmp_path / "log.jsonl") if "concern" in row]
    texts = [row["text"] for row in logged if row["concern"] == "discriminator's loss"]
    assert len(texts) == 1 and "--disc_lr" in texts[0]
    assert "warning: student" in capsys.readouterr().err


def test_a_discriminator_without_finite_gradients_ends_the_run(tmp_path):
    phase = student_phase(disc="resnet", disc_lr=1.0, student_iterations=6)
    with pytest.raises(UserError, match="the last . updates up to step 6 .disc_skipped.*--disc_lr"):
        run(tmp_path, phase, 6, max_skips=100)


def test_often_dropped_updates_are_a_concern():
    row = {"phase": "teacher", "step": 5, "teacher_skipped": 0.05, "disc_skipped": 0.3}
    assert "disc_skipped" in concerns(row, settled=0)["dropped updates"]
    assert concerns({**row, "disc_skipped": 0.0}, settled=0) == {}
