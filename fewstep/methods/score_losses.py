"""Score distillation as pure functions. Networks come in as callables, noise and levels as tensors;
each loss is returned per sample `(B,)`, and nothing here calls `.backward()`.

Notation: x the student's output, x_sigma = x + sigma n, P(x_sigma, sigma) the teacher's denoised
image, F that of the fake score (a denoiser of the student's own outputs). A denoiser is a score:
grad log p_sigma(x_sigma) = (P - x_sigma) / sigma^2, so (F - P) / sigma^2 is the gradient of
log q_sigma - log p_sigma, with q_sigma the student's noised distribution and p_sigma the data's.
(With offset noise, whose covariance S is not the identity, it is S^-1 (F - P) / sigma^2: still
downhill.)
"""

import torch


def exponential_weight(sigma, x0, target):
    """c = alpha = (1 + sigma^2)^(-1/2), ADD's "exponential" weighting (arXiv:2311.17042, sec. 3.3),
    with alpha the signal share of the variance-preserving form of the same noise."""
    return (1 + sigma**2) ** -0.5


def sds_weight(sigma, x0, target):
    """c = w alpha / (2 sigma_vp), with which ADD's loss has the gradient w (eps_hat - eps) of score
    distillation sampling (arXiv:2311.17042, sec. 3.3); w = sigma_vp^2 as in DreamFusion (Poole et
    al. 2022, arXiv:2209.14988), sigma_vp = sigma / sqrt(1 + sigma^2)."""
    alpha = (1 + sigma**2) ** -0.5
    return alpha * (sigma * alpha) / 2


def normalised_weight(sigma, x0, target):
    """1 / mean |x - P|: the teacher's error takes the scale of each level out (DMD,
    arXiv:2311.18828, eq. 8; SiD, arXiv:2404.04057, eq. 24)."""
    return 1 / (x0 - target).abs().mean(dim=(1, 2, 3)).clamp_min(1e-4)


def uniform_weight(sigma, x0, target):
    """1."""
    return torch.ones_like(sigma)


WEIGHTINGS = {
    "exponential": exponential_weight,
    "sds": sds_weight,
    "normalised": normalised_weight,
    "uniform": uniform_weight,
}
# What each loss was published with; `--distill_weighting auto`.
OWN_WEIGHTING = {"add": "exponential", "sds": "sds", "dmd": "normalised", "sid": "normalised"}
DISTILLATIONS = [*OWN_WEIGHTING, "none"]
NEEDS_FAKE_SCORE = ("dmd", "sid")


def score_distillation(
    kind, x0, noise, sigma, teacher, fake_score=None, weighting="auto", sid_alpha=1.0
):
    """The distillation loss `kind` of student outputs, times the weight of each level.

    x0: `[B, C, H, W]`; noise: like x0; sigma `(B,)`; teacher and fake_score: denoisers
    (x, sigma) -> x0. Returns `(B,)`. kinds:

    - add, sds: (x - sg(P))^2, ADD's loss (arXiv:2311.17042, eq. 4); they differ in the weighting.
    - dmd: a loss with the gradient F - P, that of sigma^2 KL(q_sigma, p_sigma) (DMD,
      arXiv:2311.18828, eq. 7).
    - sid: (P - F) (P - x) - sid_alpha (P - F)^2, which follows both networks' gradients as well
      (SiD, arXiv:2404.04057, eq. 23). It rests at F = P.
    """
    x_sigma = x0 + sigma.reshape(-1, 1, 1, 1) * noise
    with torch.set_grad_enabled(kind == "sid" and torch.is_grad_enabled()):
        target = teacher(x_sigma, sigma)
        fake = fake_score(x_sigma, sigma) if kind in NEEDS_FAKE_SCORE else None
    if kind == "dmd":
        error = 0.5 * (x0 - (x0 - (fake - target)).detach()) ** 2
    elif kind == "sid":
        error = (target - fake) * ((target - x0) - sid_alpha * (target - fake))
    else:
        error = (x0 - target) ** 2
    name = OWN_WEIGHTING[kind] if weighting == "auto" else weighting
    weight = WEIGHTINGS[name](sigma, x0.detach(), target.detach())
    return weight * error.mean(dim=(1, 2, 3))


def combined_gradient(distill_grad, adv_grad, distill_weight, adv_weight, balance):
    """The gradient at the image from both losses, either of which may be None.

    balance: "ratio" scales the adversarial part to the norm of the other, so that `adv_weight`
    means the same whatever the scale of either loss (as VQGAN's adaptive weight, Esser et al. 2021,
    arXiv:2012.09841, eq. 7, but at the image); "constant" takes both as they are. Alone, a loss has
    its weight only. Returns the gradient `[B, C, H, W]` and the ratio of norms, distillation over
    adversarial (None when there is but one).
    """
    if adv_grad is None:
        return distill_weight * distill_grad, None
    if distill_grad is None:
        return adv_weight * adv_grad, None
    ratio = distill_grad.norm() / adv_grad.norm().clamp_min(1e-12)
    scale = ratio if balance == "ratio" else 1.0
    return distill_weight * distill_grad + adv_weight * scale * adv_grad, ratio
