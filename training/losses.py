"""Losses of phase 2 as pure functions. Networks come in as callables, noise and levels as tensors;
each loss is returned per sample `(B,)`, and nothing here calls `.backward()`.

The denoising loss of phase 1 is `CustomGenerativeModel.compute_loss`, where the contract wants it.
"""

import torch
import torch.nn.functional as F


def exponential_weight(sigma):
    """c(sigma) = alpha = (1 + sigma^2)^(-1/2), ADD's "exponential" weighting (arXiv:2311.17042,
    sec. 3.3), with alpha the signal share of the variance-preserving form of the same noise."""
    return (1 + sigma**2) ** -0.5


def add_distillation(x0, teacher, noise, sigma):
    """ADD's distillation loss c(sigma) * mean (x0 - sg(D_teacher(sg(x0) + sigma n, sigma)))^2
    (arXiv:2311.17042, eq. 4).

    x0: student output `[B, 3, H, W]`; teacher: denoiser (x, sigma) -> x0; noise: like x0; sigma:
    `(B,)`. Returns `(B,)`.
    """
    with torch.no_grad():
        target = teacher(x0 + sigma.reshape(-1, 1, 1, 1) * noise, sigma)
    return exponential_weight(sigma) * ((x0 - target) ** 2).mean(dim=(1, 2, 3))


def hinge_discriminator(real_logits, fake_logits):
    """max(0, 1 - D(real)) + max(0, 1 + D(fake)), mean over logits `[B, N]` (Lim and Ye 2017,
    arXiv:1705.02894). Returns `(B,)`."""
    return F.relu(1 - real_logits).mean(dim=1) + F.relu(1 + fake_logits).mean(dim=1)


def hinge_generator(fake_logits):
    """-D(fake), mean over logits `[B, N]`. Returns `(B,)`."""
    return -fake_logits.mean(dim=1)


def approximate_r1(logits, perturbed_logits):
    """mean (D(x) - D(x + n))^2 for a small Gaussian n: a finite-difference R1 without second
    derivatives (Lin et al. 2025, arXiv:2501.08316, eq. 5). Logits `[B, N]`; returns `(B,)`."""
    return ((logits - perturbed_logits) ** 2).mean(dim=1)


def balanced_gradient(distill_grad, adv_grad, distill_weight, adv_weight):
    """Sum of two image gradients whose adversarial part is scaled by their ratio of norms, so that
    `adv_weight` means the same whatever the scale of either loss (as VQGAN's adaptive weight, Esser
    et al. 2021, arXiv:2012.09841, eq. 7, but at the image).

    Returns the gradient `[B, 3, H, W]` and the ratio of norms, distillation over adversarial.
    """
    ratio = distill_grad.norm() / adv_grad.norm().clamp_min(1e-12)
    return distill_weight * distill_grad + adv_weight * ratio * adv_grad, ratio
