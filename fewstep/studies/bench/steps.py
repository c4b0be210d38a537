"""Turns of training steps to be timed: ours with any speed settings, and the plain loop's."""

import itertools
from pathlib import Path
from typing import NamedTuple

import torch

from custom_model import MODEL_DEFAULTS, create_custom_model
from fewstep.engine.microbatch import parts_of, split
from fewstep.engine.precision import prepare_backends
from fewstep.engine.processes import ALONE
from fewstep.images import ImageCache
from fewstep.runs import building
from fewstep.runs.command_line import make_settings
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
        stage, first = new_stage(phase, settings, self.device)
        seeds = range(parts_of(settings.data.batch_size, settings.speed.micro_batch, ALONE.count))
        numbers = itertools.count(first)

        def turn():
            prepare_backends(self.device, settings.speed.tf32)  # another way may have changed them
            for number in itertools.islice(numbers, self.steps):
                metrics = stage.step(split(next(batches), seeds), number)
                if reads:
                    for value in metrics.values():
                        value.item()

        return turn


def new_stage(phase, settings, device):
    """(a stage with random weights, the first of its steps in which everyone learns)."""
    torch.manual_seed(0)
    config = building.teacher_config(settings, MODEL_DEFAULTS["sigma_data"])
    if phase == "teacher":
        return building.build_teacher(settings, config["sigma_data"], device, ALONE), 0
    teacher = create_custom_model(device, **config)
    student_json = building.student_config(config, settings, "")
    stage = building.build_student(settings, teacher, student_json, device, ALONE)
    return stage, stage.warm_start + stage.alone
