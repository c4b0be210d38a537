"""Train the teacher, then distil it: `python train.py --help`. Rerunning a command resumes it."""

import sys
from pathlib import Path

import torch

from custom_model import create_custom_model
from src.utils import UserError, load_model, pick_device, read_json, run_command, save_model
from training.batches import StepBatches, pixel_std, to_float
from training.building import (
    build_student,
    build_teacher,
    open_images,
    phase_identity,
    prepare_backends,
    student_config,
    teacher_config,
    weights_digest,
)
from training.command_line import parse_settings
from training.estimate import describe
from training.loop import SHEET_IMAGES, Interrupted, train
from training.run_folder import choose_run_folder, write_config

HELDOUT_IMAGES = 64


def main():
    settings, preset, dry_run = parse_settings(sys.argv[1:])
    device = pick_device(settings.run.device)
    prepare_backends(device)
    if dry_run:
        print(describe(settings, device))
        return 0
    folder = choose_run_folder(settings)
    teacher_path = Path(settings.student.teacher_ckpt or folder / "teacher" / "model.pt")
    if settings.run.phase == "add" and not teacher_path.exists():
        raise UserError(f"--teacher_ckpt {teacher_path}: no such file; train it, or name another")
    images = open_images(settings)
    print(f"{images.description}; run folder {folder}")
    write_config(folder, settings, preset=preset, torch=torch.__version__, finished=False)
    try:
        if settings.run.phase in ("teacher", "all") and not settings.student.teacher_ckpt:
            run_teacher(settings, images, folder, device)
        if settings.run.phase in ("add", "all"):
            run_student(settings, images, folder, device, teacher_path)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return stop.exit_code
    write_config(folder, settings, finished=True)
    return 0


def run_teacher(settings, images, folder, device):
    """Phase 1; writes the teacher's average to FOLDER/teacher/model.pt."""
    sigma_data = pixel_std(images.train)
    torch.manual_seed(settings.run.seed)  # the teacher's random weights
    stage = build_teacher(settings, sigma_data, device)
    config = teacher_config(settings, sigma_data)
    heldout = to_float(images.val.take(range(min(HELDOUT_IMAGES, len(images.val))))).to(device)

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
        identity=phase_identity(settings, stage.name, {"images": images.train.digest}),
        pictures=pictures,
        extra_metrics=heldout_loss,
        on_save=lambda: save_model(stage.ema, folder / "teacher" / "model.pt", config),
        **_loop_arguments(settings, images, folder, device),
    )
    write_config(folder, settings, teacher_seconds=round(seconds, 1), sigma_data=sigma_data)
    print(f"teacher: {seconds:.0f} s of training; {folder / 'teacher' / 'model.pt'}")


def run_student(settings, images, folder, device, teacher_path):
    """Phase 2; writes the student's average to FOLDER/final_model.pt and to the export folder."""
    teacher = load_model(teacher_path, create_custom_model, device)
    teacher_json = read_json(teacher_path.with_name("model_config.json"))
    config = student_config(teacher_json, settings, teacher_path)
    torch.manual_seed(settings.run.seed)  # the discriminator's random weights
    stage = build_student(settings, teacher, device)
    stage.ema.scheduler.few_step_table = {int(k): v for k, v in config["few_step_sigmas"].items()}
    heldout = to_float(images.val.take(range(min(HELDOUT_IMAGES, len(images.val))))).to(device)

    def pictures():
        shape = (SHEET_IMAGES, 3, *heldout.shape[2:])
        rows = [
            stage.ema.sample(shape, nfe, seeds=range(SHEET_IMAGES), sampler="few_step")
            for nfe in (1, 2, 4)
        ]
        return torch.cat(rows)

    def heldout_logits():
        torch.manual_seed(settings.run.seed)
        return {"logits_heldout": stage.judge(heldout)}

    digests = {"images": images.train.digest, "teacher": weights_digest(teacher)}
    seconds = train(
        stage,
        total=settings.student.student_iterations,
        identity=phase_identity(settings, stage.name, digests),
        pictures=pictures,
        extra_metrics=heldout_logits,
        on_save=lambda: save_model(stage.ema, folder / "final_model.pt", config),
        **_loop_arguments(settings, images, folder, device),
    )
    best = Path(settings.run.export_dir) / "best_model.pt"
    save_model(stage.ema, best, config)
    facts = {"student_seconds": round(seconds, 1), "teacher_file": str(teacher_path)}
    write_config(folder, settings, **facts)
    print(f"student: {seconds:.0f} s of training; {best} (sample it with python sampling.py)")


def _loop_arguments(settings, images, folder, device):
    run, data = settings.run, settings.data
    return dict(
        batch_of=StepBatches(images.train, data.batch_size, run.seed, data.x_flip, device),
        folder=folder,
        seed=run.seed,
        log_interval=run.log_interval,
        save_interval=run.save_interval,
        sample_interval=run.sample_interval,
        keep_checkpoints=run.keep_checkpoints,
    )


if __name__ == "__main__":
    run_command(main)
