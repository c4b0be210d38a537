"""How a plan is read from YAML and what its texts mean: one value has one form, however spelled."""

import argparse
from functools import cache
from pathlib import Path

import yaml

from fewstep.methods.adversary_settings import head_resolutions, policy_names
from fewstep.runs.command_line import build_parser
from fewstep.runs.settings import Settings, flat
from src.arguments import switch
from src.utils import UserError, reason_of

DEFAULTS = flat(Settings().as_dict())
MERGE = "tag:yaml.org,2002:merge"
LISTS = {"augment": policy_names, "disc_heads": head_resolutions}  # texts of several values


class PlanLoader(yaml.SafeLoader):
    """YAML whose values are texts as they are written: 010 is no 8, 1:30 no 90, on stays a word.
    A key that is there twice is an error."""

    # Of the plain words that YAML gives a meaning, `<<` (take in another mapping) alone keeps it.
    yaml_implicit_resolvers = {
        "<": [one for one in yaml.SafeLoader.yaml_implicit_resolvers["<"] if one[0] == MERGE]
    }

    def compose_mapping_node(self, anchor):
        node, names = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                if key.value in names:
                    raise yaml.MarkedYAMLError(
                        problem=f"{key.value} is there twice", problem_mark=key.start_mark
                    )
                names.add(key.value)
        return node


def read_yaml(path):
    """The mapping in a YAML file, its values texts, lists and mappings. Raises `UserError`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = yaml.load(text, PlanLoader) or {}  # a safe loader
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # ValueError: not UTF-8
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: {error.problem}" if mark else reason_of(error)
        raise UserError(f"{path}: not readable as YAML ({place})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: keys and values are expected, such as grid:")
    return content


def flag_value(key, value):
    """What train.py makes of a flag's value, which may be a text: 0.001 and 1e-3 are one.

    Whole numbers are `int`, for a flag of any number too. Raises `UserError` for what train.py
    refuses, and for other words of a switch than those of `src.arguments.switch`.
    """
    if isinstance(DEFAULTS.get(key), bool):
        try:
            return switch(str(value))
        except argparse.ArgumentTypeError as error:
            raise UserError(f"{key} {error}") from error
    parsed = getattr(_parser().parse_args(as_arguments({key: value})), key)
    if key in LISTS:
        return as_text(LISTS[key](parsed))
    return [_plain(one) for one in parsed] if isinstance(parsed, list) else _plain(parsed)


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


def shown_text(value):
    """The same in tables, where an empty value is to be seen."""
    return as_text(value) or "(none)"


@cache
def _parser():
    return build_parser("train.py")


def _plain(value):
    return int(value) if isinstance(value, float) and value.is_integer() else value
