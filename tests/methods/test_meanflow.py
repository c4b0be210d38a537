"""MeanFlow: its identity, derivative and loss against Gaussian data, whose flow is known."""

from functools import cache

import pytest
import torch

from custom_model import create_custom_model
from fewstep.engine.microbatch import split
from fewstep.methods.meanflow import MeanFlowPhase, along_flow, check_size, draw_times
from src.model_config import FLOW_DEFAULTS
from src.module import TimeEmbedding
from src.utils import UserError
from tests.methods import gaussian
from tests.students import plain_execution, tiny_settings


def make_phase(**flags):
    flags = {"method": "meanflow", "num_iterations": 4, "warmup": 0} | flags
    torch.manual_seed(0)
    return MeanFlowPhase.build(tiny_settings(flags), plain_execution(), 0.6)


def exact_mean_velocity(x, t, length):
    return gaussian.mean_velocity(x, *(one.reshape(-1, 1, 1, 1) for one in (t, length)))


def points(count=6):
    """x, t, t - r, and the velocity of the flow there, in double precision."""
    torch.manual_seed(0)
    x = torch.randn(count, 3, 4, 4, dtype=torch.float64)
    t = torch.linspace(0.3, 1, count, dtype=torch.float64)
    return x, t, t * torch.linspace(0.1, 1, count), gaussian.velocity(x, t.reshape(-1, 1, 1, 1))


def test_the_exact_mean_velocity_fulfils_the_identity():
    x, t, length, velocity = points()
    derivative = along_flow(exact_mean_velocity, x, t, length, velocity)
    target = velocity - length.reshape(-1, 1, 1, 1) * derivative
    torch.testing.assert_close(target, exact_mean_velocity(x, t, length), atol=1e-9, rtol=0)


def test_the_derivative_is_that_of_finite_differences(monkeypatch):
    """Of the very network, in double precision: also of its features of time."""

    def sinusoids(t, count, base=10_000):
        exponents = torch.arange(count // 2, dtype=t.dtype) / (count // 2)
        angles = t[:, None] * base**-exponents
        return torch.cat([angles.cos(), angles.sin()], dim=1)

    monkeypatch.setattr(TimeEmbedding, "sinusoids", staticmethod(sinusoids))
    phase = make_phase()
    with torch.no_grad():
        phase.model.network.tail[2].weight.normal_(std=0.05)
    phase.model.double()
    x, t, length, velocity = points(3)
    x, velocity = (one.repeat(1, 1, 4, 4) for one in (x, velocity))
    derivative = phase.derivative(x, t, length, velocity)
    scale, far = phase.model.scheduler.num_train_timesteps, 1e-5

    def moved(by):
        times = (scale * (one + by) for one in (t, length))
        with torch.no_grad():
            return phase.model.network(x + by * velocity, *times)

    expected = (moved(far) - moved(-far)) / (2 * far)
    assert derivative.dtype == torch.float64 and not derivative.requires_grad
    torch.testing.assert_close(derivative, expected, atol=1e-7, rtol=1e-5)
    assert expected.abs().mean() > 0.01, "a zero would prove nothing"


def test_the_exact_solution_is_where_the_loss_pulls_to():
    """The target is noisy, as the velocity of a line is; but its mean at each place is u: what is
    left depends neither on nothing nor on x. A velocity that ignores the step is pulled away."""
    phase = make_phase(meanflow_share=1.0)

    class Network(torch.nn.Module):
        def __init__(self, told):
            super().__init__()
            self.told, self.unused = told, torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, time, length):
            return exact_mean_velocity(x, time / 10, length / 10 * self.told)

    pulls = {}
    for told in (1, 0):
        phase.model.network = phase.bare = Network(told)
        torch.manual_seed(0)
        data, noise = gaussian.draw(20000)
        error, differ = phase.errors(data, noise)
        assert differ == len(data)
        torch.manual_seed(0)
        gaussian.draw(20000)
        t, _ = draw_times(20000, differ, -0.4, 1.0, "cpu")
        x = phase.model.scheduler.forward_process(data, noise, t)
        pulls[told] = error.mean().abs().item(), (error * x).mean().abs().item()
    assert max(pulls[1]) < 0.01 and max(pulls[0]) > 0.03, pulls


def test_times_of_two_kinds():
    torch.manual_seed(0)
    t, length = draw_times(8000, 2000, -0.4, 1.0, "cpu")
    assert (length[2000:] == 0).all() and (length[:2000] > 0).all()
    assert ((t > 0) & (t < 1) & (t - length > 0)).all()
    logits = torch.cat([t[:2000], (t - length)[:2000]]).logit()  # larger and smaller together
    assert logits.mean().item() == pytest.approx(-0.4, abs=0.06)
    assert logits.std().item() == pytest.approx(1.0, abs=0.05)


def test_the_weight_takes_the_scale_of_the_error_out():
    phase, (data, noise) = make_phase(meanflow_power=1.0), gaussian.draw(8)
    for scale in (1, 100):
        phase.errors = lambda images, noise, scale=scale: ((scale * noise).requires_grad_(), 2)
        loss, metrics = phase.loss_of(data, noise, 0.0)
        assert loss.item() == pytest.approx(1, abs=0.01)
        assert metrics["flow_loss"].item() == pytest.approx(scale**2, rel=0.3)


def test_the_bare_network_is_another_reading_of_the_same_weights():
    phase = make_phase()
    assert all(p.is_meta for p in phase.bare.parameters())
    names = dict(phase.model.network.named_parameters())
    assert list(names) == [name for name, _ in phase.bare.named_parameters()]
    inputs = torch.randn(2, 3, 16, 16), torch.rand(2), torch.rand(2)
    for kind in ("inner", "whole"):
        phase.growth.use(kind)
        phase.bare_growth.use(kind)
        with torch.no_grad():
            phase.model.network.tail[2].weight.normal_(std=0.05)
            got = torch.func.functional_call(phase.bare, names, inputs)
            torch.testing.assert_close(got, phase.model.network(*inputs), atol=1e-5, rtol=1e-5)


def test_sampling_steps_by_the_mean_velocity():
    config = FLOW_DEFAULTS | dict(network="tiny", use_additional_condition=True)
    model = create_custom_model(**config | dict(num_train_timesteps=10))
    told = []
    model.network.register_forward_hook(lambda _, inputs, __: told.append(inputs[1:]))
    for nfe in (1, 2, 4):
        told.clear()
        model.sample((1, 3, 16, 16), nfe)
        times = [(time.item(), length.item()) for time, length in told]
        assert times == [pytest.approx((10 - 10 * i / nfe, 10 / nfe)) for i in range(nfe)]


CHANGES = dict(
    meanflow_share=0.5,
    meanflow_mean=0.5,
    meanflow_std=0.5,
    meanflow_power=0.5,
    meanflow_range=100,
)


@cache
def weights(**flags):
    phase = make_phase(lr=1e-3, **flags)
    torch.manual_seed(0)
    for step in range(2):
        phase.step(split(torch.rand(4, 3, 16, 16), [step]), step)
    return torch.cat([p.detach().flatten() for p in phase.model.parameters()])


@pytest.mark.parametrize("flag", CHANGES)
def test_flag_changes_what_is_learnt(flag):
    plain, other = weights(), weights(**{flag: CHANGES[flag]})
    assert (plain - other).abs().max() > 1e-7 and other.isfinite().all()


def test_a_range_that_would_not_be_used_is_refused():
    with pytest.raises(UserError, match="--meanflow_range"):
        tiny_settings(dict(method="meanflow", num_train_timesteps=500))


def test_a_share_that_rounding_would_lose_is_refused():
    with pytest.raises(UserError, match="too few"):
        check_size(tiny_settings(dict(meanflow_share=0.1)), 4)
    check_size(tiny_settings(), 4)
