"""One step of each phase: who learns, who stays frozen, and what the student is shown."""

import copy
from contextlib import nullcontext

import pytest
import torch

from custom_model import create_custom_model
from discriminator import build_discriminator
from training.paths import Paths
from training.student import StudentStage
from training.teacher import TeacherStage

LEVELS = {1: [5.0], 2: [5.0, 1.0], 4: [5.0, 2.0, 1.0, 0.5]}


def make_student(**changes):
    torch.manual_seed(0)
    teacher = create_custom_model(network="tiny", sigma_data=0.6, few_step_sigmas=LEVELS)
    with torch.no_grad():
        teacher.network.tail[2].weight.normal_(std=0.05)
    arguments = dict(
        total=100,
        autocast=nullcontext,
        lr=1e-3,
        warmup=0,
        ema=0.9,
        first_level_share=0.5,
        self_input_share=0.5,
        distill_mean=-0.4,
        distill_std=1.0,
        distill_final=0.1,
        adv_weight=1.0,
        adv_ramp=0,
        disc_lr=1e-3,
        disc_warmup=0,
        disc_mean=-1.0,
        disc_std=1.0,
        r1_weight=1.0,
        r1_sigma=0.1,
    )
    disc = build_discriminator("resnet", channels=8, sigma_data=0.6)
    return StudentStage(copy.deepcopy(teacher), teacher, disc, **arguments | changes)


def snapshot(module):
    return [p.detach().clone() for p in module.parameters()]


def moved(before, module):
    return any(not torch.equal(a, b) for a, b in zip(before, module.parameters()))


def batch(count=8, size=64):
    return torch.rand(count, 3, size, size) * 2 - 1


def test_teacher_step_learns_and_its_average_follows():
    torch.manual_seed(0)
    model = create_custom_model(network="tiny", sigma_data=0.6)
    stage = TeacherStage(model, 100, 1e-3, 0, 0.5, nullcontext)
    before, average = snapshot(stage.model), snapshot(stage.ema)
    for step in range(3):
        metrics = stage.step(batch(4, 16), step)
    assert moved(before, stage.model) and moved(average, stage.ema)
    assert metrics["loss"].item() > 0 and metrics["skipped"] == 0


def test_teacher_learns_a_constant_image():
    torch.manual_seed(0)
    model = create_custom_model(network="tiny", sigma_data=0.6)
    stage = TeacherStage(model, 1000, 2e-3, 0, 0.1, nullcontext)
    x0 = torch.full((8, 3, 16, 16), 0.5)
    first = stage.step(x0, 0)["loss"].item()
    for step in range(1, 40):
        last = stage.step(x0, step)["loss"].item()
    assert last < 0.3 * first


def test_student_step_moves_student_and_discriminator_but_never_the_teacher():
    stage = make_student()
    student, disc, teacher = (snapshot(m) for m in (stage.model, stage.disc, stage.teacher))
    metrics = stage.step(batch(), 0)
    assert moved(student, stage.model) and moved(disc, stage.disc)
    assert not moved(teacher, stage.teacher)
    assert all(torch.as_tensor(value).isfinite() for value in metrics.values())
    assert all(p.grad is None for p in stage.teacher.parameters())


def test_discriminator_learns_alone_during_its_warmup():
    stage = make_student(disc_warmup=2)
    student, disc = snapshot(stage.model), snapshot(stage.disc)
    stage.step(batch(), 0)
    stage.step(batch(), 1)
    assert not moved(student, stage.model) and moved(disc, stage.disc)
    stage.step(batch(), 2)
    assert moved(student, stage.model)


@pytest.mark.parametrize("change", [{"adv_weight": 0.0}, {"r1_weight": 0.0}, {"distill_final": 1}])
def test_weights_change_the_update(change):
    results = []
    for arguments in ({}, change):
        stage = make_student(**arguments)
        torch.manual_seed(1)
        x0 = batch()
        for step in (98, 99):  # late, where the distillation has decayed
            stage.step(x0, step)
        results.append(torch.cat([p.flatten() for p in stage.model.parameters()]))
    assert not torch.equal(*results)


def test_student_inputs_are_of_the_three_kinds():
    stage = make_student()
    torch.manual_seed(0)
    x0 = torch.full((64, 3, 16, 16), 100.0)  # far away, so that real content is recognisable
    x, sigma, next_sigma = stage.inputs(x0)
    first, own, real = x[:32], x[32:48], x[48:]
    assert (sigma[:32] == 5).all()
    assert first.std().item() == pytest.approx(5, rel=0.1) and first.mean().abs() < 1
    assert own.abs().max() < 50, "self-generated inputs must not contain the real image"
    assert (sigma[32:] < 5).all()
    residual = (real - 100).flatten(1).std(dim=1)
    assert torch.allclose(residual, sigma[48:], rtol=0.2)
    assert ((next_sigma < sigma) & (next_sigma >= 0)).all()


def test_self_generated_inputs_follow_the_sampling_path():
    """With a student that always answers 7, its own inputs are 7 plus noise of their level."""
    stage = make_student(first_level_share=0.0, self_input_share=1.0)
    stage.model.denoise = lambda x, sigma, next_sigma: torch.full_like(x, 7.0)
    x, sigma, _ = stage.inputs(torch.zeros(32, 3, 32, 32))
    assert x.mean().item() == pytest.approx(7, abs=0.1)
    assert torch.allclose((x - 7).flatten(1).std(dim=1), sigma, rtol=0.15)


def test_paths_hold_every_level_and_what_follows():
    paths = Paths(LEVELS, "cpu")
    rows, places = paths.draw(500, 4000)
    sigma, next_sigma = paths.at(rows, places)
    assert (sigma[:500] == 5).all()
    assert set(next_sigma[:500].tolist()) == {0.0, 1.0, 2.0}
    pairs = set(zip(sigma[500:].tolist(), next_sigma[500:].tolist()))
    assert pairs == {(1.0, 0.0), (2.0, 1.0), (1.0, 0.5), (0.5, 0.0)}


def test_a_gradient_that_is_not_finite_is_dropped():
    stage = make_student(self_input_share=0.0)
    stage.step(batch(), 0)
    parts = (stage.model, stage.ema, stage.disc)
    before = [snapshot(part) for part in parts]
    x0 = batch()
    x0[-1, 0, 0, 0] = float("nan")  # a noised real image, which student and discriminator see
    metrics = stage.step(x0, 1)
    assert metrics["skipped"] == 1 and metrics["disc_skipped"] == 1
    assert not any(moved(values, part) for values, part in zip(before, parts))
    assert stage.step(batch(), 2)["skipped"] == 0
    assert all(moved(values, part) for values, part in zip(before, parts))


def test_stage_arguments_are_the_settings_fields():
    """Defaults live in the settings alone: the stage has none that could differ."""
    import inspect

    parameters = inspect.signature(StudentStage.__init__).parameters.values()
    assert [p.name for p in parameters if p.default is not p.empty] == []
