"""What `--dry_run` prints: settings, sizes, and a time measured on this device."""

import json
import time

import torch

from training.building import build_student, build_teacher, student_config, teacher_config

SIGMA_DATA = 0.5  # any: times and sizes do not depend on it
CHECKPOINT_COPIES = 4  # weights, average, and Adam's two moments


def describe(settings, device):
    """A text of the resolved settings, parameter counts, disk need and estimated time.

    Times a few real steps on random images; writes nothing.
    """
    config = teacher_config(settings, SIGMA_DATA)
    teacher = build_teacher(settings, SIGMA_DATA, device)
    student = build_student(settings, teacher.ema, student_config(config, settings, ""), device)
    unet, critic = _parameters(student.model), _parameters(student.disc)
    keep = settings.run.keep_checkpoints
    # One more than is kept stands on the disk while the newest is written.
    teacher_disk = 4 * unet * (CHECKPOINT_COPIES * (keep + 1) + 1)
    student_disk = teacher_disk + 4 * critic * 3 * (keep + 1)
    lines = [json.dumps(settings.as_dict(), indent=2)]
    lines.append(f"parameters: U-Net {unet:,}; discriminator {critic:,}")
    times = _times(teacher, student, settings.data.batch_size, device)
    phases = {
        "teacher": (settings.teacher.num_iterations, times["teacher"], teacher_disk),
        "student": (settings.student.student_iterations, times["student"], student_disk),
    }
    wanted = {"teacher": ["teacher"], "add": ["student"], "all": list(phases)}[settings.run.phase]
    for name in wanted:
        steps, seconds, disk = phases[name]
        lines.append(
            f"{name}: {steps:,} steps x about {seconds:.2f} s = about {_clock(steps * seconds)} on"
            f" {device}; checkpoints up to {disk / 2**20:,.0f} MiB"
        )
    lines.append("dry run: nothing was read, trained or written")
    return "\n".join(lines)


def _times(teacher, student, batch_size, device):
    """Seconds a step of each phase; on a CPU from a small batch, scaled to the whole one."""
    batch = batch_size if device.type == "cuda" else 2
    x0 = torch.rand(batch, 3, 64, 64, device=device) * 2 - 1
    scale = batch_size / batch
    return {
        "teacher": scale * _seconds(lambda: teacher.step(x0, 0), device),
        # The last step: past the discriminator's warm-up, where both networks learn.
        "student": scale * _seconds(lambda: student.step(x0, student.total - 1), device),
    }


def _seconds(work, device, repeats=2):
    work()
    _wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    _wait(device)
    return (time.perf_counter() - began) / repeats


def _wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _parameters(module):
    return sum(p.numel() for p in module.parameters())


def _clock(seconds):
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours} h {rest // 60:02d} min" if hours else f"{rest // 60} min {rest % 60:02d} s"
