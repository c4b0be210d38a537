"""Command line <-> `Settings`: flags are the fields, presets fill in, every value is checked."""

import argparse
from dataclasses import fields, replace

from fewstep.images import is_own_folder
from fewstep.runs.checks import check_given, check_places, check_together
from fewstep.runs.help_page import (
    EVERYTHING,
    GOING_ON,
    USAGE,
    About,
    default_of,
    ending,
    help_of,
    introduction,
    recipes_of,
    shown_sections,
)
from fewstep.runs.presets import PRESETS, RECIPES
from fewstep.runs.settings import GROUPS, Run, Settings, flat
from src.arguments import (
    InRange,
    check_range,
    line,
    line_or_empty,
    quoted,
    real_number,
    whole_number,
)
from src.utils import CommandParser, UserError, did_you_mean

# What other programs call the flag for it, with whatever follows (--resume_from FILE).
RESUMING = ("--resume", "--continue")

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
# What a text is, by the end of its flag's name; any other is a NAME.
TEXTS = {"dir": "DIR", "root": "DIR", "ckpt": "FILE", "split": "FILE"}
TEXTS |= {"heads": "N,...", "augment": "NAME,..."}
METHOD = next(item for item in fields(Run) if item.name == "method")


def build_parser(prog="train.py", about=EVERYTHING):
    """One flag a field; a flag not given stays absent, so that a preset can fill it in. about: what
    its help is about."""
    texts = dict(usage=USAGE, description=introduction(about), epilog=ending(about))
    # Help waits until all flags are read: a preset or a method may be named behind it.
    parser = CommandParser(prog=prog, add_help=False, **texts)
    start = parser.add_argument_group("Where to start; any other flag wins over these")
    add = start.add_argument
    add("--preset", choices=list(PRESETS), default="full", help="size of everything, see below")
    if len(recipes := recipes_of(about)) > 1:
        text = "settings for a purpose, whatever the preset, see below"
        add("--recipe", choices=recipes, default="default", help=text)
    add("--dry_run", action="store_true", default=False, help="say what would be done, do nothing")
    add("-h", "--help", action="store_true", default=argparse.SUPPRESS, help="show this and exit")
    for title, items in shown_sections(about).items():
        section = parser.add_argument_group(title)
        for item in items:
            add_flag(section, item, about)
    return parser


def add_flag(parser, item, about=EVERYTHING):
    """The flag of one field of the settings; a flag not given stays absent."""
    default = default_of(item)
    low, high = item.metadata["low"], item.metadata["high"]
    options = dict(default=argparse.SUPPRESS, help=help_of(item, about).replace("%", "%%"))
    flag = f"--{item.name}"
    if isinstance(default, bool):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
    elif isinstance(default, str):
        kind, choices = line if default else line_or_empty, item.metadata["choices"]
        if not choices:
            options["metavar"] = TEXTS.get(item.name.rpartition("_")[2], "NAME")
        parser.add_argument(flag, type=kind, choices=choices, **options)
    else:
        numbers = default if isinstance(default, list) else [default]
        kind = whole_number if isinstance(numbers[0], int) else real_number
        options |= dict(type=kind, metavar="N" if kind is whole_number else "X")
        count = dict(nargs=len(default)) if isinstance(default, list) else {}
        parser.add_argument(flag, action=InRange, low=low, high=high, **count, **options)


def parse_settings(arguments, prog="train.py"):
    """Arguments -> (`Settings`, "PRESET" or "PRESET+RECIPE", dry_run). A flag that is given twice
    has its last value; with --help the program ends. Raises `UserError`, naming the flag."""
    parser = build_parser(prog)
    given, unknown = parser.parse_known_args(arguments)
    if "help" in given:
        method = getattr(given, "method", default_of(METHOD))
        build_parser(prog, About(given.preset, given.recipe, method)).print_help()
        parser.exit()
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


def _check(item, value):
    """One value, which may come from a file: its kind, choices and range."""
    default, choices, flag = default_of(item), item.metadata["choices"], f"--{item.name}"
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
