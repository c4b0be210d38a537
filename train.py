"""Train the teacher, then distil it: `python train.py --help`. Rerunning a command resumes it."""

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from custom_model import create_custom_model
from fewstep.engine.batches import pixel_std, to_float
from fewstep.engine.hardware import hardware
from fewstep.engine.lock import sole_use
from fewstep.engine.loop import SHEET_IMAGES, train
from fewstep.engine.microbatch import parts_of
from fewstep.engine.precision import prepare_backends
from fewstep.engine.processes import Processes, end_lost, from_environment, hush
from fewstep.engine.sentinels import concerns
from fewstep.engine.stopping import Interrupted, StopSignals
from fewstep.images.opening import ImageSets
from fewstep.runs.building import (
    build_batches,
    build_student,
    build_teacher,
    check_discriminator,
    open_images,
    student_config,
    teacher_config,
)
from fewstep.runs.command_line import parse_settings
from fewstep.runs.derived import check_part_size
from fewstep.runs.estimate import describe
from fewstep.runs.identity import phase_identity, same_weights, weights_digest
from fewstep.runs.run_folder import add_facts, begin_run, choose_run_folder, own_teacher
from fewstep.runs.selection import NO_SELECTION, DistanceToTraining, Selection
from fewstep.runs.settings import Settings
from src.utils import (
    UserError,
    load_model,
    pick_device,
    read_json,
    run_command,
    save_model,
    sweep_dead,
)

HELDOUT_IMAGES = 64
BEST = "best_model.pt"


def main():
    processes = from_environment()
    hush(processes)
    stop = StopSignals()
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


def run(processes, stop):
    settings, preset, dry_run = parse_settings(sys.argv[1:])
    device = processes.device_of(pick_device(settings.run.device))
    prepare_backends(device, settings.speed.tf32)
    batch = settings.data.batch_size
    parts = parts_of(batch, settings.speed.micro_batch, processes.count)
    part_images = batch // processes.count // parts
    check_part_size(settings, part_images)
    processes.join(device)
    folder, teacher_path = processes.first(lambda: choose_run_folder(settings))
    trains_teacher = settings.run.phase != "add" and teacher_path == own_teacher(folder)
    if not trains_teacher and not teacher_path.exists():
        raise UserError(f"--teacher_ckpt {teacher_path}: no such file; train it, or name another")
    if dry_run:
        processes.first(lambda: print(describe(settings, device, processes.count)))
        return 0
    check_discriminator(settings)
    if not trains_teacher:
        load_teacher(settings, teacher_path)  # before the images are decoded for nothing
    images = processes.first_then_all(lambda: open_images(settings))
    print(f"{images.description}; run folder {folder}")
    stages = ["teacher"] * trains_teacher + ["student"] * (settings.run.phase != "teacher")
    digests = {"images": images.train.digest}
    identities = {stage: phase_identity(settings, stage, digests) for stage in stages}
    facts = {"preset": preset, "torch": torch.__version__, "processes": processes.count}
    facts |= {"part_images": part_images, "device": hardware(device, processes.count)}
    with ExitStack() as held:
        # Entered where it is held, since a lock cannot be sent to the other processes.
        processes.first(lambda: held.enter_context(sole_use(folder)))
        processes.first(lambda: begin_run(folder, settings, identities, teacher_path, **facts))
        job = Job(settings, images, folder, device, processes, parts, stop)
        seconds = {}
        if "teacher" in stages:
            seconds["teacher"] = run_teacher(job, identities["teacher"])
        if "student" in stages:
            seconds["student"] = run_student(job, identities["student"], teacher_path)
        total = sum(seconds.values())
        finished = dict(finished=True, training_seconds=round(total, 1))
        processes.first(lambda: add_facts(folder, **finished))
    print(f"training time in all: {total:.0f} s; everything of this run is in {folder}")
    return 0


class Job(NamedTuple):
    """What both phases of a run share."""

    settings: Settings
    images: ImageSets
    folder: Path
    device: torch.device
    processes: Processes
    parts: int  # that a process takes of each batch
    stop: StopSignals


def run_teacher(job, identity):
    """Phase 1; writes the teacher's average to FOLDER/teacher/model.pt."""
    settings, images, folder, device, processes, *_ = job
    sigma_data = pixel_std(images.train)
    torch.manual_seed(settings.run.seed)  # the teacher's random weights
    stage = build_teacher(settings, sigma_data, device, processes)
    config = teacher_config(settings, sigma_data)
    heldout = _heldout(images, device)

    def pictures():
        shape = (SHEET_IMAGES, 3, *heldout.shape[2:])
        return stage.ema.sample(shape, settings.teacher.teacher_steps, seeds=range(SHEET_IMAGES))

    @torch.no_grad()
    def heldout_loss():
        torch.manual_seed(settings.run.seed)  # the same noise each time, so that values compare
        noise = stage.ema.scheduler.draw_noise(heldout.shape, device)
        return {"heldout_loss": stage.ema.compute_loss(heldout, noise).item()}

    seconds = train(
        stage,
        total=settings.teacher.num_iterations,
        identity=identity,
        pictures=pictures,
        extra_metrics=heldout_loss,
        on_save=lambda: save_model(stage.ema, own_teacher(folder), config),
        selection=Selection(
            score=lambda: heldout_loss()["heldout_loss"],
            publish=lambda: save_model(stage.ema, folder / "teacher" / BEST, config),
        ),
        concerns=partial(concerns, settled=0),
        **_loop_arguments(job),
    )
    facts = dict(teacher_seconds=round(seconds, 1), sigma_data=sigma_data)
    processes.first(lambda: add_facts(folder, **facts))
    print(f"teacher: {seconds:.0f} s of training; {own_teacher(folder)}")
    return seconds


def run_student(job, identity, teacher_path):
    """Phase 2; writes the student's average to FOLDER/final_model.pt and to the export folder."""
    settings, images, folder, device, processes, *_ = job
    teacher, config = load_teacher(settings, teacher_path, device)
    torch.manual_seed(settings.run.seed)  # the discriminator's random weights
    stage = build_student(settings, teacher, config, device, processes)
    heldout = _heldout(images, device)

    def pictures():
        shape = (SHEET_IMAGES, 3, *heldout.shape[2:])
        rows = [stage.ema.sample(shape, nfe, seeds=range(SHEET_IMAGES)) for nfe in (1, 2, 4)]
        return torch.cat(rows)

    def heldout_logits():
        if not stage.adversary:
            return {}
        torch.manual_seed(settings.run.seed)
        return {"logits_heldout": stage.adversary.mean_logit(heldout)}

    selection = NO_SELECTION
    if settings.run.best_images:
        distance = DistanceToTraining(images.train, settings.run.best_images, device)
        selection = Selection(
            score=lambda: distance(stage.ema),
            publish=lambda: save_student(stage.ema, folder / "student" / BEST, config),
        )
    seconds = train(
        stage,
        total=settings.student.student_iterations,
        identity=identity | {"teacher": weights_digest(teacher)},
        pictures=pictures,
        extra_metrics=heldout_logits,
        on_save=lambda: save_student(stage.ema, folder / "final_model.pt", config),
        selection=selection,
        concerns=partial(concerns, settled=stage.settled),
        **_loop_arguments(job),
    )
    exported = Path(settings.run.export_dir) / BEST

    def export():
        sweep_dead(exported.parent)
        if exported.exists():
            print(f"{exported}: the student there is replaced; each run keeps its final_model.pt")
        save_student(stage.ema, exported, config)
        add_facts(folder, student_seconds=round(seconds, 1))

    processes.first(export)
    print(f"student: {seconds:.0f} s of training; python sampling.py --ckpt_path {exported}")
    return seconds


def load_teacher(settings, path, device="cpu"):
    """The teacher at `path`, and the `model_config.json` of a student of it. Raises `UserError`."""
    teacher_json = read_json(path.with_name("model_config.json"))
    config = student_config(teacher_json, settings, path)
    return load_model(path, create_custom_model, device), config


def save_student(model, path, config):
    """Save the student; levels that `fewstep evaluate --tune` chose for these very weights stay."""
    beside, levels = path.with_name("model_config.json"), config["few_step_sigmas"]
    if path.exists() and beside.exists():
        levels = read_json(beside).get("few_step_sigmas", levels)
    # Weights are read and compared only where there are other levels to keep.
    if levels != config["few_step_sigmas"] and same_weights(path, model):
        config = config | {"few_step_sigmas": levels}
    save_model(model, path, config)


def _heldout(images, device):
    count = min(HELDOUT_IMAGES, len(images.val))
    return to_float(images.val.take(range(count))).to(device)


def _loop_arguments(job):
    settings, images, folder, device, processes, parts, stop = job
    run = settings.run
    return dict(
        batch_of=build_batches(settings, images.train, device, processes),
        folder=folder,
        processes=processes,
        parts=parts,
        seed=run.seed,
        log_interval=run.log_interval,
        save_interval=run.save_interval,
        sample_interval=run.sample_interval,
        keep_checkpoints=run.keep_checkpoints,
        max_skips=run.max_skips,
        stop=stop,
    )


if __name__ == "__main__":
    run_command(main)
