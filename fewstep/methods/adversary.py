"""The adversary of phase 2: a discriminator that learns from random weights as the student does."""

from functools import partial

import torch

from fewstep.engine.learner import Learner, moving_target_adam
from fewstep.engine.microbatch import mean_metrics
from fewstep.methods.gan_losses import GAN_LOSSES, approximate_r1, gradient_penalty
from src.samplers import draw_levels


class Adversary:
    """A discriminator, its optimiser, and what it is shown.

    disc: `disc(x, sigma, draws, sets) -> [B, N]`, see `discriminator/`. noised: show images with
    noise of ln sigma ~ N(mean, std^2), each at a level of its own, else clean ones. ada_target:
    where above 0, E[sign D(real)] that the probability of augmentation is steered to, over
    `ada_images` images from 0 to 1. joint: take real, generated and perturbed images through it in
    one batch. autocast, processes, kernels: see `fewstep.engine.learner`.
    The other arguments are fields of `fewstep.runs.settings.Discriminator`.
    """

    def __init__(
        self,
        disc,
        device,
        autocast,
        processes,
        kernels,
        joint,
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
        self.disc, self.joint, self.processes = disc.eval(), joint, processes
        self.optimizer = moving_target_adam(disc.parameters(), lr, kernels)
        self.learner = Learner(disc, "forward", self.optimizer, autocast, processes, device)
        # While others learn from it, its weights want no gradients, which compiled code would
        # compute all the same.
        self._let_learn(False)
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

    def learn(self, shown, step):
        """One update on a list of `Shown`. Returns scalar tensors by name."""
        penalised = self.penalty != "none" and self.penalty_weight > 0
        penalised = penalised and step % self.penalty_interval == 0
        # Spectral normalisation goes on with its iteration in training mode: once a step, so that
        # all calls of a step, whose logits are compared, are of the same network.
        self.disc.train()
        self._let_learn(True)
        backward = partial(self._backward, penalised=penalised, count=len(shown))
        metrics = mean_metrics(self.learner.gather(shown, backward))
        norm, dropped = self.learner.apply()
        self._let_learn(False)
        signs = metrics.pop("signs")
        if self.ada_target:
            signs = self.processes.mean_of(signs)
            seen = len(shown) * len(shown[0].fake) * self.processes.count
            self.disc.augment.steer(signs, self.ada_target, seen, self.ada_images)
            metrics["ada_p"] = self.disc.augment.p.clone()
        return metrics | {"disc_grad_norm": norm, "disc_skipped": dropped}

    def _let_learn(self, learns):
        for parameter in self.learner.parameters:
            parameter.requires_grad_(learns)

    def _backward(self, show, penalised, count):
        show.part.begin("critics")
        real_view, fake_view = self.shown(show.part.images), self.shown(show.fake)
        views = [real_view, fake_view]
        if penalised and self.penalty == "approx_r1":
            x, sigma, draws = real_view
            views.append((x + self.penalty_sigma * torch.randn_like(x), sigma, draws))
        real_logits, fake_logits, *nearby_logits = self._logits(views)
        loss = self.loss.discriminator(real_logits, fake_logits).mean()
        metrics = {
            "disc_loss": loss.detach(),
            "logits_real": real_logits.detach().mean(),
            "logits_fake": fake_logits.detach().mean(),
            "signs": real_logits.detach().sign().mean(),
        }
        if penalised:
            if nearby_logits:
                penalty = approximate_r1(real_logits, *nearby_logits).mean()
            else:
                which = [real_view] if self.penalty == "r1" else [real_view, fake_view]
                penalty = sum(self._gradient_penalty(*view) for view in which).mean()
            # Lazy regularisation: rarer, and as much stronger (StyleGAN2, arXiv:1912.04958).
            loss = loss + self.penalty_interval * self.penalty_weight * penalty
            metrics["penalty"] = penalty.detach()
        (loss / count).backward()
        return metrics

    def _logits(self, views):
        """The logits of each view, while learning."""
        if self.joint:
            together = [torch.cat(tensors) for tensors in zip(*views)]
            logits = self.learner(*together, len(views)).chunk(len(views))
            self.disc.eval()
            return logits
        logits = []
        for view in views:
            logits.append(self.learner(*view))
            self.disc.eval()
        return logits

    def loss_of(self, fake, real):
        """The student's adversarial loss `(B,)` of its outputs; `real` serves relative losses."""
        real_logits = None
        if self.loss.relative:
            with torch.no_grad():
                real_logits = self.learner.run(self.disc, *self.shown(real))
        return self.loss.generator(self.learner.run(self.disc, *self.shown(fake)), real_logits)

    @torch.no_grad()
    def mean_logit(self, x):
        """The mean logit of clean images `[B, 3, H, W]`, a float; leaves no trace in its state."""
        return self.learner.run(self.disc, *self.shown(x)).mean().item()

    def _gradient_penalty(self, x, sigma, draws):
        judge = partial(self.disc, sigma=sigma, draws=draws)
        # In fp32: a squared gradient in bf16 is mostly rounding. Not compiled: what is compiled
        # has no second derivative.
        with torch.compiler.set_stance("force_eager"):
            return gradient_penalty(judge, x, self.penalty_sigma)
