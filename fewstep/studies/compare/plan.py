"""What to compare: a plan from YAML or the command line, every key and value checked."""

import argparse
import math
from dataclasses import fields

from fewstep.methods import METHODS
from fewstep.runs.flag_values import DEFAULTS, as_text, is_plain
from fewstep.runs.settings import GROUPS
from fewstep.studies.compare.cells import LENGTHS, make_cells, merged, method_of, shares_teacher
from fewstep.studies.compare.reading import flag_value
from src.arguments import (
    MOST_EVALUATIONS,
    MOST_IMAGES,
    MOST_STEPS,
    check_range,
    quoted,
    real_number,
    whole_number,
)
from src.utils import UserError, did_you_mean

# Everything a plan may hold, with the value of what is left out.
PLAN_DEFAULTS = {
    "base": {},  # flags of every cell and of the teacher
    "grid": {},  # flag -> values; every combination is a cell
    "cells": [],  # further flag sets, each perhaps with "seeds" and "steps" of its own
    "seeds": [42],
    "steps": 0,  # length of each cell's training, at most one of these three;
    "images": 0,  # none: as many steps as the flags say
    "minutes": 0,
    "nfe_list": [1, 2, 4],
    "num_samples": 1000,
}
MOST_MINUTES = 10**6  # of a cell: two years
LARGEST_SEED = 2**31 - 1  # as of train.py
# Keys of numbers: the least and the most, and what the number is; all are whole but the minutes.
NUMBERS = {
    "seeds": (0, LARGEST_SEED, "seeds of training; each cell is trained with each (default: 42)"),
    "steps": (0, MOST_STEPS, "training steps of each cell (default: as the flags say)"),
    "images": (
        0,
        MOST_STEPS * MOST_IMAGES,
        "training images that each cell sees, in place of --steps",
    ),
    "minutes": (0, MOST_MINUTES, "training minutes of each cell, in place of --steps"),
    "nfe_list": (
        1,
        MOST_EVALUATIONS,
        "network evaluations at which cells are scored (default: 1 2 4)",
    ),
    "num_samples": (2, MOST_IMAGES, "generated images of each score (default: 1000)"),
}
MOST_CELLS = 10_000
OWN = ("seeds", "steps")  # keys that a cell may have beside its flags
KINDS = {dict: "mapping of flags", list: "list"}
SET_BY_GRID = ("phase", "save_dir", "export_dir", "seed", "teacher_ckpt")
TEACHER_GROUPS = ("data", "network", "scratch", "teacher")  # of the shared teacher
OWN_DATA = ("batch_size", "x_flip")  # of how images are learnt, not which


def complete_plan(content, where):
    """Fill in defaults, check every key and kind, and give each value its one form (`flag_value`).
    Numbers may be texts. Raises `UserError`, naming `where`."""
    for key in content:
        _known(key, PLAN_DEFAULTS, f"{where}: unknown key")
    plan = PLAN_DEFAULTS | content
    for key in NUMBERS:
        plan[key] = _numbers(key, plan[key], where)
    for key, default in PLAN_DEFAULTS.items():
        if key not in NUMBERS and type(plan[key]) is not type(default):
            raise UserError(f"{where}: {key} should be a {KINDS[type(default)]}")
    _check_numbers(plan, where)
    if not all(isinstance(cell, dict) for cell in plan["cells"]):
        raise UserError(f"{where}: cells should be a list of flag sets")
    plan["own"] = [_own_numbers(cell, where) for cell in plan["cells"]]
    plan["cells"] = [{key: cell[key] for key in cell if key not in OWN} for cell in plan["cells"]]
    for key, values in plan["grid"].items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{where}: grid {key} needs a list of values")
    _check_flags(plan, where)
    plan["base"] = _settled(plan["base"], where)
    plan["cells"] = [_settled(cell, where) for cell in plan["cells"]]
    plan["grid"] = {
        key: [_settled({key: value}, where)[key] for value in values]
        for key, values in plan["grid"].items()
    }
    combinations = math.prod(len(values) for values in plan["grid"].values())
    count = combinations * len(plan["seeds"])
    count += sum(len(own.get("seeds", plan["seeds"])) for own in plan["own"])
    if count > MOST_CELLS:
        raise UserError(f"{where}: {quoted(count)} cells; at most {MOST_CELLS:,} are allowed")
    folders = set()
    for cell in make_cells(plan):
        if cell.folder in folders:
            raise UserError(f"{where}: the cell {cell.title} seed={cell.seed} is there twice")
        folders.add(cell.folder)
        _check_cell(plan, cell, where)
    return plan


def parse_pairs(texts, flag, split):
    """["a=1", "b=x"] -> {"a": "1", "b": "x"}; with `split`, values are lists at commas. A flag of
    several numbers is written with spaces (`"sigmas=5 2 1 0.5,10 2 1 0.5"`), one of several words
    with plus signs (`augment=color,translation+color`)."""
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise UserError(f"{flag} {text}: write NAME=VALUE")
        if key in pairs:
            raise UserError(f"{flag} {text}: {key} is there twice")
        pairs[key] = value.split(",") if split else value
    return pairs


def _numbers(key, value, where):
    """A number of the plan, or a list of some, from texts or numbers."""
    read = real_number if key == "minutes" else whole_number
    is_list = isinstance(PLAN_DEFAULTS[key], list)
    values = value if is_list and isinstance(value, list) else [value]
    try:
        if not values or not all(isinstance(one, (str, int, float)) for one in values):
            raise argparse.ArgumentTypeError("at least one number is needed, and nothing else")
        numbers = [read(str(one)) for one in values]
    except argparse.ArgumentTypeError as error:
        raise UserError(f"{where}: {key}: {error}") from error
    for one in numbers:
        if numbers.count(one) > 1:
            raise UserError(f"{where}: {key}: {one} is there twice")
    return numbers if is_list else numbers[0]


def _own_numbers(cell, where):
    """What one of the plan's cells says of `OWN`."""
    own = {key: _numbers(key, cell[key], where) for key in OWN if key in cell}
    for key, value in own.items():
        for one in value if isinstance(value, list) else [value]:
            check_range(f"{where}: {key}", one, *NUMBERS[key][:2])
    return own


def _settled(flags, where):
    """Flags with each value in its one form."""
    try:
        return {key: flag_value(key, value) for key, value in flags.items()}
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _check_numbers(plan, where):
    for key, (low, high, _) in NUMBERS.items():
        check_range(f"{where}: {key}", plan[key], low, high)
    lengths = [key for key in LENGTHS if plan[key]]
    if len(lengths) > 1:
        raise UserError(f"{where}: {' and '.join(lengths)} both say how long; leave out one")


def _check_flags(plan, where):
    """Names and kinds of all flags of the plan."""
    for flags in (plan["base"], plan["grid"], *plan["cells"]):
        for key, value in flags.items():
            several = flags is plan["grid"]
            if not all(map(is_plain, value if several else [value])):
                raise UserError(f"{where}: {key} {quoted(value)}: texts and numbers are expected")
            _known(key, {*DEFAULTS, "preset", "recipe", "method"}, f"{where}: unknown flag")
            if key == "max_minutes":
                raise UserError(
                    f"{where}: max_minutes would end each training as a failure; stop the whole"
                    " comparison (Ctrl-C, SIGTERM), and the same command goes on"
                )
            if key in SET_BY_GRID and not (key == "teacher_ckpt" and flags is plan["base"]):
                raise UserError(f"{where}: {key} is set by the comparison itself")
            if key == "method":
                for name in value if several else [value]:
                    _known(as_text(name), METHODS, f"{where}: unknown method")


def _check_cell(plan, cell, where):
    """What a cell may vary: not what it shares with others, nor a length that the plan has."""
    method = method_of(plan, cell)
    shared = {"preset", *(item.name for item in fields(GROUPS["data"]))}
    if shares_teacher(method):
        shared |= {item.name for group in TEACHER_GROUPS for item in fields(GROUPS[group])}
    for key in cell.flags:
        if key in shared - set(OWN_DATA):
            raise UserError(f"{where}: {key} is the same for all cells; set it in base")
    # Without a teacher of its own, a cell may find the teacher's length in the base.
    own = merged(plan["base"], cell.flags) if method.needs_teacher else cell.flags
    for length in LENGTHS:
        if plan[length] and method.steps_flag in own:
            flag = method.steps_flag
            raise UserError(f"{where}: {flag} and {length} both say how long; leave out one")


def _known(key, known, message):
    if key not in known:
        raise UserError(f"{message} {key!r}{did_you_mean(key, known)}")
