"""Shortcut models: their steps and losses against Gaussian data, whose flow is known."""

import pytest
import torch

from fewstep.engine.microbatch import split
from fewstep.methods.shortcut import ShortcutPhase, check_size, draw_steps, two_halves
from fewstep.runs.command_line import parse_settings
from src.utils import UserError
from tests.methods import gaussian
from tests.students import plain_execution, tiny_settings


def make_phase(**flags):
    flags = {"method": "shortcut", "num_iterations": 4, "warmup": 0} | flags
    torch.manual_seed(0)
    return ShortcutPhase.build(tiny_settings(flags), plain_execution(), 0.6)


@pytest.fixture
def exact():
    """A phase whose network and average are the oracle."""
    phase = make_phase(shortcut_share=0.5, shortcut_steps=4096)  # the shortest are velocities
    phase.model.network, phase.ema.network = gaussian.ExactNetwork(), gaussian.ExactNetwork()
    return phase


@pytest.mark.parametrize("nfe", [1, 2, 4])
def test_exact_mean_velocities_reach_the_data_in_any_number_of_steps(nfe):
    model = gaussian.exact_flow(told_length=True)
    noise, *_, images = model.sample((2, 3, 8, 8), nfe, return_traj=True, seeds=[1, 2])
    expected = gaussian.MEAN + gaussian.STD * noise
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)
    assert model.network.calls == [
        pytest.approx((1 - step / nfe, 1 / nfe), abs=1e-6) for step in range(nfe)
    ]


def test_two_halves_of_the_exact_flow_are_the_whole():
    torch.manual_seed(0)
    length = torch.tensor([1.0, 0.5, 0.5, 0.25])
    t = torch.tensor([1.0, 1.0, 0.5, 0.75])
    x, told = torch.randn(4, 3, 4, 4), []

    def velocity(x, t, length):
        told.append(length)
        return gaussian.mean_velocity(x, *(value.reshape(-1, 1, 1, 1) for value in (t, length)))

    target = two_halves(velocity, x, t, length, 1 / 64)
    shape = (-1, 1, 1, 1)
    expected = gaussian.mean_velocity(x, t.reshape(shape), length.reshape(shape))
    torch.testing.assert_close(target, expected, atol=1e-5, rtol=0)
    assert all(torch.equal(one, length / 2) for one in told)
    told.clear()
    two_halves(velocity, x, t, length, 1 / 8)
    assert all(torch.equal(one, torch.tensor([0.5, 0.25, 0.25, 0.0])) for one in told)


def test_steps_begin_where_sampling_asks_and_end_in_time():
    torch.manual_seed(0)
    t, length = draw_steps(8000, 16, "cpu")
    for place, one in enumerate((1, 0.5, 0.25, 0.125)):
        times = t[length == one]
        assert len(times) / 8000 == pytest.approx(1 / 4, abs=0.03)
        assert set(times.tolist()) == {1 - one * step for step in range(2**place)}
    assert set(length.tolist()) == {1, 0.5, 0.25, 0.125}


def test_the_exact_solution_has_the_least_loss(exact):
    """No error of consistency, and of the velocity no more than what nobody can know: the spread
    of n - x0 at x_t, its own spread 1 + STD^2 less that of its mean, slope^2 s_t^2."""
    torch.manual_seed(0)
    data, noise = gaussian.draw(2048)
    _, metrics = exact.loss_of(data, noise, 0.0)
    t = torch.linspace(0, 1, 10001)
    known = (t - (1 - t) * gaussian.STD**2) ** 2 / gaussian.spread(t) ** 2
    assert metrics["self_loss"] < 1e-6
    expected = 1 + gaussian.STD**2 - known.mean().item()
    assert metrics["flow_loss"].item() == pytest.approx(expected, rel=0.03)


def test_a_plain_velocity_is_not_consistent(exact):
    """One that ignores the length of its step: what a flow without shortcuts is."""
    plain = exact.model.network.forward
    exact.model.network.forward = lambda x, time, length: plain(x, time)
    data, noise = gaussian.draw(256)
    assert exact.loss_of(data, noise, 0.0)[1]["self_loss"] > 0.01


def test_the_target_is_the_averages_and_has_no_gradient():
    phase = make_phase()
    with torch.no_grad():
        phase.model.network.tail[2].weight.normal_(std=0.05)
    torch.manual_seed(1)
    steps = torch.rand(2, 3, 16, 16), torch.tensor([1.0, 0.5]), torch.tensor([1.0, 0.5])
    target = phase.target_of(*steps)
    assert not target.requires_grad
    assert target.abs().max() < 1e-3 < phase.model.predict(*steps).abs().max()
    phase.ema.load_state_dict(phase.model.state_dict())
    assert phase.target_of(*steps).abs().max() > 1e-3


@pytest.mark.parametrize(
    "flags", [dict(shortcut_steps=64), dict(shortcut_share=0.75)], ids=lambda flags: [*flags][0]
)
def test_flag_changes_what_is_learnt(flags):
    def weights(**flags):
        phase = make_phase(lr=1e-3, **flags)
        torch.manual_seed(0)
        for step in range(3):
            phase.step(split(torch.rand(4, 3, 16, 16), [step]), step)
        return torch.cat([p.detach().flatten() for p in phase.model.parameters()])

    plain, other = weights(), weights(**flags)
    assert (plain - other).abs().max() > 1e-7 and other.isfinite().all()


@pytest.mark.parametrize(
    ("flags", "told"),
    [(["--shortcut_steps", "12"], "power of two"), (["--p_mean", "0"], "--p_mean")],
)
def test_what_cannot_be_is_refused(flags, told):
    with pytest.raises(UserError, match=told):
        parse_settings(["--method", "shortcut", "--data", "synthetic", *flags])


def test_a_share_that_rounding_would_lose_is_refused():
    with pytest.raises(UserError, match="too few"):
        check_size(tiny_settings(dict(shortcut_share=0.1)), 4)
    check_size(tiny_settings(), 4)
