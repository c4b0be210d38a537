"""The adversary of phase 2: a discriminator that learns from random weights as the student does."""

from functools import partial

import torch

from samplers import draw_levels
from training.adversarial import GAN_LOSSES, approximate_r1, gradient_penalty
from training.stage import apply_gradients, moving_target_adam


class Adversary:
    """A discriminator, its optimiser, and what it is shown.

    disc: `disc(x, sigma, draws) -> [B, N]`, see `discriminator/`. run(network, *inputs) calls it in
    the run's precision. noised: show images with noise of ln sigma ~ N(mean, std^2), each at a
    level of its own, else clean ones. ada_target: where above 0, E[sign D(real)] that the
    probability of augmentation is steered to, over `ada_images` images from 0 to 1.
    The other arguments are fields of `training.settings.Discriminator`.
    """

    def __init__(
        self,
        disc,
        run,
        lr,
        gan_loss,
        noised,
        mean,
        std,
        penalty,
        penalty_weight,
        penalty_sigma,
        penalty_interval,
        ada_target,
        ada_images,
    ):
        self.disc, self.run = disc.eval(), run
        self.optimizer = moving_target_adam(disc.parameters(), lr)
        self.loss = GAN_LOSSES[gan_loss]
        self.is_noised, self.mean, self.std = noised, mean, std
        self.penalty, self.penalty_weight = penalty, penalty_weight
        self.penalty_sigma, self.penalty_interval = penalty_sigma, penalty_interval
        self.ada_target, self.ada_images = ada_target, ada_images

    def kept(self):
        return {"disc": self.disc, "disc_optimizer": self.optimizer}

    def shown(self, x):
        """What the discriminator gets of clean images: (x + sigma n, sigma, draws)."""
        sigma = torch.zeros(len(x), device=x.device)
        if self.is_noised:
            sigma = draw_levels(len(x), self.mean, self.std, x.device)
            x = x + sigma.reshape(-1, 1, 1, 1) * torch.randn_like(x)
        return x, sigma, self.disc.augment.draw(len(x))

    def learn(self, real, fake, step):
        """One update on images `[B, 3, H, W]`. Returns scalar tensors by name."""
        real_view, fake_view = self.shown(real), self.shown(fake)
        # Spectral normalisation goes on with its iteration in training mode: once a step, so that
        # all calls of a step, whose logits are compared, are of the same network.
        self.disc.train()
        real_logits = self.run(self.disc, *real_view)
        self.disc.eval()
        fake_logits = self.run(self.disc, *fake_view)
        loss = self.loss.discriminator(real_logits, fake_logits).mean()
        metrics = {"disc_loss": loss.detach()}
        if self.penalty != "none" and self.penalty_weight and step % self.penalty_interval == 0:
            penalty = self._penalty(real_view, real_logits, fake_view).mean()
            # Lazy regularisation: rarer, and as much stronger (StyleGAN2, arXiv:1912.04958).
            loss = loss + self.penalty_interval * self.penalty_weight * penalty
            metrics["penalty"] = penalty.detach()
        loss.backward()
        norm, applied = apply_gradients(self.optimizer, self.disc)
        if self.ada_target:
            augment = self.disc.augment
            augment.steer(real_logits.detach(), self.ada_target, len(real), self.ada_images)
            metrics["ada_p"] = augment.p.clone()
        return metrics | {
            "logits_real": real_logits.detach().mean(),
            "logits_fake": fake_logits.detach().mean(),
            "disc_grad_norm": norm,
            "disc_skipped": float(not applied),
        }

    def loss_of(self, fake, real):
        """The student's adversarial loss `(B,)` of its outputs; `real` serves relative losses."""
        real_logits = None
        if self.loss.relative:
            with torch.no_grad():
                real_logits = self.run(self.disc, *self.shown(real))
        return self.loss.generator(self.run(self.disc, *self.shown(fake)), real_logits)

    @torch.no_grad()
    def mean_logit(self, x):
        """The mean logit of clean images `[B, 3, H, W]`, a float; leaves no trace in its state."""
        return self.run(self.disc, *self.shown(x)).mean().item()

    def _penalty(self, real_view, real_logits, fake_view):
        if self.penalty == "approx_r1":
            x, sigma, draws = real_view
            nearby = x + self.penalty_sigma * torch.randn_like(x)
            return approximate_r1(real_logits, self.run(self.disc, nearby, sigma, draws))
        views = [real_view] if self.penalty == "r1" else [real_view, fake_view]
        return sum(self._gradient_penalty(*view) for view in views)

    def _gradient_penalty(self, x, sigma, draws):
        # In fp32: a squared gradient in bf16 is mostly rounding.
        return gradient_penalty(partial(self.disc, sigma=sigma, draws=draws), x, self.penalty_sigma)
