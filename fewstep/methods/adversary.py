"""The adversary of phase 2: a discriminator with random first weights that learns beside the
student."""

from dataclasses import asdict
from functools import partial
from typing import NamedTuple

import torch

from custom_model import create_custom_model
from discriminator import build_discriminator
from discriminator.widen import widened
from fewstep.engine.learner import Learner
from fewstep.engine.phase import Turn
from fewstep.engine.schedules import cosine_fall
from fewstep.methods.adversary_settings import head_resolutions, policy_names
from fewstep.methods.gan_losses import GAN_LOSSES, approximate_r1, centring, gradient_penalty
from src.model_config import LATER, MODEL_DEFAULTS, NETWORKS
from src.samplers import IMAGE_SHAPE, draw_levels

DISC = "disc"  # its name among the learners, in the log and in checkpoints
LEAD = f"{DISC}_lead"  # that of its `Lead`
# Keys of the student's `model_config.json` that shape it.
CONFIG_KEYS = ("network", "norm_groups", "preconditioning", "sigma_data", "num_train_timesteps")
LEAD_STEPS = 20  # over which the lead is averaged
# What a step too far ahead makes of the pace, and its least: a discriminator that all but stands
# still is soon fooled, by images that are all alike.
SLOWER, SLOWEST = 0.995, 0.1


class Lead(torch.nn.Module):
    """How far the discriminator is ahead, averaged over `LEAD_STEPS`; its pace, the factor of its
    learning rate, which falls while it is ahead by more than `most` (1: it always is 1); and how
    many steps the student has waited. Buffers, so that a resumed run goes on with them."""

    def __init__(self, device, most=1.0):
        super().__init__()
        self.most = most
        self.register_buffer("value", torch.zeros((), device=device))
        self.register_buffer("waited", torch.zeros((), dtype=torch.int64))  # counted on the CPU
        if most < 1:
            self.register_buffer("pace", torch.ones((), device=device))

    @property
    def factor(self):
        """The pace, a number."""
        return self.pace.item() if self.most < 1 else 1.0

    def follow(self, lead):
        """Take in the lead of a step, a scalar tensor; one that is not finite says nothing."""
        self.value.lerp_(torch.where(lead.isfinite(), lead, self.value), 1 / LEAD_STEPS)
        if self.most < 1:
            self.pace *= torch.where(self.value > self.most, SLOWER, 1 / SLOWER)
            self.pace.clamp_(SLOWEST, 1.0)


class Verdict(NamedTuple):
    """What the logits of a micro-batch say: the mean sign of those of real images; the lead,
    E[sign(D(real) - D(fake))], 1 where it always tells them apart and 0 where it guesses, whatever
    the loss; how many images."""

    sign: torch.Tensor
    lead: torch.Tensor
    images: int

    @classmethod
    def of(cls, real_logits, fake_logits):
        """From both logits `[B, N]`."""
        lead = (real_logits - fake_logits).sign().mean()
        return cls(real_logits.sign().mean(), lead, len(real_logits))


class Adversary:
    """A discriminator in training, as `Discriminator` settings say.

    disc: `disc(x, sigma, draws, level, sets) -> [B, N]`, see `discriminator/`. progress: which
    share of the adversarial steps is over, as a function of the step.
    """

    def __init__(self, settings, disc, execution, progress):
        self.settings, self.disc, self.execution = settings, disc.eval(), execution
        self.progress = progress
        watched = settings.disc_lead or settings.disc_lead_most < 1
        self.lead = Lead(execution.device, settings.disc_lead_most) if watched else None
        self.learner = Learner(DISC, disc, "forward", execution, lr=self.rate)
        # While others learn from it, its weights want no gradients, which compiled code would
        # compute all the same.
        self.learner.let_learn(False)
        self.gan_loss = GAN_LOSSES[settings.gan_loss]

    def rate(self, step):
        """Its learning rate. At a constant one it outruns a student whose own falls."""
        fall = cosine_fall(self.progress(step), self.settings.disc_lr_final)
        return self.settings.disc_lr * fall * self.pace

    @property
    def pace(self):
        """The factor of its learning rate (`disc_lead_most`). One that is far ahead says little
        more than which details are wrong, and the student gets torn."""
        return self.lead.factor if self.lead else 1.0

    def start_from(self, weights):
        """Begin with the state dict of a discriminator that has learnt, which may have fewer
        channels (`can_widen`), but for the probability of augmentation, which stays as it was set.
        What it may lack, what `disc_level` adds, stays too."""
        own = self.disc.state_dict()
        weights = widened(weights, own) | {"augment.p": self.disc.augment.p}
        self.disc.load_state_dict(own | weights)

    def stateful(self):
        """{name: whatever has a state that must outlive the process}, beside the learner's."""
        return {LEAD: self.lead} if self.lead else {}

    @property
    def waited(self):
        """How many steps the student has waited for it."""
        return self.lead.waited.item() if self.lead else 0

    @property
    def is_behind(self):
        """Whether the student is to wait for it (`disc_lead`). A student that learns faster than
        its discriminator follows what that says at random: both logits fall together to 0."""
        least = self.settings.disc_lead
        return bool(self.lead and least and self.lead.value.item() < least)

    def view(self, x, level):
        """What the discriminator sees of clean images, of evaluations at `level` `(B,)`:
        (x + sigma n, sigma, draws, level)."""
        settings, sigma = self.settings, torch.zeros(len(x), device=x.device)
        if settings.disc_noise:
            sigma = draw_levels(len(x), settings.disc_mean, settings.disc_std, x.device)
            x = x + sigma.reshape(-1, 1, 1, 1) * torch.randn_like(x)
        return x, sigma, self.disc.augment.draw(len(x)), level

    def turns(self, fakes, levels, step):
        """Yield its turn on real images and on `fakes(micro_batch)`, of evaluations at
        `levels(micro_batch)`, then steer augmentation."""
        settings = self.settings
        penalty = settings.penalty if settings.penalty_weight > 0 else "none"
        if step % settings.penalty_interval:
            penalty = "none"
        # Spectral normalisation goes on with its iteration in training mode: once a step, so that
        # all calls of a step, whose logits are compared, are of the same network.
        self.disc.train()
        self.learner.let_learn(True)
        verdicts = []  # a `Verdict` a micro-batch
        turn = partial(self._loss, fakes=fakes, levels=levels, penalty=penalty, verdicts=verdicts)
        yield Turn(self.learner, turn)
        self.learner.let_learn(False)
        mean_of = self.execution.processes.mean_of
        if settings.ada_target:
            sign = mean_of(torch.stack([verdict.sign for verdict in verdicts]).mean())
            seen = sum(verdict.images for verdict in verdicts) * self.execution.processes.count
            self.disc.augment.steer(sign, settings.ada_target, seen, settings.ada_images)
        if self.lead:
            self.lead.follow(mean_of(torch.stack([verdict.lead for verdict in verdicts]).mean()))

    def _loss(self, micro_batch, fakes, levels, penalty, verdicts):
        settings, fake, level = self.settings, fakes(micro_batch), levels(micro_batch)
        micro_batch.reseed("critics")
        real_view, fake_view = self.view(micro_batch.images, level), self.view(fake, level)
        views = [real_view, fake_view]
        which = [real_view, fake_view] if penalty.endswith("r1r2") else [real_view]
        if penalty.startswith("approx"):
            views += [self._nearby(*view) for view in which]
        real_logits, fake_logits, *nearby_logits = self._learning_logits(views)
        self.disc.eval()
        loss = self.gan_loss.discriminator(real_logits, fake_logits).mean()
        verdict = Verdict.of(real_logits.detach(), fake_logits.detach())
        metrics = {
            "disc_loss": loss.detach(),
            "disc_lead": verdict.lead,
            "logits_real": real_logits.detach().mean(),
            "logits_fake": fake_logits.detach().mean(),
        }
        verdicts.append(verdict)
        if settings.centring_weight:
            loss = loss + settings.centring_weight * centring(real_logits, fake_logits).mean()
        if penalty != "none":
            if penalty.startswith("approx"):
                pairs = zip((real_logits, fake_logits), nearby_logits)
                value = sum(approximate_r1(*pair) for pair in pairs).mean()
            else:
                value = sum(self._gradient_penalty(*view) for view in which).mean()
            # Lazy regularisation: rarer, and as much stronger (StyleGAN2, arXiv:1912.04958).
            loss = loss + settings.penalty_interval * settings.penalty_weight * value
            metrics["penalty"] = value.detach()
        return loss, metrics

    def _nearby(self, x, *others):
        return x + self.settings.penalty_sigma * torch.randn_like(x), *others

    def _learning_logits(self, views):
        """The logits of each view with gradients, in one batch or one after the other."""
        if self.execution.speed.joint_disc:
            together = [torch.cat(tensors) for tensors in zip(*views)]
            return self.learner(*together, len(views)).chunk(len(views))
        logits = []
        for view in views:
            logits.append(self.learner(*view))
            self.disc.eval()  # its iteration goes on with the first alone
        return logits

    def loss_of(self, fake, real, level):
        """The student's adversarial loss `(B,)` of its outputs at `level` `(B,)`; `real` serves
        relative losses."""
        run, real_logits = self.execution.run, None
        if self.gan_loss.relative:
            with torch.no_grad():
                real_logits = run(self.disc, *self.view(real, level))
        return self.gan_loss.generator(run(self.disc, *self.view(fake, level)), real_logits)

    @torch.no_grad()
    def judge(self, heldout, fake, level):
        """{name: number} of images `[B, 3, H, W]` that it does not learn from, generated at `level`
        `(B,)`: the mean logit of the real ones among them and its lead, of which (1 + lead) / 2 is
        the share of pairs that it judges rightly; leaves no trace in its state."""
        run = self.execution.run
        heldout_logits = run(self.disc, *self.view(heldout, level))
        verdict = Verdict.of(heldout_logits, run(self.disc, *self.view(fake, level)))
        return {
            "logits_heldout": heldout_logits.mean().item(),
            "lead_heldout": verdict.lead.item(),
        }

    def _gradient_penalty(self, x, sigma, draws, level):
        judge = partial(self.disc, sigma=sigma, draws=draws, level=level)
        # In fp32: a squared gradient in bf16 is mostly rounding. Not compiled: what is compiled
        # has no second derivative.
        with torch.compiler.set_stance("force_eager"):
            return gradient_penalty(judge, x, self.settings.penalty_sigma)


def build_adversary(settings, teacher, config, execution, progress):
    """The `Adversary` that `Discriminator` settings name. config: the student's
    `model_config.json`. progress: see there."""
    start = teacher if settings.disc_start == "teacher" else _untrained(settings, config)
    disc = _discriminator(settings, config, start)
    if disc.replaced_norms:
        print(
            f"--disc {settings.disc}: {disc.replaced_norms} batch normalisations replaced by group"
            " normalisation (batch statistics would tell real from generated)"
        )
    # Its passes are short, and penalties differentiate them twice, which recomputing does not bear.
    disc = execution.prepare(disc.to(execution.device), checkpointing=False)
    leave_unused(disc, execution.device)
    return Adversary(settings, disc, execution, progress)


def leave_unused(disc, device):
    """Let parameters that no logit depends on (behind the last head that was asked for, say) not
    learn: DDP demands the gradient of every parameter that does."""
    disc.eval()
    images, sigma = torch.zeros(2, *IMAGE_SHAPE, device=device), torch.ones(2, device=device)
    disc(images, sigma, level=sigma).sum().backward()
    for parameter in disc.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    disc.zero_grad(set_to_none=True)


def try_to_build(settings):
    """Raise `UserError` now for a discriminator that could not be built when its turn comes."""
    disc, network = settings.discriminator, asdict(settings.network)
    if disc.disc != "none":
        bare_discriminator(disc, MODEL_DEFAULTS | network)


def bare_discriminator(settings, config):
    """The discriminator of `Discriminator` settings beside a student of the `model_config.json`
    `config`, before it has learnt. Raises `UserError`."""
    config = LATER | config  # published ones may be of an earlier version
    return _discriminator(settings, config, _untrained(settings, config))


def _untrained(settings, config):
    """A denoiser as the teacher, with random weights, where the discriminator has its shape."""
    if settings.disc_start == "random":
        return None
    return create_custom_model(**{key: config[key] for key in CONFIG_KEYS})


def _discriminator(settings, config, start):
    return build_discriminator(
        settings.disc,
        network=NETWORKS[config["network"]] | {"norm_groups": config["norm_groups"]},
        sigma_data=config["sigma_data"],
        channels=settings.disc_channels,
        depth=settings.disc_depth,
        heads=head_resolutions(settings.disc_heads),
        stddev=settings.disc_stddev,
        condition=settings.disc_condition,
        from_level=settings.disc_level,
        spectral=settings.disc_spectral,
        policy=policy_names(settings.augment),
        p=settings.augment_p,
        teacher=start,
    )
