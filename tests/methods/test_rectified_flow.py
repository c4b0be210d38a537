"""The rectified flow: its lines, its Euler steps against closed forms, training and resuming."""

import pytest
import torch
from torch import nn

from custom_model import create_custom_model
from src.flow import FlowScheduler, RectifiedFlow
from src.model_config import FLOW_DEFAULTS
from src.utils import load_model, save_model

MEAN, STD = 0.3, 0.2
CONFIG = FLOW_DEFAULTS | {"network": "tiny"}


class GaussianVelocity(nn.Module):
    """In the place of the U-Net: E[n - x0 | x_t] in closed form for data ~ N(MEAN, STD^2)."""

    def __init__(self):
        super().__init__()
        self.times, self.unused = [], nn.Parameter(torch.zeros(1))

    def forward(self, x, time):
        t = (time / 1000).reshape(-1, 1, 1, 1)
        self.times.append(t[0].item())
        variance = (1 - t) ** 2 * STD**2 + t**2
        slope = (t - (1 - t) * STD**2) / variance
        return -MEAN + slope * (x - (1 - t) * MEAN)


def gaussian_flow():
    return RectifiedFlow(GaussianVelocity(), FlowScheduler())


def test_times_are_uniform_and_lines_join_data_to_noise():
    scheduler = FlowScheduler()
    torch.manual_seed(0)
    t = scheduler.sample_timesteps(10000, "cpu")
    assert 0 <= t.min() and t.max() < 1
    assert t.mean().item() == pytest.approx(1 / 2, abs=0.01)
    assert t.std().item() == pytest.approx(12**-0.5, abs=0.01)
    data, noise = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8)
    assert torch.equal(scheduler.forward_process(data, noise, torch.zeros(2)), data)
    assert torch.equal(scheduler.forward_process(data, noise, torch.ones(2)), noise)
    # The target is the line's derivative.
    low, high = (scheduler.forward_process(data, noise, torch.full((2,), t)) for t in (0.25, 0.75))
    target = scheduler.get_target(data, noise, torch.full((2,), 0.25))
    torch.testing.assert_close((high - low) / 0.5, target)


@pytest.mark.parametrize("nfe", [1, 2, 4])
def test_sampling_takes_as_many_evaluations_as_asked(nfe):
    model = gaussian_flow()
    images = model.sample((3, 3, 8, 8), num_inference_timesteps=nfe)
    assert model.network.times == pytest.approx([1 - step / nfe for step in range(nfe)])
    assert images.shape == (3, 3, 8, 8)
    states = model.sample((3, 3, 8, 8), num_inference_timesteps=nfe, return_traj=True)
    assert len(states) == nfe + 1
    with pytest.raises(ValueError, match="at least 1"):
        model.sample((3, 3, 8, 8), num_inference_timesteps=0)


def test_one_step_answers_the_mean_whatever_the_noise():
    images = gaussian_flow().sample((4, 3, 8, 8), num_inference_timesteps=1)
    torch.testing.assert_close(images, torch.full_like(images, MEAN))


def test_euler_steps_converge_to_the_data_at_first_order():
    model = gaussian_flow()

    def error(nfe):
        noise, *_, images = model.sample((2, 3, 8, 8), nfe, return_traj=True, seeds=[0, 1])
        return (images - (MEAN + STD * noise)).abs().mean().item()  # where the exact flow ends

    errors = [error(nfe) for nfe in (64, 128, 256)]
    assert errors[0] < 0.05
    for coarse, fine in zip(errors, errors[1:]):
        assert coarse / fine == pytest.approx(2, rel=0.1)


def test_the_loss_is_least_for_the_true_velocity():
    torch.manual_seed(0)
    model, data = gaussian_flow(), MEAN + STD * torch.randn(512, 3, 4, 4)
    noise, t = torch.randn_like(data), torch.rand(512)
    true = model.compute_loss(data, noise, t)
    for factor in (0.9, 1.1):
        wrong = gaussian_flow()
        plain = wrong.network.forward
        wrong.network.forward = lambda x, time, plain=plain, factor=factor: factor * plain(x, time)
        assert wrong.compute_loss(data, noise, t) > true


def test_an_image_depends_on_its_seed_alone():
    torch.manual_seed(0)
    model = create_custom_model(**CONFIG).eval()
    with torch.no_grad():
        model.network.tail[2].weight.normal_(std=0.05)
    both = model.sample((2, 3, 64, 64), 2, seeds=[5, 6])
    alone = model.sample((1, 3, 64, 64), 2, seeds=[6])
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=0)
    assert (both[0] - both[1]).abs().mean() > 0.1


def test_a_saved_flow_is_rebuilt_and_nothing_else_is_taken_for_one(tmp_path):
    model, config = create_custom_model(**CONFIG), CONFIG
    save_model(model, tmp_path / "model.pt", config)
    again = load_model(tmp_path / "model.pt", create_custom_model)
    assert torch.equal(again.network.head.weight, model.network.head.weight)
    for wrong, told in (
        ({"model_type": "edm_denoiser"}, "sigma_data"),
        ({"sampler": "heun"}, "sampler"),
        ({"network": "x"}, "x"),
    ):
        with pytest.raises(ValueError, match=told):
            create_custom_model(**config | wrong)
