"""What `--dry_run` prints: settings, sizes, and a time measured on this device."""

import json
import time

import torch

from custom_model import create_custom_model
from training.building import build_disc, teacher_config

CHECKPOINT_COPIES = 4  # weights, average, and Adam's two moments


def describe(settings, device):
    """A text of the resolved settings, parameter counts, disk need and estimated time.

    Times a few real forward and backward passes; writes nothing.
    """
    model = create_custom_model(device, **teacher_config(settings, 0.5))
    disc = build_disc(settings, 0.5).to(device)
    counts = {name: _parameters(net) for name, net in [("U-Net", model), ("discriminator", disc)]}
    unet, critic = counts["U-Net"], counts["discriminator"]
    keep = settings.run.keep_checkpoints
    # One more than is kept stands on the disk while the newest is written.
    teacher_disk = 4 * unet * (CHECKPOINT_COPIES * (keep + 1) + 1)
    student_disk = teacher_disk + 4 * critic * 3 * (keep + 1)
    lines = [json.dumps(settings.as_dict(), indent=2)]
    lines += [f"parameters: {name} {count:,}" for name, count in counts.items()]
    times = _times(model, disc, settings.data.batch_size, device)
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


def _times(model, disc, batch_size, device):
    """Seconds a step of each phase, from passes over a small batch scaled to the whole one."""
    batch = batch_size if device.type == "cuda" else min(batch_size, 4)
    x = torch.randn(batch, 3, 64, 64, device=device)
    sigma = torch.ones(batch, device=device)

    def forward():
        with torch.no_grad():
            model.denoise(x, sigma)

    unet_forward = _seconds(forward, device)
    unet_train = _seconds(lambda: model.denoise(x, sigma).mean().backward(), device)
    disc_train = _seconds(lambda: disc(x, sigma).mean().backward(), device)
    scale = batch_size / batch
    # The student's step: itself, the teacher, up to three re-simulated quarters, four passes of D.
    student = unet_train + 1.75 * unet_forward + 4 * disc_train
    return {"teacher": scale * unet_train, "student": scale * student}


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
