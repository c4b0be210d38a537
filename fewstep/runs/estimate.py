"""What `--dry_run` prints: settings, sizes, and a time measured on this device."""

import json
import time
from dataclasses import replace

import torch

from fewstep.engine.execution import execution_of, run_choices
from fewstep.engine.hardware import wait_for
from fewstep.engine.microbatch import micro_batches_of, split
from fewstep.engine.processes import ALONE
from fewstep.runs.building import build_distilled, build_scratch
from fewstep.runs.settings import distils, method_of, phases_of
from src.formatting import duration
from src.samplers import IMAGE_SHAPE

SIGMA_DATA = 0.5  # any: times and sizes do not depend on it
PLACES, STEPS = 4, 4  # of a phase, and there one after another, are timed
SECONDS_A_PLACE = 0.7  # after which no further step is timed
MOST_IMAGES_ON_CPU = 8


def describe(settings, device, processes=1):
    """A text of the resolved settings, parameter counts, disk need and estimated time.

    Times a few real steps on random images, those of one of so many processes; writes nothing.
    """
    is_compiled = run_choices(settings, device).compile != "off"
    where = f"{device}, not compiled" if is_compiled else f"{device}"
    if processes > 1:
        where += f", {processes} processes"
    lines = [json.dumps(settings.as_dict(), indent=2)]
    for phase in _uncompiled(settings, device):
        sizes = [_bytes(learner) for learner in phase.learners]
        counts = [sum(p.numel() for p in one.module.parameters()) for one in phase.learners]
        pairs = zip(phase.learners, counts)
        listed = "; ".join(f"{one.name} {count:,}" for one, count in pairs)
        # Beside those kept stand the best one, and the newest while it is written.
        disk = sum(sizes) * (settings.run.keep_checkpoints + 2)
        seconds = phase.total * _step_seconds(settings, phase, device, processes)
        lines.append(f"{phase.name}: parameters: {listed}")
        lines.append(
            f"{phase.name}: {phase.total:,} steps, about {duration(seconds)} on {where};"
            f" checkpoints up to {disk / 2**20:,.0f} MiB"
        )
    lines.append("dry run: nothing was read, trained or written")
    return "\n".join(lines)


def training_seconds(settings, device):
    """Seconds of the method's own phase of these settings, from a few steps timed on the device."""
    *_, phase = _uncompiled(settings, device)
    return phase.total * _step_seconds(settings, phase, device, 1)


def steps_that_fit(settings, seconds, device):
    """How many steps of the method's own phase fit into so many seconds on the device."""
    *_, phase = _uncompiled(settings, device)
    return max(1, int(seconds / _step_seconds(settings, phase, device, 1)))


def _uncompiled(settings, device):
    """Their phases, not compiled, which would take minutes and leave files."""
    speed = replace(settings.speed, compile="off")
    return random_phases(replace(settings, speed=speed), device)


def random_phases(settings, device):
    """The `Phase`s that these settings run, on random weights."""
    method, names = method_of(settings), phases_of(settings)
    phases = []
    for name in names:
        if not distils(settings, name):
            phases.append(build_scratch(name, settings, SIGMA_DATA, device, ALONE))
            continue
        teaches = build_scratch(method.teacher.name, settings, SIGMA_DATA, device, ALONE)
        config = method.config(teaches.config, settings)
        phases.append(build_distilled(settings, teaches.ema, config, device, ALONE))
    return phases


def _step_seconds(settings, phase, device, processes):
    """Mean seconds of a step of one of so many processes, over steps spread through the phase: not
    all learn at all times."""
    batch, micro = settings.data.batch_size, settings.speed.micro_batch
    share = batch // processes
    size = share // micro_batches_of(batch, micro, processes)
    timed = min(size, MOST_IMAGES_ON_CPU) if device.type == "cpu" else size
    images = torch.rand(timed, *IMAGE_SHAPE, device=device) * 2 - 1
    images = execution_of(settings, device).lay_out(images)
    times = []
    for place in range(PLACES):
        first = int(phase.total * (place + 0.5) / PLACES)
        phase.step(split(images, [0]), first)  # each kind of step may have something to set up
        began, steps = time.perf_counter(), 0
        while steps < STEPS and (not steps or time.perf_counter() - began < SECONDS_A_PLACE):
            phase.step(split(images, [0]), first + steps)
            wait_for(device)
            steps += 1
        times.append((time.perf_counter() - began) / steps)
    return sum(times) / len(times) * share / timed


def _bytes(learner):
    """Of its weights, average and Adam's two moments in fp32."""
    copies = 4 if learner.average else 3
    return 4 * copies * sum(p.numel() for p in learner.module.parameters())
