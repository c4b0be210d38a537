"""Command line <-> `Settings`: flags are the fields, presets fill in, every value is checked."""

import argparse
from dataclasses import MISSING, fields, replace

from fewstep.images import is_own_folder
from fewstep.runs.checks import check_given, check_places, check_together
from fewstep.runs.presets import PRESETS, RECIPES
from fewstep.runs.settings import GROUPS, Settings, flat
from src.arguments import (
    InRange,
    check_range,
    line,
    line_or_empty,
    quoted,
    real_number,
    whole_number,
)
from src.formatting import number_text
from src.utils import CommandParser, UserError, did_you_mean

# What other programs call the flag for it, with whatever follows (--resume_from FILE).
RESUMING = ("--resume", "--continue")
GOING_ON = "the same command goes on where its run stopped"

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def build_parser(prog="train.py"):
    """One flag a field; a flag not given stays absent, so that a preset can fill it in."""
    parser = CommandParser(prog=prog, epilog=f"There is no --resume: {GOING_ON}.")
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
    low, high = item.metadata["low"], item.metadata["high"]
    limits = "" if low is None or high is None else f"; {number_text(low)} to {number_text(high)}"
    help_text = f"{item.metadata['text']} (default: {default or repr(default)}{limits})"
    options = dict(default=argparse.SUPPRESS, help=help_text.replace("%", "%%"))
    flag = f"--{item.name}"
    if isinstance(default, bool):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
    elif isinstance(default, str):
        kind = line if default else line_or_empty
        parser.add_argument(flag, type=kind, choices=item.metadata["choices"], **options)
    else:
        numbers = default if isinstance(default, list) else [default]
        kind = whole_number if isinstance(numbers[0], int) else real_number
        count = dict(nargs=len(default)) if isinstance(default, list) else {}
        parser.add_argument(flag, type=kind, action=InRange, low=low, high=high, **count, **options)


def parse_settings(arguments, prog="train.py"):
    """Arguments -> (`Settings`, "PRESET" or "PRESET+RECIPE", dry_run). A flag that is given twice
    has its last value. Raises `UserError`, naming the flag."""
    parser = build_parser(prog)
    given, unknown = parser.parse_known_args(arguments)
    if unknown:
        flags = [action.option_strings[0] for action in parser._actions]
        name = unknown[0].partition("=")[0]
        if name.startswith(RESUMING):
            raise UserError(
                f"{quoted(name)}: no such flag, resuming is automatic: {GOING_ON}; leave it out,"
                " and give the same --save_dir if the run had one"
            )
        parser.error(f"unknown argument {quoted(name)}{did_you_mean(name, flags)}")
    given = vars(given)
    preset, recipe, dry_run = (given.pop(key) for key in ("preset", "recipe", "dry_run"))
    name = preset if recipe == "default" else f"{preset}+{recipe}"
    settings = make_settings({**PRESETS[preset], **RECIPES[recipe], **given})
    check_given(settings, given)
    check_places(settings)
    return settings, name, dry_run


def make_settings(values):
    """Flat {field: value} -> checked `Settings`, which name the images that are really used. Raises
    `UserError` for what cannot be."""
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
    data = groups["data"]
    if data.data == "simpsons" and is_own_folder(data.data_root):
        groups["data"] = replace(data, data="folder")
    settings = Settings(**groups)
    check_together(settings)
    return settings


def settings_from_json(content):
    """The `Settings` of a `training_config.json`. Raises `UserError` when it holds none."""
    groups = content.get("settings")
    # A run of an earlier version may lack a group; it had what are the defaults now.
    fit = isinstance(groups, dict) and groups and not set(groups) - set(GROUPS)
    if not fit or not all(isinstance(group, dict) for group in groups.values()):
        raise UserError("training_config.json: it does not hold the settings of a run")
    return make_settings(flat(groups))


def _default(item):
    return item.default_factory() if item.default is MISSING else item.default


def _check(item, value):
    """One value, which may come from a file: its kind, choices and range."""
    default, choices, flag = _default(item), item.metadata["choices"], f"--{item.name}"
    if not _is_alike(value, default):
        kind = f"{len(default)} numbers" if isinstance(default, list) else KINDS[type(default)]
        raise UserError(f"{flag} {quoted(value)}: {kind} expected")
    if choices and value not in choices:
        raise UserError(f"{flag} {quoted(value)}: use one of {', '.join(choices)}")
    if not isinstance(default, (bool, str)):
        check_range(flag, value, item.metadata["low"], item.metadata["high"])


def _is_alike(value, default):
    """Whether a value is of the kind of the default; a whole number may stand for any."""
    if isinstance(default, list):
        is_list = isinstance(value, (list, tuple)) and len(value) == len(default)
        return is_list and all(_is_alike(*pair) for pair in zip(value, default))
    kinds = (int, float) if isinstance(default, float) else type(default)
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool)
