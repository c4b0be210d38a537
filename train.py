"""Train a few-step generator: `python train.py --help`. Rerunning a command resumes it."""

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from fewstep.engine.batches import pixel_std, to_float
from fewstep.engine.execution import run_choices
from fewstep.engine.hardware import hardware
from fewstep.engine.lock import sole_use
from fewstep.engine.loggers import Reports
from fewstep.engine.loop import Job, train
from fewstep.engine.microbatch import micro_batches_of
from fewstep.engine.precision import prepare_backends
from fewstep.engine.processes import end_lost, from_environment, hush
from fewstep.engine.stopping import Interrupted, StopRequests
from fewstep.images import ImageSets, evenly
from fewstep.runs.building import (
    build_batches,
    build_distilled,
    build_scratch,
    load_teacher,
    open_images,
    selection_of,
)
from fewstep.runs.command_line import parse_settings
from fewstep.runs.estimate import describe
from fewstep.runs.finding import choose_run_folder, other_images
from fewstep.runs.results import Results, exported_path, warn_of_export
from fewstep.runs.run_folder import (
    add_facts,
    add_training,
    begin_run,
    own_teacher,
    phase_identity,
)
from fewstep.runs.settings import (
    BEFORE,
    GROWING_FLAGS,
    HEALTHY,
    PANELS,
    Settings,
    distils,
    flat,
    method_of,
    phases_of,
)
from fewstep.runs.starts import (
    given_flags,
    known_config,
    load_starts,
    start_digests,
    start_flags,
)
from fewstep.runs.variety import visible_colour
from src.utils import UserError, pick_device, run_command, weights_digest

HELDOUT_IMAGES = 64


def main():
    processes = from_environment()
    hush(processes)
    stop = StopRequests()
    try:
        with stop:
            code = run(processes, stop)
    except Interrupted as interrupted:
        if processes.is_first:
            print(interrupted, file=sys.stderr)
        code = interrupted.exit_code
    except UserError:
        processes.let_first_speak()
        raise
    except torch.OutOfMemoryError as error:
        raise UserError(
            "out of GPU memory; checkpoints are kept: give a smaller --micro_batch, --checkpointing"
            " or --data_on_device off"
        ) from error
    except RuntimeError as error:
        return end_lost(processes, error)  # who leaves now would wait for the others
    processes.leave()
    return code


class Run(NamedTuple):
    """What all phases of a run share. teacher_path: of the teacher, where the method has one;
    starts: what the last phase starts from beside it."""

    settings: Settings
    images: ImageSets
    teacher_path: Path
    starts: list
    job: Job


def run(processes, stop):
    settings, preset, dry_run = parse_settings(sys.argv[1:], tell=print)
    method, batch = method_of(settings), settings.data.batch_size
    device = processes.device_of(pick_device(settings.run.device))
    prepare_backends(device, settings.speed.tf32)
    if settings.speed.threads:
        torch.set_num_threads(settings.speed.threads)
    micro_batches = micro_batches_of(batch, settings.speed.micro_batch, processes.count)
    size = batch // processes.count // micro_batches
    method.check_size(settings, size)
    processes.join(device)
    folder, teacher_path = processes.first(lambda: choose_run_folder(settings))
    names, needs_saved = phases_here(settings, folder, teacher_path)
    last = names[-1]
    if dry_run is not None:
        processes.first(lambda: print(describe(settings, device, processes.count, dry_run)))
        return 0
    if settings.run.phase != "teacher":
        method.try_to_build(settings)
        processes.first(lambda: warn_of_export(settings.run, folder))
    # Before the images are decoded for nothing.
    starts, known, digests = named_networks(settings, last, teacher_path if needs_saved else None)
    images = processes.first_then_all(lambda: open_images(settings))
    print(f"{images.description}; run folder {folder}")
    if "sigma_data" not in known:  # the teacher that is trained first will have theirs
        for start in starts:
            start.check(settings, known | {"sigma_data": pixel_std(images.train)})
    if needs_saved and (line := other_images(settings, teacher_path, images.train.digest)):
        print(f"warning: {line}")
    # Found by a trial on some CPUs: it must not end otherwise in another process.
    precision = processes.first(lambda: run_choices(settings, device).precision)
    chosen = replace(settings, speed=replace(settings.speed, precision=precision))
    computes = run_choices(chosen, device).describe(device)
    print(f"{hardware(device, processes.count)}: {computes}")
    same = {"images": images.train.digest}
    identities = {name: phase_identity(settings, name, same) for name in names}
    identities[last] |= digests
    facts = {"preset": preset, "torch": torch.__version__, "processes": processes.count}
    facts |= {"micro_batch_images": size, "device": hardware(device, processes.count)}
    facts |= {"computes_in": computes}
    if start_flags(settings, last):
        facts[f"{last}_start"] = given_flags(settings, last)
    with ExitStack() as held:
        # Entered where it is held, since a lock cannot be sent to the other processes.
        processes.first(lambda: held.enter_context(sole_use(folder)))
        processes.first(lambda: begin_run(folder, settings, identities, teacher_path, **facts))
        stop.set_limit(settings.run.max_minutes)
        reports = Reports(settings.run.logger, folder, flat(settings.as_dict()))
        held.callback(reports.close)
        shown = PANELS, HEALTHY, reports
        job = Job(folder, settings.run, device, stop, processes, micro_batches, *shown)
        current, seconds = Run(chosen, images, teacher_path, starts, job), 0.0
        for name in names:
            seconds += run_phase(current, name, identities[name])
        finished = dict(finished=True, training_seconds=round(seconds, 1))
        processes.first(lambda: add_facts(folder, **finished))
    print(f"training time in all: {seconds:.0f} s; everything of this run is in {folder}")
    return 0


def phases_here(settings, folder, teacher_path):
    """(names of the phases that are trained here, whether they need a teacher that is there
    already). Raises `UserError` where it is not."""
    names, method = phases_of(settings), method_of(settings)
    if teacher_path != own_teacher(folder):
        names = [name for name in names if name != method.teacher.name]
    needs_saved = method.needs_teacher and method.teacher.name not in names
    if needs_saved and not teacher_path.exists():
        whose = "" if settings.run.teacher_ckpt else f"the teacher of {folder}, "
        raise UserError(
            f"{whose}--teacher_ckpt {teacher_path}: no such file; train it, or name another"
        )
    return names, needs_saved


def named_networks(settings, last, teacher_path):
    """(what the phase of the name `last` starts from, what is known of its `model_config.json`,
    digests of all that it begins with). teacher_path: None where the teacher is trained first.
    Raises `UserError` for what does not fit, or cannot be asked for of this teacher."""
    config, digests = None, {}
    if teacher_path:
        teacher, config = load_teacher(settings, teacher_path)
        digests["teacher"] = weights_digest(teacher)
    starts = load_starts(settings, last)
    known = known_config(settings, last, config)
    for start in starts:
        start.check(settings, known)
    return starts, known, digests | start_digests(settings, last, starts)


def run_phase(current, name, identity):
    """Train one phase to its end; its average is what is saved. Returns its seconds."""
    settings, images, job = current.settings, current.images, current.job
    device, folder, processes = job.device, job.folder, job.processes
    phase, more = build_phase(current, name)
    results = Results(settings, folder, phase)
    if results.is_generator and (line := visible_colour(phase.config, images.train)):
        print(f"warning: {line}")
    heldout = to_float(images.val.take(evenly(len(images.val), HELDOUT_IMAGES))).to(device)
    trained = train(
        phase,
        job,
        build_batches(settings, images.train, device, processes),
        identity | more,
        heldout,
        selection=selection_of(settings, phase, images.train, heldout, results.publish_best),
        publish=results.publish,
        steps_flag=GROWING_FLAGS.get(name),
        before=BEFORE,
    )
    seconds = trained.seconds
    facts = {}
    if not distils(settings, name) and "sigma_data" in phase.config:
        facts["sigma_data"] = phase.config["sigma_data"]
    saved = results.saved
    if results.is_generator:
        facts |= processes.first(lambda: results.export(trained.best))
        saved = f"python sampling.py --ckpt_path {exported_path(settings.run)}"
    processes.first(lambda: add_training(folder, name, seconds, **facts))
    print(f"{name}: {seconds:.0f} s of training; {saved}")
    return seconds


def build_phase(current, name):
    """(the phase of that name, what its identity has of the networks it starts from)."""
    settings, images, teacher_path, starts, job = current
    more = {}
    if distils(settings, name):
        teacher, config = load_teacher(settings, teacher_path, job.device)
        more["teacher"] = weights_digest(teacher)
        torch.manual_seed(settings.run.seed)  # of what learns beside the student
        phase = build_distilled(settings, teacher, config, job.device, job.processes)
    else:
        sigma_data = pixel_std(images.train)
        torch.manual_seed(settings.run.seed)  # the random weights
        phase = build_scratch(name, settings, sigma_data, job.device, job.processes)
    for start in starts if start_flags(settings, name) else ():
        start.check(settings, phase.config)
        start.begin(phase)
    return phase, more


if __name__ == "__main__":
    run_command(main, in_parallel=True)
