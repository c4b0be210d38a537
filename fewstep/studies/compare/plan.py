"""What to compare: a plan from YAML or the command line becomes cells."""

import hashlib
import itertools
import json
import math
import re
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import yaml

from fewstep.runs.presets import RECIPES
from fewstep.runs.settings import GROUPS, PHASE_GROUPS, Settings, flat
from src.arguments import MOST_EVALUATIONS, MOST_IMAGES, check_range, shown
from src.utils import UserError, did_you_mean, reason_of

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
PLAIN = (str, int, float, type(None))  # what a flag can be given as
KINDS = {dict: "mapping of flags", list: "list", int: "number"}
DEFAULTS = flat(Settings().as_dict())
SET_BY_ABLATION = ("phase", "save_dir", "export_dir", "seed", "teacher_ckpt")
LONGEST_NAME = 80  # of a folder, before its hash
LARGEST_SEED = 2**31 - 1  # as of train.py
MOST_MINUTES = 10**6  # of a cell: two years
MOST_CELLS = 10_000


class Cell(NamedTuple):
    """One training: the flags that set it apart, and a seed."""

    flags: dict
    seed: int

    @property
    def title(self):
        """E.g. `distill=add disc=patch`."""
        return " ".join(f"{key}={as_text(value)}" for key, value in self.flags.items()) or "base"

    @property
    def family(self):
        """A name for the folder of all seeds of these flags, unique by its hash."""
        readable = re.sub(r"[^A-Za-z0-9=._-]+", "_", self.title)[:LONGEST_NAME]
        content = json.dumps(self.flags, sort_keys=True)
        return f"{readable}_{hashlib.sha256(content.encode()).hexdigest()[:8]}"

    @property
    def folder(self):
        """Where it is trained, below the folder of cells."""
        return Path(self.family) / f"seed_{self.seed}"


def read_plan(path):
    """The plan in a YAML file, defaults filled in. Raises `UserError`."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    # ValueError: not UTF-8, or what looks like a date and is none.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: {error.problem}" if mark else reason_of(error)
        raise UserError(f"{path}: not readable as YAML ({place})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: keys and values are expected, such as grid:")
    return complete_plan(content, str(path))


def complete_plan(content, where):
    """Fill in defaults and check every key and kind. Raises `UserError`, naming `where`."""
    for key in content:
        _known(key, PLAN_DEFAULTS, f"{where}: unknown key")
    plan = PLAN_DEFAULTS | content
    for key in ("seeds", "nfe_list"):
        plan[key] = [plan[key]] if isinstance(plan[key], int) else plan[key]
    for key, default in PLAN_DEFAULTS.items():
        kind = (int, float) if key == "minutes" else type(default)
        if not isinstance(plan[key], kind) or isinstance(plan[key], bool):
            raise UserError(f"{where}: {key} should be a {KINDS[type(default)]}")
    if not all(isinstance(cell, dict) for cell in plan["cells"]):
        raise UserError(f"{where}: cells should be a list of flag sets")
    for key, values in plan["grid"].items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{where}: grid {key} needs a list of values")
    check_range(f"{where}: minutes", plan["minutes"], 0, MOST_MINUTES)
    _check_flags(plan, where)
    counts = [*plan["seeds"], *plan["nfe_list"], plan["num_samples"]]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in counts):
        raise UserError(f"{where}: seeds, nfe_list and num_samples are whole numbers")
    check_range(f"{where}: seeds", plan["seeds"], 0, LARGEST_SEED)
    check_range(f"{where}: nfe_list", plan["nfe_list"], 1, MOST_EVALUATIONS)
    check_range(f"{where}: num_samples", plan["num_samples"], 2, MOST_IMAGES)
    if not plan["nfe_list"] or not plan["seeds"]:
        raise UserError(f"{where}: at least one NFE and one seed are needed")
    combinations = math.prod(len(values) for values in plan["grid"].values())
    count = (combinations + len(plan["cells"])) * len(plan["seeds"])
    if count > MOST_CELLS:
        raise UserError(f"{where}: {shown(count)} cells; at most {MOST_CELLS:,} are allowed")
    seen = set()
    for cell in make_cells(plan):
        if cell.folder in seen:
            raise UserError(f"{where}: the cell {cell.title} seed={cell.seed} is there twice")
        seen.add(cell.folder)
    return plan


def make_cells(plan):
    """All cells of a plan, seeds innermost."""
    keys = list(plan["grid"])
    flag_sets = [dict(zip(keys, v)) for v in itertools.product(*plan["grid"].values())]
    if plan["cells"] and not keys:
        flag_sets = []  # the empty product would be one cell of its own
    return [Cell(flags, seed) for flags in flag_sets + plan["cells"] for seed in plan["seeds"]]


def merged(base, flags):
    """A cell's flags over the base's. A recipe of the cell's own comes between them: it replaces
    what the base says, and is replaced by what else the cell says."""
    recipe = RECIPES[flags["recipe"]] if flags.get("recipe") in RECIPES else {}
    return base | recipe | flags


def as_arguments(flags):
    """{"disc": "patch", "x_flip": False} -> ["--disc=patch", "--no-x_flip"], by each flag's kind:
    YAML reads on, off and none as other things than the words they are."""
    arguments = []
    for key, value in flags.items():
        default = DEFAULTS.get(key, "")
        if isinstance(default, bool):
            yes = str(value).lower() in ("true", "1", "on", "yes")
            arguments.append(f"--{key}" if yes else f"--no-{key}")
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


def parse_pairs(texts, flag, split):
    """["a=1", "b=x"] -> {"a": "1", "b": "x"}; with `split`, values are lists at commas. A flag of
    several numbers is written with spaces (`"sigmas=5 2 1 0.5,10 2 1 0.5"`), one of several words
    with plus signs (`augment=color,translation+color`)."""
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UserError(f"{flag} {text}: write NAME=VALUE")
        if key in found:
            raise UserError(f"{flag} {text}: {key} is there twice")
        found[key] = value.split(",") if split else value
    return found


def _check_flags(plan, where):
    varied = [*plan["grid"], *(key for cell in plan["cells"] for key in cell)]
    for flags in (plan["base"], plan["grid"], *plan["cells"]):
        for key, value in flags.items():
            if not all(isinstance(one, PLAIN) for one in _flattened(value)):
                raise UserError(f"{where}: {key} {shown(value)}: texts and numbers are expected")
    for key in [*varied, *plan["base"]]:
        _known(key, {*DEFAULTS, "preset", "recipe"}, f"{where}: unknown flag")
        if key in SET_BY_ABLATION and not (key == "teacher_ckpt" and key in plan["base"]):
            raise UserError(f"{where}: {key} is set by the ablation itself")
        if key == "student_iterations" and plan["minutes"]:
            raise UserError(f"{where}: {key} and minutes both say how long; leave out one")
    teachers = {item.name for group in PHASE_GROUPS["teacher"] for item in fields(GROUPS[group])}
    for key in varied:
        if key in teachers or key == "preset":
            raise UserError(f"{where}: {key} belongs to the teacher, which all cells share")


def _flattened(value, depth=0):
    """What is in a value of a flag: a grid lists values, and some values are lists."""
    if not isinstance(value, list) or depth == 2:
        return [value]
    return [one for part in value for one in _flattened(part, depth + 1)]


def _known(key, known, message):
    if key not in known:
        raise UserError(f"{message} {key!r}{did_you_mean(key, known)}")
