"""Rectified flow (Liu et al. 2022, arXiv:2209.03003): a velocity field from scratch, no teacher.

    E || v(x_t, t) - (n - x0) ||^2,  x_t = (1 - t) x0 + t n        (eq. 1; here t = 1 is noise)

Its model, `src.flow.RectifiedFlow`, has that loss and takes Euler steps to sample. It learns as the
teacher does: same optimiser, average, batches and flags.
"""

from fewstep.methods.edm import PRESETS, ScratchPhase, network_config
from fewstep.methods.method import Method
from src.model_config import FLOW_DEFAULTS


class FlowPhase(ScratchPhase):
    """A rectified flow from scratch."""

    name = "flow"
    identity = ("data", "network", "scratch")
    panels = {"flow: velocity loss": ["loss", "heldout_loss"]}

    @classmethod
    def build(cls, settings, execution, sigma_data):
        return cls(settings, FLOW_DEFAULTS | network_config(settings), execution)


METHOD = Method(
    name="rectified_flow",
    summary="a velocity along straight lines, from scratch, sampled in Euler steps",
    phase=FlowPhase,
    groups={},
    steps_flag="num_iterations",
    presets=PRESETS,
)
