"""The discriminator of a run, published: it is in the checkpoints of its student."""

import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import NamedTuple

import torch

from fewstep.engine.checkpoints import checkpoint_path, list_checkpoints, read_checkpoint
from fewstep.handin.published import origin
from fewstep.handin.rounding import weight_error
from fewstep.methods.adversarial import StudentPhase
from fewstep.methods.adversary import CONFIG_KEYS, DISC, bare_discriminator
from fewstep.methods.adversary_settings import Discriminator
from fewstep.runs.flag_values import as_arguments
from src.published import decode
from src.utils import UserError, read_model_config

ARCHITECTURE = ("disc", "disc_channels", "disc_depth", "disc_heads", "disc_stddev")
ARCHITECTURE += ("disc_condition", "disc_spectral", "disc_start")
IMAGES = 16  # that show what rounding changes


class Trained(NamedTuple):
    """A discriminator as a checkpoint has it. run: the folder of the run; state: its weights;
    settings: the flags that it was built and taught with; config: `CONFIG_KEYS` of the student."""

    run: Path
    step: int
    settings: Discriminator
    config: dict
    state: dict


def read_trained(path):
    """The `Trained` of a student's checkpoint_iter_N.pt, or of a run's folder, whose newest it
    takes. Raises `UserError` where there is none."""
    path = Path(path)
    if path.is_dir():
        steps = list_checkpoints(path / StudentPhase.name)
        if not steps:
            raise UserError(f"{path}: has no {StudentPhase.name}/checkpoint_iter_N.pt; name a run")
        path = checkpoint_path(path / StudentPhase.name, steps[0])
    content = read_checkpoint(path)
    identity, state = content["identity"], content["phase"].get(DISC)
    if state is None:
        raise UserError(f"{path}: has no discriminator; name a checkpoint of a student with one")
    for name, value in state.items():
        if not value.isfinite().all():
            raise UserError(f"{path}: {name} is not finite; use an earlier checkpoint")
    names = [item.name for item in fields(Discriminator) if item.name in identity]
    settings = Discriminator(**{name: identity[name] for name in names})
    config = read_model_config(path.parent.parent / "model_config.json")
    config = {key: config[key] for key in CONFIG_KEYS}
    trained = Trained(path.parent.parent, content["step"], settings, config, state)
    try:
        built(trained, state)
    except RuntimeError as error:
        raise UserError(f"{path}: its discriminator is not of this version's networks") from error
    return trained


def built(trained, state):
    """The discriminator in evaluation mode with these weights, without augmentation."""
    disc = bare_discriminator(trained.settings, trained.config)
    disc.load_state_dict(state)
    disc.augment.policy = []
    return disc.eval().requires_grad_(False)


@torch.no_grad()
def rounding_lines(trained, student, tensors, dtype):
    """Lines on what rounding to the stored `tensors` changes, in weights and in logits of images of
    the student; and how many logits an image has."""
    state = decode(tensors)
    noise = torch.Generator().manual_seed(0)
    images = student.sample((IMAGES, 3, 64, 64), 1, seeds=range(IMAGES))
    sigma = torch.full((IMAGES,), typical_level(trained.settings))
    images = images + sigma[:, None, None, None] * torch.randn(images.shape, generator=noise)
    before, after = (built(trained, one)(images, sigma) for one in (trained.state, state))
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
    flags = " ".join(as_arguments({key: getattr(settings, key) for key in ARCHITECTURE}))
    levels = "clean images: σ is 0"
    if settings.disc_noise:
        levels = f"x + σn with ln σ ~ N({settings.disc_mean:g}, {settings.disc_std:g}²)"
    hints = ""
    if settings.disc_stddev:
        hints += "It sees the spread of the batch: real and generated images go in apart.\n"
    if settings.augment:
        hints += f"In training its inputs were augmented (`{settings.augment}`), not here.\n"
    return f"""# A discriminator of 64×64 images

{parameters:,} parameters, trained from {start} beside a student, up to step {trained.step}.
`import fewstep; disc = fewstep.load_discriminator(DIR)`, then `disc(x, sigma)`.

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
