"""GAN losses and penalties against values worked out by hand and the optima known from theory."""

import math

import pytest
import torch
from torch import nn

from fewstep.methods.gan_losses import GAN_LOSSES, approximate_r1, centring, gradient_penalty

REAL, FAKE = torch.tensor([[2.0, 0.5]]), torch.tensor([[-3.0, 0.25]])


def softplus(x):
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        ("hinge", 0.5 / 2 + 1.25 / 2, (3 - 0.25) / 2),
        (
            "nonsaturating",
            (softplus(-2) + softplus(-0.5) + softplus(-3) + softplus(0.25)) / 2,
            (softplus(3) + softplus(-0.25)) / 2,
        ),
        ("least_squares", (1 + 0.25 + 4 + 1.5625) / 4, (16 + 0.5625) / 4),
        ("relativistic", (softplus(-5) + softplus(-0.25)) / 2, (softplus(5) + softplus(0.25)) / 2),
    ],
)
def test_losses_by_hand(name, discriminator, generator):
    loss = GAN_LOSSES[name]
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(discriminator)
    assert loss.generator(FAKE, REAL).item() == pytest.approx(generator)
    assert loss.discriminator(REAL.expand(3, 2), FAKE.expand(3, 2)).shape == (3,)
    assert loss.generator(FAKE.expand(3, 2), REAL.expand(3, 2)).shape == (3,)


def test_only_the_relativistic_generator_needs_the_real_logits():
    for name, loss in GAN_LOSSES.items():
        assert loss.relative == (name == "relativistic")
        if not loss.relative:
            assert torch.equal(loss.generator(FAKE), loss.generator(FAKE, REAL))
    relative = GAN_LOSSES["relativistic"]
    assert torch.allclose(
        relative.discriminator(REAL, FAKE), relative.discriminator(REAL + 7, FAKE + 7)
    )


@pytest.mark.parametrize(
    ("name", "optimum"),
    [
        ("hinge", lambda p, q: torch.sign(p - q)),
        ("nonsaturating", lambda p, q: torch.log(p / q)),
        ("least_squares", lambda p, q: (p - q) / (p + q)),
    ],
)
def test_the_best_discriminator_is_the_one_that_theory_names(name, optimum):
    """Over three places with probabilities p (real) and q (fake), by gradient descent."""
    p, q = torch.tensor([0.6, 0.25, 0.15]), torch.tensor([0.2, 0.35, 0.45])
    logits = torch.zeros(3, 1, requires_grad=True)
    for step in range(4000):
        losses = GAN_LOSSES[name]
        zero = torch.full_like(logits, 50.0)  # a real logit that costs nothing, for hinge and ns
        if name == "least_squares":
            zero = torch.ones_like(logits)
        real = losses.discriminator(logits, -zero)
        fake = losses.discriminator(zero, logits)
        (gradient,) = torch.autograd.grad((p * real + q * fake).sum(), logits)
        with torch.no_grad():
            logits -= (1.0 if name != "hinge" else 5.0 / (step + 10)) * gradient
    assert torch.allclose(logits.detach()[:, 0], optimum(p, q), atol=0.02)


def test_centring_pulls_the_pair_to_zero_whatever_their_difference():
    """(D(real) + D(fake))^2, with the derivative 2 (D(real) + D(fake)) for either."""
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    loss = centring(real, fake)
    assert loss.tolist() == pytest.approx([(1 + 0.75**2) / 2])
    for logits in torch.autograd.grad(loss.sum(), (real, fake)):
        assert logits.tolist() == [pytest.approx([-1.0, 0.75])]
    assert centring(REAL, -REAL).item() == 0


def test_approximate_r1_approaches_the_gradient_norm():
    """For D(x) = w.x the expected squared change under noise eps n is eps^2 |w|^2: R1 itself."""
    torch.manual_seed(0)
    weights = torch.randn(12)
    x, eps = torch.randn(20000, 12), 0.01
    nearby = x + eps * torch.randn_like(x)
    penalty = approximate_r1((x @ weights)[:, None], (nearby @ weights)[:, None])
    assert penalty.shape == (20000,)
    assert penalty.mean().item() / eps**2 == pytest.approx(weights.norm().item() ** 2, rel=0.05)
    exact = gradient_penalty(
        lambda image: (image.flatten(1) @ weights)[:, None], x.reshape(-1, 3, 2, 2), eps
    )
    assert penalty.mean().item() == pytest.approx(exact.mean().item(), rel=0.05)


def test_gradient_penalty_is_the_mean_over_logits():
    """As the approximate one: for D_n(x) = w_n.x, mean_n |w_n|^2, not |mean_n w_n|^2."""
    torch.manual_seed(0)
    weights = torch.randn(12, 50)
    x, eps = torch.randn(4000, 12), 0.01
    exact = gradient_penalty(lambda image: image.flatten(1) @ weights, x.reshape(-1, 3, 2, 2), eps)
    expected = eps**2 * weights.square().sum(dim=0).mean()
    assert exact.mean().item() == pytest.approx(expected.item(), rel=0.03)
    nearby = x + eps * torch.randn_like(x)
    assert approximate_r1(x @ weights, nearby @ weights).mean().item() == pytest.approx(
        expected.item(), rel=0.03
    )


def test_gradient_penalty_reaches_the_weights():
    """For D(x) = a sum(x^2): gradient 2 a x, penalty 4 a^2 |x|^2, derivative 8 a |x|^2."""
    a = torch.tensor(0.7, requires_grad=True)
    x = torch.randn(5, 1, 2, 2)
    penalty = gradient_penalty(
        lambda image: a * image.square().sum(dim=(1, 2, 3), keepdim=True).flatten(1), x, 1.0
    )
    norms = x.square().sum(dim=(1, 2, 3))
    assert torch.allclose(penalty, 4 * 0.49 * norms, rtol=1e-4)
    (gradient,) = torch.autograd.grad(penalty.sum(), a)
    assert gradient.item() == pytest.approx(8 * 0.7 * norms.sum().item(), rel=1e-4)


def test_gradient_penalty_differentiates_attention_twice():
    torch.manual_seed(0)
    attention = nn.Linear(4, 12)

    def judge(image):
        tokens = attention(image.flatten(2).transpose(1, 2))
        q, k, v = tokens[:, None].chunk(3, dim=-1)
        return nn.functional.scaled_dot_product_attention(q, k, v).flatten(1)

    gradient_penalty(judge, torch.randn(2, 4, 3, 3), 1.0).sum().backward()
    assert attention.weight.grad.abs().sum() > 0
