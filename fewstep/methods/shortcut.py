"""Shortcut models (Frans et al. 2024, arXiv:2410.12557): a flow that is told how long its step is.

s(x_t, t, d) is the mean velocity from t to t - d (here t = 1 is noise, and steps lead to t = 0). It
learns two things at once, no teacher, one network (eq. 5):

    E || s(x_t, t, 0)  - (n - x0) ||^2                                     flow matching
    E || s(x_t, t, 2d) - sg[s(x_t, t, d) + s(x', t - d, d)] / 2 ||^2       self-consistency (eq. 4)
    x' = x_t - d s(x_t, t, d)

One step of length 2d shall lead to where two of length d lead, which the average of the weights
says. Lengths are 1, 1/2, ... down to the shortest, of which the network is told 0 (sec. 3.2).
"""

import math
from dataclasses import dataclass
from functools import partial

import torch

from fewstep.engine.curves import Panel
from fewstep.engine.fields import setting
from fewstep.methods.edm import FALLS, network_config
from fewstep.methods.method import Method, check_share
from fewstep.methods.rectified_flow import FlowPhase
from fewstep.methods.student_inputs import per_image
from src.model_config import FLOW_DEFAULTS
from src.utils import UserError


@dataclass(frozen=True)
class Shortcut:
    """Shortcut models."""

    shortcut_steps: int = setting(
        128,
        "how many of the shortest steps lead from noise to an image, a power of two",
        low=4,
        high=4096,
    )
    shortcut_share: float = setting(
        0.25,
        "share of a batch that learns to do two steps in one of twice the length",
        low=0,
        high=1,
    )


class ShortcutPhase(FlowPhase):
    """A shortcut model from scratch."""

    name = "shortcut"
    identity = ("data", "network", "scratch", "shortcut")
    best_by = None  # the held-out velocity loss says nothing of long steps
    call = "predict"
    panels = {
        "shortcut: velocity loss": Panel(["flow_loss", "heldout_loss"], FALLS),
        "shortcut: self-consistency": Panel(["self_loss"], "small beside the velocity loss"),
    }

    @classmethod
    def build(cls, settings, execution, sigma_data):
        config = FLOW_DEFAULTS | network_config(settings) | {"use_additional_condition": True}
        phase = cls(settings, config, execution)
        phase.settings = settings.shortcut
        phase.average_velocity = partial(execution.run, phase.ema.predict)
        return phase

    def loss_of(self, images, noise, progress):
        flow, device = self.model.scheduler, images.device
        own = round(len(images) * self.settings.shortcut_share)
        t = flow.sample_timesteps(len(images), device)
        length = torch.zeros_like(t)
        t[:own], length[:own] = draw_steps(own, self.settings.shortcut_steps, device)
        x, target = flow.forward_process(images, noise, t), flow.get_target(images, noise, t)
        if own:
            target[:own] = self.target_of(x[:own], t[:own], length[:own])
        errors = (self.learners[0](x, t, length) - target).square().mean(dim=(1, 2, 3))
        parts = {"self_loss": errors[:own], "flow_loss": errors[own:]}
        metrics = {key: part.detach().mean() for key, part in parts.items() if len(part)}
        return errors.mean(), metrics

    @torch.no_grad()
    def target_of(self, x, t, length):
        return two_halves(self.average_velocity, x, t, length, 1 / self.settings.shortcut_steps)


def draw_steps(count, shortest, device):
    """(times, lengths) `(count,)` of steps of 1, 1/2, ..., 2/shortest, equally often, from one of
    the times where sampling in steps of that length asks."""
    longer = int(math.log2(shortest))
    parts = 2.0 ** torch.randint(longer, (count,), device=device)
    t = 1 - torch.floor(parts * torch.rand(count, device=device)) / parts
    return t, 1 / parts


def two_halves(velocity, x, t, length, shortest):
    """The mean velocity of two steps of half the length (eq. 4).

    velocity(x, t, length that the network is told). x: `[B, C, H, W]`; t, length: `(B,)`;
    shortest: a number, of which the network is told 0.
    """
    half = length / 2
    named = half * (half > shortest)
    first = velocity(x, t, named)
    second = velocity(x - per_image(half) * first, t - half, named)
    return (first + second) / 2


def check(settings):
    """Raise `UserError` for a number of steps that cannot be halved down to one."""
    steps = settings.shortcut.shortcut_steps
    if steps & (steps - 1):
        raise UserError(f"--shortcut_steps {steps}: a power of two is needed")


def check_size(settings, size):
    """Raise `UserError` where micro-batches of `size` images would lose a part to rounding."""
    check_share("shortcut_share", settings.shortcut.shortcut_share, size)


METHOD = Method(
    name="shortcut",
    summary="a flow that is told the length of its step, consistent with itself at half of it",
    phase=ShortcutPhase,
    groups={"shortcut": Shortcut},
    steps_flag="num_iterations",
    check=check,
    check_size=check_size,
    # Few steps of training reach few halvings.
    presets={"small": dict(shortcut_steps=64), "tiny": dict(shortcut_steps=16)},
)
