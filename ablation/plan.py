"""What to compare: a plan from YAML or the command line becomes cells."""

import difflib
import itertools
import re
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import yaml

from src.utils import UserError
from training.settings import GROUPS, PHASE_GROUPS

# Everything a plan may hold, with the value of what is left out.
PLAN_DEFAULTS = {
    "base": {},  # flags of every cell and of the teacher
    "grid": {},  # flag -> values; every combination is a cell
    "cells": [],  # further flag sets
    "seeds": [42],
    "minutes": 0,  # training time of each cell; 0: as many steps as the flags say
    "nfe_list": [1, 2, 4],
    "num_samples": 1000,
}
TEACHER_GROUPS = PHASE_GROUPS["teacher"]
SET_BY_ABLATION = ("phase", "save_dir", "export_dir", "seed", "teacher_ckpt")


class Cell(NamedTuple):
    """One training: the flags that set it apart, and a seed."""

    flags: dict
    seed: int

    @property
    def title(self):
        """E.g. `distill=add disc=patch`."""
        return " ".join(f"{key}={as_text(value)}" for key, value in self.flags.items()) or "base"

    @property
    def folder(self):
        """A name for its folder, unique for its flags and seed."""
        return re.sub(r"[^A-Za-z0-9=._-]+", "_", self.title) + f"_seed{self.seed}"


def read_plan(path):
    """The plan in a YAML file, defaults filled in. Raises `UserError`."""
    try:
        content = yaml.safe_load(Path(path).read_text()) or {}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not readable as YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: keys and values are expected, such as grid:")
    return complete_plan(content, str(path))


def complete_plan(content, where):
    """Fill in defaults and check every key and kind. Raises `UserError`, naming `where`."""
    for key in content:
        _known(key, PLAN_DEFAULTS, f"{where}: unknown key")
    plan = PLAN_DEFAULTS | content
    for key, default in PLAN_DEFAULTS.items():
        kind = (int, float) if key == "minutes" else type(default)
        if not isinstance(plan[key], kind):
            raise UserError(f"{where}: {key} should be a {type(default).__name__}")
    if not all(isinstance(cell, dict) for cell in plan["cells"]):
        raise UserError(f"{where}: cells should be a list of flag sets")
    for key, values in plan["grid"].items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{where}: grid {key} needs a list of values")
    varied = [*plan["grid"], *(key for cell in plan["cells"] for key in cell)]
    for key in [*varied, *plan["base"]]:
        _known(key, {*_flags(GROUPS), "preset", "recipe"}, f"{where}: unknown flag")
        if key in SET_BY_ABLATION and not (key == "teacher_ckpt" and key in plan["base"]):
            raise UserError(f"{where}: {key} is set by the ablation itself")
    for key in varied:
        if key in _flags(TEACHER_GROUPS) or key == "preset":
            raise UserError(f"{where}: {key} belongs to the teacher, which all cells share")
    counts = [*plan["seeds"], *plan["nfe_list"], plan["num_samples"]]
    if not all(isinstance(number, int) and number >= 0 for number in counts):
        raise UserError(f"{where}: seeds, nfe_list and num_samples are whole numbers")
    if plan["num_samples"] < 2 or min(plan["nfe_list"], default=0) < 1 or not plan["seeds"]:
        raise UserError(f"{where}: at least 2 num_samples, NFEs of at least 1, and one seed")
    if plan["minutes"] < 0:
        raise UserError(f"{where}: minutes cannot be below 0")
    return plan


def make_cells(plan):
    """All cells of a plan, seeds innermost."""
    keys = list(plan["grid"])
    flag_sets = [dict(zip(keys, v)) for v in itertools.product(*plan["grid"].values())]
    if plan["cells"] and not keys:
        flag_sets = []  # the empty product would be one cell of its own
    return [Cell(flags, seed) for flags in flag_sets + plan["cells"] for seed in plan["seeds"]]


def as_arguments(flags):
    """{"disc": "patch", "x_flip": False} -> ["--disc", "patch", "--no-x_flip"]."""
    arguments = []
    for key, value in flags.items():
        if isinstance(value, bool):
            arguments.append(f"--{key}" if value else f"--no-{key}")
        elif isinstance(value, list):
            arguments += [f"--{key}", *map(str, value)]
        else:
            arguments.append(f"--{key}={'none' if value is None else value}")
    return arguments


def as_text(value):
    """A flag's value as it stands in titles."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def parse_pairs(texts, flag, split):
    """["a=1", "b=x"] -> {"a": 1, "b": "x"}; with `split`, values are lists at commas."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UserError(f"{flag} {text}: write NAME=VALUE")
        values = [_scalar(part) for part in value.split(",")]
        found[key] = values if split else _scalar(value)
    return found


def _scalar(text):
    value = yaml.safe_load(text) if text else ""
    return value if isinstance(value, (int, float, bool)) else text


def _flags(groups):
    return {item.name for group in groups for item in fields(GROUPS[group])}


def _known(key, known, message):
    if key not in known:
        near = difflib.get_close_matches(str(key), known, n=1)
        raise UserError(f"{message} {key!r}" + (f"; did you mean {near[0]}?" if near else ""))
