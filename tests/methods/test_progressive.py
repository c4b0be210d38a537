"""Progressive distillation against Gaussian data, where each step is a factor known exactly."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from custom_model import CustomScheduler, create_custom_model
from fewstep.engine.microbatch import split
from fewstep.methods.progressive import (
    ProgressivePhase,
    answer_for,
    begin_as,
    check_size,
    euler_step,
    heun_step,
    progressive_config,
)
from fewstep.runs.command_line import parse_settings
from src.model_config import MODEL_DEFAULTS
from src.samplers import ddim_states
from src.utils import UserError
from tests.methods.gaussian import MEAN, STD
from tests.students import plain_execution, tiny_settings

TINY = MODEL_DEFAULTS | {"network": "tiny"}
SCHEDULER = dict(sigma_min=0.05, sigma_max=10.0)


def shrink(x, sigma):
    """E[x0 | x] for data N(MEAN, STD^2)."""
    return MEAN + (STD**2 / (STD**2 + sigma**2)).reshape(-1, 1, 1, 1) * (x - MEAN)


class Teacher(nn.Module):
    """The exact denoiser with the face of a model."""

    def __init__(self):
        super().__init__()
        self.scheduler = CustomScheduler(**SCHEDULER)

    def denoise(self, x, sigma, next_sigma=0.0):
        return shrink(x, sigma)


class Student(nn.Module):
    """MEAN + a (x - MEAN) with an `a` for each pair of levels, which all answers here are."""

    def __init__(self, count=9):
        super().__init__()
        self.scheduler = CustomScheduler(**SCHEDULER)
        levels = self.scheduler.ode_sigmas(count - 1)
        self.register_buffer("levels", torch.tensor(levels))
        start = STD**2 / (STD**2 + self.levels**2)
        self.factors = nn.Parameter(start[:, None].repeat(1, count))
        self.calls = []

    def denoise(self, x, sigma, next_sigma):
        self.calls.append((float(sigma[0]), float(next_sigma[0])))
        places = [(one[:, None] - self.levels).abs().argmin(dim=1) for one in (sigma, next_sigma)]
        return MEAN + self.factors[tuple(places)].reshape(-1, 1, 1, 1) * (x - MEAN)


def make_phase(model=None, **flags):
    flags = {"method": "progressive", "progressive_start": 4, "progressive_lr": 0.02} | flags
    return ProgressivePhase(
        tiny_settings(flags), model or Student(), {}, Teacher(), plain_execution()
    )


def sampled(model, count):
    """By which the model's sampler of so many steps shrinks what is left of the noise."""
    levels = model.levels[:-1][:: (len(model.levels) - 1) // count].reshape(-1, 1).unbind()
    one, step = torch.full((1, 1, 1, 1), MEAN + 1), model.scheduler.reverse_process_step

    def told(x, sigma, next_sigma):
        return model.denoise(x, sigma, torch.as_tensor(next_sigma).reshape(1))

    with torch.no_grad():
        *_, x = ddim_states(told, step, levels, lambda: one / levels[0])
    return x.item() - MEAN


def test_one_network_does_in_4_2_and_1_steps_what_the_teacher_does_in_8():
    torch.manual_seed(0)
    phase = make_phase(progressive_iterations=450, progressive_warmup=0, progressive_lr=0.04)
    start = [sampled(phase.ema, count) for count in (4, 2, 1)]
    for step in range(phase.total):
        images = MEAN + STD * torch.randn(16, 3, 4, 4)
        phase.step(split(images, [step]), step)
    x, levels = torch.full((1, 1, 1, 1), MEAN + 1), Teacher().scheduler.ode_sigmas(8)
    for a, b in zip(levels, levels[1:]):
        x = heun_step(Teacher().denoise, x, torch.tensor([a]), torch.tensor([b]))
    exact = x.item() - MEAN
    assert exact == pytest.approx(STD / math.hypot(STD, SCHEDULER["sigma_max"]), rel=0.3)
    for before, count in zip(start, (4, 2, 1)):
        phase.ema.calls.clear()
        after = sampled(phase.ema, count)
        assert after == pytest.approx(exact, rel=0.15), count
        assert abs(after - exact) < 0.3 * abs(before - exact)
        assert len(phase.ema.calls) == count


def test_the_answer_ends_where_it_should():
    torch.manual_seed(0)
    x, x_end = torch.randn(3, 3, 4, 4), torch.randn(3, 3, 4, 4)
    sigma, end = torch.tensor([80.0, 1.0, 0.5]), torch.tensor([2.0, 0.3, 0.0])
    answer = answer_for(x, sigma, end, x_end)
    torch.testing.assert_close(euler_step(lambda *_: answer, x, sigma, end), x_end)
    torch.testing.assert_close(answer[2], x_end[2])  # at 0 the answer is the image


def test_heun_steps_follow_the_ode_to_second_order():
    """What is left of the noise is in proportion to sqrt(STD^2 + sigma^2)."""
    x = torch.full((2, 1, 1, 1), MEAN + 1.0)
    errors = []
    for width in (0.2, 0.1):
        end = torch.tensor([1 - width, 0.0])
        got = heun_step(lambda x, sigma: shrink(x, sigma), x, torch.ones(2), end)
        exact = math.hypot(STD, 1 - width) / math.hypot(STD, 1)
        errors.append(abs(got[0].item() - MEAN - exact))
        assert got[1].item() == pytest.approx(shrink(x[1:], torch.ones(1)).item())
    assert errors[0] / errors[1] == pytest.approx(8, rel=0.3)  # of one step: the third order


@pytest.mark.parametrize("told", [True, False])
def test_the_student_begins_as_its_teacher_and_can_learn_what_it_is_told(told):
    torch.manual_seed(0)
    teacher = create_custom_model(**TINY | {"use_additional_condition": told})
    with torch.no_grad():
        teacher.network.tail[2].weight.normal_(std=0.05)
        for block in teacher.network.modules():  # as after training: time matters
            if hasattr(block, "temb_proj"):
                block.temb_proj[1].weight.mul_(5)
    model = create_custom_model(**TINY | {"use_additional_condition": True})
    begin_as(teacher, model)
    x, sigma = torch.randn(4, 3, 16, 16), torch.tensor([80.0, 3.0, 0.5, 0.01])
    with torch.no_grad():
        x = x * sigma.reshape(-1, 1, 1, 1)
        expected, other = teacher.denoise(x, sigma), teacher.denoise(x, sigma / 2)
        got = model.denoise(x, sigma, 0.0 if told else sigma / 3)
    error = (got - expected).abs().mean()
    assert error < 0.02 * (expected - other).abs().mean()
    model.denoise(x, sigma, sigma / 3).square().sum().backward()
    fusion = model.network.condition_fusion[0].weight.grad
    assert fusion[:, fusion.shape[1] // 2 :].abs().max() > 0


def test_the_levels_that_are_saved_are_every_second_of_the_stage_before():
    flags = {"method": "progressive", "progressive_start": 16}
    config = progressive_config(TINY, tiny_settings(flags))
    levels = CustomScheduler().ode_sigmas(32)
    assert config["few_step_sigmas"] == {"1": levels[:1], "2": levels[:32:16], "4": levels[:32:8]}
    model = create_custom_model(**config)
    assert model.sampler == "ddim" and model.use_additional_condition
    told = []
    model.network.register_forward_hook(lambda _, inputs, __: told.append(inputs[1:]))
    model.sample((1, 3, 16, 16), 2)
    expected = [model.scheduler.tau(torch.tensor([a])) for a in (*levels[:32:16], 0.0)]
    assert told == list(zip(expected, expected[1:]))


def test_the_stage_that_teaches_outlives_the_process():
    phase = make_phase(progressive_iterations=6, progressive_warmup=0)
    images = [torch.randn(4, 3, 4, 4) for _ in range(6)]
    for step in range(3):
        phase.step(split(images[step], [step]), step)
    again = make_phase(progressive_iterations=6, progressive_warmup=0)
    again.load_state_dict(deepcopy(phase.state_dict()))
    for step in range(3, 6):
        for one in (phase, again):
            one.step(split(images[step], [step]), step)
    assert torch.equal(phase.before.factors, again.before.factors)
    assert torch.equal(phase.ema.factors, again.ema.factors)
    assert not torch.equal(phase.before.factors, make_phase().before.factors)


CHANGES = dict(
    progressive_iterations=9,
    progressive_start=8,
    progressive_lr=0.01,
    progressive_warmup=2,
    progressive_ema_share=0.9,
    progressive_keep=0.0,
)


@pytest.mark.parametrize("flag", CHANGES)
def test_flag_changes_what_is_learnt(flag):
    def factors(**flags):
        base = {"progressive_iterations": 12, "progressive_warmup": 0, "progressive_start": 4}
        count = 2 * (base | flags)["progressive_start"] + 1
        phase = make_phase(Student(count), **base | flags)
        for step in range(12):
            torch.manual_seed(step)
            phase.step(split(torch.randn(8, 3, 4, 4), [step]), step)
        return torch.stack([torch.tensor(sampled(one, 1)) for one in (phase.model, phase.ema)])

    plain, other = factors(), factors(**{flag: CHANGES[flag]})
    assert (plain - other).abs().max() > 1e-7 and other.isfinite().all()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--progressive_start", "12"], "power of two"),
        (["--progressive_iterations", "3"], "stages"),
    ],
)
def test_what_cannot_be_is_refused(flags, told):
    with pytest.raises(UserError, match=told):
        parse_settings(["--method", "progressive", "--data", "synthetic", *flags])


def test_a_share_that_rounding_would_lose_is_refused():
    for share in (0.1, 0.9):
        with pytest.raises(UserError, match="too few"):
            check_size(tiny_settings(dict(progressive_keep=share)), 2)
    check_size(tiny_settings(), 2)
