"""The parser of train.py's flags: one a field of the settings."""

import argparse
from dataclasses import MISSING, fields

from fewstep.runs.presets import DEFAULT_PRESET, DEFAULT_RECIPE, PRESETS, RECIPES
from fewstep.runs.settings import GROUPS
from src.arguments import InRange, line, line_or_empty, real_number, whole_number
from src.formatting import number_text
from src.utils import CommandParser


def build_parser(prog="train.py"):
    """One flag a field; a flag not given stays absent: a preset or a file may fill it in."""
    parser = CommandParser(prog=prog)
    absent = dict(default=argparse.SUPPRESS)
    text = "settings in YAML or JSON, or a run's training_config.json; flags win over it"
    parser.add_argument("--config", type=line, metavar="FILE", help=text, **absent)
    text = f"named settings (default: {DEFAULT_PRESET})"
    parser.add_argument("--preset", choices=list(PRESETS), help=text, **absent)
    text = f"for phase 2 (default: {DEFAULT_RECIPE})"
    parser.add_argument("--recipe", choices=list(RECIPES), help=text, **absent)
    parser.add_argument("--dry_run", action="store_true", help="show, touch nothing", **absent)
    for group in GROUPS.values():
        section = parser.add_argument_group(group.__doc__.rstrip("."))
        for item in fields(group):
            add_flag(section, item)
    return parser


def add_flag(parser, item):
    """The flag of one field of the settings; a flag not given stays absent."""
    default = default_of(item)
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


def default_of(item):
    """The default of a field of the settings."""
    return item.default_factory() if item.default is MISSING else item.default
