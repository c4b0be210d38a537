"""At the ends of every range of a number that images, losses and levels depend on, all together,
training gives finite weights and drops no update: beyond lies what the ranges are there to refuse.
"""

from dataclasses import fields

import pytest
import torch

from fewstep.engine.microbatch import split
from fewstep.engine.processes import ALONE
from fewstep.runs.settings import GROUPS
from tests.students import build_teacher, student_of, tiny_settings

STEPS = 3
SMALL = dict(
    batch_size=4,
    num_iterations=STEPS,
    student_iterations=STEPS,
    warmup=0,
    student_warmup=0,
    disc_warmup=0,
    disc_channels=8,
    penalty_interval=1,
    balance="constant",
    augment="color",
)
# At their highest, learning rates lead anywhere; dropout and shares would leave nothing to learn; a
# weight of pairs needs some, and one of mean colours is for noise without an offset.
LEFT = ("lr", "student_lr", "disc_lr", "fake_lr", "first_sigma", "student_dropout", "level_shares")
LEFT += ("pair_weight", "colour_weight")
LEVELS = {"low": [4e-4, 3e-4, 2e-4, 1e-4], "high": [1e4, 9e3, 8e3, 7e3]}


def at_the_end(end):
    """{flag: its lowest or highest value} of the numbers that are no counts."""
    values = {"sigmas": LEVELS[end], "self_input_share": 0.5}
    for group in ("scratch", "teacher", "student", "distillation", "discriminator"):
        for item in fields(GROUPS[group]):
            if isinstance(item.default, float) and item.name not in (*LEFT, *values):
                values[item.name] = float(item.metadata[end])
    return values | {"num_train_timesteps": 10**6 if end == "high" else 1}


def assert_learns(phase):
    for step in range(STEPS):
        torch.manual_seed(step)
        metrics = phase.step(split(torch.rand(4, 3, 16, 16) * 2 - 1, [step]), step)
        assert not any(float(value) for key, value in metrics.items() if "skipped" in key)
    for network in (phase.model, phase.ema):
        assert all(parameter.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("end", LEVELS)
def test_the_teacher_learns_at_the_ends(end):
    values = at_the_end(end)
    assert values["p_mean"] == {"low": -6, "high": 6}[end]
    torch.manual_seed(0)
    settings = tiny_settings(SMALL, values)
    assert_learns(build_teacher(settings, 0.6, torch.device("cpu"), ALONE))


@pytest.mark.parametrize(
    "flags",
    [
        dict(distill="add", penalty="approx_r1"),
        dict(distill="sid", penalty="r1r2"),
        dict(colour_weight=1e6, noise_offset=0.0),
    ],
    ids=lambda flags: "-".join(map(str, flags.values())),
)
@pytest.mark.parametrize("end", LEVELS)
def test_the_student_learns_at_the_ends(end, flags):
    assert_learns(student_of(tiny_settings(SMALL, at_the_end(end), flags)))
