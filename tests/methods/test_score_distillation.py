"""Score distillation against closed forms: Gaussians by hand, a mixture by quadrature."""

import math

import pytest
import torch

from fewstep.methods.score_distillation import (
    OWN_WEIGHTING,
    WEIGHTINGS,
    combined_gradient,
    score_distillation,
)
from tests.methods import mixture


def gaussian_denoiser(mean, std):
    """E[x0 | x] for data N(mean, std^2) in every value."""

    def denoise(x, sigma):
        sigma = sigma.reshape(-1, 1, 1, 1)
        return (std**2 * x + sigma**2 * mean) / (std**2 + sigma**2)

    return denoise


def sampled(mean, std, count=4096, shape=(1, 4, 4)):
    return mean + std * torch.randn(count, *shape)


def test_weights_by_hand():
    sigma = torch.tensor([0.0, 1.0, math.sqrt(3.0)])
    x0, target = torch.full((3, 1, 2, 2), 0.5), torch.full((3, 1, 2, 2), 0.25)
    got = {name: weight(sigma, x0, target) for name, weight in WEIGHTINGS.items()}
    assert torch.allclose(got["exponential"], torch.tensor([1.0, 0.5**0.5, 0.5]))
    # alpha sigma_vp / 2 with (alpha, sigma_vp) = (1, 0), (0.707, 0.707), (0.5, 0.866)
    assert torch.allclose(got["sds"], torch.tensor([0.0, 0.25, 0.25 * 3**0.5 / 2]))
    assert torch.allclose(got["normalised"], torch.full((3,), 4.0))
    assert torch.equal(got["uniform"], torch.ones(3))


@pytest.mark.parametrize("weighting", ["auto", *WEIGHTINGS])
def test_add_has_its_expected_value_for_gaussian_data(weighting):
    """For N(m, s^2): x - P = (sigma^2 (x - m) - s^2 sigma n) / (s^2 + sigma^2)."""
    torch.manual_seed(0)
    mean, std, level, x = 0.2, 0.5, 1.3, 0.9
    x0, sigma = torch.full((64, 3, 32, 32), x), torch.full((64,), level)
    noise, teacher = torch.randn_like(x0), gaussian_denoiser(mean, std)
    loss = score_distillation("add", x0, noise, sigma, teacher, weighting=weighting)
    spread = std**2 + level**2
    squared = ((level**2 * (x - mean)) ** 2 + (std**2 * level) ** 2) / spread**2
    name = OWN_WEIGHTING["add"] if weighting == "auto" else weighting
    target = teacher(x0 + level * noise, sigma)
    weight = WEIGHTINGS[name](sigma, x0, target).mean().item()
    assert loss.shape == (64,)
    assert loss.mean().item() == pytest.approx(weight * squared, rel=0.01)


def test_add_pulls_towards_the_data_and_not_through_the_teacher():
    x0 = torch.full((4, 1, 2, 2), 0.9, requires_grad=True)
    sigma, noise = torch.full((4,), 2.0), torch.zeros(4, 1, 2, 2)
    teacher = gaussian_denoiser(0.2, 0.5)
    score_distillation("add", x0, noise, sigma, teacher).mean().backward()
    target = (0.25 * 0.9 + 4 * 0.2) / 4.25
    # A gradient through the teacher would multiply this by 1 - 0.25 / 4.25.
    expected = 5**-0.5 * 2 * (0.9 - target) / x0.numel()
    assert torch.allclose(x0.grad, torch.full_like(x0, expected))


def test_sds_is_the_weighted_error_of_the_predicted_noise():
    """d loss / d x = w (eps_hat - eps) with z = alpha x + sigma_vp eps and w = sigma_vp^2."""
    torch.manual_seed(0)
    x0 = torch.randn(5, 3, 4, 4, requires_grad=True)
    noise, sigma = torch.randn(5, 3, 4, 4), torch.tensor([0.1, 0.5, 1.0, 3.0, 20.0])
    teacher = gaussian_denoiser(0.2, 0.5)
    score_distillation("sds", x0, noise, sigma, teacher).sum().backward()
    level = sigma.reshape(-1, 1, 1, 1)
    alpha = (1 + level**2) ** -0.5
    sigma_vp = level * alpha
    z = alpha * x0.detach() + sigma_vp * noise
    denoised = teacher(z / alpha, sigma)
    predicted = (z - alpha * denoised) / sigma_vp
    expected = sigma_vp**2 * (predicted - noise) / x0[0].numel()
    assert torch.allclose(x0.grad, expected, atol=1e-6)


def test_dmd_is_the_gradient_of_the_kl_divergence_to_a_mixture():
    """KL(q_sigma, p_sigma) of a Gaussian generator, integrated on a grid and differentiated."""
    torch.manual_seed(0)
    level = 0.6
    axis = torch.linspace(-6, 6, 401)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).reshape(-1, 2)
    cell = (axis[1] - axis[0]) ** 2

    def divergence(mean, std):
        variance = std**2 + level**2
        log_q = (
            -((grid - mean) ** 2) / (2 * variance) - 0.5 * (2 * torch.pi * variance).log()
        ).sum(dim=1)
        log_p = mixture.log_density(grid, torch.full((len(grid),), level))
        return (log_q.exp() * (log_q - log_p)).sum() * cell

    mean = torch.tensor([0.6, -0.3], requires_grad=True)
    std = torch.tensor([0.5, 0.9], requires_grad=True)
    expected = torch.autograd.grad(divergence(mean, std), (mean, std))

    count = 400_000
    noise, z = torch.randn(count, 2, 1, 1), torch.randn(count, 2)
    x0 = (mean + std * z).reshape(count, 2, 1, 1)

    def fake_score(x, sigma):
        variance = std.detach() ** 2
        flat = (variance * x.flatten(1) + level**2 * mean.detach()) / (variance + level**2)
        return flat.reshape(x.shape)

    sigma = torch.full((count,), level)
    loss = score_distillation(
        "dmd", x0, noise, sigma, mixture.denoise, fake_score, weighting="uniform"
    )
    # The loss is a mean over two values a point, and F - P is sigma^2 times the score difference.
    got = torch.autograd.grad(loss.mean() * 2 / level**2, (mean, std))
    for a, b in zip(got, expected):
        assert torch.allclose(a, b, atol=0.01), (got, expected)
    assert max(e.abs().max().item() for e in expected) > 0.3, "a zero would prove nothing"


def test_dmd_divides_by_the_teachers_error():
    torch.manual_seed(0)
    x0, noise = torch.randn(3, 1, 4, 4, requires_grad=True), torch.randn(3, 1, 4, 4)
    sigma = torch.tensor([0.3, 1.0, 5.0])
    teacher, fake = gaussian_denoiser(0.2, 0.5), gaussian_denoiser(-0.4, 0.8)
    score_distillation("dmd", x0, noise, sigma, teacher, fake).sum().backward()
    noisy = x0.detach() + sigma.reshape(-1, 1, 1, 1) * noise
    p, f = teacher(noisy, sigma), fake(noisy, sigma)
    scale = (x0.detach() - p).abs().mean(dim=(1, 2, 3), keepdim=True)
    assert torch.allclose(x0.grad, (f - p) / scale / 16, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 1.2])
def test_sid_has_its_expected_value_for_gaussians(alpha):
    """E (P - F)(P - x) = E (P - F)^2, the projected score identity (arXiv:2404.04057, theorem 3):
    the loss is (1 - alpha) times that Fisher divergence."""
    torch.manual_seed(0)
    level, (data_mean, data_std), (mean, std) = 0.8, (0.2, 0.5), (-0.4, 0.9)
    x0 = sampled(mean, std, count=20_000)
    loss = score_distillation(
        "sid",
        x0,
        torch.randn_like(x0),
        torch.full((len(x0),), level),
        gaussian_denoiser(data_mean, data_std),
        gaussian_denoiser(mean, std),
        weighting="uniform",
        sid_alpha=alpha,
    )
    # P - F is linear in the noisy value y ~ N(mean, std^2 + level^2): slope y + offset.
    p_scale, f_scale = data_std**2 + level**2, std**2 + level**2
    slope = data_std**2 / p_scale - std**2 / f_scale
    offset = level**2 * (data_mean / p_scale - mean / f_scale)
    fisher = (slope * mean + offset) ** 2 + slope**2 * f_scale
    assert loss.mean().item() == pytest.approx((1 - alpha) * fisher, abs=0.02 * fisher)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.2])
def test_sid_rests_where_student_and_data_agree(alpha):
    """Its published fixed point: no loss and no gradient, for any sample, once F = P; and away from
    it a pull towards the data."""
    torch.manual_seed(0)
    teacher = gaussian_denoiser(0.2, 0.5)
    x0 = sampled(-1.0, 0.5).requires_grad_()
    noise, sigma = torch.randn_like(x0), torch.rand(len(x0)) + 0.1
    rest = score_distillation("sid", x0, noise, sigma, teacher, teacher, sid_alpha=alpha)
    (gradient,) = torch.autograd.grad(rest.mean(), x0)
    assert rest.abs().max() == 0 and gradient.abs().max() == 0
    fake = gaussian_denoiser(-1.0, 0.5)
    away = score_distillation("sid", x0, noise, sigma, teacher, fake, sid_alpha=alpha)
    (gradient,) = torch.autograd.grad(away.sum(), x0)
    assert gradient.mean() < 0  # descent moves x up, from -1 towards 0.2


@pytest.mark.parametrize("kind", ["add", "sds", "dmd", "sid"])
def test_only_sid_differentiates_through_the_networks(kind):
    weight = torch.ones((), requires_grad=True)

    def network(x, sigma):
        return weight * x

    x0 = torch.randn(2, 1, 2, 2, requires_grad=True)
    arguments = (torch.randn(2, 1, 2, 2), torch.ones(2), network, lambda x, sigma: 0.5 * x)
    loss = score_distillation(kind, x0, *arguments).sum()
    gradient = torch.autograd.grad(loss, weight, allow_unused=True)[0]
    assert (gradient is not None) == (kind == "sid")


def test_ratio_gives_the_adversarial_part_the_asked_norm():
    torch.manual_seed(0)
    distill, adv = torch.randn(2, 3, 4, 4), 1000 * torch.randn(2, 3, 4, 4)
    total, ratio = combined_gradient(distill, adv, 0.5, 2.0, "ratio")
    added = total - 0.5 * distill
    assert added.norm().item() == pytest.approx(2 * distill.norm().item(), rel=1e-4)
    assert torch.allclose(added / added.norm(), adv / adv.norm(), atol=1e-6)
    assert ratio.item() == pytest.approx((distill.norm() / adv.norm()).item())
    unchanged, _ = combined_gradient(distill, torch.zeros_like(adv), 1.0, 1.0, "ratio")
    assert torch.equal(unchanged, distill)


def test_constant_weights_and_a_single_loss():
    distill, adv = torch.ones(1, 1, 1, 2), torch.full((1, 1, 1, 2), 10.0)
    total, ratio = combined_gradient(distill, adv, 0.5, 2.0, "constant")
    assert torch.equal(total, torch.full_like(adv, 20.5)) and ratio.item() == pytest.approx(0.1)
    alone, ratio = combined_gradient(None, adv, 0.5, 2.0, "ratio")
    assert torch.equal(alone, 2 * adv) and ratio is None
    alone, ratio = combined_gradient(distill, None, 0.5, 2.0, "ratio")
    assert torch.equal(alone, 0.5 * distill) and ratio is None
