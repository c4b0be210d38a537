"""One step of each phase: who learns, who stays frozen, and what the student gets."""

import copy
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fewstep.engine.microbatch import split
from fewstep.methods.adversarial import HELDOUT_SEED, Weights
from fewstep.methods.adversarial_settings import Student, idle
from fewstep.methods.adversary import LEAD_STEPS, SLOWER, SLOWEST
from fewstep.methods.adversary_settings import Discriminator
from fewstep.methods.consistency import Consistency
from fewstep.methods.edm import ode_images
from fewstep.methods.pairs import Pairs, of_student
from fewstep.methods.score_distillation import Distillation
from fewstep.methods.student_inputs import StudentInputs
from fewstep.methods.ties import distance_to_noise, identity_weight
from fewstep.methods.timeline import Timeline, student_rate
from fewstep.runs.settings import flat
from src.utils import UserError
from tests.students import AT_ONCE, CPU, build_teacher, plain_execution, student_of, tiny_settings

LEVELS = {1: [5.0], 2: [5.0, 1.0], 4: [5.0, 2.0, 1.0, 0.5]}
SHARES = [0.5, 0.125, 0.25, 0.125]


def make_student(**flags):
    """The phase as train.py builds it, tiny, with every network learning from the first step."""
    chosen = dict(student_iterations=100, student_ema_images=50.0)
    return student_of(tiny_settings(AT_ONCE, chosen, flags))


def snapshot(module):
    return [p.detach().clone() for p in module.parameters()]


def moved(before, module):
    return any(not torch.equal(a, b) for a, b in zip(before, module.parameters()))


def in_one(x0):
    """A step's batch in one micro-batch, seeded by torch's global generator."""
    return split(x0, [int(torch.randint(2**31, ()))])


def batch(count=8, size=64):
    return torch.rand(count, 3, size, size) * 2 - 1


def test_teacher_step_learns_and_its_average_follows():
    torch.manual_seed(0)
    phase = build_teacher(tiny_settings(dict(warmup=0, num_iterations=100, ema_share=0.5)))
    before, average = snapshot(phase.model), snapshot(phase.ema)
    for step in range(3):
        metrics = phase.step(in_one(batch(4, 16)), step)
    assert moved(before, phase.model) and moved(average, phase.ema)
    assert metrics["loss"].item() > 0 and metrics["teacher_skipped"] == 0


def test_teacher_learns_a_constant_image():
    torch.manual_seed(0)
    flags = dict(warmup=0, num_iterations=1000, lr=2e-3, ema_share=0.1)
    phase = build_teacher(tiny_settings(flags))
    x0 = torch.full((8, 3, 16, 16), 0.5)
    first = phase.step(in_one(x0), 0)["loss"].item()
    for step in range(1, 40):
        last = phase.step(in_one(x0), step)["loss"].item()
    assert last < 0.3 * first


def test_student_step_moves_student_and_discriminator_but_never_the_teacher():
    phase = make_student()
    student, disc, teacher = (
        snapshot(m) for m in (phase.model, phase.adversary.disc, phase.teacher)
    )
    metrics = phase.step(in_one(batch()), 0)
    assert moved(student, phase.model) and moved(disc, phase.adversary.disc)
    assert not moved(teacher, phase.teacher)
    assert all(torch.as_tensor(value).isfinite() for value in metrics.values())
    assert all(p.grad is None for p in phase.teacher.parameters())


def test_discriminator_learns_alone_during_its_warmup():
    phase = make_student(disc_warmup=2)
    student, disc = snapshot(phase.model), snapshot(phase.adversary.disc)
    phase.step(in_one(batch()), 0)
    phase.step(in_one(batch()), 1)
    assert not moved(student, phase.model) and moved(disc, phase.adversary.disc)
    phase.step(in_one(batch()), 2)
    assert moved(student, phase.model)


def test_student_inputs_are_of_the_three_kinds():
    phase = make_student()
    torch.manual_seed(0)
    x0 = torch.full((64, 3, 16, 16), 100.0)  # far away, so that real content is recognisable
    x, sigma, next_sigma = phase.inputs.draw(x0, 0)
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
    phase = make_student(level_shares=[0.0, 1.0, 1.0, 1.0], self_input_share=1.0)
    phase.model.denoise = lambda x, sigma, next_sigma: torch.full_like(x, 7.0)
    x, sigma, _ = phase.inputs.draw(torch.zeros(32, 3, 32, 32), 0)
    assert x.mean().item() == pytest.approx(7, abs=0.1)
    assert torch.allclose((x - 7).flatten(1).std(dim=1), sigma, rtol=0.15)


def make_inputs(shares):
    settings = SimpleNamespace(level_shares=shares, self_input_share=0.5)
    return StudentInputs(LEVELS, CPU, None, torch.randn_like, settings)


def levels_of(inputs, visits):
    """(level, level that follows) of each visit."""
    rows = inputs.table.tolist()
    return [(rows[path][place], rows[path][place + 1]) for path, place in visits]


def test_paths_hold_every_level_and_what_follows():
    inputs, rng = make_inputs(SHARES), np.random.default_rng(0)
    first = levels_of(inputs, inputs.first_visits(500, rng))
    assert {sigma for sigma, _ in first} == {5.0}
    assert {following for _, following in first} == {0.0, 1.0, 2.0}
    pairs = set(levels_of(inputs, inputs.visits_beyond_first(4000, rng)))
    assert pairs == {(1.0, 0.0), (2.0, 1.0), (1.0, 0.5), (0.5, 0.0)}


def test_levels_are_drawn_by_their_shares_and_evenly_over_the_paths_that_share_one():
    inputs, rng = make_inputs([0.5, 0.1, 0.3, 0.1]), np.random.default_rng(0)
    visits = inputs.visits_beyond_first(50_000, rng)
    sigmas = np.array([sigma for sigma, _ in levels_of(inputs, visits)])
    shares = {level: np.mean(sigmas == level) for level in (2.0, 1.0, 0.5)}
    assert shares == pytest.approx({2.0: 0.2, 1.0: 0.6, 0.5: 0.2}, abs=0.02)
    paths = np.array([visit.path for visit in visits])
    assert np.mean(paths[sigmas == 1.0] == 1) == pytest.approx(0.5, abs=0.02)
    assert inputs.visits_beyond_first(0, rng) == []
    # The farthest come first, so that those still on their way are the first ones of a batch.
    places = [visit.place for visit in inputs.visits_beyond_first(64, rng)]
    assert places == sorted(places, reverse=True)


def test_whole_shares_give_the_same_numbers_each_time():
    """So that shapes are fixed, which compiled code wants."""
    inputs = make_inputs(SHARES)
    counts = set()
    for seed in range(50):
        visits = inputs.visits_beyond_first(32, np.random.default_rng(seed))
        counts.add(tuple(sum(visit.place > hop for visit in visits) for hop in range(3)))
    assert counts == {(32, 16, 8)}


def test_first_level_takes_its_share_of_the_batch():
    phase = make_student(level_shares=[1.0, 0.0, 0.0, 0.0])
    _, sigma, _ = phase.inputs.draw(batch(6), 0)
    assert (sigma == 5).all()


def test_warm_start_regresses_on_the_teachers_ode():
    """With a teacher whose answer is always 0.3, its ODE ends there; student and average follow."""
    flags = dict(student_lr=3e-3, student_ema_images=8.0, level_shares=[1.0, 0.0, 0.0, 0.0])
    phase = make_student(warm_start=60, **flags)
    disc = snapshot(phase.adversary.disc)
    phase.teacher.denoise = lambda x, sigma, next_sigma=0.0: torch.full_like(x, 0.3)
    losses = [phase.step(in_one(batch(4, 16)), step)["warm_loss"].item() for step in range(40)]
    assert losses[-1] < 0.2 * losses[0]
    assert not moved(disc, phase.adversary.disc), "nobody judges yet"
    images = phase.ema.sample((4, 3, 16, 16), 1)
    assert (images - 0.3).abs().mean() < 0.2


@pytest.mark.parametrize("pairs", [0, 4])
def test_warm_start_keeps_denoising_real_images_at_the_other_levels(pairs, tmp_path):
    phase = make_student(warm_start=5, warm_pairs=pairs, cache_dir=str(tmp_path))
    phase.teacher.denoise = lambda x, sigma, next_sigma=0.0: torch.full_like(x, 0.3)
    seen = []

    def nothing(*inputs):
        seen.append(inputs)
        return torch.zeros_like(inputs[0])

    phase.warm_start.learner = nothing
    (micro_batch,) = in_one(torch.full((8, 3, 64, 64), 0.8))
    loss, _ = phase.warm_start(micro_batch)
    assert loss.item() == pytest.approx((0.3**2 + 0.8**2) / 2, rel=0.02)
    ((x, sigma, _),) = seen
    assert (sigma[:4] == 5).all() and (sigma[4:] < 5).all()
    assert x[4:].mean() == pytest.approx(0.8, abs=0.1) and abs(x[:4].mean()) < 2


def test_warm_start_begins_at_the_students_first_level():
    phase, seen = make_student(warm_start=5, warm_nfe=5), []
    plain = phase.teacher.denoise

    def watched(x, sigma, next_sigma=0.0):
        seen.append((float(sigma), x.std().item()))
        return plain(x, sigma)

    phase.teacher.denoise = watched
    phase.step(in_one(batch(8, 16)), 0)
    assert len(seen) == 5
    assert seen[0][0] == pytest.approx(5.0) and seen[0][1] == pytest.approx(5.0, rel=0.1)
    assert all(a >= b for (a, _), (b, _) in zip(seen, seen[1:])) and seen[-1][0] < 0.1


@pytest.mark.parametrize("distill", ["dmd", "sid"])
def test_the_fake_score_learns_alone_then_with_the_student_at_its_ratio(distill):
    phase = make_student(distill=distill, disc="none", disc_warmup=1, fake_steps=3)
    fake_score = phase.distiller.fake_score
    calls, plain = [], fake_score.model.compute_loss
    fake_score.model.compute_loss = lambda *a: calls.append(1) or plain(*a)
    student, fake = snapshot(phase.model), snapshot(fake_score.model)
    metrics = phase.step(in_one(batch(4)), 0)
    assert moved(fake, fake_score.model) and not moved(student, phase.model) and len(calls) == 3
    assert "fake_score_loss" in metrics and "distill_loss" not in metrics
    fake = snapshot(fake_score.model)
    metrics = phase.step(in_one(batch(4)), 1)
    assert moved(fake, fake_score.model) and moved(student, phase.model)
    assert {"fake_score", "fake_score_optimizer"} <= set(phase.state_dict())
    assert all(p.grad is None for p in fake_score.model.parameters())


def test_critics_take_several_steps_for_each_of_the_student():
    phase = make_student(disc_steps=3, disc_warmup=1)
    learnt = ["student_grad_norm" in phase.step(in_one(batch(4)), step) for step in range(8)]
    assert learnt == [False, True, False, False, True, False, False, True]


def test_a_student_waits_until_its_discriminator_is_ahead():
    phase = make_student(disc_lead=0.5)
    student, disc = snapshot(phase.model), snapshot(phase.adversary.disc)
    metrics = phase.step(in_one(batch()), 0)
    assert metrics["student_waits"] == 1 and "student_grad_norm" not in metrics
    assert not moved(student, phase.model) and moved(disc, phase.adversary.disc)
    phase.adversary.lead.value.fill_(0.9)
    metrics = phase.step(in_one(batch()), 1)
    assert metrics["student_waits"] == 0 and moved(student, phase.model)
    share = 1 / LEAD_STEPS
    expected = (1 - share) * 0.9 + share * metrics["disc_lead"].item()
    assert phase.adversary.lead.value.item() == pytest.approx(expected, abs=1e-5)


def test_a_student_that_waited_begins_as_gently_as_one_that_did_not():
    """Its warm-up and the ramp of the discriminator's weight count its own updates."""
    phase = make_student(disc_lead=0.5, student_warmup=3, adv_ramp=4, student_lr=0.1)
    used, loss, rates = [], phase._student_loss, []

    def noted(micro_batch, weights):
        used.append(weights.adversarial)
        return loss(micro_batch, weights)

    phase._student_loss = noted
    for step in range(9):
        phase.adversary.lead.value.fill_(0.9 if step >= 5 else 0.0)
        phase.step(in_one(batch()), step)
        rates.append(phase.learners[0].optimizer.param_groups[0]["lr"])
    assert phase.waited == 5
    assert used == [0.25, 0.5, 0.75, 1.0] and rates[:5] == [0.0] * 5
    assert rates[5:] == pytest.approx([0.025, 0.05, 0.075, 0.1], rel=0.01)


def test_a_state_of_before_waiting_was_counted_goes_on():
    phase = make_student(disc_lead=0.5)
    state = phase.state_dict()
    del state["disc_lead"]["waited"]
    state["disc_lead"]["value"] = torch.tensor(0.25)
    phase.adversary.lead.waited += 7
    phase.load_state_dict(state)
    assert phase.waited == 0 and phase.adversary.lead.value == 0.25
    with pytest.raises(ValueError, match="disc_lead: value is"):
        phase.load_state_dict(state | {"disc_lead": {"value": torch.zeros(2)}})


def test_a_student_without_the_discriminators_judgement_waits_for_none():
    phase = make_student(disc_lead=0.5, adv_weight=0.0, disc_warmup=5, disc_steps=3)
    metrics = [phase.step(in_one(batch()), step) for step in range(2)]
    assert all("student_grad_norm" in one and "student_waits" not in one for one in metrics)
    assert "disc" not in phase.state_dict()


def test_own_inputs_are_made_without_dropout_as_in_sampling():
    phase = make_student(student_dropout=0.5, self_input_share=1.0)
    modes, denoise = [], phase.model.denoise
    phase.model.denoise = lambda *x: modes.append(phase.model.training) or denoise(*x)
    phase.inputs.draw(batch(), 0)
    assert modes and not any(modes) and phase.model.training
    modes.clear()
    phase.heldout_metrics(batch())
    assert not any(modes) and phase.model.training


def test_a_discriminator_too_far_ahead_learns_more_slowly():
    phase = make_student(disc_lead_most=0.5, disc_lr=0.01)
    adversary, rate = phase.adversary, phase.adversary.learner.lr
    assert not adversary.is_behind and rate(0) == 0.01, "nobody waits, and it begins at full pace"
    adversary.lead.value.fill_(0.9)
    before = snapshot(adversary.disc)
    metrics = phase.step(in_one(batch()), 0)
    assert adversary.pace == pytest.approx(SLOWER) == metrics["disc_pace"].item()
    assert rate(0) == pytest.approx(0.01 * SLOWER) and moved(before, adversary.disc)
    for _ in range(600):
        adversary.lead.follow(torch.tensor(0.9))
    assert adversary.pace == pytest.approx(SLOWEST)
    for _ in range(600):
        adversary.lead.follow(torch.tensor(-0.2))
    assert adversary.pace == 1 and not adversary.is_behind, "nobody waits, however it guesses"
    assert make_student(disc_lead=0.5).adversary.pace == 1 == make_student().adversary.pace


def test_a_student_waits_for_nobody_while_its_steps_are_only_counted():
    phase = make_student(disc_lead=0.5)
    phase.rehearse()
    assert "student_grad_norm" in phase.step(in_one(batch()), 0)


def test_without_critics_there_is_no_warm_up_and_every_step_counts():
    phase = make_student(disc="none", disc_steps=3, disc_warmup=5)
    assert all("student_grad_norm" in phase.step(in_one(batch(4)), step) for step in range(2))
    assert "disc" not in phase.state_dict()


def test_the_start_has_a_learning_rate_of_its_own_and_the_students_begins_after_critics_learnt():
    flags = dict(warm_start=10, disc_warmup=5, student_iterations=100, student_warmup=4)
    rate = student_rate(tiny_settings(flags, dict(student_lr=0.1, start_lr=0.8)))
    start = [rate(step) for step in range(10)]
    assert start[0] == pytest.approx(0.8 / 5) and max(start) == start[4] == 0.8
    assert start[9] < 0.1  # half a cosine to 0
    assert [rate(step) for step in range(10, 16)] == [pytest.approx(0.1 / 5)] * 6
    assert rate(19, waited=2) == pytest.approx(0.06)
    assert rate(19) == 0.1 and rate(57) == pytest.approx(0.054, abs=0.002) and rate(99) < 0.001
    same = student_rate(tiny_settings(flags, dict(student_lr=0.1, start_lr=0.0)))
    assert same(4) == 0.1


def test_in_a_short_phase_warm_up_and_ramp_end_halfway():
    flags = dict(warm_start=10, disc_warmup=10, student_iterations=40, student_lr=0.1)
    settings = tiny_settings(flags, dict(student_warmup=500, adv_ramp=500))
    rate = student_rate(settings)
    assert rate(30) == 0.1 and rate(29) < 0.1 and rate(39) < 0.01
    assert Timeline.of(settings).ramp(500) == 10


def test_a_student_of_fewer_steps_has_as_many_updates_of_warm_up_and_ramp():
    flags = dict(warm_start=0, disc_warmup=0, student_iterations=400, student_lr=0.1)
    every, fourth = (
        tiny_settings(flags, dict(student_warmup=20, adv_ramp=30, disc_steps=steps))
        for steps in (1, 4)
    )
    assert [Timeline.of(settings).ramp(30) for settings in (every, fourth)] == [30, 120]
    peaks = [max(range(400), key=student_rate(settings)) for settings in (every, fourth)]
    assert peaks[0] == pytest.approx(20, abs=1) and peaks[1] == pytest.approx(80, abs=1)


def test_the_weight_of_distillation_falls_while_the_student_learns_from_its_critics():
    flags = dict(warm_start=2, disc_warmup=2, distill_decay_from=0.5, distill_final=0.2)
    phase, used = make_student(**flags, student_iterations=12, warm_nfe=2), []
    learn = phase._student_loss
    phase._student_loss = lambda mb, weights: used.append(weights.distill) or learn(mb, weights)
    for step in range(12):
        phase.step(in_one(batch()), step)
    assert used == [1, 1, 1, 1, 1, pytest.approx(0.8), pytest.approx(0.6), pytest.approx(0.4)]


def test_the_discriminators_rate_falls_from_where_the_student_begins():
    flags = dict(warm_start=10, disc_warmup=10, student_iterations=100, disc_lr=0.1)
    rate = make_student(**flags, disc_lr_final=0.2).adversary.rate
    assert rate(0) == rate(20) == pytest.approx(0.1)
    assert rate(60) == pytest.approx(0.06) and rate(100) == pytest.approx(0.02)
    assert make_student(**flags).adversary.rate(100) == pytest.approx(0.1)


def test_later_evaluations_that_are_alike_show_while_first_ones_differ():
    phase, images = make_student(level_shares=[1, 1, 0, 0], batch_size=16), batch(16)
    micro_batch = in_one(images)[0]
    micro_batch.once("output", lambda: images.clone())
    assert phase.observe(micro_batch)["later_spread"] == pytest.approx(1, abs=0.3)
    parts = phase.inputs.parts(16)
    micro_batch.results["output"][parts.own] = 0.5
    found = phase.observe(micro_batch)
    assert found["later_spread"] == 0 and found["spread"] > 0.7


def test_frozen_convolutions_stay_and_the_rest_learns():
    phase = make_student(freeze_convs=True)
    before = {name: p.clone() for name, p in phase.model.named_parameters()}
    for step in range(2):
        phase.step(in_one(batch(4)), step)
    changed = {n for n, p in phase.model.named_parameters() if not torch.equal(p, before[n])}
    inner = {n for n, p in before.items() if ".downblocks" in n or ".middle" in n or ".up" in n}
    spatial = {n for n in inner if before[n].ndim == 4 and before[n].shape[-1] == 3}
    assert spatial and not spatial & changed
    assert "network.head.weight" in changed and "network.tail.2.weight" in changed
    assert any(".temb_proj." in n for n in changed) and any(".block1.0." in n for n in changed)


def test_a_consistency_start_comes_first_and_is_the_students_alone():
    flags = dict(student_start="consistency", consistency_steps=2, warm_start=1, disc_warmup=1)
    phase = make_student(**flags)
    student, disc = snapshot(phase.model), snapshot(phase.adversary.disc)
    kinds = []
    for step in range(5):
        metrics = phase.step(in_one(batch(4, 16)), step)
        names = ("consistency_loss", "warm_loss", "disc_loss", "adv_loss")
        kinds.append([name for name in names if name in metrics])
        if step == 1:
            assert moved(student, phase.model) and not moved(disc, phase.adversary.disc)
    last = ["disc_loss", "adv_loss"]
    assert kinds == [["consistency_loss"], ["consistency_loss"], ["warm_loss"], last[:1], last]
    assert phase.settled >= 4


def test_a_consistency_start_is_that_methods_loss_over_all_its_stages():
    """The same loss from the same seed as of the teacher it starts as; r nears t to the end."""
    flags = dict(student_start="consistency", consistency_steps=8, ct_stages=4)
    phase, images = make_student(**flags), batch(4, 16)
    _, expected = phase.consistency_loss(split(images, [3])[0], 0.0)
    first = phase.step(split(images, [3]), 0)
    assert torch.equal(first["consistency_loss"], expected["consistency_loss"])
    ratios = [first["level_ratio"].item()]
    ratios += [phase.step(split(images, [3]), step)["level_ratio"].item() for step in range(1, 8)]
    assert all(a == b for a, b in zip(ratios[::2], ratios[1::2]))
    assert ratios[0] < ratios[2] < ratios[4] < ratios[6] < 1


def test_distance_to_noise_is_of_images_and_noise_on_one_scale():
    torch.manual_seed(0)
    noise, sigma, data = torch.randn(2, 3, 4, 4), torch.tensor([80.0, 5.0]), 0.4
    x = sigma.reshape(-1, 1, 1, 1) * noise
    assert distance_to_noise(data * noise, x, sigma, data).abs().max() < 1e-10
    image = torch.randn(2, 3, 4, 4, requires_grad=True)
    distances = distance_to_noise(image, x, sigma, data)
    expected = ((image - data * noise) ** 2).mean(dim=(1, 2, 3)) / data**2
    torch.testing.assert_close(distances, expected)
    (gradient,) = torch.autograd.grad(distances.sum(), image)
    torch.testing.assert_close(gradient, 2 * (image - data * noise) / data**2 / 48)


def test_the_student_is_pulled_to_the_noise_of_its_pure_inputs_by_a_falling_weight():
    phase = make_student(identity_weight=0.2, student_iterations=100)
    (micro_batch,) = split(batch(8, 16), [0])
    scalar, metrics = phase._student_loss(micro_batch, weights=Weights(0.0, 0.0, 0.5))
    x, sigma, _ = micro_batch.results["inputs"]
    output = micro_batch.results["output"].detach().requires_grad_()
    count, data = phase.inputs.parts(8).pure.stop, phase.model.scheduler.sigma_data
    assert count == 4 and (sigma[:count] == 5).all()
    wanted = data * x[:count] / 5
    loss = (output[:count] - wanted).square().mean(dim=(1, 2, 3)).sum() / 8 / data**2
    assert metrics["identity_loss"].item() == pytest.approx(loss.item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(loss, output)
    assert scalar.item() == pytest.approx((output * 0.5 * gradient).sum().item(), rel=1e-3)
    falling = [identity_weight(phase.settings.student, share) for share in (0, 0.5, 1)]
    assert falling == pytest.approx([0.2, (0.2 + 0.005) / 2, 0.005])
    assert identity_weight(make_student().settings.student, 0) == 0


def test_distillation_pulls_less_at_what_is_made_of_the_students_own():
    phase = make_student(distill_self=0.25, self_input_share=0.5, batch_size=16)
    phase.distiller.loss_of = lambda image: image.square().mean(dim=(1, 2, 3))
    (micro_batch,) = split(batch(16, 16), [0])
    scalar, metrics = phase._student_loss(micro_batch, weights=Weights(1.0, 0.0, 0.0))
    output = micro_batch.results["output"].detach()
    losses = output.square().mean(dim=(1, 2, 3))
    assert phase.inputs.parts(16) == (slice(8), slice(8, 12), slice(12, 16))
    shares = torch.tensor([1.0] * 8 + [0.25] * 4 + [1.0] * 4)
    assert scalar.item() == pytest.approx(2 * (shares * losses).mean().item(), rel=1e-3)
    assert metrics["distill_loss"].item() == pytest.approx(losses.mean().item(), rel=1e-3)


def test_the_denoising_loss_is_of_the_real_images_among_the_inputs():
    phase = make_student(denoise_weight=0.5, self_input_share=0.5, batch_size=16)
    (micro_batch,) = split(batch(16, 16), [0])
    scalar, metrics = phase._student_loss(micro_batch, weights=Weights(0.0, 0.0, 0.0))
    x, sigma, _ = micro_batch.results["inputs"]
    output = micro_batch.results["output"].detach().requires_grad_()
    real = slice(12, 16)
    assert phase.inputs.parts(16) == (slice(8), slice(8, 12), real)
    noise = (x - micro_batch.images)[real] / sigma[real].reshape(-1, 1, 1, 1)
    assert noise.std() == pytest.approx(1, abs=0.1), "these are the ones"
    loss = (output - micro_batch.images)[real].square().mean(dim=(1, 2, 3)).sum() / 16
    assert metrics["denoising_loss"].item() == pytest.approx(loss.item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(loss, output)
    assert scalar.item() == pytest.approx((output * 0.5 * gradient).sum().item(), rel=1e-3)
    with pytest.raises(UserError, match="--self_input_share 1 no real image"):
        make_student(denoise_weight=0.5, self_input_share=1.0)


def test_images_of_later_evaluations_are_tied_to_the_mean_colours_of_their_inputs():
    tied = dict(colour_weight=0.5, noise_offset=0.0)
    phase = make_student(**tied, self_input_share=0.5, batch_size=16)
    (micro_batch,) = split(batch(16, 16), [0])
    scalar, metrics = phase._student_loss(micro_batch, weights=Weights(0.0, 0.0, 0.0))
    x = micro_batch.results["inputs"][0]
    output = micro_batch.results["output"].detach().requires_grad_()
    change = (output - x)[8:].mean(dim=(2, 3))
    loss = change.square().mean(dim=1).sum() / 16
    assert metrics["colour_loss"].item() == pytest.approx(loss.item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(loss, output)
    assert gradient[8:].std(dim=(2, 3)).max() == 0, "no shape is tied"
    assert scalar.item() == pytest.approx((output * 0.5 * gradient).sum().item(), rel=1e-3)
    with pytest.raises(UserError, match="--colour_weight 0.5: only the first of --level_shares"):
        make_student(**tied, level_shares=[1, 0, 0, 0])
    with pytest.raises(UserError, match="noise_offset 0.1, which hides .* noised image; give 0"):
        make_student(**tied | dict(noise_offset=0.1))


def test_a_start_that_needs_no_pairs_draws_none(tmp_path):
    flags = dict(warm_pairs=12, warm_nfe=3, cache_dir=str(tmp_path), consistency_steps=3)
    phase = make_student(student_start="consistency", student_iterations=20, **flags)
    phase.draw_first(0, check=lambda: None)
    assert phase.pairs.kept is None and not list(tmp_path.iterdir())


def test_pairs_are_drawn_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr("fewstep.methods.pairs.PART", 2)
    phase = make_student(pair_weight=0.5, warm_pairs=4, warm_nfe=1, cache_dir=str(tmp_path))
    checks = []
    phase.draw_first(0, check=lambda: checks.append(1))
    kept = phase.pairs.kept
    assert kept.shape == (3, 64, 64) and len(list(tmp_path.iterdir())) == 2 and checks == [1]
    phase.draw_first(1, check=lambda: None)
    assert phase.pairs.kept is kept


def test_half_of_the_pure_noise_is_pulled_to_the_images_that_the_teacher_makes_of_it(tmp_path):
    flags = dict(warm_pairs=12, warm_nfe=3, cache_dir=str(tmp_path), x_flip=False)
    flags["precision"] = "fp32"  # as the target is here; some CPUs choose bf16
    phase = make_student(pair_weight=0.5, distill="none", **flags)
    images = batch(8, 16)
    (micro_batch,), (without,) = split(images, [0]), split(images, [0])
    scalar, metrics = phase._student_loss(micro_batch, weights=Weights(0.8, 0.0, 0.0))
    x, sigma, _ = micro_batch.results["inputs"]
    plain_x, plain_sigma, _ = make_student(precision="fp32")._inputs(without)
    assert phase.inputs.parts(8).pure == slice(4) and torch.equal(sigma, plain_sigma)
    assert torch.equal(x[2:], plain_x[2:]) and not torch.equal(x[:2], plain_x[:2])
    target = ode_images(phase.teacher.denoise, phase.teacher.scheduler, x[:2], 5.0, 3)
    output = micro_batch.results["output"].detach().requires_grad_()
    loss = (output[:2] - target.clamp(-1, 1)).square().mean(dim=(1, 2, 3)).sum() / 8
    assert metrics["pair_loss"].item() == pytest.approx(loss.item(), rel=0.02)  # kept as bytes
    (gradient,) = torch.autograd.grad(loss, output)
    pull = 0.8 * 0.5 * gradient  # it falls with the distillation's weight
    assert scalar.item() == pytest.approx((output * pull).sum().item(), rel=0.02)
    assert phase.drawn_first == 12 * 3 and make_student(**flags).drawn_first == 0
    with pytest.raises(UserError, match="--pair_weight 0.5: there are no pairs"):
        make_student(pair_weight=0.5)


def test_pairs_can_have_the_images_of_the_student_that_one_begins_with(tmp_path):
    flags = dict(warm_pairs=8, pair_weight=0.5, x_flip=False, cache_dir=str(tmp_path))
    flags |= dict(pairs_of="student", student_ckpt="named", precision="fp32")
    phase = make_student(**flags)
    earlier = copy.deepcopy(phase.ema.state_dict())
    with torch.no_grad():
        for value in earlier.values():
            value.mul_(1.1)
    phase.start_from(earlier)
    with torch.no_grad():  # it has learnt since
        next(phase.model.parameters()).add_(1.0)
        next(phase.ema.parameters()).add_(1.0)
    phase.pairs.draw(4, split(batch(4, 16), [0])[0])
    assert phase.drawn_first == 8 * 4
    made = copy.deepcopy(phase.ema)
    made.load_state_dict(earlier)
    execution = plain_execution(precision="fp32")
    pairs = Pairs(phase.settings, of_student(made, execution), (3, 16, 16), execution)
    assert torch.equal(pairs.take(range(8)), phase.pairs.kept.take(range(8)))
    assert len(list(tmp_path.iterdir())) == 1  # found again: they are of the same weights
    shorter = make_student(**flags, pairs_nfe=2)
    shorter.start_from(earlier)
    shorter.pairs.draw(4, split(batch(4, 16), [0])[0])
    pairs = Pairs(phase.settings, of_student(made, execution, 2), (3, 16, 16), execution)
    assert shorter.drawn_first == 8 * 2
    assert torch.equal(pairs.take(range(8)), shorter.pairs.kept.take(range(8)))
    assert not torch.equal(pairs.take(range(8)), phase.pairs.kept.take(range(8)))
    with pytest.raises(UserError, match="--pairs_nfe 3: use 2 or 4"):
        make_student(**flags, pairs_nfe=3)
    with pytest.raises(UserError, match="needs a student: name it with --student_ckpt"):
        make_student(**flags | dict(student_ckpt=""))
    with pytest.raises(UserError, match="--pairs_of student: its images are kept"):
        make_student(**flags | dict(warm_pairs=0, pair_weight=0.0, warm_start=2))


def test_the_discriminator_is_told_the_level_of_each_images_evaluation():
    phase = make_student(disc_level=True, self_input_share=0.5)
    told = []
    phase.adversary.disc.level_embedding.register_forward_hook(
        lambda module, inputs, output: told.append(inputs[0].tolist())
    )
    (twin,) = split(batch(), [7])  # of whose seed alone the levels are
    expected = phase._inputs(twin)[1].tolist()
    assert expected[:4] == [5.0] * 4 and max(expected[4:]) < 5.0
    phase.step(split(batch(), [7]), 2)
    assert len(told) == 2, "the discriminator's turn, and the student's"
    assert told[0] == expected * (len(told[0]) // 8) and told[1] == expected
    told.clear()
    phase.heldout_metrics(batch())
    assert told == [phase.inputs.draw(batch(), HELDOUT_SEED)[1].tolist()] * 2


@pytest.mark.parametrize(
    "start",
    [
        {},
        dict(student_start="consistency", consistency_steps=3),
        dict(disc_lead=0.001, disc_lead_most=0.01),
    ],
)
def test_going_on_from_a_state_is_the_same_as_not_stopping(start):
    """With everything that has a state: fake score, discriminator, ADA's probability, average."""
    flags = dict(distill="dmd", augment="color", augment_p=0.2, ada_target=0.6, ada_images=20.0)
    flags |= start | dict(student_dropout=0.2)
    whole, parted = make_student(**flags), make_student(**flags)

    def take(phase, steps):
        for step in steps:
            torch.manual_seed(step)
            phase.step(in_one(batch(4)), step)

    take(whole, range(4))
    take(parted, range(2))
    resumed = make_student(**flags)
    resumed.load_state_dict(parted.state_dict())
    take(resumed, range(2, 4))
    for key, value in whole.ema.state_dict().items():
        assert torch.equal(value, resumed.ema.state_dict()[key])
    p = whole.adversary.disc.augment.p
    assert torch.equal(p, resumed.adversary.disc.augment.p) and p != 0.2
    for name, part in whole.adversary.stateful().items():
        lead, waited, pace = part.buffers()
        other = resumed.adversary.stateful()[name]
        assert torch.equal(lead, other.value) and torch.equal(pace, other.pace)
        assert waited == other.waited and lead != 0 and pace < 1


def test_a_gradient_that_is_not_finite_is_dropped():
    phase = make_student(self_input_share=0.0)
    phase.step(in_one(batch()), 0)
    parts = (phase.model, phase.ema, phase.adversary.disc)
    before = [snapshot(part) for part in parts]
    x0 = batch()
    x0[-1, 0, 0, 0] = float("nan")  # a noised real image, which student and discriminator see
    metrics = phase.step(in_one(x0), 1)
    assert metrics["student_skipped"] == 1 and metrics["disc_skipped"] == 1
    assert not any(moved(values, part) for values, part in zip(before, parts))
    assert phase.step(in_one(batch()), 2)["student_skipped"] == 0
    assert all(moved(values, part) for values, part in zip(before, parts))


def other_than(field, value):
    """Another possible value of a setting."""
    if isinstance(value, bool):
        return not value
    if choices := field.metadata.get("choices"):
        return next(choice for choice in choices if choice != value)
    if isinstance(value, int):
        return value + 1 if value < field.metadata["high"] else value - 1
    if isinstance(value, float):
        return 0.7 * value + 0.1
    return value


@pytest.mark.parametrize(
    "flags",
    [
        dict(distill="none", penalty="none", disc_noise=False),
        dict(disc="none"),
        dict(disc="none", distill="dmd"),
        dict(disc="none", self_input_share=0.0),
        dict(adv_weight=0.0, disc_lead=0.9),
        dict(adv_weight=0.0, distill="dmd"),
        dict(distill="dmd", warm_start=1, warm_nfe=2, penalty_weight=0.0),
        dict(distill="none", pair_weight=0.5, warm_pairs=8, warm_nfe=2),
    ],
    ids=lambda flags: "-".join(map(str, flags.values())),
)
def test_idle_settings_change_nothing(flags, tmp_path):
    """All of them at once, over the steps in which each part learns."""
    chosen = dict(disc_warmup=1, adv_ramp=1, student_iterations=6, distill_decay_from=0.1) | flags
    chosen["cache_dir"] = str(tmp_path)
    settings = tiny_settings(AT_ONCE, chosen)
    found, others = idle(settings), {}
    for group in (Student, Distillation, Discriminator, Consistency):
        for field in fields(group):
            value = flat(settings.as_dict())[field.name]
            if field.name in found and field.name not in ("disc_start", "ada_target"):
                others[field.name] = other_than(field, value)
    assert len(others) >= 8
    weights = []
    for values in ({}, others):
        torch.manual_seed(0)
        phase = student_of(tiny_settings(AT_ONCE, chosen, values))
        for step in range(4):
            torch.manual_seed(step)
            phase.step(in_one(batch(4, 64)), step)
        weights.append(phase.model.state_dict())
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
