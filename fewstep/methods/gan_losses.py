"""GAN losses and gradient penalties as pure functions of logits `[B, N]`; each returns `(B,)`.

Discriminator losses are called (real, fake), generator losses (fake, real).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F


class GanLoss(NamedTuple):
    """A pair of losses; `relative`: the generator's needs the real logits too."""

    discriminator: callable
    generator: callable
    relative: bool = False


def hinge_discriminator(real_logits, fake_logits):
    """max(0, 1 - D(real)) + max(0, 1 + D(fake)) (Lim and Ye 2017, arXiv:1705.02894)."""
    return F.relu(1 - real_logits).mean(dim=1) + F.relu(1 + fake_logits).mean(dim=1)


def hinge_generator(fake_logits, real_logits=None):
    """-D(fake), likewise."""
    return -fake_logits.mean(dim=1)


def nonsaturating_discriminator(real_logits, fake_logits):
    """-log sigmoid(D(real)) - log(1 - sigmoid(D(fake))) (Goodfellow et al. 2014,
    arXiv:1406.2661)."""
    return F.softplus(-real_logits).mean(dim=1) + F.softplus(fake_logits).mean(dim=1)


def nonsaturating_generator(fake_logits, real_logits=None):
    """-log sigmoid(D(fake)), likewise, sec. 3."""
    return F.softplus(-fake_logits).mean(dim=1)


def least_squares_discriminator(real_logits, fake_logits):
    """((D(real) - 1)^2 + (D(fake) + 1)^2) / 2, targets +-1 (Mao et al. 2017, arXiv:1611.04076)."""
    return 0.5 * (((real_logits - 1) ** 2).mean(dim=1) + ((fake_logits + 1) ** 2).mean(dim=1))


def least_squares_generator(fake_logits, real_logits=None):
    """(D(fake) - 1)^2 / 2, towards the target of real images (likewise, eq. 9, up to scale)."""
    return 0.5 * ((fake_logits - 1) ** 2).mean(dim=1)


def relativistic_discriminator(real_logits, fake_logits):
    """-log sigmoid(D(real) - D(fake)) over pairs (Jolicoeur-Martineau 2018, arXiv:1807.00734; as in
    R3GAN, Huang et al. 2024, arXiv:2501.05441, eq. 2)."""
    return F.softplus(fake_logits - real_logits).mean(dim=1)


def relativistic_generator(fake_logits, real_logits):
    """-log sigmoid(D(fake) - D(real)), likewise."""
    return F.softplus(real_logits - fake_logits).mean(dim=1)


GAN_LOSSES = {
    "hinge": GanLoss(hinge_discriminator, hinge_generator),
    "nonsaturating": GanLoss(nonsaturating_discriminator, nonsaturating_generator),
    "least_squares": GanLoss(least_squares_discriminator, least_squares_generator),
    "relativistic": GanLoss(relativistic_discriminator, relativistic_generator, relative=True),
}

# approx_: differences of logits instead of gradients; r1: on real images; r1r2: on both kinds.
PENALTIES = ("approx_r1", "approx_r1r2", "r1", "r1r2", "none")


def approximate_r1(logits, perturbed_logits):
    """mean (D(x) - D(x + n))^2 for a small Gaussian n: a finite-difference R1 without second
    derivatives (Lin et al. 2025, arXiv:2501.08316, eq. 5); of generated x it is R2 (AAPT, Lin et
    al. 2025, arXiv:2506.09350)."""
    return ((logits - perturbed_logits) ** 2).mean(dim=1)


def centring(real_logits, fake_logits):
    """mean (D(real) + D(fake))^2: differences alone, as relativistic losses see them, leave open
    where the logits lie, and they drift (Adversarial Flow Models, Lin et al. 2025,
    arXiv:2511.22475)."""
    return ((real_logits + fake_logits) ** 2).mean(dim=1)


def gradient_penalty(judge, x, scale):
    """scale^2 mean_N ||grad_x D_N(x)||^2, an estimate without bias: R1 on real images (Mescheder et
    al. 2018, arXiv:1801.04406, eq. 9), R2 on generated ones.

    judge: images -> logits; x `[B, C, H, W]`. With `scale` the standard deviation of
    `approximate_r1`'s n this is that penalty's limit for small n, so one weight serves both; for
    one logit the usual gamma is 2 * weight * scale^2. One backward pass does for all logits: with
    random signs e, E ||grad sum_N e_N D_N||^2 = sum_N ||grad D_N||^2 (Hutchinson 1990).
    """
    x = x.detach().requires_grad_()
    # Fused attention has no second derivative on GPUs.
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        logits = judge(x)
        signs = torch.randint_like(logits, 2) * 2 - 1
        total = (signs * logits).sum() / logits.shape[1] ** 0.5
        (gradient,) = torch.autograd.grad(total, x, create_graph=True)
    return scale**2 * gradient.flatten(1).square().sum(dim=1)
