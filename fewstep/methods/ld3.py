"""Learnt noise levels: LD3 (Tong et al. 2024, "Learning to Discretize Denoising Diffusion ODEs",
arXiv:2405.15506). The teacher's network stays as it is; where few Euler steps ask it is learnt.

    min over levels of  E min over x' in B(x_T) of || Psi_levels(x') - Psi*(x_T) ||^2    (L_soft)
    B(x_T) = { x' : ||x' - x_T|| <= gamma d sigma_1 },  d = number of values of an image

Psi* is the teacher's sampler of many steps, Psi_levels that of as many Euler steps as there are
levels, which is differentiated through the network. The ball forgives what few steps cannot follow.
It is small, so x' is the least of the distance's linear approximation in it, found by one gradient:

    x' = x_T - gamma d sigma_1 g / ||g||,  g the gradient of the distance at x_T
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from fewstep.engine.curves import Panel
from fewstep.engine.fields import setting, steps
from fewstep.engine.learner import steady_learner
from fewstep.engine.phase import Phase, Turn
from fewstep.methods.edm import copy_of, ode_images
from fewstep.methods.method import Method
from fewstep.methods.student_inputs import per_image
from src.arguments import MOST_EVALUATIONS
from src.samplers import ddim_states
from src.utils import UserError

EVALUATIONS = (2, 4)  # whose levels are learnt; one evaluation has but the first
SHORTEST = 0.01  # share of the range that each interval keeps, so that levels always fall
HELDOUT_IMAGES = 16  # pairs whose distance tells the best levels
EMA_SHARE = 0.1  # half-life of the levels' average as a share of the steps so far


@dataclass(frozen=True)
class Ld3:
    """LD3: learnt noise levels of the frozen teacher."""

    ld3_iterations: int = steps(500, "steps of --method ld3")
    ld3_lr: float = setting(0.02, "peak learning rate of the noise levels", low=0, high=1)
    ld3_evaluations: int = setting(
        35,
        "network evaluations of the teacher for each image that few evaluations are to meet",
        low=1,
        high=MOST_EVALUATIONS,
    )
    ld3_ball: float = setting(
        1e-5,
        "how far the noise that an image starts from may be moved to meet it: gamma, for a noise"
        " level of 1 and an image of one value",
        low=0,
        high=1,
    )


class Levels(nn.Module):
    """Falling levels for each number of evaluations, the first fixed, the others learnt.

    They lie on EDM's ramp (arXiv:2206.00364, eq. 5): sigma = (high + p (low - high))^rho with high,
    low the 1/rho-th powers of sigma_max, sigma_min, and p the running sums of a softmax.
    """

    def __init__(self, scheduler):
        super().__init__()
        self.rho = scheduler.rho
        self.high, self.low = (
            level ** (1 / self.rho) for level in (scheduler.sigma_max, scheduler.sigma_min)
        )
        self.logits = nn.ParameterDict(
            {str(nfe): nn.Parameter(torch.zeros(nfe)) for nfe in EVALUATIONS}
        )

    def forward(self):
        """{evaluations: levels, as many}, which a gradient reaches."""
        return {int(nfe): self._levels(logits) for nfe, logits in self.logits.items()}

    def _levels(self, logits):
        shares = SHORTEST + (1 - SHORTEST * len(logits)) * torch.softmax(logits, dim=0)
        places = torch.cat([torch.zeros_like(shares[:1]), torch.cumsum(shares, dim=0)[:-1]])
        return (self.high + places * (self.low - self.high)) ** self.rho


class Ld3Phase(Phase):
    """The levels' training. model: a frozen denoiser, whose table of levels follows what is
    learnt; it is what is sampled and saved."""

    name = "ld3"
    identity = ("data", "network", "ld3")
    learns_levels = True
    best_by = "heldout_loss"  # samples of one evaluation, which tell others' best, stay as they are
    panels = {
        "ld3: squared distance to the teacher": Panel(
            [*(f"nfe{nfe}_loss" for nfe in EVALUATIONS), "heldout_loss"],
            "falls at first, then lies level; more evaluations lie lower",
        ),
        "ld3: noise levels": Panel(
            [f"nfe{nfe}_sigma{place}" for nfe in EVALUATIONS for place in range(2, nfe + 1)],
            "move at first, then come to rest",
        ),
    }

    def __init__(self, settings, model, config, execution):
        self.settings, total = settings.ld3, settings.ld3.ld3_iterations
        self.generator = model.eval().requires_grad_(False)
        self.denoise = partial(execution.run, model.denoise)
        levels = Levels(model.scheduler).to(execution.device)
        schedule = self.settings.ld3_lr, total, 0, EMA_SHARE
        learner = steady_learner(self.name, levels, "forward", execution, *schedule)
        self.is_behind = True  # the generator's levels are those of an earlier step
        super().__init__([learner], total, config)
        self.remedies = {learner.drop_metric: "lower --ld3_lr, or --precision fp32"}

    @classmethod
    def build(cls, settings, execution, teacher, config):
        model = execution.prepare(copy_of(teacher, config, execution))
        phase = cls(settings, model, config, execution)
        execution.compile({"the teacher": model.network})
        return phase

    @property
    def ema(self):
        self._take_levels()
        return self.generator

    @property
    def config(self):
        self._take_levels()
        return self._config

    @config.setter
    def config(self, config):
        self._config = config

    def _take_levels(self):
        """Let the generator have the levels of the average. Reading them waits for the device, so
        it is done where somebody looks."""
        if self.is_behind:
            first = self.generator.scheduler.sigma_max  # as it is, not as a power of its root
            table = {1: [first]}
            average = self.learners[0].ema()
            table |= {nfe: [first, *row[1:].tolist()] for nfe, row in average.items()}
            self.generator.scheduler.few_step_table = table
            levels = {str(nfe): row for nfe, row in table.items()}
            self._config = self._config | {"few_step_sigmas": levels}
            self.is_behind = False

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.is_behind = True

    def turns(self, step):
        yield Turn(self.learners[0], self._loss)
        self.is_behind = True

    def _loss(self, micro_batch):
        micro_batch.reseed("noise")
        x, target = self._pairs(micro_batch.images)
        radius = self.settings.ld3_ball * x[0].numel() * self.generator.scheduler.sigma_max
        metrics = {}
        for nfe, levels in self.learners[0]().items():
            sample = partial(self.sample, levels=levels)
            near = nearest_in_ball(partial(self.sample, levels=levels.detach()), x, target, radius)
            metrics[f"nfe{nfe}_loss"] = (sample(near) - target).square().mean()
        loss = torch.stack([*metrics.values()]).sum()
        return loss, {key: value.detach() for key, value in metrics.items()}

    def _pairs(self, images):
        """(noise at the first level, of the shape of images, what the teacher makes of it)."""
        scheduler, evaluations = self.generator.scheduler, self.settings.ld3_evaluations
        first = scheduler.sigma_max
        x = first * scheduler.noise_like(images)
        return x, ode_images(self.denoise, scheduler, x, first, evaluations)

    def sample(self, x, levels):
        """Images of noise at the first level, with a graph."""
        step = self.generator.scheduler.reverse_process_step
        *_, images = ddim_states(self.denoise, step, levels.unbind(), lambda: x / levels[0])
        return images

    def heldout_metrics(self, images):
        metrics, loss = {}, 0.0
        x, target = self._pairs(images[:HELDOUT_IMAGES])
        for nfe, levels in self.learners[0].ema().items():
            loss += (self.sample(x, levels) - target).square().mean().item()
            named = zip(range(2, nfe + 1), levels[1:].tolist())
            metrics |= {f"nfe{nfe}_sigma{place}": sigma for place, sigma in named}
        return metrics | {"heldout_loss": loss}


def nearest_in_ball(sample, x, target, radius):
    """x' in the ball of `radius` around each x `[B, C, H, W]` from which `sample(x')` comes nearest
    to `target`, by one gradient of the squared distance."""
    if not radius:
        return x
    start = x.detach().requires_grad_()
    with torch.enable_grad():
        distance = (sample(start) - target).square().sum()
    (slope,) = torch.autograd.grad(distance, start)
    norm = slope.flatten(1).norm(dim=1).clamp_min(1e-12)
    return x - per_image(radius / norm) * slope


def ld3_config(teacher_config, settings):
    """The teacher's `model_config.json` with the sampler of learnt levels."""
    return teacher_config | {"sampler": "ddim"}


def check(settings):
    """Raise `UserError` for settings that contradict themselves."""
    if settings.network.use_additional_condition:
        raise UserError(
            "--use_additional_condition: the levels' sampler would tell a teacher the next level,"
            " of which it has only learnt 0; leave it out"
        )


METHOD = Method(
    name="ld3",
    summary="the teacher as it is, at noise levels that are learnt through its sampler",
    phase=Ld3Phase,
    groups={"ld3": Ld3},
    steps_flag="ld3_iterations",
    needs_teacher=True,
    config=ld3_config,
    check=check,
    presets={
        "small": dict(ld3_iterations=200),
        "tiny": dict(ld3_iterations=100, ld3_evaluations=15),
    },
)
