"""Settings of the discriminator, and which of them cannot be together."""

from dataclasses import dataclass

from discriminator import check_name, known_names
from discriminator.augment import POLICIES
from fewstep.engine.fields import log_sigma, setting, spread, steps, weight
from fewstep.methods.gan_losses import GAN_LOSSES, PENALTIES
from src.utils import UserError


@dataclass(frozen=True)
class Discriminator:
    """Phase 2: the discriminator, from random weights."""

    disc: str = setting(
        "resnet",
        f"architecture of the discriminator: {', '.join(known_names())}; or none, without one",
    )
    disc_channels: int = setting(
        0, "channels of the discriminator; 0: in proportion to the U-Net's", low=0, high=512
    )
    disc_depth: int = setting(
        0, "blocks at each resolution; 0: as many as the architecture has", low=0, high=8
    )
    disc_heads: str = setting(
        "", "sizes of the feature maps that are judged, e.g. 16,8,4; empty: all up to 16"
    )
    disc_stddev: bool = setting(True, "show it how much the images of a batch differ")
    disc_condition: bool = setting(True, "tell it the noise level of its input")
    disc_level: bool = setting(
        True,
        "tell it the noise level of the evaluation that made an image, so that those of one"
        " evaluation are judged apart from those of another; real ones are given the same levels",
    )
    disc_spectral: str = setting(
        "auto",
        "spectral normalisation of its weights; auto: for --disc patch",
        ["auto", "on", "off"],
    )
    disc_start: str = setting(
        "random",
        "its first weights: random, or with --disc unet those of the teacher's encoder (then it is"
        " not from scratch); teacher_shape: random ones in the teacher's shape",
        ["random", "teacher_shape", "teacher"],
    )
    disc_lr: float = setting(2e-4, "learning rate of the discriminator", low=0, high=1)
    disc_lr_final: float = setting(
        1.0,
        "share of that rate at the last step; like the student's it falls along half a cosine from"
        " where the student begins; 1: it stays",
        low=0,
        high=1,
    )
    disc_warmup: int = steps(
        200, "steps in which it, and the fake score, learns while the student waits", low=0
    )
    disc_steps: int = setting(
        1, "the student learns only in every N-th step, the others in each", low=1, high=1000
    )
    disc_lead: float = setting(
        0.2,
        "the student waits while the discriminator's lead is below this: 1 when it always tells a"
        " generated from a real image, 0 when it guesses; 0: never waits",
        low=0,
        high=0.99,
    )
    disc_lead_most: float = setting(
        0.8,
        "the discriminator's learning rate falls while its lead is above this, and rises again when"
        " it is below; 1: never",
        low=0.01,
        high=1,
    )
    disc_noise: bool = setting(True, "show it noised images; else clean ones")
    disc_mean: float = log_sigma(-1.5, "noise levels that it is shown: mean of ln sigma")
    disc_std: float = spread(1.0, "noise levels that it is shown: standard deviation of ln sigma")
    gan_loss: str = setting(
        "hinge", "loss by which discriminator and student play against each other", list(GAN_LOSSES)
    )
    penalty: str = setting(
        "approx_r1",
        "penalty on how fast its answer changes with the image: r1 at real images, r1r2 at"
        " generated ones too; approx_: by small random changes, which is faster, and keeps it from"
        " seeing grain as weak as they are",
        list(PENALTIES),
    )
    penalty_weight: float = weight(3.0, "weight of the penalty")
    penalty_sigma: float = setting(
        0.1,
        "size of those small changes (standard deviation); r1 and r1r2 are scaled by it, too, so"
        " that one weight fits all",
        low=1e-6,
        high=100,
    )
    penalty_interval: int = steps(
        1, "compute the penalty only in every N-th step, N times as strong, which saves time"
    )
    centring_weight: float = weight(
        0.0,
        "weight of (D(real) + D(generated))^2, which keeps the outputs D of --gan_loss relativistic"
        " from drifting",
    )
    augment: str = setting(
        "",
        f"random changes of all images that it sees, some of {','.join(POLICIES)}; empty: none",
    )
    augment_p: float = setting(
        1.0, "probability of each of those changes; with --ada_target, the first one", low=0, high=1
    )
    ada_target: float = setting(
        0.0,
        "steer that probability so that the mean sign of its output on real images is this, e.g."
        " 0.6 (ADA); 0: leave it as it is",
        low=0,
        high=1,
    )
    ada_images: float = setting(
        50000.0, "images in which ADA can take the probability from 0 to 1", low=1, high=1e12
    )


def check_discriminator(settings, network):
    """Raise `UserError` for `Discriminator` settings that contradict themselves or those of the
    network."""
    head_resolutions(settings.disc_heads)
    policy = policy_names(settings.augment)
    if settings.ada_target and not policy:
        raise UserError("--ada_target steers augmentation; name some, e.g. --augment translation")
    if settings.disc == "none":
        return
    if settings.disc_lead_most < settings.disc_lead:
        raise UserError(
            f"--disc_lead_most {settings.disc_lead_most}: below --disc_lead {settings.disc_lead},"
            " so the discriminator would slow down while the student waits for it"
        )
    trunk, _ = check_name(settings.disc)
    if settings.ada_target and settings.gan_loss == "relativistic":
        raise UserError("--ada_target asks for the sign of logits, relativistic ones have no zero")
    if settings.disc_start != "random":
        start = f"--disc_start {settings.disc_start}"
        if not hasattr(trunk, "start_from"):
            raise UserError(f"{start}: --disc {settings.disc} cannot; use --disc unet")
        if network.use_additional_condition:
            raise UserError(f"{start}: not with --use_additional_condition")
        for flag in ("disc_channels", "disc_depth"):
            if getattr(settings, flag):
                raise UserError(f"--{flag} with {start}: the teacher has its own size")


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
