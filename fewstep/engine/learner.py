"""A network that learns: its calls, its gradients over parts and processes, its optimiser."""

from contextlib import nullcontext

import torch
from torch import nn

GRADIENT_CLIP = 1.0


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


def moving_target_adam(parameters, lr, kernels):
    """Adam without momentum, for networks whose opponents move: a GAN's habit (StyleGAN2,
    arXiv:1912.04958) that phase 2 keeps for all that learns."""
    return Adam(parameters, lr, (0.0, 0.99), kernels)


class Learner:
    """A module, the optimiser of its parameters, and how its gradients come together.

    call: name of the module's method whose result is differentiated. autocast: factory of contexts
    of the run's precision. processes: the job's, see `engine.processes`. Calling the learner calls
    that method so that gradients of the next backward pass are joined over processes.
    """

    def __init__(self, module, call, optimizer, autocast, processes, device):
        self.module, self.optimizer = module, optimizer
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.run = runner(autocast)
        self.joined = processes.shared(Called(module, call), device)

    def __call__(self, *inputs):
        return self.run(self.joined, *inputs)

    def gather(self, parts, backward):
        """Call `backward(part)`, which ends in a backward pass, for each part; gradients add up,
        and processes exchange them in the last alone. Returns what it returned, a list."""
        found = []
        for place, part in enumerate(parts, 1):
            with nullcontext() if place == len(parts) else self.joined.no_sync():
                found.append(backward(part))
        return found

    def apply(self):
        """Clip, step, clear. A gradient that is not finite is dropped: one such update would stay
        in the weights and the average for ever. Returns its norm, and 1 where it was dropped, as
        tensors: with fused kernels nothing here waits for the device."""
        group = self.optimizer.param_groups[0]
        norm = nn.utils.clip_grad_norm_(
            self.parameters, GRADIENT_CLIP, foreach=bool(group["fused"] or group["foreach"])
        )
        dropped = torch.isfinite(norm).logical_not().to(torch.float32)
        if group["fused"]:
            self.optimizer.found_inf = dropped  # the kernels skip, as they do for a GradScaler
            self.optimizer.step()
        elif not dropped:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm, dropped


class Called(nn.Module):
    """A module with one of its methods as the forward pass: DDP joins gradients of that alone."""

    def __init__(self, module, call):
        super().__init__()
        self.module, self.call = module, call

    def forward(self, *inputs):
        return getattr(self.module, self.call)(*inputs)


def runner(autocast):
    """run(network, *inputs): `network(*inputs)` in the run's precision. Each call has a context of
    its own: autocast keeps the weights it has cast, which would go stale after an update within the
    context."""

    def run(network, *inputs):
        with autocast():
            return network(*inputs)

    return run
