"""Reflow (Liu et al. 2022, arXiv:2209.03003, alg. 1): a second flow that learns from pairs of noise
and image of the first one, and whose paths are straighter.

    E || v(x_t, t) - (n - z) ||^2,  x_t = (1 - t) z + t n,  z = n - int_0^1 v_1(x_t, t) dt   (eq. 1)

Images are drawn anew for each step by the first flow v_1; no real image is looked at. The second
flow starts with its weights.
"""

from dataclasses import dataclass
from functools import partial

import torch

from fewstep.engine.curves import Panel
from fewstep.engine.fields import average_share, setting, steps, warm_up
from fewstep.engine.learner import steady_learner
from fewstep.engine.phase import Phase, Turn
from fewstep.methods.edm import copy_of
from fewstep.methods.method import Method
from fewstep.methods.rectified_flow import FlowPhase, measure_straightness
from src.arguments import MOST_EVALUATIONS


@dataclass(frozen=True)
class Reflow:
    """Reflow: a second flow from the pairs of the first."""

    reflow_iterations: int = steps(20000, "steps of --method reflow, of its second flow")
    reflow_lr: float = setting(1e-4, "peak learning rate of the second flow", low=0, high=1)
    reflow_warmup: int = warm_up(100)
    reflow_ema_share: float = average_share(0.05, "the updates so far")
    reflow_heun: int = setting(
        16,
        "steps of Heun's method, of two evaluations each, in which the first flow makes the image"
        " of a pair",
        low=1,
        high=MOST_EVALUATIONS // 2,
    )
    reflow_updates: int = setting(
        4, "updates of the weights in each step, on the same pairs at other times", low=1, high=1000
    )


class ReflowPhase(Phase):
    """The second flow. first: the frozen model of the first one."""

    name = "reflow"
    identity = ("data", "network", "reflow")
    panels = {
        "reflow: velocity loss": Panel(["loss"], "far below that of the first flow, and falls"),
        "reflow: straightness (0: straight)": Panel(
            ["straightness"], "below that of the first flow"
        ),
    }

    def __init__(self, settings, model, config, first, execution):
        self.settings, reflow = settings.reflow, settings.reflow
        total = reflow.reflow_iterations
        schedule = reflow.reflow_lr, total, reflow.reflow_warmup, reflow.reflow_ema_share
        learner = steady_learner(self.name, model.train(), "compute_loss", execution, *schedule)
        super().__init__([learner], total, config)
        self.noise_like = first.scheduler.noise_like
        self.velocity = partial(execution.run, first.predict)
        self.remedies = {learner.drop_metric: "lower --reflow_lr, or --precision fp32"}

    @classmethod
    def build(cls, settings, execution, teacher, config):
        model = execution.prepare(copy_of(teacher, config, execution))
        first = execution.prepare(teacher.eval().requires_grad_(False))
        phase = cls(settings, model, config, first, execution)
        execution.compile({"the flow": model.network, "the first flow": first.network})
        return phase

    def turns(self, step):
        for update in range(self.settings.reflow_updates):
            yield Turn(self.learners[0], partial(self._loss, name=f"update {update}"))

    def _loss(self, micro_batch, name):
        images, noise = micro_batch.once("pairs", partial(self._pairs, micro_batch))
        micro_batch.reseed(name)
        loss = self.learners[0](images, noise)
        return loss, {"loss": loss.detach()}

    def _pairs(self, micro_batch):
        """(images of the first flow, the noise that they come from)."""
        micro_batch.reseed("pairs")
        noise = self.noise_like(micro_batch.images)
        return images_of(self.velocity, noise, self.settings.reflow_heun), noise

    def heldout_metrics(self, images):
        return measure_straightness(self.ema, images)


@torch.no_grad()
def images_of(velocity, noise, steps):
    """Where a flow leads from noise at t = 1 `[B, C, H, W]` to t = 0, in steps of Heun's method.

    velocity(x, t) -> like x, t a number. Returns images that are not cut to [-1, 1].
    """
    x = noise
    for step in range(steps):
        slope = velocity(x, 1 - step / steps)
        slope_next = velocity(x - slope / steps, 1 - (step + 1) / steps)
        x = x - (slope + slope_next) / (2 * steps)
    return x


METHOD = Method(
    name="reflow",
    summary="a rectified flow, and a second one that straightens the paths of the first",
    phase=ReflowPhase,
    groups={"reflow": Reflow},
    steps_flag="reflow_iterations",
    needs_teacher=True,
    teacher=FlowPhase,
    config=lambda config, settings: config,
    warmups=(("reflow_warmup", "reflow_iterations"),),
    presets={
        "small": dict(reflow_iterations=8000, reflow_lr=5e-4, reflow_heun=8),
        "tiny": dict(reflow_iterations=300, reflow_lr=1e-3, reflow_warmup=10, reflow_heun=6),
    },
)
