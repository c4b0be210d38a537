"""The discriminator of a run, published: it is in the checkpoints of its student."""

import math
from dataclasses import asdict

import torch

from fewstep.handin.published import origin
from fewstep.handin.rounding import weight_error
from fewstep.runs.discriminators import ARCHITECTURE, built
from fewstep.runs.flag_values import as_arguments
from src.published import decode

IMAGES = 16  # that show what rounding changes


@torch.no_grad()
def rounding_lines(trained, student, tensors, dtype):
    """Lines on what rounding to the stored `tensors` changes, in weights and in logits of images of
    the student; and how many logits an image has."""
    state = decode(tensors)
    noise = torch.Generator().manual_seed(0)
    images = student.sample((IMAGES, 3, 64, 64), 1, seeds=range(IMAGES))
    sigma = torch.full((IMAGES,), typical_level(trained.settings))
    level = torch.full((IMAGES,), student.scheduler.few_step_table[1][0])
    images = images + sigma[:, None, None, None] * torch.randn(images.shape, generator=noise)
    before, after = (
        built(trained, one)(images, sigma, level=level) for one in (trained.state, state)
    )
    spread = max(float(before.std()), 1e-12)
    change = 100 * float((after - before).square().mean().sqrt()) / spread
    floats = {key: value for key, value in trained.state.items() if value.is_floating_point()}
    weights = 100 * weight_error(floats, state)
    return [
        f"- {dtype} weights: changed by {weights:.3f} % (relative RMS)",
        f"- logits of {IMAGES} images of its student: changed by {change:.2f} % of their spread",
    ], before.shape[1]


def typical_level(settings):
    """The middle level of the noise that it has learnt to judge under."""
    return math.exp(settings.disc_mean) if settings.disc_noise else 0.0


def about(trained, dtype):
    """What the file says of itself: all that `fewstep.load_discriminator` builds it by."""
    flags = asdict(trained.settings)
    return {"dtype": dtype, "step": trained.step, "flags": flags, "model_config": trained.config}


def discriminator_card(trained, logits, record, rounding):
    """The text of a model card, without its checksum. logits: of an image; rounding: lines."""
    settings, parameters = trained.settings, sum(v.numel() for v in trained.state.values())
    start = "its teacher's encoder" if settings.disc_start == "teacher" else "random weights"
    if "disc_ckpt" in record.get("student_start", []):
        start = "an earlier discriminator"
    flags = " ".join(as_arguments({key: getattr(settings, key) for key in ARCHITECTURE}))
    levels = "clean images: σ is 0"
    if settings.disc_noise:
        levels = f"x + σn with ln σ ~ N({settings.disc_mean:g}, {settings.disc_std:g}²)"
    call, hints = "disc(x, sigma)", ""
    if settings.disc_level:
        call = "disc(x, sigma, level=level)"
        hints += "`level` `(B,)` is the noise level of the evaluation that made an image; real ones"
        hints += " are given\nthat of the generated ones they are compared with.\n"
    if settings.disc_stddev:
        hints += "It sees the spread of the batch: real and generated images go in apart.\n"
    if settings.augment:
        hints += f"In training its inputs were augmented (`{settings.augment}`), not here.\n"
    return f"""# A discriminator of 64×64 images

{parameters:,} parameters, trained from {start} beside a student, up to step {trained.step}.
`import fewstep; disc = fewstep.load_discriminator(DIR)`, then `{call}`.

## What it judges

Images `[B, 3, 64, 64]` in [-1, 1] with noise of level σ `(B,)`; it has learnt on {levels}.
Of each it gives {logits} logits (places and heads), higher for what is like a training image,
lower for what is like its student's images of that time (`--gan_loss {settings.gan_loss}`).
{hints}
It tells these training images from this student's. It is no measure of quality: a logit compares
with logits of the same network alone, and means little for images of other generators.

## Architecture

`{flags}`

Beside a student of network `{trained.config["network"]}`, from which sizes of 0 are derived, with
σ_data {trained.config["sigma_data"]:.6g}.

{origin(record)}

## Rounding

{chr(10).join(rounding)}

## Limits

It knows 64×64 images of its training data and of one student alone, and is for research, not for
decisions about people.
"""
