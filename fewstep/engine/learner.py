"""A network that learns: its gradients over micro-batches and processes, its optimiser, its EMA."""

from contextlib import nullcontext

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from fewstep.engine.schedules import ema_decay, warmup_cosine
from src.foreign import AVERAGE

GRADIENT_CLIP = 1.0

# A GAN's habit (StyleGAN2, arXiv:1912.04958) for all that learns against a moving target.
NO_MOMENTUM = (0.0, 0.99)


class Adam(torch.optim.Adam):
    """Adam whose kernels are those of this run, whatever those of a loaded state were.

    kernels: "fused" (one for all), "foreach" (a few) or "loop" (several for each tensor).
    """

    def __init__(self, parameters, lr, betas, kernels):
        chosen = dict(fused=kernels == "fused", foreach=kernels == "foreach")
        super().__init__(parameters, lr=lr, betas=betas, **chosen)

    def load_state_dict(self, state):
        own = {key: self.defaults[key] for key in ("fused", "foreach")}
        groups = [group | own for group in state["param_groups"]]
        super().load_state_dict(state | {"param_groups": groups})
        # Fused kernels walk through memory, so moments must lie as their weights do now.
        for parameter, moments in self.state.items():
            for key, value in moments.items():
                if value.shape == parameter.shape and value.stride() != parameter.stride():
                    moments[key] = torch.empty_like(parameter).copy_(value)

    def set_lr(self, lr):
        for group in self.param_groups:
            group["lr"] = lr


class Learner:
    """A module, the optimiser of its parameters, its average, and how gradients come together.

    name: of its state and metrics. call: the module's method whose result is differentiated.
    execution: see `engine.execution`. lr: the learning rate as a function of the step. decay: of
    the average as a function of the updates so far; None: there is no average. some_unused: not
    all parameters have a part in each loss. Calling the learner
    calls that method so that the next backward pass joins gradients over processes.
    """

    def __init__(
        self, name, module, call, execution, lr, betas=NO_MOMENTUM, decay=None, some_unused=False
    ):
        self.name, self.module, self.execution, self.lr = name, module, execution, lr
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        kernels = execution.speed.updates
        self.optimizer = Adam(self.parameters, 0.0, betas, kernels)  # the rate: at each update
        self.joined = execution.processes.shared(
            Called(module, call), execution.device, some_unused
        )
        self.decay, self.average, self.updates = decay, None, 0
        if decay:
            # The average is a network of its own, exported as it is and never swapped in.
            self.average = AveragedModel(module)
            self.average.eval().requires_grad_(False)
        self.in_one_kernel = kernels != "loop"

    def __call__(self, *inputs):
        return self.execution.run(self.joined, *inputs)

    @property
    def drop_metric(self):
        """Name of the metric that says whether its update was dropped."""
        return f"{self.name}_skipped"

    @property
    def ema(self):
        """The averaged module."""
        return self.average.module

    def exchange(self, is_last):
        """A context of one backward pass: gradients add up, and processes exchange them in the
        last one of an update alone."""
        return nullcontext() if is_last else self.joined.no_sync()

    def update(self, step):
        """Clip, step, clear, let the average follow. A gradient that is not finite is dropped: one
        such update would stay in the weights and the average for ever. Returns its norm, and 1
        where it was dropped, as tensors: with fused kernels nothing here waits for the device, but
        for a rate that follows what was measured (`disc_lead_most`)."""
        self.optimizer.set_lr(self.lr(step))
        group = self.optimizer.param_groups[0]
        in_one = bool(group["fused"] or group["foreach"])
        norm = nn.utils.clip_grad_norm_(self.parameters, GRADIENT_CLIP, foreach=in_one)
        dropped = torch.isfinite(norm).logical_not().to(torch.float32)
        if group["fused"]:
            self.optimizer.found_inf = dropped  # the kernels skip, as they do for a GradScaler
            self.optimizer.step()
        elif not dropped:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self._follow()
        return norm, dropped

    @torch.no_grad()
    def _follow(self):
        """Move the average towards the module. After a dropped update the module is as it was, and
        one step more towards it does no harm; asking first would wait for the device."""
        rate = 1 - self.decay(self.updates) if self.updates else 1.0
        averaged, current = list(self.ema.parameters()), list(self.module.parameters())
        if self.in_one_kernel:
            torch._foreach_lerp_(averaged, current, rate)
        else:
            for mean, value in zip(averaged, current):
                mean.lerp_(value, rate)
        self.updates += 1

    def let_learn(self, learns):
        """Whether the parameters want gradients: not while others learn from the module."""
        for parameter in self.parameters:
            parameter.requires_grad_(learns)

    def stateful(self):
        """{name: whatever has a state that must outlive the process}."""
        parts = {self.name: self.module, f"{self.name}_optimizer": self.optimizer}
        if self.average:
            self.average.n_averaged.fill_(self.updates)
            parts[f"{self.name}{AVERAGE}"] = self.average
        return parts

    def loaded(self):
        """Call this after the states were loaded."""
        if self.average:
            self.updates = int(self.average.n_averaged)


class Called(nn.Module):
    """A module with one of its methods as the forward pass: DDP joins gradients of that alone."""

    def __init__(self, module, call):
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *inputs):
        return getattr(self.module, self.call)(*inputs)


def steady_learner(
    name, module, call, execution, rate, total, warmup, ema_share, since=lambda step: step, **more
):
    """A `Learner` of a loss that nobody plays against: Adam with momentum, a rate that rises to
    `rate` in `warmup` of `total` steps and falls to 0, and an average that grows with the run.

    since(step): the step in a schedule that begins anew in each part of a phase, of `total` steps.
    """
    return Learner(
        name,
        module,
        call,
        execution,
        lr=lambda step: rate * warmup_cosine(since(step), total, warmup),
        betas=(0.9, 0.99),
        decay=lambda updates: ema_decay(since(updates), ema_share),
        **more,
    )
