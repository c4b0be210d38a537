"""Phase 2: the few-step student, distilled from the teacher against a discriminator."""

from functools import partial

import torch

from training.losses import (
    add_distillation,
    approximate_r1,
    balanced_gradient,
    hinge_discriminator,
    hinge_generator,
)
from training.paths import Paths
from training.schedules import late_decay, ramp, warmed_decay, warmup_cosine
from training.stage import Stage, apply_gradients, set_lr


class StudentStage(Stage):
    """Phase 2: a few-step generator from the teacher, by score distillation and a hinge GAN.

    model: starts as the teacher; the noise levels in its scheduler are the paths of sampling.
    teacher: frozen denoiser; disc: `disc(x, sigma) -> [B, N]`, random weights.
    The other arguments are fields of `training.settings.Student` and `Discriminator`.
    """

    name = "student"

    def __init__(
        self,
        model,
        teacher,
        disc,
        total,
        autocast,
        lr,
        warmup,
        ema,
        first_level_share,
        self_input_share,
        distill_mean,
        distill_std,
        distill_final,
        adv_weight,
        adv_ramp,
        disc_lr,
        disc_warmup,
        disc_mean,
        disc_std,
        r1_weight,
        r1_sigma,
    ):
        super().__init__(model, lambda step: warmed_decay(step, ema), autocast)
        self.teacher = teacher.eval().requires_grad_(False)
        self.disc = disc.train()
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.0, 0.99))
        self.disc_optimizer = torch.optim.Adam(disc.parameters(), lr=disc_lr, betas=(0.0, 0.99))
        self.paths = Paths(model.scheduler.few_step_table, model.device)
        self.total, self.lr, self.warmup = total, lr, warmup
        self.first_level_share, self.self_input_share = first_level_share, self_input_share
        self.distill_mean, self.distill_std = distill_mean, distill_std
        self.distill_final, self.adv_weight, self.adv_ramp = distill_final, adv_weight, adv_ramp
        self.disc_warmup, self.disc_mean, self.disc_std = disc_warmup, disc_mean, disc_std
        self.r1_weight, self.r1_sigma = r1_weight, r1_sigma

    def _kept(self):
        return {
            "model": self.model,
            "average": self.average,
            "optimizer": self.optimizer,
            "disc": self.disc,
            "disc_optimizer": self.disc_optimizer,
        }

    def step(self, x0, step):
        """One discriminator and one student update. Returns scalar tensors by name."""
        x, sigma, next_sigma = self.inputs(x0)
        learning = step >= self.disc_warmup
        with torch.set_grad_enabled(learning):
            fake = self._run(self.model.denoise, x, sigma, next_sigma)
        metrics = self._discriminator_step(x0, fake.detach())
        if learning:
            metrics |= self._student_step(fake, step)
        return metrics

    @torch.no_grad()
    def inputs(self, x0):
        """Noisy inputs of the student, their levels and the levels that follow.

        A fixed share is pure noise at the first level. The rest lies at the lower levels of the
        sampling paths: real images noised (ADD), and the student's own output re-noised along the
        very path that sampling takes (backward simulation, DMD2, arXiv:2405.14867, sec. 4.5).
        """
        batch = len(x0)
        first = round(batch * self.first_level_share)
        own = round((batch - first) * self.self_input_share)
        rows, places = self.paths.draw(first, batch - first)
        sigma, next_sigma = self.paths.at(rows, places)
        noise = self._noise_like(x0)
        x = x0 + sigma.reshape(-1, 1, 1, 1) * noise
        x[:first] = sigma[:first].reshape(-1, 1, 1, 1) * noise[:first]
        mine = slice(first, first + own)
        if own:
            x[mine] = self._simulate(rows[mine], places[mine], self._noise_like(x0[mine]))
        return x, sigma, next_sigma

    def _simulate(self, rows, places, noise):
        """Follow each row's path from pure noise up to its place. Returns noisy images there."""
        start, _ = self.paths.at(rows, torch.zeros_like(places))
        x = start.reshape(-1, 1, 1, 1) * noise
        for hop in range(self.paths.longest - 1):
            active = (places > hop).reshape(-1, 1, 1, 1)
            sigma, next_sigma = self.paths.at(rows, (places - 1).clamp(max=hop))
            denoised = self._run(self.model.denoise, x, sigma, next_sigma)
            renoised = denoised + next_sigma.reshape(-1, 1, 1, 1) * self._noise_like(x)
            x = torch.where(active, renoised, x)
        return x

    def _discriminator_step(self, real, fake):
        real_x, real_sigma = self._noised(real)
        fake_x, fake_sigma = self._noised(fake)
        real_logits = self._run(self.disc, real_x, real_sigma)
        fake_logits = self._run(self.disc, fake_x, fake_sigma)
        loss = hinge_discriminator(real_logits, fake_logits).mean()
        metrics = {"disc_loss": loss.detach()}
        if self.r1_weight:
            nearby = real_x + self.r1_sigma * torch.randn_like(real_x)
            penalty = approximate_r1(real_logits, self._run(self.disc, nearby, real_sigma)).mean()
            loss = loss + self.r1_weight * penalty
            metrics["penalty"] = penalty.detach()
        loss.backward()
        norm, applied = apply_gradients(self.disc_optimizer, self.disc)
        return metrics | {
            "logits_real": real_logits.detach().mean(),
            "logits_fake": fake_logits.detach().mean(),
            "disc_grad_norm": norm,
            "disc_skipped": float(not applied),
        }

    def _student_step(self, fake, step):
        leaf = fake.detach().requires_grad_()
        level = torch.randn(len(leaf), device=leaf.device)
        level = (self.distill_mean + self.distill_std * level).exp()
        teacher = partial(self._run, self.teacher.denoise)
        distill = add_distillation(leaf, teacher, self._noise_like(leaf), level).mean()
        adv = hinge_generator(self._run(self.disc, *self._noised(leaf))).mean()
        # Gradients at the image are cheap and tell both losses apart; the student is walked once.
        (distill_grad,) = torch.autograd.grad(distill, leaf)
        (adv_grad,) = torch.autograd.grad(adv, leaf)
        learnt = step - self.disc_warmup
        grad, ratio = balanced_gradient(
            distill_grad,
            adv_grad,
            distill_weight=late_decay(step, self.total, self.distill_final),
            adv_weight=self.adv_weight * ramp(learnt, 0, self.adv_ramp),
        )
        length = self.total - self.disc_warmup
        set_lr(self.optimizer, self.lr * warmup_cosine(learnt, length, self.warmup))
        fake.backward(grad)
        norm, applied = apply_gradients(self.optimizer, self.model)
        if applied:
            self.average.update_parameters(self.model)
        return {
            "distill_loss": distill.detach(),
            "adv_loss": adv.detach(),
            "grad_ratio": ratio,
            "grad_norm": norm,
            "skipped": float(not applied),
        }

    @torch.no_grad()
    def judge(self, x):
        """The discriminator's mean logit on clean images `[B, 3, H, W]`, as a float."""
        return self._run(self.disc, *self._noised(x)).mean().item()

    def _noised(self, x):
        """What the discriminator sees: x + sigma n, each image with a level of its own."""
        level = torch.randn(len(x), device=x.device)
        sigma = (self.disc_mean + self.disc_std * level).exp()
        return x + sigma.reshape(-1, 1, 1, 1) * torch.randn_like(x), sigma
