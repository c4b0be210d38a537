"""The adversary of phase 2: a discriminator that learns from random weights as the student does."""

from dataclasses import dataclass
from functools import partial

import torch

from custom_model import create_custom_model
from discriminator import build_discriminator, check_name, known_names
from discriminator.augment import POLICIES
from fewstep.engine.fields import log_sigma, setting, spread, steps, weight
from fewstep.engine.learner import Learner
from fewstep.engine.phase import Turn
from fewstep.methods.gan_losses import (
    GAN_LOSSES,
    PENALTIES,
    approximate_r1,
    centring,
    gradient_penalty,
)
from src.model_config import MODEL_DEFAULTS, NETWORKS
from src.samplers import IMAGE_SHAPE, draw_levels
from src.utils import UserError

DISC = "disc"  # its name among the learners, in the log and in checkpoints


@dataclass(frozen=True)
class Discriminator:
    """Phase 2: the discriminator, from random weights."""

    disc: str = setting("resnet", f"none, {', '.join(known_names())}")
    disc_channels: int = setting(0, "width; 0: derived from the U-Net's", low=0, high=512)
    disc_depth: int = setting(
        0, "blocks a resolution; 0: the architecture's own number", low=0, high=8
    )
    disc_heads: str = setting("", "resolutions that are judged, e.g. 16,8,4; empty: all up to 16")
    disc_stddev: bool = setting(True, "show it the spread of the minibatch")
    disc_condition: bool = setting(True, "tell it the noise level of its input")
    disc_spectral: str = setting(
        "auto", "spectral normalisation; auto: for patch", ["auto", "on", "off"]
    )
    disc_start: str = setting(
        "random",
        "teacher: with --disc unet, start from the teacher's encoder (not from scratch)",
        ["random", "teacher"],
    )
    disc_lr: float = setting(2e-4, "learning rate of the discriminator", low=0, high=1)
    disc_warmup: int = steps(200, "steps in which it (and the fake score) learns alone", low=0)
    disc_steps: int = setting(1, "steps of the critics for each of the student", low=1, high=1000)
    disc_noise: bool = setting(True, "show it noised images; else clean ones")
    disc_mean: float = log_sigma(-1.5, "mean of ln sigma of that noise")
    disc_std: float = spread(1.0, "standard deviation of it")
    gan_loss: str = setting("hinge", "adversarial loss", list(GAN_LOSSES))
    penalty: str = setting("approx_r1", "gradient penalty", list(PENALTIES))
    penalty_weight: float = weight(10.0, "weight of the penalty")
    penalty_sigma: float = setting(
        0.1,
        "perturbation of the approximate penalties; scale of the gradient in r1 and r1r2",
        low=1e-6,
        high=100,
    )
    penalty_interval: int = steps(1, "steps between penalties, as much stronger each")
    centring_weight: float = weight(
        0.0, "weight of (D(real) + D(generated))^2, which keeps relativistic logits from drifting"
    )
    augment: str = setting("", f"operations on its inputs: {','.join(POLICIES)}; empty: none")
    augment_p: float = setting(1.0, "probability of each, or where ADA starts from", low=0, high=1)
    ada_target: float = setting(
        0.0, "steer that probability so that E[sign D(real)] is this (0.6); 0: fixed", low=0, high=1
    )
    ada_images: float = setting(50000.0, "images in which ADA can go from 0 to 1", low=1, high=1e12)


class Adversary:
    """A discriminator in training, as `Discriminator` settings say.

    disc: `disc(x, sigma, draws, sets) -> [B, N]`, see `discriminator/`.
    """

    def __init__(self, settings, disc, execution):
        self.settings, self.disc, self.execution = settings, disc.eval(), execution
        self.learner = Learner(DISC, disc, "forward", execution, lr=lambda step: settings.disc_lr)
        # While others learn from it, its weights want no gradients, which compiled code would
        # compute all the same.
        self.learner.let_learn(False)
        self.gan_loss = GAN_LOSSES[settings.gan_loss]

    def view(self, x):
        """What the discriminator sees of clean images: (x + sigma n, sigma, draws)."""
        settings, sigma = self.settings, torch.zeros(len(x), device=x.device)
        if settings.disc_noise:
            sigma = draw_levels(len(x), settings.disc_mean, settings.disc_std, x.device)
            x = x + sigma.reshape(-1, 1, 1, 1) * torch.randn_like(x)
        return x, sigma, self.disc.augment.draw(len(x))

    def turns(self, fakes, step):
        """Yield its turn on real images and on `fakes(micro_batch)`, then steer augmentation."""
        settings = self.settings
        penalty = settings.penalty if settings.penalty_weight > 0 else "none"
        if step % settings.penalty_interval:
            penalty = "none"
        # Spectral normalisation goes on with its iteration in training mode: once a step, so that
        # all calls of a step, whose logits are compared, are of the same network.
        self.disc.train()
        self.learner.let_learn(True)
        signs = []  # of the logits of real images
        yield Turn(self.learner, partial(self._loss, fakes=fakes, penalty=penalty, signs=signs))
        self.learner.let_learn(False)
        if settings.ada_target:
            self._steer([sign for sign, _ in signs], sum(count for _, count in signs))

    def _steer(self, signs, images):
        processes = self.execution.processes
        sign = processes.mean_of(torch.stack(signs).mean())
        seen = images * processes.count
        self.disc.augment.steer(sign, self.settings.ada_target, seen, self.settings.ada_images)

    def _loss(self, micro_batch, fakes, penalty, signs):
        settings, fake = self.settings, fakes(micro_batch)
        micro_batch.begin("critics")
        real_view, fake_view = self.view(micro_batch.images), self.view(fake)
        views = [real_view, fake_view]
        which = [real_view, fake_view] if penalty.endswith("r1r2") else [real_view]
        if penalty.startswith("approx"):
            views += [self._nearby(*view) for view in which]
        real_logits, fake_logits, *nearby_logits = self._learning_logits(views)
        self.disc.eval()
        loss = self.gan_loss.discriminator(real_logits, fake_logits).mean()
        metrics = {
            "disc_loss": loss.detach(),
            "logits_real": real_logits.detach().mean(),
            "logits_fake": fake_logits.detach().mean(),
        }
        signs.append((real_logits.detach().sign().mean(), len(fake)))
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

    def _nearby(self, x, sigma, draws):
        return x + self.settings.penalty_sigma * torch.randn_like(x), sigma, draws

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

    def loss_of(self, fake, real):
        """The student's adversarial loss `(B,)` of its outputs; `real` serves relative losses."""
        run, real_logits = self.execution.run, None
        if self.gan_loss.relative:
            with torch.no_grad():
                real_logits = run(self.disc, *self.view(real))
        return self.gan_loss.generator(run(self.disc, *self.view(fake)), real_logits)

    @torch.no_grad()
    def mean_logit(self, x):
        """The mean logit of clean images `[B, 3, H, W]`, a float; leaves no trace in its state."""
        return self.execution.run(self.disc, *self.view(x)).mean().item()

    def _gradient_penalty(self, x, sigma, draws):
        judge = partial(self.disc, sigma=sigma, draws=draws)
        # In fp32: a squared gradient in bf16 is mostly rounding. Not compiled: what is compiled
        # has no second derivative.
        with torch.compiler.set_stance("force_eager"):
            return gradient_penalty(judge, x, self.settings.penalty_sigma)


def build_adversary(settings, teacher, config, execution):
    """The `Adversary` that `Discriminator` settings name, or None. config: the student's
    `model_config.json`."""
    if settings.disc == "none":
        return None
    start = teacher if settings.disc_start == "teacher" else None
    disc = _discriminator(settings, config["network"], config["sigma_data"], start)
    if disc.replaced_norms:
        print(
            f"--disc {settings.disc}: {disc.replaced_norms} batch normalisations replaced by group"
            " normalisation (batch statistics would tell real from generated)"
        )
    # Its passes are short, and penalties differentiate them twice, which recomputing does not bear.
    disc = execution.prepare(disc.to(execution.device), checkpointing=False)
    leave_unused(disc, execution.device)
    return Adversary(settings, disc, execution)


def leave_unused(disc, device):
    """Let parameters that no logit depends on (behind the last head that was asked for, say) not
    learn: DDP demands the gradient of every parameter that does."""
    disc.eval()
    images, sigma = torch.zeros(2, *IMAGE_SHAPE, device=device), torch.ones(2, device=device)
    disc(images, sigma).sum().backward()
    for parameter in disc.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    disc.zero_grad(set_to_none=True)


def check_discriminator(settings, network):
    """Raise `UserError` for `Discriminator` settings that contradict themselves or those of the
    network."""
    head_resolutions(settings.disc_heads)
    policy = policy_names(settings.augment)
    if settings.ada_target and not policy:
        raise UserError("--ada_target steers augmentation; name some, e.g. --augment translation")
    if settings.disc == "none":
        return
    trunk, _ = check_name(settings.disc)
    if settings.ada_target and settings.gan_loss == "relativistic":
        raise UserError("--ada_target asks for the sign of logits, relativistic ones have no zero")
    if settings.disc_start == "teacher":
        if not hasattr(trunk, "start_from"):
            raise UserError(f"--disc_start teacher: --disc {settings.disc} cannot; use --disc unet")
        if network.use_additional_condition:
            raise UserError("--disc_start teacher: not with --use_additional_condition")
        for flag in ("disc_channels", "disc_depth"):
            if getattr(settings, flag):
                raise UserError(f"--{flag} with --disc_start teacher: the teacher has its own size")


def try_to_build(settings):
    """Raise `UserError` now for a discriminator that could not be built when its turn comes."""
    disc, network = settings.discriminator, settings.network.network
    if disc.disc != "none":
        bare_discriminator(disc, MODEL_DEFAULTS | {"network": network})


def bare_discriminator(settings, config):
    """The discriminator of `Discriminator` settings beside a student of the `model_config.json`
    `config`, before it has learnt. Raises `UserError`."""
    start = None
    if settings.disc_start == "teacher":
        keys = ("network", "sigma_data", "num_train_timesteps")
        start = create_custom_model(**{key: config[key] for key in keys})
    return _discriminator(settings, config["network"], config["sigma_data"], start)


def _discriminator(settings, network, sigma_data, start):
    return build_discriminator(
        settings.disc,
        network=NETWORKS[network],
        sigma_data=sigma_data,
        channels=settings.disc_channels,
        depth=settings.disc_depth,
        heads=head_resolutions(settings.disc_heads),
        stddev=settings.disc_stddev,
        condition=settings.disc_condition,
        spectral=settings.disc_spectral,
        policy=policy_names(settings.augment),
        p=settings.augment_p,
        teacher=start,
    )


def head_resolutions(text):
    """`--disc_heads "16,8"` -> [16, 8]. Raises `UserError`."""
    names = split_names(text)
    if not all(name.isascii() and name.isdecimal() for name in names):
        raise UserError(f"--disc_heads {text}: give resolutions, e.g. 16,8,4")
    return [int(name) for name in names]


def policy_names(text):
    """`--augment "translation,color"` -> the names. Raises `UserError` for an unknown one
    and for one that is there twice."""
    names = split_names(text)
    for name in names:
        if name not in POLICIES:
            raise UserError(f"--augment {name}: use some of {','.join(POLICIES)}")
        if names.count(name) > 1:
            raise UserError(f"--augment {text}: {name} is there twice")
    return names


def split_names(text):
    """At commas or plus signs: where commas part other things, as in a grid, the latter serve."""
    return [part.strip() for part in text.replace("+", ",").split(",") if part.strip()]
