"""What a step needs, counted on tensors without values, and the time that a dry run states."""

import time
from contextlib import nullcontext

import pytest
import torch

from fewstep.engine.counting import Rehearsal
from fewstep.engine.learner import Learner
from fewstep.engine.microbatch import split
from fewstep.methods import METHODS
from fewstep.runs import estimate
from fewstep.runs.command_line import make_settings
from fewstep.runs.estimate import Need, Time, busy_step, needs_of, random_phases
from fewstep.runs.presets import PRESETS
from fewstep.runs.settings import PHASES

CPU = torch.device("cpu")
MIB = 2**20


def settings_of(**flags):
    return make_settings({"network": "tiny", "disc_warmup": 0, **flags})


def test_memory_is_what_lives_and_operations_are_those_of_products():
    with Rehearsal() as rehearsal:
        x = torch.ones(512, 512)  # 1 MiB
        y = x @ x
        view = y[:10]
        assert rehearsal.peak() == 2 * MIB and rehearsal.operations() == 2 * 512**3
        del y
        z = x + 1
        assert rehearsal.peak() == 3 * MIB  # the view keeps the product
        del view, z
        x.add_(1)
        assert rehearsal.peak() == 3 * MIB and rehearsal.operations() == 0
        x.mul_(2)
        assert rehearsal.peak() == MIB
        with pytest.raises(Exception, match="_local_scalar_dense"):
            x.sum().item()
    assert torch.ones(2).sum().item() == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_step_of_each_method_can_be_rehearsed(method):
    """Its weights and Adam's moments are the least that a phase keeps."""
    for need in needs_of(settings_of(method=method, batch_size=8, compile="off"), CPU):
        learnt = sum(need.parameters.values())
        if not PHASES[need.name].has_rehearsal:
            assert need.memory is None and need.operations is None
            continue
        assert 4 * 4 * learnt < need.memory < 2**30
        # At least one multiplication and one addition a weight and image, forth and twice back.
        assert need.operations > 6 * 8 * max(need.parameters.values())
        assert need.disk > 4 * learnt


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", METHODS)
def test_each_preset_can_be_rehearsed(preset, method):
    settings = make_settings(PRESETS[preset] | {"method": method, "compile": "off"})
    assert all(need.steps for need in needs_of(settings, CPU))


def test_pairs_that_a_run_keeps_are_not_drawn_for_an_estimate(tmp_path):
    flags = dict(batch_size=8, warm_start=40, warm_pairs=500_000, cache_dir=str(tmp_path))
    settings = settings_of(student_iterations=100, compile="off", **flags)
    assert needs_of(settings, CPU)
    *_, student = random_phases(settings, CPU)
    images = torch.zeros(8, 3, 64, 64)
    assert student.step(split(images, [0]), 0)["warm_loss"] > 0
    assert not list(tmp_path.iterdir())


def without_kernels(learner, step):
    """In place of `Learner.update`, whose kernels want values: looks where the gradients are."""
    assert all(p.grad is not None and p.grad.is_meta for p in learner.parameters)
    learner.optimizer.zero_grad(set_to_none=True)
    nothing = torch.zeros((), device="meta")
    return nothing, nothing


@pytest.mark.parametrize("method", METHODS)
def test_a_step_stays_on_its_device_and_reads_no_value(monkeypatch, method):
    """torch's "meta" device stands in for a GPU: operators refuse to mix it with the CPU, and there
    are no values to read."""
    monkeypatch.setattr(torch, "autocast", lambda *device, **options: nullcontext())
    monkeypatch.setattr(Learner, "update", without_kernels)
    settings = settings_of(method=method, batch_size=8, precision="fp32", channels_last="off")
    device = torch.device("meta")
    for phase in random_phases(settings, device):
        images = torch.zeros(8, 3, 64, 64, device=device)
        metrics = phase.step(split(images, [0]), busy_step(phase))
        assert {value.device for value in metrics.values()} == {device}


def test_memory_follows_the_levers_that_save_it():
    base = dict(batch_size=16, phase="teacher", network="small")
    whole, parts, again = [
        needs_of(settings_of(**base, **lever), CPU)[0]
        for lever in ({}, dict(micro_batch=4), dict(checkpointing=True))
    ]
    assert parts.memory < 0.6 * whole.memory and again.memory < 0.8 * whole.memory
    assert parts.operations == pytest.approx(whole.operations, rel=0.01)
    assert 1.2 * whole.operations < again.operations < 1.5 * whole.operations


@pytest.mark.parametrize(("operations", "is_timed"), [(10**9, True), (10**14, False)])
def test_long_steps_are_reckoned_not_timed(monkeypatch, operations, is_timed):
    monkeypatch.setattr(estimate, "_convolution_speed", lambda execution: 10**11 / 0.85)
    monkeypatch.setattr(estimate, "_time_of", lambda *phase: Time(5.0))
    monkeypatch.setattr(estimate, "_uncompiled", lambda settings, device: ["a phase"])
    need = Need("teacher", 10, {}, 0, 0, operations, 10**13)
    (needed,) = estimate._seconds_of(settings_of(batch_size=8), [need], CPU, 1)
    assert needed == (Time(5.0) if is_timed else pytest.approx((1000, 100, 0, 100)))
    assert needed.of(2) == pytest.approx(10 if is_timed else 2100)


def test_pairs_of_the_start_count_before_the_first_step(monkeypatch):
    pairs = dict(batch_size=8, compile="off", warm_start=2, warm_pairs=64, warm_nfe=5)
    with_pairs, without = (
        needs_of(settings_of(**pairs | more, student_iterations=40), CPU)[-1]
        for more in ({}, {"warm_pairs": 0})
    )
    assert without.first == 0
    teacher = needs_of(settings_of(batch_size=8, compile="off"), CPU)[0]
    # A training step walks forward once and backward twice as far.
    assert with_pairs.first == pytest.approx(teacher.operations / 8 / 3 * 64 * 5, rel=0.1)
    settings = settings_of(**pairs, student_iterations=40)
    phase = random_phases(settings, CPU)[-1]
    assert phase.drawn_first == 320
    monkeypatch.setattr(phase, "evaluate_first", lambda images: time.sleep(0.02))
    images = torch.zeros(4, 3, 64, 64)
    assert estimate._seconds_before(phase, images) >= 0.02 * 320 / 4
    assert estimate._seconds_before(random_phases(settings, CPU)[0], images) == 0


def test_a_start_of_fixed_length_has_a_price_of_its_own(monkeypatch):
    monkeypatch.setattr(estimate, "_seconds_before", lambda phase, images: 7.0)
    prices = {0: 1.0, 3: 4.0}  # of an image, in the start and after it
    monkeypatch.setattr(
        estimate, "_step_seconds", lambda phase, images, begin, end: prices[begin] * len(images)
    )
    settings = settings_of(batch_size=16, warm_start=3, student_iterations=30)
    time_needed = estimate._time_of(settings, random_phases(settings, CPU)[-1], CPU, 1)
    assert time_needed == Time(each=64.0, first=7.0 + 3 * 16, fixed=3, drawn=7.0)
    assert time_needed.of(5) == 55 + 2 * 64
    assert [time_needed.fitting(seconds) for seconds in (55, 118, 119, 184)] == [3, 3, 4, 5]
    assert time_needed.fitting(10) == 2 and Time(2.0, 30.0).fitting(1) == 1


def test_a_dry_run_says_the_operations_of_an_image(monkeypatch):
    needs = [
        Need("teacher", 10, {}, 0, 0, 16 * 239_194_996_736),
        Need("student", 5, {}, 0, 0, None),
    ]
    monkeypatch.setattr(estimate, "needs_of", lambda *arguments: needs)
    monkeypatch.setattr(estimate, "_seconds_of", lambda *arguments: [Time(1.0), Time(1.0)])
    text = estimate.describe(settings_of(batch_size=32), CPU, processes=2)
    assert "teacher: 10 steps, about 10.0\u00a0s on cpu" in text and "; 239 GFLOP an image;" in text
    assert text.count("GFLOP") == 1 and "; not counted; memory" in text


def hours_of(seconds, **flags):
    """(the lengths that fit into `seconds`, {phase: seconds a step}) of a teacher and a student
    that draws pairs for 60 s and has a start of 40 steps of 1 s."""
    lengths = dict(num_iterations=1000, student_iterations=200, warm_start=40)
    needs = [Need("teacher", 1000, {}, 0, 0, 1), Need("student", 200, {}, 0, 0, 1)]
    times = [Time(2.0), Time(each=5.0, first=100.0, fixed=40, drawn=60.0)]
    text = estimate.lengths_that_fit(settings_of(**lengths, **flags), needs, times, seconds)
    return text, lambda teacher, student: times[0].of(int(teacher)) + times[1].of(int(student))


def test_lengths_that_fit_take_as_long_as_they_should_in_the_proportion_of_now():
    assert hours_of(2900)[0] == "--num_iterations 1000 --student_iterations 200"  # as it is
    text, seconds_of = hours_of(31_000)
    assert text == "--num_iterations 10300 --student_iterations 2070"  # three digits
    assert 30_800 < seconds_of(10300, 2070) <= 31_000


def test_in_less_time_the_start_is_shorter_too():
    text, _ = hours_of(60 + 2840 / 4, disc_warmup=10)
    expected = "--num_iterations 250 --student_iterations 50 --warm_start 10 --disc_warmup 2"
    assert text == expected  # without consistency_steps, which these settings do not use


def test_hours_that_drawing_the_pairs_takes_are_too_few():
    for seconds in (0.1, 61):
        text, _ = hours_of(seconds)
        assert text.startswith("too few (drawing the pairs takes 1\u00a0min 0\u00a0s): ")
