"""The distiller of phase 2: asks the frozen teacher, and the fake score where there is one."""

from functools import partial

from fewstep.methods.score_losses import score_distillation
from src.samplers import draw_levels


class Distiller:
    """Score distillation at levels ln sigma ~ N(mean, std^2).

    teacher: frozen denoiser model; fake_score: a `FakeScore`, or None where the loss needs none.
    run(network, *inputs) calls a network in the run's precision. The other arguments are fields of
    `fewstep.runs.settings.Distillation`.
    """

    def __init__(self, teacher, fake_score, run, noise_like, kind, weighting, mean, std, sid_alpha):
        self.teacher, self.fake_score = teacher, fake_score
        self.noise_like, self.mean, self.std = noise_like, mean, std
        self.loss = partial(
            score_distillation,
            kind,
            teacher=partial(run, teacher.denoise),
            fake_score=partial(run, fake_score.model.denoise) if fake_score else None,
            weighting=weighting,
            sid_alpha=sid_alpha,
        )

    def kept(self):
        return self.fake_score.kept() if self.fake_score else {}

    def learn(self, shown):
        """Let the fake score follow a list of `Shown`. Returns scalar tensors by name."""
        return self.fake_score.learn(shown) if self.fake_score else {}

    def loss_of(self, x):
        """The distillation loss `(B,)` of the student's outputs `[B, 3, H, W]`."""
        sigma = draw_levels(len(x), self.mean, self.std, x.device)
        return self.loss(x, self.noise_like(x), sigma)
