"""Losses of phase 2 against values worked out by hand or by automatic differentiation."""

import math

import pytest
import torch

from training.losses import (
    add_distillation,
    approximate_r1,
    balanced_gradient,
    exponential_weight,
    hinge_discriminator,
    hinge_generator,
)


def gaussian_teacher(mean, std):
    def denoise(x, sigma):
        sigma = sigma.reshape(-1, 1, 1, 1)
        return (std**2 * x + sigma**2 * mean) / (std**2 + sigma**2)

    return denoise


def test_exponential_weight_is_the_signal_share():
    sigma = torch.tensor([0.0, 1.0, math.sqrt(3.0)])
    assert torch.allclose(exponential_weight(sigma), torch.tensor([1.0, 0.5**0.5, 0.5]))


def test_add_distillation_has_its_expected_value_for_gaussian_data():
    """For N(m, s^2): x - D(x + sigma n) = (sigma^2 (x - m) - s^2 sigma n) / (s^2 + sigma^2)."""
    torch.manual_seed(0)
    mean, std, sigma, x = 0.2, 0.5, 1.3, 0.9
    x0 = torch.full((64, 3, 32, 32), x)
    loss = add_distillation(
        x0, gaussian_teacher(mean, std), torch.randn_like(x0), torch.full((64,), sigma)
    )
    spread = std**2 + sigma**2
    expected = ((sigma**2 * (x - mean)) ** 2 + (std**2 * sigma) ** 2) / spread**2
    assert loss.shape == (64,)
    assert loss.mean().item() == pytest.approx((1 + sigma**2) ** -0.5 * expected, rel=0.01)


def test_add_distillation_pulls_towards_the_data_and_not_through_the_teacher():
    x0 = torch.full((4, 1, 2, 2), 0.9, requires_grad=True)
    sigma, noise = torch.full((4,), 2.0), torch.zeros(4, 1, 2, 2)
    add_distillation(x0, gaussian_teacher(0.2, 0.5), noise, sigma).mean().backward()
    target = (0.25 * 0.9 + 4 * 0.2) / 4.25
    # A gradient through the teacher would multiply this by 1 - 0.25 / 4.25.
    expected = 5**-0.5 * 2 * (0.9 - target) / x0.numel()
    assert torch.allclose(x0.grad, torch.full_like(x0, expected))


def test_hinge_losses():
    real, fake = torch.tensor([[2.0, 0.5]]), torch.tensor([[-3.0, 0.25]])
    assert hinge_discriminator(real, fake).item() == pytest.approx(0.5 / 2 + 1.25 / 2)
    assert hinge_generator(fake).item() == pytest.approx((3 - 0.25) / 2)
    assert hinge_discriminator(torch.ones(3, 5), -torch.ones(3, 5)).tolist() == [0, 0, 0]


def test_approximate_r1_approaches_the_gradient_norm():
    """For D(x) = w.x the expected squared change under noise eps n is eps^2 |w|^2: R1 itself."""
    torch.manual_seed(0)
    weights = torch.randn(12)
    x, eps = torch.randn(20000, 12), 0.01
    nearby = x + eps * torch.randn_like(x)
    penalty = approximate_r1((x @ weights)[:, None], (nearby @ weights)[:, None])
    assert penalty.shape == (20000,)
    assert penalty.mean().item() / eps**2 == pytest.approx(weights.norm().item() ** 2, rel=0.05)


def test_balanced_gradient_gives_the_adversarial_part_the_asked_norm():
    torch.manual_seed(0)
    distill, adv = torch.randn(2, 3, 4, 4), 1000 * torch.randn(2, 3, 4, 4)
    total, ratio = balanced_gradient(distill, adv, distill_weight=0.5, adv_weight=2.0)
    added = total - 0.5 * distill
    assert added.norm().item() == pytest.approx(2 * distill.norm().item(), rel=1e-4)
    assert torch.allclose(added / added.norm(), adv / adv.norm(), atol=1e-6)
    assert ratio.item() == pytest.approx((distill.norm() / adv.norm()).item())
    unchanged, _ = balanced_gradient(distill, torch.zeros_like(adv), 1.0, 1.0)
    assert torch.equal(unchanged, distill)
