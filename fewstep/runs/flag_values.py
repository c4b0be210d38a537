"""Flags of train.py as values: from a file, a plan or a grid, and back to arguments."""

import argparse
from functools import cache

from fewstep.runs.parser import build_parser
from fewstep.runs.settings import Settings, flat
from src.arguments import switch
from src.utils import UserError

DEFAULTS = flat(Settings().as_dict())


def parsed_value(key, value):
    """What train.py makes of the value of flag `key`, which may be a text. Raises `UserError` for
    what train.py refuses, and for other words of a switch than those of `src.arguments.switch`."""
    if isinstance(DEFAULTS.get(key), bool):
        try:
            return switch(str(value))
        except argparse.ArgumentTypeError as error:
            raise UserError(f"{key} {error}") from error
    return getattr(_parser().parse_args(as_arguments({key: value})), key)


def is_plain(value):
    """Whether it is a text or a number, or a list of such, as some flags take."""
    values = value if isinstance(value, list) else [value]
    return all(isinstance(one, (str, int, float)) for one in values)


def as_arguments(flags):
    """{"disc": "patch", "x_flip": False} -> ["--disc=patch", "--no-x_flip"], by kinds of flags."""
    arguments = []
    for key, value in flags.items():
        default = DEFAULTS.get(key, "")
        if isinstance(default, bool):
            arguments.append(f"--{key}" if value else f"--no-{key}")
        elif isinstance(default, list):
            values = value if isinstance(value, list) else str(value).split()
            arguments += [f"--{key}", *map(str, values)]
        else:
            arguments.append(f"--{key}={as_text(value)}")
    return arguments


def as_text(value):
    """A flag's value as it stands in titles and arguments."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return "on" if value else "off"
    return "none" if value is None else str(value)


@cache
def _parser():
    return build_parser("train.py")
