"""Score distillation: its losses as pure functions, its settings, and the networks it asks.

Networks come into the losses as callables, noise and levels as tensors; each loss is returned per
sample `(B,)`, and nothing here calls `.backward()`.

Notation: x the student's output, x_sigma = x + sigma n, P(x_sigma, sigma) the teacher's denoised
image, F that of the fake score (a denoiser of the student's own outputs). A denoiser is a score:
grad log p_sigma(x_sigma) = (P - x_sigma) / sigma^2, so (F - P) / sigma^2 is the gradient of
log q_sigma - log p_sigma, with q_sigma the student's noised distribution and p_sigma the data's.
(With offset noise, whose covariance S is not the identity, it is S^-1 (F - P) / sigma^2: still
downhill.)
"""

from dataclasses import dataclass
from functools import partial

import torch

from fewstep.engine.fields import log_sigma, setting, spread, steps, weight
from fewstep.engine.learner import Learner
from fewstep.engine.phase import Turn
from src.samplers import draw_levels


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


@dataclass(frozen=True)
class Distillation:
    """Phase 2: score distillation and its balance with the adversary."""

    distill: str = setting(
        "add", "loss that pulls the student to the teacher; none: a GAN alone", DISTILLATIONS
    )
    distill_weighting: str = setting(
        "auto",
        "how much each noise level counts in that loss; auto: as the loss was published",
        ["auto", *WEIGHTINGS],
    )
    distill_mean: float = log_sigma(
        -0.4, "noise levels at which the teacher judges the student's images: mean of ln sigma"
    )
    distill_std: float = spread(
        1.2, "noise levels at which the teacher judges: standard deviation of ln sigma"
    )
    distill_final: float = setting(
        0.1,
        "weight of that loss at the last step, which is 1 at first; --pair_weight is multiplied by"
        " it, too",
        low=0,
        high=1,
    )
    distill_decay_from: float = setting(
        0.667,
        "share of the steps after which that weight falls from 1 to --distill_final",
        low=0,
        high=0.999,
    )
    distill_self: float = setting(
        1.0,
        "share of that weight for images made from the student's own (--self_input_share), which"
        " the loss may pull to blank ones; 0: these learn from the discriminator alone",
        low=0,
        high=1,
    )
    sid_alpha: float = setting(1.0, "alpha in the loss of --distill sid", low=0, high=2)
    fake_lr: float = setting(
        1e-4,
        "learning rate of the fake score, a denoiser that --distill dmd and sid train on the"
        " student's images",
        low=0,
        high=1,
    )
    fake_steps: int = setting(2, "updates of the fake score in each step", low=1, high=1000)
    balance: str = setting(
        "ratio",
        "what --adv_weight means: how many times as hard as that loss the discriminator pulls at"
        " the image while that loss has its first weight (ratio), or a plain factor (constant)",
        ["ratio", "constant"],
    )
    adv_weight: float = weight(
        1.0, "weight of the discriminator's judgement beside that loss, see --balance"
    )
    adv_ramp: int = steps(
        500, "updates of the student in which --adv_weight rises from 0, at most half of all", low=0
    )


def score_distillation(
    kind, output, noise, sigma, teacher, fake_score=None, weighting="auto", sid_alpha=1.0
):
    """The distillation loss `kind` of student outputs, times the weight of each level.

    output: `[B, C, H, W]`; noise: like output; sigma `(B,)`; teacher and fake_score: denoisers
    (x, sigma) -> x0. Returns `(B,)`. kinds:

    - add, sds: (x - sg(P))^2, ADD's loss (arXiv:2311.17042, eq. 4); they differ in the weighting.
    - dmd: a loss with the gradient F - P, that of sigma^2 KL(q_sigma, p_sigma) (DMD,
      arXiv:2311.18828, eq. 7).
    - sid: (P - F) (P - x) - sid_alpha (P - F)^2, which follows both networks' gradients as well
      (SiD, arXiv:2404.04057, eq. 23). It rests at F = P.
    """
    x_sigma = output + sigma.reshape(-1, 1, 1, 1) * noise
    with torch.set_grad_enabled(kind == "sid" and torch.is_grad_enabled()):
        denoised = teacher(x_sigma, sigma)
        fake_denoised = fake_score(x_sigma, sigma) if kind in NEEDS_FAKE_SCORE else None
    if kind == "dmd":
        error = 0.5 * (output - (output - (fake_denoised - denoised)).detach()) ** 2
    elif kind == "sid":
        gap = denoised - fake_denoised
        error = gap * ((denoised - output) - sid_alpha * gap)
    else:
        error = (output - denoised) ** 2
    name = OWN_WEIGHTING[kind] if weighting == "auto" else weighting
    weight = WEIGHTINGS[name](sigma, output.detach(), denoised.detach())
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


class Distiller:
    """Score distillation at levels ln sigma ~ N(mean, std^2), as `Distillation` settings say.

    teacher: frozen denoiser model; fake_score: a `FakeScore`, or None where the loss needs none.
    """

    def __init__(self, settings, teacher, fake_score, execution):
        self.settings, self.fake_score = settings, fake_score
        self.noise_like = teacher.scheduler.noise_like
        self.loss = partial(
            score_distillation,
            settings.distill,
            teacher=partial(execution.run, teacher.denoise),
            fake_score=partial(execution.run, fake_score.model.denoise) if fake_score else None,
            weighting=settings.distill_weighting,
            sid_alpha=settings.sid_alpha,
        )

    def loss_of(self, x):
        """The distillation loss `(B,)` of the student's outputs `[B, 3, H, W]`."""
        sigma = draw_levels(len(x), self.settings.distill_mean, self.settings.distill_std, x.device)
        return self.loss(x, self.noise_like(x), sigma)


class FakeScore:
    """The fake score of DMD and SiD: a denoiser that starts as the teacher and follows what the
    student makes at the moment, at the levels where the distillation asks; it has no average."""

    def __init__(self, settings, model, execution):
        self.settings = settings
        # In evaluation mode: dropout would blur the score that the student follows.
        self.model = model.eval().requires_grad_(True)
        self.learner = Learner(
            "fake_score", model, "compute_loss", execution, lr=lambda step: settings.fake_lr
        )

    def turns(self, fakes):
        """Yield `fake_steps` turns on the images `fakes(micro_batch)`, each with fresh levels and
        noise (the ratio of updates that DMD2 found to matter, arXiv:2405.14867, sec. 4.2)."""
        self.learner.let_learn(True)
        for update in range(self.settings.fake_steps):
            yield Turn(self.learner, partial(self._loss, fakes=fakes, name=f"fake score {update}"))
        # SiD differentiates through it with respect to the image; its weights want none of that.
        self.learner.let_learn(False)

    def _loss(self, micro_batch, fakes, name):
        fake = fakes(micro_batch)
        micro_batch.reseed(name)
        settings = self.settings
        sigma = draw_levels(len(fake), settings.distill_mean, settings.distill_std, fake.device)
        loss = self.learner(fake, self.model.scheduler.noise_like(fake), sigma)
        return loss, {"fake_score_loss": loss.detach()}
