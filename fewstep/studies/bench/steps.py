"""Turns of training steps to be timed: ours with any speed settings, and the plain loop's."""

import itertools
from pathlib import Path
from typing import NamedTuple

import torch

from fewstep.engine.microbatch import micro_batches_of, split
from fewstep.engine.precision import prepare_backends
from fewstep.engine.processes import ALONE
from fewstep.images import ImageCache
from fewstep.runs import building
from fewstep.runs.command_line import make_settings
from fewstep.runs.estimate import random_phases
from fewstep.runs.presets import PRESETS
from fewstep.studies.bench.faces import WORKERS, loader_batches

# What a step was before any of the speed settings that do not save memory.
PLAIN = dict(
    compile="off", precision="fp32", tf32=False, channels_last="off",
    attention="explicit", data_on_device="off", updates="loop", joint_disc=False,
)  # fmt: skip


class Turns(NamedTuple):
    """What all turns of one command share. steps: of a turn. files, cache: the same images."""

    preset: str
    steps: int
    device: torch.device
    files: Path
    cache: ImageCache

    def ours(self, phase, batch_size, **speed):
        """A function that takes the next `steps` steps at each call, with these values of the group
        `speed` in place of the defaults."""
        settings = self.settings(batch_size, **speed)
        batches = building.build_batches(settings, self.cache, self.device, ALONE)
        return self._turn(phase, settings, map(batches, itertools.count()))

    def plain(self, phase, batch_size):
        """The same of the plain loop, which reads every metric at every step."""
        batches = loader_batches(self.files, batch_size, WORKERS, self.device)
        return self._turn(phase, self.settings(batch_size, **PLAIN), batches, reads=True)

    def settings(self, batch_size, **speed):
        """The `Settings` of the preset with these values. Raises `UserError`."""
        values = {"batch_size": batch_size, "cache_dir": str(self.files.parent)}
        return make_settings({**PRESETS[self.preset], **values, **speed})

    def _turn(self, phase, settings, batches, reads=False):
        trained, first = new_phase(phase, settings, self.device)
        count = micro_batches_of(settings.data.batch_size, settings.speed.micro_batch, 1)
        numbers = itertools.count(first)

        def turn():
            prepare_backends(self.device, settings.speed.tf32)  # another way may have changed them
            for number in itertools.islice(numbers, self.steps):
                metrics = trained.step(split(next(batches), range(count)), number)
                if reads:
                    for value in metrics.values():
                        value.item()

        return turn


def new_phase(name, settings, device):
    """(a `Phase` with random weights, the first of its steps in which everyone learns)."""
    torch.manual_seed(0)
    phases = {phase.name: phase for phase in random_phases(settings, device)}
    phase = phases[name]
    return phase, getattr(phase, "warm", 0) + getattr(phase, "alone", 0)
