"""What both phases share, behind the one interface that the loop knows.

A stage has `name`, `step(x0, step) -> metrics`, `ema` (the model to sample and save), and
`state_dict` / `load_state_dict` that hold all it needs to go on.
"""

import torch
from torch.optim.swa_utils import AveragedModel

GRADIENT_CLIP = 1.0


class Stage:
    """What both phases share: a model in training, its EMA, and the bookkeeping of their state."""

    def __init__(self, model, decay, autocast):
        self.model, self._run = model.train(), runner(autocast)
        # The average is a network of its own, exported as it is and never swapped in.
        self.average = AveragedModel(model, multi_avg_fn=_multi_average(decay))
        self.average.eval().requires_grad_(False)

    @property
    def ema(self):
        """The averaged `CustomGenerativeModel`."""
        return self.average.module

    def _kept(self):
        """Name -> whatever has a state that must outlive the process."""
        raise NotImplementedError

    def state_dict(self):
        return {name: part.state_dict() for name, part in self._kept().items()}

    def load_state_dict(self, state):
        for name, part in self._kept().items():
            part.load_state_dict(state[name])


def runner(autocast):
    """run(network, *inputs): `network(*inputs)` in the run's precision. Each call has a context of
    its own: autocast keeps the weights it has cast, which would go stale after an update within the
    context."""

    def run(network, *inputs):
        with autocast():
            return network(*inputs)

    return run


def _multi_average(decay):
    """An EMA update for `AveragedModel` whose decay is a function of the updates so far."""

    @torch.no_grad()
    def update(averaged, current, count):
        rate = 1 - decay(int(count))
        torch._foreach_lerp_(list(averaged), list(current), rate)

    return update


def moving_target_adam(parameters, lr):
    """Adam without momentum, for networks whose opponents move: a GAN's habit (StyleGAN2,
    arXiv:1912.04958) that phase 2 keeps for all that learns."""
    return torch.optim.Adam(parameters, lr=lr, betas=(0.0, 0.99))


def set_lr(optimizer, lr):
    for group in optimizer.param_groups:
        group["lr"] = lr


def apply_gradients(optimizer, model):
    """Clip, step, clear. A gradient that is not finite is dropped: one such update would stay in
    the weights and the average for ever. Returns its norm and whether it was applied."""
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_CLIP)
    applied = bool(torch.isfinite(norm))
    if applied:
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm, applied
