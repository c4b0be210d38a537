"""Consistency models (Song et al. 2023, arXiv:2303.01469) by easy consistency tuning (Geng et al.
2024, arXiv:2406.14548, in short ECT): a denoiser becomes the end point of its own ODE.

A consistency function f(x_t, t) answers, anywhere on a path of the sampling ODE, with the image at
the end of that path. It is fixed by f(x, 0) = x, which each preconditioning has built in (c_skip =
1 and c_out = 0 at t = 0), and by f(x_t, t) = f(x_r, r) for neighbours r < t on one path. With r = 0
that is denoising, so ECT begins with a trained denoiser and r far from t, and brings them together.
"""

from dataclasses import dataclass
from functools import partial

import torch

from custom_model import create_custom_model
from fewstep.engine.curves import Panel
from fewstep.engine.fields import average_share, levels, log_sigma, setting, spread, steps, warm_up
from fewstep.engine.learner import steady_learner
from fewstep.engine.phase import Phase, Turn
from fewstep.methods.edm import copy_of, network_config, set_dropout
from fewstep.methods.method import Method
from fewstep.methods.student_inputs import check_falling, nfe_table
from src.model_config import MODEL_DEFAULTS
from src.samplers import draw_levels
from src.utils import UserError

SLOPE, SHARPNESS = 8.0, 1.0  # k and b of ECT's mapping
NEAREST = 2**-10  # of (t - r) / t: what lies nearer is lost in the rounding of the networks


@dataclass(frozen=True)
class Consistency:
    """The consistency loss (ECT): --method consistency, --student_start consistency."""

    ct_mean: float = log_sigma(
        -1.1,
        "the answers to an image at two noise levels are compared: mean of ln sigma of the larger",
    )
    ct_std: float = spread(2.0, "standard deviation of ln sigma of the larger level")
    ct_stages: int = setting(
        8, "stages of training, at each of which the two levels come closer", low=1, high=64
    )
    ct_factor: float = setting(2.0, "how many times closer they come at each", low=1, high=1024)
    ct_metric: str = setting("huber", "how the two answers are compared", ["huber", "l2"])
    ct_huber: float = setting(
        0.00054,
        "c of --ct_metric huber, for one value of a pixel: smaller differences count squared",
        low=1e-6,
        high=100,
    )
    ct_path: str = setting(
        "data",
        "where the less noisy image lies, seen from the other one: towards the training image"
        " (data), or towards the teacher's answer (teacher: distillation)",
        ["data", "teacher"],
    )


@dataclass(frozen=True)
class Tuning:
    """Consistency tuning: the run."""

    ct_start: str = setting(
        "teacher",
        "weights that it starts from; random: no teacher is trained or needed",
        ["teacher", "random"],
    )
    ct_iterations: int = steps(32000, "steps of --method consistency")
    ct_lr: float = setting(1e-4, "peak learning rate of consistency tuning", low=0, high=1)
    ct_warmup: int = warm_up(100)
    ct_dropout: float = setting(
        0.2, "dropout in training, the same for both answers", low=0, high=0.9
    )
    ct_ema_share: float = average_share(0.05)
    ct_sigmas: list = levels([80.0, 5.0, 1.526, 0.5])


def stage_of(progress, stages):
    """The stage, from 0, at `progress` (the share of the steps that are done)."""
    return min(int(progress * stages), stages - 1)


def nearer_level(t, stage, factor):
    """r(t) = t (1 - n(t) / q^(stage + 1)), n(t) = 1 + k sigmoid(-b t), at least 0 (ECT's mapping
    function, with k = 8 and b = 1); q: `factor`. Levels `(B,)` -> `(B,)`."""
    n = 1 + SLOPE * torch.sigmoid(-SHARPNESS * t)
    distance = (n * factor ** -(stage + 1.0)).clamp(NEAREST, 1.0)
    return t * (1 - distance)


def consistency_loss(answer, target, t, r, metric="huber", c=0.00054):
    """d(f(x_t, t), sg f(x_r, r)) / (t - r) (ECT, weighting 1/(t - r)), `(B,)`.

    answer, target: `[B, C, H, W]`; t, r: `(B,)`. metric: "l2", d = m, the mean over pixels of the
    squared difference; "huber", d = sqrt(m + c^2) - c, the pseudo-Huber distance (Song and Dhariwal
    2023, arXiv:2310.14189, sec. 3.3) over the root of the number of pixels: c is theirs likewise,
    0.00054 for every size.
    """
    error = (answer - target.detach()).square().mean(dim=(1, 2, 3))
    if metric == "huber":
        error = (error + c**2).sqrt() - c
    return error / (t - r)


class ConsistencyLoss:
    """The loss of a learner, as `Consistency` settings say; its module is a denoiser.

    teacher: a frozen denoiser, asked for `ct_path` "teacher" alone.
    """

    def __init__(self, settings, learner, teacher, execution):
        self.settings, self.learner, self.execution = settings, learner, execution
        self.teacher, self.scheduler = teacher, learner.module.scheduler

    def __call__(self, micro_batch, progress):
        """(the loss of a micro-batch, what is logged) after the share `progress` of the steps."""
        settings, images = self.settings, micro_batch.images
        micro_batch.reseed("levels")
        t = draw_levels(len(images), settings.ct_mean, settings.ct_std, images.device)
        r = nearer_level(t, stage_of(progress, settings.ct_stages), settings.ct_factor)
        far = self.scheduler.forward_process(images, self.scheduler.noise_like(images), t)
        target = self._target(micro_batch, far, t, r)
        micro_batch.reseed("dropout")
        answer = self.learner(far, t)
        loss = consistency_loss(answer, target, t, r, settings.ct_metric, settings.ct_huber).mean()
        return loss, {"consistency_loss": loss.detach(), "level_ratio": (r / t).mean()}

    @torch.no_grad()
    def _target(self, micro_batch, far, t, r):
        """f(x_r, r), with the dropout of f(x_t, t). x_r is on the line from x_t to the image, which
        for tuning is x0 + r n of the same noise, and for distillation a step of the teacher's ODE
        (consistency models, alg. 2 and 3)."""
        end = micro_batch.images
        if self.settings.ct_path == "teacher":
            end = self.execution.run(self.teacher.denoise, far, t)
        near = self.scheduler.reverse_process_step(far, end, t, r)
        micro_batch.reseed("dropout")
        return self.execution.run(self.learner.module.denoise, near, r)


class ConsistencyPhase(Phase):
    """A consistency model that is tuned from the teacher, or from random weights."""

    name = "consistency"
    identity = ("data", "network", "consistency", "tuning")
    panels = {
        "consistency: consistency loss": Panel(
            ["consistency_loss"], "falls; may jump a little where a new stage begins"
        ),
        "consistency: nearer over farther level": Panel(
            ["level_ratio"], "climbs towards 1, a stair for each stage"
        ),
    }
    remedies = {"consistency_skipped": "lower --ct_lr, or --precision fp32"}

    def __init__(self, settings, model, config, teacher, execution):
        tuning = settings.tuning
        total = tuning.ct_iterations
        set_dropout(model, tuning.ct_dropout)
        schedule = tuning.ct_lr, total, tuning.ct_warmup, tuning.ct_ema_share
        learner = steady_learner(self.name, model.train(), "denoise", execution, *schedule)
        super().__init__([learner], total, config)
        self.loss = ConsistencyLoss(settings.consistency, learner, teacher, execution)

    @classmethod
    def build(cls, settings, execution, start, config=None):
        """The phase from `start`: a frozen teacher, with the `config` of its generator; or, from
        random weights, the standard deviation of the pixels."""
        if config is None:
            config, teacher = scratch_config(settings, start), None
            model = create_custom_model(execution.device, **config)
        else:
            model = copy_of(start, config, execution)
            teacher = execution.prepare(start.eval().requires_grad_(False))
        model = execution.prepare(model)
        phase = cls(settings, model, config, teacher, execution)
        networks = {"the consistency model": model.network}
        if settings.consistency.ct_path == "teacher":
            networks["the teacher"] = teacher.network
        execution.compile(networks)
        return phase

    def turns(self, step):
        # By the length that it was begun with: taken further, it stays in the last stage, whose
        # near neighbours the ones before would pull apart again.
        progress = min(1.0, step / self.first_total)
        yield Turn(self.learners[0], partial(self.loss, progress=progress))


def consistency_config(teacher_config, settings):
    """The `model_config.json` of a consistency model: its teacher's, with the few-step sampler
    (consistency models, alg. 1) and levels."""
    levels = nfe_table(settings.tuning.ct_sigmas)
    return teacher_config | {"sampler": "few_step", "few_step_sigmas": levels}


def scratch_config(settings, sigma_data):
    """The same of one from random weights."""
    own = dict(sigma_data=sigma_data)
    own |= dict(p_mean=settings.consistency.ct_mean, p_std=settings.consistency.ct_std)
    return consistency_config(MODEL_DEFAULTS | network_config(settings) | own, settings)


def check(settings):
    """Raise `UserError`, naming the flags, for settings that contradict themselves."""
    check_falling("--ct_sigmas", settings.tuning.ct_sigmas)
    if settings.network.use_additional_condition:
        raise UserError(
            "--use_additional_condition: a consistency model answers with the end of the path"
            " whatever follows; leave it out"
        )
    if settings.consistency.ct_path == "teacher" and settings.tuning.ct_start == "random":
        raise UserError("--ct_path teacher: --ct_start random has no teacher; use --ct_path data")


METHOD = Method(
    name="consistency",
    summary="a consistency model, tuned from the teacher or from scratch (ECT)",
    phase=ConsistencyPhase,
    groups={"consistency": Consistency, "tuning": Tuning},
    steps_flag="ct_iterations",
    needs_teacher=True,
    no_teacher=("ct_start", "random"),
    config=consistency_config,
    check=check,
    warmups=(("ct_warmup", "ct_iterations"),),
    presets={
        "small": dict(ct_iterations=16000, ct_lr=5e-4, ct_dropout=0.0),
        "tiny": dict(
            ct_iterations=600,
            ct_lr=1e-3,
            ct_warmup=20,
            ct_dropout=0.0,
            ct_mean=-0.3,
            ct_std=1.5,
            ct_sigmas=[5.0, 2.0, 1.0, 0.5],
        ),
    },
)
