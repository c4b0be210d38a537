"""Ways of taking a training step, each built from settings: ours, the plain one, one lever off."""

import itertools
from argparse import ArgumentTypeError
from dataclasses import fields
from typing import NamedTuple

import torch

from custom_model import create_custom_model
from dataset import get_data_iterator
from fewstep.engine.microbatch import parts_of, split
from fewstep.engine.precision import prepare_backends
from fewstep.engine.processes import ALONE
from fewstep.runs.building import build_student, build_teacher, student_config, teacher_config
from fewstep.runs.command_line import make_settings
from fewstep.runs.estimate import SIGMA_DATA
from fewstep.runs.presets import PRESETS
from fewstep.runs.settings import GROUPS
from fewstep.studies.bench.device import cores, held_bytes, peak_bytes, waiter
from fewstep.studies.bench.pictures import file_loader
from fewstep.studies.bench.turns import seconds_of
from src.arguments import line, whole_number
from src.utils import UserError, did_you_mean

# What a step was before any of the levers.
PLAIN = dict(
    compile="off",
    precision="fp32",
    tf32=False,
    channels_last="off",
    attention="explicit",
    data_on_device="off",
    updates="loop",
    joint_disc=False,
)


class Contender(NamedTuple):
    """A way of training, warmed up: run() takes one turn of steps; seconds of the first turn
    (compilation included); most bytes of device memory that it needs for itself, or None."""

    run: callable
    warmup: float
    peak: int


def parse_lever(text):
    """The lever "compile=off" -> ("compile", "off"), the value as that setting's type.

    Raises `UserError` for an unknown name or a value that cannot be.
    """
    known = {item.name: item for item in fields(GROUPS["speed"])}
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--lever {text}: write NAME=VALUE")
    if name not in known:
        raise UserError(f"--lever {name}: unknown{did_you_mean(name, known)}")
    value = _typed(known[name], value)
    make_settings({name: value})  # knows the range
    return name, value


def _typed(item, value):
    choices = item.metadata["choices"]
    if isinstance(item.default, bool):
        choices = ["on", "off"]
    if choices and value not in choices:
        raise UserError(f"--lever {item.name}={value}: use one of {', '.join(choices)}")
    if isinstance(item.default, bool):
        return value == "on"
    kind = whole_number if isinstance(item.default, int) else line
    try:
        return kind(value)
    except ArgumentTypeError:
        raise UserError(f"--lever {item.name}={value}: a number is needed") from None


def settings_of(preset, batch_size, speed, cache_dir):
    """The `Settings` of a preset with these values of the group `speed`. Raises `UserError`."""
    values = {**PRESETS[preset], "batch_size": batch_size, "cache_dir": str(cache_dir), **speed}
    return make_settings(values)


def file_batches(settings, paths, device):
    """step -> images `[B, 3, 64, 64]` on the device, from a `DataLoader` that decodes file after
    file; the step does not matter."""
    loader = file_loader(paths, settings.data.batch_size, min(4, cores()))
    batches = get_data_iterator(loader)
    return lambda step: next(batches).to(device)


def new_stage(phase, settings, device):
    """A stage with random weights, and the first of its steps in which everyone learns."""
    torch.manual_seed(0)
    if phase == "teacher":
        return build_teacher(settings, SIGMA_DATA, device, ALONE), 0
    config = teacher_config(settings, SIGMA_DATA)
    teacher = create_custom_model(device, **config)
    student_json = student_config(config, settings, "")
    stage = build_student(settings, teacher, student_json, device, ALONE)
    return stage, stage.warm_start + stage.alone


def turn_of(phase, settings, batches, device, steps):
    """A function that takes `steps` steps, the next ones at each call, fetching included."""
    stage, first = new_stage(phase, settings, device)
    seeds = range(parts_of(settings.data.batch_size, settings.speed.micro_batch, ALONE.count))
    counter = itertools.count(first)

    def turn():
        prepare_backends(device, settings.speed.tf32)  # the other contender may have changed them
        for _, step in zip(range(steps), counter):
            stage.step(split(batches(step), seeds), step)

    return turn


def prepare(phase, settings, batches, device, steps):
    """Build a `Contender`: take one turn to compile and tune, and another to see the memory it
    takes beside what was there before."""
    wait, held = waiter(device), held_bytes(device)
    turn = turn_of(phase, settings, batches(), device, steps)
    warmup = seconds_of(turn, wait)
    return Contender(turn, warmup, peak_bytes(turn, device, held))
