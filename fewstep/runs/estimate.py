"""What `--dry_run` prints: settings, sizes, and a time measured on this device."""

import json
import time
from dataclasses import replace
from typing import NamedTuple

import torch

from fewstep.engine.compiling import compile_mode
from fewstep.engine.hardware import wait_for
from fewstep.engine.microbatch import parts_of, split
from fewstep.engine.precision import lay_out
from fewstep.engine.processes import ALONE
from fewstep.runs.building import build_student, build_teacher, student_config, teacher_config
from fewstep.runs.derived import alone_steps
from src.samplers import IMAGE_SHAPE

SIGMA_DATA = 0.5  # any: times and sizes do not depend on it
MOST_ROUNDS = 16
LEAST_SECONDS = 2.0  # of timing each kind of step
CHECKPOINT_COPIES = 4  # weights, average, and Adam's two moments


def describe(settings, device, processes=1):
    """A text of the resolved settings, parameter counts, disk need and estimated time.

    Times a few real steps on random images, those of one of so many processes; writes nothing.
    """
    told = settings.as_dict()
    is_compiled = compile_mode(settings.speed.compile, device) is not None
    # Compiling would take minutes and leave files.
    settings = replace(settings, speed=replace(settings.speed, compile="off"))
    teacher, student = _stages(settings, device)
    unet, critic = _parameters(student.model), sum(map(_parameters, student.critics))
    keep = settings.run.keep_checkpoints
    # Beside those kept stand the best one, and the newest while it is written.
    most = keep + 2
    teacher_disk = 4 * unet * (CHECKPOINT_COPIES * most + 2)
    student_disk = teacher_disk + 4 * critic * 3 * most
    lines = [json.dumps(told, indent=2)]
    lines.append(f"parameters: U-Net {unet:,}; what judges it {critic:,}")
    run, where = settings.run, f"{device}{', not compiled' * is_compiled}"
    if processes > 1:
        where += f", {processes} processes"
    steps = {
        "teacher": settings.teacher.num_iterations,
        "student": settings.student.student_iterations,
    }
    seconds = {
        "teacher": steps["teacher"] * _teacher_seconds(settings, teacher, device, processes),
        "student": phase_seconds(settings, _student_seconds(settings, student, device, processes)),
    }
    disk = {"teacher": teacher_disk, "student": student_disk}
    wanted = {"teacher": ["teacher"], "add": ["student"], "all": list(disk)}[run.phase]
    for name in wanted:
        lines.append(
            f"{name}: {steps[name]:,} steps, about {_clock(seconds[name])} on {where};"
            f" checkpoints up to {disk[name] / 2**20:,.0f} MiB"
        )
    lines.append("dry run: nothing was read, trained or written")
    return "\n".join(lines)


class StepSeconds(NamedTuple):
    """Seconds of a step of phase 2: of its warm start, of the critics alone, and of everyone."""

    warm: float
    alone: float
    usual: float


def student_seconds(settings, device):
    """`StepSeconds`, measured on this device."""
    return _student_seconds(settings, _stages(settings, device)[1], device, 1)


def phase_seconds(settings, times):
    """Seconds of all of phase 2 from those of its steps."""
    warm, alone = settings.student.warm_start, alone_steps(settings)
    rest = settings.student.student_iterations - warm - alone
    return warm * times.warm + alone * times.alone + rest * times.usual


def fitting_steps(settings, times, seconds):
    """How many steps of phase 2 fit into `seconds`."""
    warm, alone = settings.student.warm_start, alone_steps(settings)
    rest = seconds - warm * times.warm - alone * times.alone
    return max(1, warm + alone + int(rest / times.usual))


def _stages(settings, device):
    config = teacher_config(settings, SIGMA_DATA)
    teacher = build_teacher(settings, SIGMA_DATA, device, ALONE)
    student_json = student_config(config, settings, "")
    return teacher, build_student(settings, teacher.ema, student_json, device, ALONE)


def _part(settings, device, processes):
    """One part of random images, on a CPU a few of them, and the factor to the whole step of one of
    so many processes."""
    batch, micro = settings.data.batch_size, settings.speed.micro_batch
    share = batch // processes
    size = share // parts_of(batch, micro, processes)
    if device.type == "cpu":
        size = min(size, 8)
    images = torch.rand(size, *IMAGE_SHAPE, device=device) * 2 - 1
    return split(lay_out(images, device, settings.speed.channels_last), [0]), share / size


def _teacher_seconds(settings, teacher, device, processes):
    part, scale = _part(settings, device, processes)
    return scale * _seconds(lambda step: teacher.step(part, 0), device, 1)


def _student_seconds(settings, student, device, processes):
    part, scale = _part(settings, device, processes)

    def measured(first, rounds):
        return scale * _seconds(lambda step: student.step(part, first + step), device, rounds)

    begin = student.warm_start
    warm = measured(0, 1) if begin else 0.0
    alone = measured(begin, 1) if student.alone else 0.0
    # Over whole rounds of who learns when.
    rounds = student.disc_steps * (student.adversary.penalty_interval if student.adversary else 1)
    usual = measured(begin + student.alone, min(rounds, MOST_ROUNDS))
    return StepSeconds(warm, alone, usual)


def _seconds(work, device, rounds):
    """Mean over steps 0 to `rounds` - 1, repeated for at least `LEAST_SECONDS`."""
    for step in range(rounds):  # each kind of step may have code of its own to compile
        work(step)
    wait_for(device)
    began, steps = time.perf_counter(), 0
    while not steps or time.perf_counter() - began < LEAST_SECONDS:
        for step in range(rounds):
            work(step)
        steps += rounds
        wait_for(device)
    return (time.perf_counter() - began) / steps


def _parameters(module):
    return sum(p.numel() for p in module.parameters())


def _clock(seconds):
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
