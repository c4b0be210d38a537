"""Reflow: pairs, loss and straightness against Gaussian data, whose flow is known."""

from functools import cache

import pytest
import torch

from custom_model import create_custom_model
from fewstep.engine.microbatch import MicroBatch, split
from fewstep.methods.rectified_flow import straightness
from fewstep.methods.reflow import ReflowPhase, images_of
from src.flow import FlowScheduler, RectifiedFlow
from src.model_config import FLOW_DEFAULTS
from tests.methods import gaussian
from tests.students import plain_execution, tiny_settings

CONFIG = FLOW_DEFAULTS | {"network": "tiny"}


def straight_velocity(x, t):
    """n - z for z = MEAN + STD n: what a flow learns from the pairs of the exact one."""
    noise = (x - (1 - t) * gaussian.MEAN) / ((1 - t) * gaussian.STD + t)
    return (1 - gaussian.STD) * noise - gaussian.MEAN


class StraightNetwork(torch.nn.Module):
    """In the place of the U-Net."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, time):
        return straight_velocity(x, time.reshape(-1, 1, 1, 1) / 1000)


def flow(network):
    return RectifiedFlow(network, FlowScheduler())


def make_phase(model=None, first=None, **flags):
    flags = {"method": "reflow", "reflow_warmup": 0} | flags
    torch.manual_seed(0)
    first = first or create_custom_model(**CONFIG)
    if model is None:
        return ReflowPhase.build(tiny_settings(flags), plain_execution(), first, CONFIG)
    return ReflowPhase(tiny_settings(flags), model, CONFIG, first, plain_execution())


def test_pairs_are_those_of_the_flow():
    torch.manual_seed(0)
    noise = torch.randn(64, 3, 4, 4)
    expected = gaussian.MEAN + gaussian.STD * noise
    errors = [
        (images_of(gaussian.velocity, noise, steps) - expected).abs().mean().item()
        for steps in (64, 128)
    ]
    assert errors[0] < 1e-2
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)  # the second order of Heun's method


def test_the_straight_flow_has_no_loss_and_needs_one_step():
    straight, first = flow(StraightNetwork()), flow(gaussian.ExactNetwork())
    micro_batch = MicroBatch(torch.zeros(256, 3, 4, 4), 5)
    losses = {}
    for name, model in (("straight", straight), ("first", flow(gaussian.ExactNetwork()))):
        phase = make_phase(model, first, reflow_heun=64)
        (turn, *_) = phase.turns(0)
        losses[name] = turn.loss(micro_batch)[0].item()
    assert losses["straight"] < 1e-4 < 1e-2 < losses["first"]
    for nfe in (1, 2, 4):
        noise, *_, images = straight.sample((2, 3, 8, 8), nfe, return_traj=True, seeds=[1, 2])
        expected = gaussian.MEAN + gaussian.STD * noise
        torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)


def test_straightness_by_quadrature():
    """v along the path of noise n is a(t) n - MEAN with a = (t - (1 - t) STD^2) / s_t."""
    torch.manual_seed(0)
    noise = torch.randn(256, 3, 4, 4)
    t = torch.linspace(0, 1, 10001)
    slope = (t - (1 - t) * gaussian.STD**2) / gaussian.spread(t)
    expected = (slope - (1 - gaussian.STD)).square().mean() * noise.square().mean()
    got = straightness(gaussian.velocity, noise, 200)
    assert got.item() == pytest.approx(expected.item(), rel=0.05)
    assert straightness(straight_velocity, noise, 8) < 1e-9


def test_all_updates_of_a_step_share_its_pairs():
    first = gaussian.exact_flow(told_length=False)
    phase = make_phase(flow(StraightNetwork()), first, reflow_heun=3, reflow_updates=4)
    micro_batch = MicroBatch(torch.zeros(2, 3, 4, 4), 5)
    losses = [turn.loss(micro_batch)[0].item() for turn in phase.turns(0)]
    assert len(losses) == len(set(losses)) == 4, "each has times of its own"
    assert len(first.network.calls) == 2 * 3


def test_the_second_flow_starts_as_the_first():
    first = create_custom_model(**CONFIG)
    phase = make_phase(first=first)
    for a, b in zip(phase.model.parameters(), first.parameters()):
        assert torch.equal(a, b) and a is not b
    assert not any(p.requires_grad for p in first.parameters())


CHANGES = dict(
    reflow_iterations=9,
    reflow_lr=1e-4,
    reflow_warmup=2,
    reflow_ema_share=0.9,
    reflow_heun=1,
    reflow_updates=1,
)


@cache
def weights(**flags):
    """Those of network and average after a few steps."""
    torch.manual_seed(0)
    first = create_custom_model(**CONFIG)
    with torch.no_grad():
        first.network.tail[2].weight.normal_(std=0.05)
    base = {"reflow_iterations": 2, "reflow_updates": 2, "reflow_heun": 2}
    phase = make_phase(first=first, **base | flags)
    for step in range(2):
        phase.step(split(torch.zeros(2, 3, 16, 16), [step]), step)
    networks = (phase.model, phase.ema)
    return torch.cat([p.detach().flatten() for one in networks for p in one.parameters()])


@pytest.mark.parametrize("flag", CHANGES)
def test_flag_changes_what_is_learnt(flag):
    plain, other = weights(), weights(**{flag: CHANGES[flag]})
    assert (plain - other).abs().max() > 1e-7 and other.isfinite().all()
