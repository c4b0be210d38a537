"""MeanFlow (Geng et al. 2025, arXiv:2505.13447): the mean velocity of a flow from the derivative of
itself along the flow, from scratch, no teacher.

u(x_t, r, t) is the mean velocity from t to r <= t (t = 1 is noise). It fulfils (eq. 6, 8)

    u = v - (t - r) du/dt,   du/dt = v d_x u + d_t u                     (the MeanFlow identity)

and learns it as its target, with the velocity n - x0 of the line in the place of v (eq. 9, 11):

    E w || u(x_t, r, t) - sg[ (n - x0) - (t - r) du/dt ] ||^2,  w = sg[ 1 / (||.||^2 + c)^p ]

du/dt is one Jacobian-vector product with (n - x0, 1), by forward differentiation: it needs the
network as it was written, so the stopped target is made, in fp32, by a copy without weights of its
own that is neither compiled nor has fused attention. The network is told t and t - r.
"""

from dataclasses import dataclass

import torch

from custom_model import create_custom_model
from fewstep.engine.curves import Panel
from fewstep.engine.fields import setting
from fewstep.methods.edm import network_config
from fewstep.methods.growing import Growth
from fewstep.methods.method import Method, check_share
from fewstep.methods.rectified_flow import FlowPhase
from fewstep.methods.student_inputs import per_image
from src.model_config import FLOW_DEFAULTS
from src.utils import UserError

SMALLEST_ERROR = 1e-3  # c, of a squared error that is a mean over pixels


@dataclass(frozen=True)
class MeanFlow:
    """MeanFlow."""

    meanflow_share: float = setting(
        0.25,
        "share of a batch that learns steps over some time; the others learn the velocity at a"
        " moment",
        low=0,
        high=1,
    )
    meanflow_mean: float = setting(
        -0.4, "times of training, from 0 (image) to 1 (noise): mean of logit t", low=-10, high=10
    )
    meanflow_std: float = setting(
        1.0, "times of training: standard deviation of logit t", low=0, high=10
    )
    meanflow_power: float = setting(
        1.0,
        "p of an image's weight 1 / (squared error + 0.001)^p; 0: all weigh the same",
        low=0,
        high=2,
    )
    meanflow_range: int = setting(
        10,
        "times reach the network as numbers from 0 to this; the derivative by time grows with it",
        low=1,
        high=10**6,
    )


class MeanFlowPhase(FlowPhase):
    """A mean velocity from scratch. bare: the network as it was written, without weights."""

    name = "meanflow"
    identity = ("data", "network", "scratch", "meanflow")
    best_by = None  # the held-out velocity loss says nothing of long steps
    call = "predict"
    has_rehearsal = False  # torch's forward derivative of group normalisation fails without values
    panels = {
        "meanflow: squared error": Panel(
            ["flow_loss", "mean_loss", "heldout_loss"],
            "fall fast, then ever more slowly; no jumps",
        ),
    }

    @classmethod
    def build(cls, settings, execution, sigma_data):
        own = {"use_additional_condition": True}
        own["num_train_timesteps"] = settings.meanflow.meanflow_range
        config = FLOW_DEFAULTS | network_config(settings) | own
        phase = cls(settings, config, execution)
        phase.settings = settings.meanflow
        phase.bare = create_custom_model("meta", **config).network.eval()
        phase.bare_growth = Growth(phase.bare)
        return phase

    def turns(self, step):
        for turn in super().turns(step):
            self.bare_growth.use("inner" if self.is_start else "whole")
            yield turn

    def loss_of(self, images, noise, progress):
        error, differ = self.errors(images, noise)
        squared = error.square().mean(dim=(1, 2, 3))
        weight = (squared.detach() + SMALLEST_ERROR) ** -self.settings.meanflow_power
        parts = {"mean_loss": squared[:differ], "flow_loss": squared[differ:]}
        metrics = {key: part.detach().mean() for key, part in parts.items() if len(part)}
        return (weight * squared).mean(), metrics

    def errors(self, images, noise):
        """(u - target `[B, C, H, W]`, how many of them, the first, are of two times)."""
        flow, settings = self.model.scheduler, self.settings
        differ = round(len(images) * settings.meanflow_share)
        t, length = draw_times(
            len(images), differ, settings.meanflow_mean, settings.meanflow_std, images.device
        )
        x, target = flow.forward_process(images, noise, t), flow.get_target(images, noise, t)
        if differ:
            first = [one[:differ] for one in (x, t, length, target)]
            target[:differ] -= per_image(length[:differ]) * self.derivative(*first)
        return self.learners[0](x, t, length) - target, differ

    @torch.no_grad()
    def derivative(self, x, t, length, velocity):
        """du/dt at these points, by the present weights without dropout."""
        # Torch's derivative of group normalisation knows the plain memory layout alone.
        x, velocity = x.contiguous(), velocity.contiguous()
        named, flow = self.model.network.named_parameters(), self.model.scheduler
        weights = {name: weight.contiguous() for name, weight in named}

        def mean_velocity(x, t, length):
            times = (flow.num_train_timesteps * one for one in (t, length))
            return torch.func.functional_call(self.bare, weights, (x, *times))

        return along_flow(mean_velocity, x, t, length, velocity)


def draw_times(count, differ, mean, std, device):
    """(t, t - r) `(count,)`: the larger and the smaller of two numbers with logit ~ N(mean, std^2);
    of all but the first `differ`, r = t."""
    times = torch.sigmoid(mean + std * torch.randn(2, count, device=device))
    t, length = times.amax(dim=0), times.amax(dim=0) - times.amin(dim=0)
    length[differ:] = 0
    return t, length


def along_flow(mean_velocity, x, t, length, velocity):
    """du/dt = v d_x u + d_t u (eq. 8), where r stays: so t - r grows with t.

    mean_velocity(x, t, length) -> like x; x, velocity: `[B, C, H, W]`; t, length: `(B,)`.
    """
    grows = torch.ones_like(t)
    return torch.func.jvp(mean_velocity, (x, t, length), (velocity, grows, grows))[1]


def check(settings):
    """Raise `UserError` for a range of the time input that would not be used."""
    given = settings.network.num_train_timesteps
    if given != FLOW_DEFAULTS["num_train_timesteps"]:
        raise UserError(
            f"--num_train_timesteps {given}: --method meanflow has --meanflow_range for that; leave"
            " it out"
        )


def check_size(settings, size):
    """Raise `UserError` where micro-batches of `size` images would lose a part to rounding."""
    check_share("meanflow_share", settings.meanflow.meanflow_share, size)


METHOD = Method(
    name="meanflow",
    summary="the mean velocity over a step, learnt from its own derivative along the flow",
    phase=MeanFlowPhase,
    groups={"meanflow": MeanFlow},
    steps_flag="num_iterations",
    check=check,
    check_size=check_size,
)
