"""Command line <-> `Settings`: flags are the fields, presets fill in, every value is checked."""

import argparse
import math
from dataclasses import MISSING, fields

from discriminator import check_name
from src.utils import CommandParser, UserError, did_you_mean
from training.derived import alone_steps, head_resolutions, policy_names, student_sigmas
from training.presets import PRESETS, RECIPES
from training.settings import GROUPS, Settings, flat


def build_parser(prog="train.py"):
    """One flag a field; a flag not given stays absent, so that a preset can fill it in."""
    parser = CommandParser(prog=prog)
    parser.add_argument("--preset", choices=list(PRESETS), default="full", help="named settings")
    parser.add_argument("--recipe", choices=list(RECIPES), default="default", help="for phase 2")
    parser.add_argument("--dry_run", action="store_true", default=False, help="show, touch nothing")
    for group in GROUPS.values():
        section = parser.add_argument_group(group.__doc__.rstrip("."))
        for item in fields(group):
            add_flag(section, item)
    return parser


def add_flag(parser, item):
    """The flag of one field of the settings; a flag not given stays absent."""
    default = _default(item)
    help_text = f"{item.metadata['text']} (default: {default or repr(default)})"
    told = dict(default=argparse.SUPPRESS, help=help_text.replace("%", "%%"))
    flag = f"--{item.name}"
    if isinstance(default, bool):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **told)
    elif isinstance(default, list):
        parser.add_argument(flag, nargs=len(default), type=type(default[0]), **told)
    else:
        choices = item.metadata["choices"]
        parser.add_argument(flag, type=type(default), choices=choices, **told)


def parse_settings(arguments, prog="train.py"):
    """Arguments -> (`Settings`, "PRESET" or "PRESET+RECIPE", dry_run). Raises `UserError`, naming
    the flag."""
    parser = build_parser(prog)
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        flags = [action.option_strings[0] for action in parser._actions]
        parser.error(f"unknown argument {unknown[0]}{did_you_mean(unknown[0], flags)}")
    given = vars(given)
    preset, recipe, dry_run = (given.pop(key) for key in ("preset", "recipe", "dry_run"))
    name = preset if recipe == "default" else f"{preset}+{recipe}"
    return make_settings({**PRESETS[preset], **RECIPES[recipe], **given}), name, dry_run


def make_settings(values):
    """Flat {field: value} -> checked `Settings`. Raises `UserError` for what cannot be."""
    known = {item.name for group in GROUPS.values() for item in fields(group)}
    for key in values:
        if key not in known:
            raise UserError(f"unknown setting {key!r}; python train.py --help lists them")
    groups = {}
    for name, group in GROUPS.items():
        known = {item.name: item for item in fields(group)}
        chosen = {key: values[key] for key in values if key in known}
        for key, value in chosen.items():
            _check(known[key], value)
        groups[name] = group(**chosen)
    settings = Settings(**groups)
    _check_together(settings)
    return settings


def settings_from_json(content):
    """The `Settings` of a `training_config.json`. Raises `UserError` when it holds none."""
    groups = content.get("settings")
    # A run of an earlier version may lack a group; it had what are the defaults now.
    if not isinstance(groups, dict) or not groups or set(groups) - set(GROUPS):
        raise UserError("training_config.json: it does not hold the settings of a run")
    return make_settings(flat(groups))


def _default(item):
    return item.default_factory() if item.default is MISSING else item.default


def _check(item, value):
    low, high = item.metadata["low"], item.metadata["high"]
    for number in value if isinstance(value, list) else [value]:
        if not isinstance(number, (int, float)):
            continue
        if not math.isfinite(number):
            raise UserError(f"--{item.name} {number}: a finite number is needed")
        if low is not None and number < low:
            raise UserError(f"--{item.name} {number}: at least {low} is needed")
        if high is not None and number > high:
            raise UserError(f"--{item.name} {number}: at most {high} is allowed")


def _check_together(settings):
    sigmas = student_sigmas(settings.student)
    if any(a <= b for a, b in zip(sigmas, sigmas[1:])):
        raise UserError(
            f"--sigmas, --first_sigma: {sigmas} must be four levels from largest to smallest"
        )
    if sum(settings.student.level_shares) <= 0:
        raise UserError("--level_shares: at least one share must be above 0")
    steps = settings.student.student_iterations
    warm, alone = settings.student.warm_start, alone_steps(settings)
    if warm + alone >= steps and settings.run.phase != "teacher":
        raise UserError(
            f"--warm_start {warm} and --disc_warmup {alone}: the student's {steps} steps would all"
            " be warm-up; give less, or more --student_iterations"
        )
    _check_discriminator(settings)
    if settings.run.phase == "teacher" and settings.student.teacher_ckpt:
        raise UserError("--phase teacher trains a teacher; leave out --teacher_ckpt")
    if settings.data.data == "folder" and not settings.data.data_root:
        raise UserError("--data folder: name the folder with --data_root DIR")
    if settings.data.data == "synthetic" and settings.data.data_root:
        raise UserError("--data synthetic draws its images; leave out --data_root")


def _check_discriminator(settings):
    disc, loss = settings.discriminator, settings.distillation
    head_resolutions(disc.disc_heads)
    policy = policy_names(disc.augment)
    if loss.distill == "none" and (disc.disc == "none" or not loss.adv_weight):
        flag = "--disc none" if disc.disc == "none" else "--adv_weight 0"
        raise UserError(f"--distill none and {flag}: the student has nothing to learn from")
    if disc.disc == "none":
        return
    check_name(disc.disc)
    if disc.ada_target and not policy:
        raise UserError("--ada_target steers augmentation; name some, e.g. --augment translation")
    if disc.ada_target and disc.gan_loss == "relativistic":
        raise UserError("--ada_target asks for the sign of logits, relativistic ones have no zero")
    if disc.disc_start == "teacher":
        if settings.network.use_additional_condition:
            raise UserError("--disc_start teacher: not with --use_additional_condition")
        for flag in ("disc_channels", "disc_depth"):
            if getattr(disc, flag):
                raise UserError(f"--{flag} with --disc_start teacher: the teacher has its own size")
