"""What both phases share, behind the one interface that the loop knows.

A stage has `name`, `step(parts, step) -> metrics`, `ema` (the model to sample and save), and
`state_dict` / `load_state_dict` that hold all it needs to go on. Metrics are scalar tensors on the
device; those with "skipped" in their name say whether a network's update was dropped.
"""

import torch
from torch.optim.swa_utils import AveragedModel

from fewstep.engine.fit import first_misfit


class Stage:
    """A model in training, its EMA, and the bookkeeping of their state.

    decay: function of the updates so far. kernels: see `fewstep.engine.learner.Adam`.
    """

    def __init__(self, model, decay, kernels):
        self.model, self.decay = model.train(), decay
        # The average is a network of its own, exported as it is and never swapped in.
        self.average = AveragedModel(model)
        self.average.eval().requires_grad_(False)
        self.updates = 0  # of the average
        self.in_one_kernel = kernels != "loop"

    @property
    def ema(self):
        """The averaged `CustomGenerativeModel`."""
        return self.average.module

    def _kept(self):
        """Name -> whatever has a state that must outlive the process."""
        raise NotImplementedError

    def state_dict(self):
        self.average.n_averaged.fill_(self.updates)
        return {name: part.state_dict() for name, part in self._kept().items()}

    def load_state_dict(self, state):
        """Go on with a state of `state_dict`. Raises `ValueError`, with nothing loaded, for one of
        other networks."""
        kept = self._kept()
        difference = first_misfit(kept, state)
        if difference:
            raise ValueError(difference)
        for name, part in kept.items():
            part.load_state_dict(state[name])
        self.updates = int(self.average.n_averaged)

    @torch.no_grad()
    def follow(self):
        """Move the average towards the model. After a dropped update the model is as it was, and
        one step more towards it does no harm; asking first would wait for the device."""
        rate = 1 - self.decay(self.updates) if self.updates else 1.0
        averaged, current = list(self.ema.parameters()), list(self.model.parameters())
        if self.in_one_kernel:
            torch._foreach_lerp_(averaged, current, rate)
        else:
            for mean, value in zip(averaged, current):
                mean.lerp_(value, rate)
        self.updates += 1
