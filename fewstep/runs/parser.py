"""The parser of train.py's flags: one a field of the settings."""

import argparse
from functools import partial

from fewstep.runs.help_page import (
    EVERYTHING,
    USAGE,
    default_of,
    ending,
    help_of,
    introduction,
    recipes_of,
    shown_sections,
)
from fewstep.runs.presets import DEFAULT_PRESET, DEFAULT_RECIPE, PRESETS
from src.arguments import InRange, line, line_or_empty, real_number, whole_number
from src.utils import CommandParser

# What a text is, by the end of its flag's name; any other is a NAME.
TEXTS = {"dir": "DIR", "root": "DIR", "ckpt": "FILE", "split": "FILE"}
TEXTS |= {"heads": "N,...", "augment": "NAME,..."}
MOST_HOURS = 100_000


def build_parser(prog="train.py", about=EVERYTHING):
    """One flag a field; a flag not given stays absent: a preset or a file may fill it in. about:
    what its help is about."""
    texts = dict(usage=USAGE, description=introduction(about), epilog=ending(about))
    # Help waits until all flags are read: a preset or a method may be named behind it.
    parser = CommandParser(prog=prog, add_help=False, **texts)
    start = parser.add_argument_group("Where to start; any other flag wins over these")
    add = partial(start.add_argument, default=argparse.SUPPRESS)
    text = f"size of everything, see below (default: {DEFAULT_PRESET})"
    add("--preset", choices=list(PRESETS), help=text)
    if len(recipes := recipes_of(about)) > 1:
        text = f"settings for a purpose, whatever the preset, see below (default: {DEFAULT_RECIPE})"
        add("--recipe", choices=recipes, help=text)
    text = (
        "file of flags in YAML or JSON, such as lr: 1e-3; or training_config.json of a run, which"
        " is repeated in a folder of its own"
    )
    add("--config", type=line, metavar="FILE", help=text)
    text = "say what would be done, do nothing; with HOURS also how many steps fit into them here"
    hours = dict(type=real_number, metavar="HOURS", low=0, high=MOST_HOURS)
    add("--dry_run", nargs="?", const=0.0, action=InRange, help=text, **hours)
    add("-h", "--help", action="store_true", help="show this and exit")
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
