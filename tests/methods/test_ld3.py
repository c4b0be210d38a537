"""Learnt noise levels: against Gaussian data, of which the best levels are known."""

import math

import pytest
import torch
from torch import nn

from custom_model import CustomScheduler, create_custom_model
from fewstep.engine.loop import measure_heldout
from fewstep.engine.microbatch import split
from fewstep.methods.edm import ode_images
from fewstep.methods.ld3 import Ld3Phase, Levels, nearest_in_ball
from fewstep.runs.weights import save_generator
from src.model_config import MODEL_DEFAULTS
from src.samplers import ddim_states
from src.utils import load_model, read_json
from tests.methods.gaussian import MEAN, STD
from tests.students import plain_execution, tiny_settings

CONFIG = MODEL_DEFAULTS | {"network": "tiny", "sampler": "ddim"}
FIRST = 10.0


class GaussianDenoiser(nn.Module):
    """E[x0 | x] for data N(MEAN, STD^2), with the face of a model; it notes levels."""

    def __init__(self):
        super().__init__()
        self.scheduler, self.levels = CustomScheduler(sigma_max=FIRST), []

    def denoise(self, x, sigma, next_sigma=0.0):
        self.levels.append(float(sigma))
        return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


def make_phase(model=None, **flags):
    flags = {"method": "ld3", "ld3_iterations": 60, "ld3_lr": 0.1, "ld3_evaluations": 35} | flags
    settings, execution = tiny_settings(flags), plain_execution()
    torch.manual_seed(0)
    if model:
        return Ld3Phase(settings, model, dict(CONFIG), execution)
    teacher = create_custom_model(**CONFIG)
    with torch.no_grad():
        teacher.network.tail[2].weight.normal_(std=0.05)
    return Ld3Phase.build(settings, execution, teacher, dict(CONFIG))


def trained(phase, steps=None, side=4):
    images = torch.zeros(4, 3, side, side)
    for step in range(steps or phase.total):
        phase.step(split(images, [step]), step)
    return phase.ema.scheduler.few_step_table


def factor(levels):
    """By which Euler steps between these levels shrink what is left of the noise: at each level
    (STD^2 + sigma sigma') / (STD^2 + sigma^2)."""
    pairs = zip(levels, [*levels[1:], 0.0])
    return math.prod((STD**2 + a * b) / (STD**2 + a**2) for a, b in pairs)


def test_learnt_levels_are_the_best_there_are():
    """The ODE shrinks by STD / sqrt(STD^2 + FIRST^2). Two Euler steps shrink more, and least with
    the second level at the maximum of their factor."""
    model = GaussianDenoiser()
    start = {nfe: levels for nfe, levels in make_phase(model).ema.scheduler.few_step_table.items()}
    phase = make_phase(model, ld3_ball=0.0)
    losses = [measure_heldout(phase, torch.zeros(4, 3, 4, 4), 0)["heldout_loss"]]
    table = trained(phase)
    losses += [measure_heldout(phase, torch.zeros(4, 3, 4, 4), 0)["heldout_loss"]]
    assert losses[1] < losses[0]
    best = (math.sqrt(STD**4 + FIRST**2 * STD**2) - STD**2) / FIRST
    assert start[2][1] > 2 * best
    assert table[2] == pytest.approx([FIRST, best], rel=0.1)
    exact = STD / math.hypot(STD, FIRST)
    for nfe in (2, 4):
        assert abs(factor(table[nfe]) - exact) < 0.8 * abs(factor(start[nfe]) - exact)
    assert abs(factor(table[4]) - exact) < abs(factor(table[2]) - exact)


@pytest.mark.parametrize("nfe", [1, 2, 4])
def test_the_sampler_asks_at_these_levels_alone(nfe):
    model, levels = GaussianDenoiser(), [FIRST, 2.0, 0.5, 0.1][:nfe]
    noise = torch.randn(2, 3, 4, 4)
    step = model.scheduler.reverse_process_step
    *states, images = ddim_states(model.denoise, step, levels, lambda: noise)
    assert model.levels == levels and len(states) == nfe
    expected = MEAN + factor(levels) * (FIRST * noise - MEAN)
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=1e-4)


def test_the_teachers_images_follow_the_ode():
    model, noise = GaussianDenoiser(), torch.randn(8, 3, 4, 4)
    images = ode_images(model.denoise, model.scheduler, FIRST * noise, FIRST, 99)
    expected = MEAN + STD / math.hypot(STD, FIRST) * (FIRST * noise - MEAN)
    torch.testing.assert_close(images, expected, atol=5e-3, rtol=0)
    assert len(model.levels) == 99


def test_levels_fall_from_the_first_whatever_is_learnt():
    levels = Levels(CustomScheduler())
    with torch.no_grad():
        for logits in levels.logits.values():
            logits.copy_(torch.linspace(-50, 50, len(logits)))
    for nfe, row in levels().items():
        row = row.tolist()
        assert len(row) == nfe and row[0] == pytest.approx(80.0, rel=1e-5)
        assert all(a > b > 0.002 for a, b in zip(row, row[1:]))


def test_the_nearest_of_a_ball_is_on_it_and_nearer():
    torch.manual_seed(0)
    x, target = torch.randn(4, 3, 4, 4), torch.zeros(4, 3, 4, 4)
    near = nearest_in_ball(lambda x: 2 * x, x, target, 0.5)
    torch.testing.assert_close((near - x).flatten(1).norm(dim=1), torch.full((4,), 0.5))
    # Of a sphere about the target it is the point on the line to its middle.
    expected = x * (1 - 0.5 / x.flatten(1).norm(dim=1)).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(near, expected)
    assert nearest_in_ball(lambda x: x, x, target, 0.0) is x


def test_the_network_stays_and_the_levels_are_saved(tmp_path):
    phase = make_phase(ld3_iterations=2, ld3_evaluations=3)
    before = {key: value.clone() for key, value in phase.ema.state_dict().items()}
    path = tmp_path / "model.pt"
    save_generator(phase.ema, path, phase.config, phase.learns_levels)
    first = read_json(tmp_path / "model_config.json")["few_step_sigmas"]
    table = trained(phase, side=16)
    save_generator(phase.ema, path, phase.config, phase.learns_levels)
    assert all(torch.equal(before[key], value) for key, value in phase.ema.state_dict().items())
    again = load_model(path, create_custom_model)
    assert again.sampler == "ddim" and again.scheduler.few_step_table == table
    assert read_json(tmp_path / "model_config.json")["few_step_sigmas"] != first
    other = make_phase(ld3_iterations=2, ld3_evaluations=3)
    other.load_state_dict(phase.state_dict())
    assert other.ema.scheduler.few_step_table == table and other.config == phase.config


CHANGES = dict(ld3_iterations=9, ld3_lr=0.01, ld3_evaluations=5, ld3_ball=1e-3)


@pytest.mark.parametrize("flag", CHANGES)
def test_flag_changes_what_is_learnt(flag):
    def levels(**flags):
        phase = make_phase(GaussianDenoiser(), **{"ld3_iterations": 3} | flags)
        return trained(phase, 3)[4]

    assert levels() != levels(**{flag: CHANGES[flag]})
