"""A student's sampler as a table of numbers, which `web/chain.js` follows around the network.

Each step is one evaluation of the network and x <- keep x + give output + noise n, n fresh noise.
All samplers of few steps are of this form.
"""

from dataclasses import asdict, dataclass

import numpy as np

from src.flow import RectifiedFlow
from src.model_config import LEVEL_SAMPLERS

NFE_LIST = (1, 2, 4)  # evaluations of the network an image


@dataclass(frozen=True)
class Step:
    """levels: what the network is given beside x (`input_names`); the others: see above."""

    levels: tuple[float, ...]
    keep: float
    give: float
    noise: float


@dataclass(frozen=True)
class Plan:
    """start: the first state is start times noise."""

    start: float
    steps: tuple[Step, ...]

    def as_dict(self):
        return asdict(self)


def is_student(model):
    """Whether it has a sampler of few steps."""
    return isinstance(model, RectifiedFlow) or model.sampler in LEVEL_SAMPLERS


def input_names(model):
    """What the one evaluation takes: the state, its level, and what comes next where the network
    has the additional condition."""
    names = ["x", "t", "length"] if isinstance(model, RectifiedFlow) else ["x", "sigma", "next"]
    return names if model.use_additional_condition else names[:2]


def plan_of(model, nfe):
    """The `Plan` by which a student makes images in `nfe` evaluations, as its `sample` does."""
    if isinstance(model, RectifiedFlow):
        times = [1 - step / nfe for step in range(nfe + 1)]
        moves = [(t, 1 / nfe, 1.0, t_next - t, 0.0) for t, t_next in zip(times, times[1:])]
        start = 1.0
    else:
        sigmas = [*model.scheduler.few_step_sigmas(nfe), 0.0]
        moves = [_move(model.sampler, *pair) for pair in zip(sigmas, sigmas[1:])]
        start = sigmas[0]
    count = len(input_names(model)) - 1
    return Plan(start, tuple(Step(tuple(move[:count]), *move[2:]) for move in moves))


def _move(sampler, sigma, next_sigma):
    if sampler == "few_step":
        return sigma, next_sigma, 0.0, 1.0, next_sigma
    ratio = next_sigma / sigma  # an Euler step of the ODE
    return sigma, next_sigma, ratio, 1 - ratio, 0.0


def run_plan(plan, evaluate, noises):
    """Images `[C, H, W]`, about in [-1, 1], as the page makes them.

    evaluate: (x `[C, H, W]`, levels) -> output `[C, H, W]`. noises: the start, and one for each
    step that adds noise, `[C, H, W]` each.
    """
    noises = iter(noises)
    x = np.float32(plan.start) * next(noises)
    for step in plan.steps:
        x = np.float32(step.keep) * x + np.float32(step.give) * evaluate(x, step.levels)
        if step.noise:
            x = x + np.float32(step.noise) * next(noises)
    return x
