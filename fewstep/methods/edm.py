"""The teacher, phase 1 of every method that distils: a denoiser from scratch (EDM)."""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from custom_model import create_custom_model
from fewstep.engine.curves import Panel
from fewstep.engine.fields import average_share, log_sigma, setting, spread, steps, warm_up
from fewstep.engine.learner import steady_learner
from fewstep.engine.phase import Phase, Turn
from fewstep.methods.growing import Growth, begin_as_shortcut, halve
from src.arguments import MOST_EVALUATIONS
from src.model_config import MODEL_DEFAULTS, ODE_SAMPLERS, PRECONDITIONINGS
from src.samplers import ode_plan, ode_states

FALLS = "falls fast, then ever more slowly; held-out falls with it"  # a healthy loss


@dataclass(frozen=True)
class Scratch:
    """Training from random weights: the teacher, or a method that needs none."""

    num_iterations: int = steps(
        100000, "steps of training from scratch: of the teacher, or of a method without one"
    )
    lr: float = setting(1e-4, "peak learning rate of that training", low=0, high=1)
    warmup: int = warm_up(500)
    ema_share: float = average_share(0.05)
    start_share: float = setting(
        0.0,
        "share of the steps, at the beginning, on images of half the side and without the U-Net's"
        " outermost level: such a step takes a quarter to a half of the time",
        low=0,
        high=1,
    )


@dataclass(frozen=True)
class Teacher:
    """Phase 1: the teacher, a denoiser."""

    preconditioning: str = setting(
        "flow",
        "what the network predicts, teacher's and student's: edm: what changes with the noise level"
        " from the noise to the image; flow: noise minus image, always",
        list(PRECONDITIONINGS),
    )
    p_mean: float = log_sigma(0.0, "noise levels that the teacher is trained at: mean of ln sigma")
    p_std: float = spread(
        1.6,
        "noise levels that the teacher is trained at: standard deviation of ln sigma",
    )
    p_mean_rise: float = setting(
        0.0,
        "begin with more noise: this is added to --p_mean at the first step, and falls to 0 at the"
        " last",
        low=0,
        high=10,
    )
    noise_offset: float = setting(
        MODEL_DEFAULTS["noise_offset"],
        "standard deviation of a part of the noise that all pixels of a channel share, so that"
        " images of pure noise differ in colour",
        low=0,
        high=10,
    )
    teacher_steps: int = setting(
        35,
        "network evaluations for an image of the teacher on the sheets of samples",
        low=1,
        high=MOST_EVALUATIONS,
    )


PRESETS = {
    "small": dict(num_iterations=40000, lr=1e-3),
    "tiny": dict(
        num_iterations=1400,
        lr=2e-3,
        warmup=30,
        preconditioning="edm",
        p_mean=-0.3,
        p_std=1.5,
        noise_offset=0.15,
        teacher_steps=15,
    ),
}


class ScratchPhase(Phase):
    """A network from random weights that learns what its model's `compute_loss` says.

    settings: the run's. config: its `model_config.json`. execution: see `engine.execution`.
    """

    best_by = "heldout_loss"
    call = "compute_loss"  # the model's method that is differentiated, see `loss_of`

    def __init__(self, settings, config, execution):
        scratch, name = settings.scratch, self.name
        model = create_custom_model(execution.device, **config)
        total = scratch.num_iterations
        self.start_share = scratch.start_share
        starts_small = int(total * scratch.start_share) > 0
        if starts_small:
            begin_as_shortcut(model.network)
        model = execution.prepare(model).train()
        schedule = scratch.lr, total, scratch.warmup, scratch.ema_share
        more = dict(some_unused=starts_small)
        learner = steady_learner(name, model, self.call, execution, *schedule, **more)
        super().__init__([learner], total, config)
        self.growth, self.ema_growth = Growth(model.network), Growth(self.ema.network)
        passes = ("inner", "whole") if starts_small else ("whole",)
        self.growth.compile(execution, passes, f"the {name}")
        self.remedies = {learner.drop_metric: "lower --lr, or --precision fp32"}

    @property
    def start_steps(self):
        """Steps at half the side: who is taken further does not go back to them."""
        return int(self.first_total * self.start_share)

    def turns(self, step):
        self.is_start = step < self.start_steps
        for growth in (self.growth, self.ema_growth):
            growth.use("inner" if self.is_start else "whole")
        yield Turn(self.learners[0], partial(self._loss, progress=step / self.total))

    def _loss(self, micro_batch, progress):
        micro_batch.reseed(self.name)
        images, noise = micro_batch.images, self.model.scheduler.noise_like(micro_batch.images)
        if self.is_start:
            images, noise = halve(images), halve(noise)
        loss, metrics = self.loss_of(images, noise, progress)
        return loss, {f"start_{key}" if self.is_start else key: metrics[key] for key in metrics}

    def loss_of(self, images, noise, progress):
        """(scalar to differentiate, {name: scalar to log}) of images and noise of their shape."""
        loss = self.learners[0](images, noise, *self.levels(len(images), progress))
        return loss, {"loss": loss.detach()}

    def levels(self, count, progress):
        """What `compute_loss` of so many images is given beside them and noise; empty: it draws
        that itself. progress: the share of the steps that are done."""
        return ()

    def heldout_metrics(self, images):
        noise = self.ema.scheduler.draw_noise(images.shape, images.device)
        if not self.is_start:
            return {"heldout_loss": self.ema.compute_loss(images, noise).item()}
        levels = self.levels(len(images), 1.0)
        loss = self.ema.compute_loss(halve(images), halve(noise), *levels)
        return {"start_heldout_loss": loss.item()}

    def pictures(self, count, side):
        if not self.is_start:
            return super().pictures(count, side)
        self.ema_growth.use("coarse")
        images = super().pictures(count, side)
        self.ema_growth.use("inner")
        # What the coarse pass cannot see is still noise.
        return F.interpolate(halve(images), scale_factor=2)


class TeacherPhase(ScratchPhase):
    """Phase 1: a denoiser from scratch."""

    name = "teacher"
    identity = ("data", "network", "scratch", "teacher")
    panels = {
        "teacher: denoising loss": Panel(["loss", "heldout_loss"], FALLS),
        "teacher: at half the side, denoising loss": Panel(
            ["start_loss", "start_heldout_loss"], FALLS
        ),
    }

    @classmethod
    def build(cls, settings, execution, sigma_data):
        phase = cls(settings, teacher_config(settings, sigma_data), execution)
        phase.nfe_rows = (settings.teacher.teacher_steps,)
        phase.p_mean_rise = settings.teacher.p_mean_rise
        return phase

    @classmethod
    def makes(cls, config):
        return config.get("sampler") in ODE_SAMPLERS

    def levels(self, count, progress):
        scheduler = self.model.scheduler
        rise = self.p_mean_rise * (1 - progress)
        if self.is_start:  # of half the side, as much is hidden by twice the noise
            rise += math.log(2)
        return (scheduler.sample_timesteps(count, self.model.device) * math.exp(rise),)


@torch.no_grad()
def ode_images(denoise, scheduler, x, sigma, evaluations):
    """Where the teacher's ODE leads from noisy images `[B, C, H, W]` at level `sigma`, a number:
    Heun's method (EDM alg. 1)."""
    plan = ode_plan(evaluations, heun=True)
    levels = scheduler.ode_sigmas(len(plan), sigma_max=sigma)
    step = scheduler.reverse_process_step
    *_, images = ode_states(denoise, step, levels, plan, lambda: x / sigma)
    return images


def copy_of(teacher, config, execution):
    """Another network of `config` with the teacher's weights, on the device."""
    model = create_custom_model(execution.device, **config)
    model.load_state_dict(teacher.state_dict())
    return model


def set_dropout(model, p):
    """Give all dropout of a model the probability `p`."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = p


def network_config(settings):
    """What every `model_config.json` of a run has of its network."""
    network = settings.network
    return dict(
        network=network.network,
        use_additional_condition=network.use_additional_condition,
        norm_groups=network.norm_groups,
        num_train_timesteps=network.num_train_timesteps,
    )


def teacher_config(settings, sigma_data):
    """The teacher's `model_config.json`: every key of `MODEL_DEFAULTS`, none else."""
    return (
        MODEL_DEFAULTS
        | network_config(settings)
        | dict(
            preconditioning=settings.teacher.preconditioning,
            sigma_data=sigma_data,
            p_mean=settings.teacher.p_mean,
            p_std=settings.teacher.p_std,
            noise_offset=settings.teacher.noise_offset,
            sampler="heun",
        )
    )
