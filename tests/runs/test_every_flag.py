"""No flag is parsed and ignored: each changes the weights that a few steps of training lead to."""

from dataclasses import fields
from functools import cache
from tempfile import TemporaryDirectory

import pytest
import torch

from custom_model import create_custom_model
from fewstep.engine.microbatch import split
from fewstep.engine.processes import ALONE
from fewstep.methods.edm import teacher_config
from fewstep.runs.command_line import make_settings
from fewstep.runs.presets import PRESETS, RECIPES
from fewstep.runs.settings import GROUPS
from tests.students import AT_ONCE, build_student, build_teacher, student_config

STEPS = 4
CPU = torch.device("cpu")
BASE = AT_ONCE | dict(data="synthetic", batch_size=4, disc="resnet", adv_ramp=2)
BASE |= dict(num_iterations=STEPS, warmup=1, student_iterations=STEPS, student_ema_images=20.0)

# Where runs are, what they show, how they are computed; and where the images come from.
OTHER_GROUPS = ("run", "data", "speed")
# walked over in tests of their own
OTHER_GROUPS += ("shortcut", "reflow", "ld3", "progressive", "meanflow")
OTHER_GROUPS += ("consistency", "tuning")  # walked over by the tests of that method
SHOWN_ONLY = {"teacher_steps"}
ANOTHER_SHAPE = {"network"}  # see test_custom_model.py

# flag -> (another value, flags without which it has nothing to act on)
ODE = dict(warm_start=3)
KEPT = TemporaryDirectory()  # of the pairs
FAKE = dict(distill="dmd")
NO_WIDTH = dict(disc_channels=0)
CHANGES = {
    "use_additional_condition": (True, {}),
    "num_train_timesteps": (500, {}),
    "norm_groups": (16, {}),
    "preconditioning": ("flow", {}),
    "num_iterations": (STEPS + 3, {}),
    "lr": (1e-3, {}),
    "warmup": (3, {}),
    "p_mean": (-1.0, {}),
    "p_std": (0.5, {}),
    "noise_offset": (0.3, {}),
    "ema_share": (0.9, {}),
    "start_share": (0.5, {}),
    "p_mean_rise": (1.0, {}),
    "student_iterations": (STEPS + 3, {}),
    "student_lr": (1e-3, {}),
    "start_lr": (1e-3, ODE),
    "student_warmup": (3, {}),
    "student_dropout": (0.5, {}),
    "student_ema_images": (2.0, {}),
    "freeze_convs": (True, {}),
    "sigmas": ([6.0, 2.0, 1.0, 0.5], {}),
    "first_sigma": (6.0, {}),
    "level_shares": ([1.0, 1.0, 1.0, 1.0], {}),
    "self_input_share": (1.0, {}),
    "student_start": ("consistency", dict(consistency_steps=2)),
    "consistency_steps": (3, dict(student_start="consistency", consistency_steps=2)),
    "identity_weight": (0.2, {}),
    "denoise_weight": (0.5, {}),
    "colour_weight": (0.5, dict(noise_offset=0.0)),
    "pair_weight": (0.5, dict(warm_pairs=4, cache_dir=KEPT.name)),
    "pairs_of": (
        "student",
        dict(warm_pairs=4, pair_weight=0.5, student_ckpt="named", cache_dir=KEPT.name),
    ),
    "pairs_nfe": (
        2,
        dict(warm_pairs=4, pair_weight=0.5, cache_dir=KEPT.name)
        | dict(pairs_of="student", student_ckpt="named"),
    ),
    "warm_start": (2, {}),
    "warm_nfe": (5, ODE),
    "warm_pairs": (4, ODE | dict(cache_dir=KEPT.name)),
    "distill": ("sds", {}),
    "distill_weighting": ("uniform", {}),
    "distill_mean": (0.5, {}),
    "distill_std": (0.3, {}),
    "distill_final": (0.9, {}),
    "distill_decay_from": (0.2, {}),
    "distill_self": (0.1, {}),
    "sid_alpha": (1.2, dict(distill="sid")),
    "fake_lr": (1e-2, FAKE),
    "fake_steps": (3, FAKE),
    "balance": ("constant", {}),
    "adv_weight": (0.3, {}),
    "adv_ramp": (1, {}),
    "disc": ("patch", {}),
    "disc_channels": (16, {}),
    "disc_depth": (2, {}),
    "disc_heads": ("8,4", {}),
    "disc_stddev": (False, {}),
    "disc_condition": (False, {}),
    "disc_level": (True, {}),
    "disc_spectral": ("on", {}),
    "disc_start": ("teacher", dict(disc="unet") | NO_WIDTH),
    "disc_lr": (1e-4, {}),
    "disc_warmup": (2, {}),
    "disc_steps": (2, {}),
    "disc_lead": (0.9, {}),
    "disc_lead_most": (0.01, {}),
    "disc_lr_final": (0.1, {}),
    "disc_noise": (False, {}),
    "disc_mean": (0.0, {}),
    "disc_std": (0.2, {}),
    "gan_loss": ("nonsaturating", {}),
    "penalty": ("r1", {}),
    "penalty_weight": (5.0, {}),
    "penalty_sigma": (0.5, {}),
    "penalty_interval": (2, {}),
    "centring_weight": (0.5, {}),
    "augment": ("color", {}),
    "augment_p": (0.2, dict(augment="color")),
    "ada_target": (0.6, dict(augment="color", augment_p=0.5, ada_images=20.0)),
    "ada_images": (10.0, dict(augment="color", augment_p=0.5, ada_target=0.6, ada_images=40.0)),
}


def group_of(name):
    return next(g for g, kind in GROUPS.items() if name in {item.name for item in fields(kind)})


def learnt(phase):
    """All weights after training on images that every caller gets alike."""
    torch.manual_seed(7)
    images = torch.rand(STEPS, 4, 3, 16, 16) * 2 - 1
    for step in range(STEPS):
        torch.manual_seed(step)
        phase.step(split(images[step], [step]), step)
    networks = [phase.model, phase.ema]  # what counts: a critic's flag has to reach the student
    return torch.cat([p.detach().flatten() for network in networks for p in network.parameters()])


@cache
def weights_after(kind, flags):
    settings = make_settings({**PRESETS["tiny"], **BASE, **dict(flags)})
    torch.manual_seed(0)
    if kind == "teacher":
        return learnt(build_teacher(settings, 0.6, CPU, ALONE))
    config = teacher_config(settings, 0.6)
    teacher = create_custom_model(**config)
    with torch.no_grad():  # an untrained teacher answers almost zero, which hides differences
        teacher.network.tail[2].weight.normal_(std=0.05)
    torch.manual_seed(1)
    return learnt(build_student(settings, teacher, student_config(config, settings), CPU, ALONE))


def frozen(flags):
    return tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in sorted(flags.items()))


@pytest.mark.parametrize("name", CHANGES)
def test_flag_changes_what_is_learnt(name):
    value, needed = CHANGES[name]
    kind = "teacher" if group_of(name) in ("scratch", "teacher", "network") else "student"
    before, after = (weights_after(kind, frozen(f)) for f in (needed, needed | {name: value}))
    assert before.shape != after.shape or (before - after).abs().max() > 1e-7
    assert after.isfinite().all()


def test_every_flag_is_walked_over():
    trained = {
        item.name
        for group, kind in GROUPS.items()
        if group not in OTHER_GROUPS
        for item in fields(kind)
    }
    assert set(CHANGES) == trained - SHOWN_ONLY - ANOTHER_SHAPE


def test_the_walk_would_notice_a_flag_without_effect():
    """Twice the same flags, spelled differently: the very same weights."""
    plain = weights_after("student", frozen({}))
    assert torch.equal(plain, weights_after("student", frozen({"augment_p": 0.3})))


@pytest.mark.parametrize("recipe", [name for name in RECIPES if name != "default"])
def test_every_recipe_trains_and_differs(recipe):
    base, flags = NO_WIDTH, NO_WIDTH | RECIPES[recipe]
    flags["warm_start"] = min(2, flags.get("warm_start", 0))
    if flags.get("pairs_of") == "student":
        base = base | dict(noise_offset=0.0)
        flags |= base | dict(student_ckpt="named", warm_pairs=4, cache_dir=KEPT.name)
    plain, other = (weights_after("student", frozen(f)) for f in (base, flags))
    assert other.isfinite().all() and (plain.shape != other.shape or not torch.equal(plain, other))
