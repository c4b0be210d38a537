"""What `--dry_run` prints: settings, sizes, and a time estimated for this device."""

import time
from dataclasses import replace
from typing import NamedTuple

import torch

from fewstep.engine.counting import Rehearsal
from fewstep.engine.execution import execution_of, run_choices
from fewstep.engine.hardware import wait_for
from fewstep.engine.microbatch import micro_batches_of, split
from fewstep.engine.processes import ALONE
from fewstep.runs.building import build_distilled, build_scratch, check_source
from fewstep.runs.command_line import make_settings
from fewstep.runs.help_page import values_page
from fewstep.runs.settings import STEPS_FLAGS, distils, flat, method_of, phases_of
from src.feedback import Progress
from src.formatting import duration, size_text
from src.samplers import IMAGE_SHAPE
from src.utils import UserError

SIGMA_DATA = 0.5  # any: times and sizes do not depend on it
PLACES, STEPS = 4, 4  # of a phase, and there one after another, are timed
SECONDS_A_PLACE = 0.7  # after which no further step is timed
MOST_IMAGES_ON_CPU = 8
# Steps that would take longer than this are not timed but reckoned from their operations, at this
# share of the speed of one large convolution (docs/performance.md).
MOST_SECONDS, SHARE_OF_PEAK = 2.0, 0.85
CONVOLUTION = (8, 128, 32, 32)  # its input


class Need(NamedTuple):
    """What a phase needs. parameters: {learner's name: count}. disk: bytes of its checkpoints.
    memory: bytes of one process's tensors, at most. operations: of one process in one step. These
    two are None where they cannot be counted. first: operations before the first step."""

    name: str
    steps: int
    parameters: dict
    disk: int
    memory: int
    operations: int
    first: float = 0.0


class Time(NamedTuple):
    """Seconds that a phase takes: `first` in all for what comes before its step number `fixed`,
    which does not depend on its length, and `each` for every step from there on. drawn: what of
    `first` is for images that are drawn before step 0."""

    each: float
    first: float = 0.0
    fixed: int = 0
    drawn: float = 0.0

    def of(self, steps):
        """Seconds of so many steps."""
        return self.first + max(0, steps - self.fixed) * self.each

    def fitting(self, seconds):
        """How many steps these seconds are enough for."""
        return max(1, int(self.fixed + (seconds - self.first) / self.each))


def describe(settings, device, processes=1, hours=0):
    """A text of the flags' values, what is known to keep the images from being opened, parameter
    counts, need of disk and memory, operations and estimated time, those of each of so many
    processes; where `hours` is not 0, also the lengths that take so long. Writes nothing."""
    is_compiled = run_choices(settings, device).compile != "off"
    where = f"{device}, not compiled" if is_compiled else f"{device}"
    if processes > 1:
        where += f", {processes} processes"
    lines = [values_page(settings), ""]
    try:
        check_source(settings)
    except UserError as error:
        lines.append(f"warning: {error}")
    with Progress("counting and timing steps"):
        needs = needs_of(settings, device, processes)
        times = _seconds_of(settings, needs, device, processes)
    for need, time_needed in zip(needs, times):
        memory = size_text(need.memory, "GiB") if need.memory else "not counted"
        work, total = "not counted", duration(time_needed.of(need.steps))
        if need.operations:
            images = settings.data.batch_size // processes
            work = f"{need.operations / images / 1e9:,.3g} GFLOP an image"
        listed = "; ".join(f"{name} {count:,}" for name, count in need.parameters.items())
        lines.append(f"{need.name}: parameters: {listed}")
        lines.append(
            f"{need.name}: {need.steps:,} steps, about {total} on {where};"
            f" {work}; memory of tensors {memory};"
            f" checkpoints up to {size_text(need.disk, digits=0)}"
        )
    if hours:
        lines.append(f"in {hours:g} h: {lengths_that_fit(settings, needs, times, 3600 * hours)}")
    lines.append("dry run: nothing was read, trained or written")
    return "\n".join(lines)


def lengths_that_fit(settings, needs, times, seconds):
    """The flags with which these phases take so many seconds together, each a like share of the
    steps it has now, rounded down to three digits; or, in words, why there are none. In less time
    than now a start of fixed length (`Method.start`) is shorter by that share, too: else it would
    leave the student hardly a step of what the start is for."""
    drawn = sum(time_needed.drawn for time_needed in times)
    now = sum(time_needed.of(need.steps) for need, time_needed in zip(needs, times))
    share, starts = max(0, seconds - drawn) / (now - drawn), {}
    if share > 1:
        first = sum(time_needed.of(time_needed.fixed) for time_needed in times)
        each = sum(need.steps * one.each for need, one in zip(needs, times))
        kept = sum(one.fixed * one.each for one in times)
        share = (seconds - first + kept) / each
    elif settings.run.phase != "teacher":
        method, values = method_of(settings), flat(settings.as_dict())
        used = set(method.start) - set(method.idle(settings))
        starts = {flag: int(share * values[flag]) for flag in method.start if flag in used}
        starts = {flag: steps for flag, steps in starts.items() if steps != values[flag]}
    lengths = {}
    for need in needs:
        steps = int(share * need.steps)
        digit = 10 ** max(0, len(str(steps)) - 3)
        lengths[STEPS_FLAGS[need.name]] = steps // digit * digit
    try:
        make_settings(flat(settings.as_dict()) | lengths | starts)
    except UserError as error:
        first = f" (drawing the pairs takes {duration(drawn)})" if drawn else ""
        return f"too few{first}: {error}"
    return " ".join(f"--{flag} {steps}" for flag, steps in (lengths | starts).items())


def needs_of(settings, device, processes=1):
    """The `Need` of each phase of these settings, counted in one step in which all learn."""
    count = micro_batches_of(settings.data.batch_size, settings.speed.micro_batch, processes)
    needs = []
    with Rehearsal() as rehearsal:
        for phase in _uncompiled(settings, device):
            counted, first = (None, None), 0.0
            if phase.has_rehearsal:
                shape = settings.data.batch_size // processes, *IMAGE_SHAPE
                images = execution_of(settings, device).lay_out(torch.zeros(shape, device=device))
                rehearsal.peak(), rehearsal.operations()  # up to here
                phase.step(split(images, range(count)), busy_step(phase))
                counted = rehearsal.peak(), rehearsal.operations()
                if phase.drawn_first:
                    phase.evaluate_first(images)
                    first = rehearsal.operations() * phase.drawn_first / len(images)
            sizes = {one.name: _parameters(one) for one in phase.learners}
            # Beside those kept stand the best one, and the newest while it is written.
            disk = sum(map(_bytes, phase.learners)) * (settings.run.keep_checkpoints + 2)
            needs.append(Need(phase.name, phase.total, sizes, disk, *counted, first))
    return needs


def busy_step(phase):
    """The first step of a phase in which all its learners learn."""
    return phase.fixed_start + getattr(phase, "alone", 0)


def _seconds_of(settings, needs, device, processes):
    """The `Time` of each phase."""
    images = settings.data.batch_size // processes
    at_once = min(images, MOST_IMAGES_ON_CPU) if device.type == "cpu" else images
    if all(need.operations for need in needs):
        speed = SHARE_OF_PEAK * _convolution_speed(execution_of(settings, device))
        reckoned = [need.operations / speed for need in needs]
        if max(reckoned) * at_once / images > MOST_SECONDS:
            drawn = [need.first / speed for need in needs]
            return [Time(each, first, drawn=first) for each, first in zip(reckoned, drawn)]
    return [_time_of(settings, phase, device, processes) for phase in _uncompiled(settings, device)]


@torch.no_grad()
def _convolution_speed(execution):
    """Operations a second of a large convolution, at best of a few."""
    device, channels = execution.device, CONVOLUTION[1]
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1, device=device)
    layer = execution.lay_out(layer)
    x = execution.lay_out(torch.ones(CONVOLUTION, device=device))
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        execution.run(layer, x)
        wait_for(device)
        seconds.append(time.perf_counter() - began)
    return 2 * 9 * channels * x.numel() / min(seconds)


def training_seconds(settings, device):
    """Seconds of the method's own phase of these settings, from a few steps timed on the device."""
    *_, phase = _uncompiled(settings, device)
    return _time_of(settings, phase, device, 1).of(phase.total)


def steps_that_fit(settings, seconds, device):
    """How many steps of the method's own phase fit into so many seconds on the device, whatever
    length these settings say."""
    *_, phase = _uncompiled(settings, device)
    return _time_of(settings, phase, device, 1).fitting(seconds)


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
    for phase in phases:
        phase.rehearse()
    return phases


def _time_of(settings, phase, device, processes):
    """The `Time` of one of so many processes."""
    batch, micro = settings.data.batch_size, settings.speed.micro_batch
    share, fixed = batch // processes, phase.fixed_start
    size = share // micro_batches_of(batch, micro, processes)
    timed = min(size, MOST_IMAGES_ON_CPU) if device.type == "cpu" else size
    images = torch.rand(timed, *IMAGE_SHAPE, device=device) * 2 - 1
    images = execution_of(settings, device).lay_out(images)
    each = _step_seconds(phase, images, fixed, phase.total) * share / timed
    first = drawn = _seconds_before(phase, images)
    if fixed:
        first += _step_seconds(phase, images, 0, fixed) * share / timed * fixed
    return Time(each, first, fixed, drawn)


def _step_seconds(phase, images, begin, end):
    """Mean seconds of a step on these images, over some spread between the steps `begin` and `end`:
    not all learn at all times."""
    times = []
    for place in range(PLACES):
        first = begin + int((end - begin) * (place + 0.5) / PLACES)
        phase.step(split(images, [0]), first)  # each kind of step may have something to set up
        began, steps = time.perf_counter(), 0
        while steps < STEPS and (not steps or time.perf_counter() - began < SECONDS_A_PLACE):
            phase.step(split(images, [0]), first + steps)
            wait_for(images.device)
            steps += 1
        times.append((time.perf_counter() - began) / steps)
    return sum(times) / len(times)


def _seconds_before(phase, images):
    """Seconds of what is drawn before the first step, if one process does it; several share it."""
    if not phase.drawn_first:
        return 0.0
    phase.evaluate_first(images)
    began = time.perf_counter()
    for _ in range(STEPS):
        phase.evaluate_first(images)
    wait_for(images.device)
    return (time.perf_counter() - began) / STEPS * phase.drawn_first / len(images)


def _parameters(learner):
    return sum(p.numel() for p in learner.module.parameters())


def _bytes(learner):
    """Of its weights, average and Adam's two moments in fp32."""
    copies = 4 if learner.average else 3
    return 4 * copies * _parameters(learner)
