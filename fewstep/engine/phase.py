"""What the loop trains: a phase has learners, and turns in which they learn."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from fewstep.engine.fit import first_misfit
from fewstep.engine.learner import Learner


class Turn(NamedTuple):
    """One update of one learner.

    loss(micro_batch) -> (scalar to differentiate, {name: scalar tensor to log}).
    """

    learner: Learner
    loss: Callable


class Phase:
    """A phase of a method, behind the one interface that the loop knows.

    learners: all that learns; the first one's average is what is sampled and saved. total: steps.
    first_total: those that it was begun with, where it was taken further since. config: the
    `model_config.json` of what is saved. Its subclasses have `name` and `turns`.
    """

    name = None
    nfe_rows = (1, 2, 4)  # evaluations an image, a row of the sheet each
    panels = {}  # of the curves: {title: `engine.curves.Panel`}
    healthy = {}  # {key of its rows: (low, high)}, where a healthy range is known
    best_by = None  # the held-out metric whose smallest value marks the best checkpoint
    has_fixed_length = False  # whether it cannot be taken further, by more steps than it had
    learns_levels = False  # whether noise levels in `config` are learnt
    has_rehearsal = True  # whether its steps work on tensors without values, see `counting`
    remedies = {}  # name of a metric that counts dropped updates: what helps
    drawn_first = 0  # evaluations of a network on one image, before the first step
    fixed_start = 0  # its first steps, of another kind, as many however long it is
    is_start = False  # whether it learns images of half the side as yet, and can make no whole ones

    def __init__(self, learners, total, config):
        self.learners, self.total, self.config = learners, total, config
        self.first_total = total

    @classmethod
    def makes(cls, config):
        """Whether a model of that `model_config.json` could have come out of this phase, for those
        that are distilled."""
        return False

    @property
    def model(self):
        """The model in training."""
        return self.learners[0].module

    @property
    def ema(self):
        """Its average."""
        return self.learners[0].ema

    @property
    def drop_metrics(self):
        """Names of the metrics that say whether an update was dropped."""
        return [learner.drop_metric for learner in self.learners]

    def start_from(self, weights):
        """Begin with a state dict of the model in place of the weights it was built with."""
        self.model.load_state_dict(weights)
        self.ema.load_state_dict(weights)

    def rehearse(self):
        """Steps will only be counted or timed: leave out what is drawn once for a whole run."""

    def draw_first(self, step, check):
        """Draw what is drawn once for a whole run, if the steps from this one on need it; `check()`
        now and then raises where the run is to stop."""

    def evaluate_first(self, images):
        """One evaluation, on so many images, of the kind that `drawn_first` counts."""
        raise NotImplementedError

    def turns(self, step):
        """Yield the `Turn`s of a step, in their order; what stands after a `yield` is done after
        that turn was taken."""
        raise NotImplementedError

    def observe(self, micro_batch):
        """{name: scalar tensor} that is logged beside what the turns log."""
        return {}

    def concerns(self, row):
        """{name: one line} of what is wrong in this row of the log."""
        return {}

    def heldout_metrics(self, images):
        """{name: number} of held-out images `[B, 3, H, W]`, at picture steps."""
        return {}

    def pictures(self, count, side):
        """Images `[rows * count, 3, side, side]` of the average, the same noise each time."""
        shape, seeds = (count, 3, side, side), range(count)
        return torch.cat([self.ema.sample(shape, nfe, seeds=seeds) for nfe in self.nfe_rows])

    def step(self, micro_batches, step):
        """Take all turns of a step on a list of `MicroBatch`. Returns {name: scalar tensor on the
        device}, means over micro-batches and turns."""
        for one in micro_batches:
            one.results.clear()
        taken = [take_turn(turn, micro_batches, step) for turn in self.turns(step)]
        observed = mean_metrics([self.observe(one) for one in micro_batches])
        names = dict.fromkeys(name for metrics in taken for name in metrics)
        # A learner may have several turns in a step.
        return observed | {
            name: torch.stack([metrics[name] for metrics in taken if name in metrics]).mean()
            for name in names
        }

    def _stateful(self):
        return {name: part for one in self.learners for name, part in one.stateful().items()}

    def state_dict(self):
        """All that is needed to go on."""
        return {name: part.state_dict() for name, part in self._stateful().items()}

    def load_state_dict(self, state):
        """Go on with a state of `state_dict`. Raises `ValueError`, with nothing loaded, for one of
        other networks."""
        parts = self._stateful()
        difference = first_misfit(parts, state)
        if difference:
            raise ValueError(difference)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        for learner in self.learners:
            learner.loaded()


def take_turn(turn, micro_batches, step):
    """Gather gradients over micro-batches and processes, then update. Returns mean metrics, with
    the norm of the gradient and whether the update was dropped."""
    learner, rows = turn.learner, []
    for place, micro_batch in enumerate(micro_batches, 1):
        with learner.exchange(is_last=place == len(micro_batches)):
            loss, metrics = turn.loss(micro_batch)
            (loss / len(micro_batches)).backward()
        rows.append(metrics)
    norm, dropped = learner.update(step)
    return mean_metrics(rows) | {f"{learner.name}_grad_norm": norm, learner.drop_metric: dropped}


def mean_metrics(rows):
    """The mean of dicts with the same keys, of scalar tensors."""
    return {key: torch.stack([row[key] for row in rows]).mean() for key in rows[0]}
