"""Rectified flow (Liu et al. 2022, arXiv:2209.03003): a velocity field from scratch, no teacher.

    E || v(x_t, t) - (n - x0) ||^2,  x_t = (1 - t) x0 + t n        (eq. 1; here t = 1 is noise)

Its model, `src.flow.RectifiedFlow`, has that loss and takes Euler steps to sample. It learns as the
teacher does: same optimiser, average, batches and flags.
"""

import torch

from fewstep.engine.curves import Panel
from fewstep.methods.edm import FALLS, PRESETS, ScratchPhase, network_config
from fewstep.methods.method import Method
from src.model_config import FLOW_DEFAULTS

STRAIGHTNESS_IMAGES, STRAIGHTNESS_STEPS = 16, 8


class FlowPhase(ScratchPhase):
    """A rectified flow from scratch."""

    name = "flow"
    identity = ("data", "network", "scratch")
    panels = {
        "flow: velocity loss": Panel(["loss", "heldout_loss"], FALLS),
        "flow: straightness (0: straight)": Panel(
            ["straightness"], "comes to a level above 0, which is what reflow brings down"
        ),
    }

    @classmethod
    def build(cls, settings, execution, sigma_data):
        return cls(settings, FLOW_DEFAULTS | network_config(settings), execution)

    @classmethod
    def makes(cls, config):
        is_flow = config.get("model_type") == FLOW_DEFAULTS["model_type"]
        return is_flow and not config.get("use_additional_condition")

    def heldout_metrics(self, images):
        metrics = super().heldout_metrics(images)
        return metrics if self.is_start else metrics | measure_straightness(self.ema, images)


def measure_straightness(model, images):
    """{"straightness": ...} of a flow, from noise of the shape of some of these images."""
    noise = model.scheduler.noise_like(images[:STRAIGHTNESS_IMAGES])
    return {"straightness": straightness(model.predict, noise, STRAIGHTNESS_STEPS).item()}


@torch.no_grad()
def straightness(velocity, noise, steps):
    """S = int_0^1 E || (n - z) - v(x_t, t) ||^2 dt (sec. 3.2), the mean over pixels: along the path
    of `steps` Euler steps from noise n to image z. 0: one step leads to where all lead.

    velocity(x, t) -> like x, t a number; noise: `[B, C, H, W]`. Returns a scalar tensor.
    """
    x, velocities = noise, []
    for step in range(steps):
        velocities.append(velocity(x, 1 - step / steps))
        x = x - velocities[-1] / steps
    return torch.stack([(one - (noise - x)).square().mean() for one in velocities]).mean()


METHOD = Method(
    name="rectified_flow",
    summary="a velocity along straight lines, from scratch, sampled in Euler steps",
    phase=FlowPhase,
    groups={},
    steps_flag="num_iterations",
    presets=PRESETS,
)
