"""Cells of a plan: the flags, the seed and the length of one training each."""

import hashlib
import itertools
import json
import re
from pathlib import Path
from typing import NamedTuple

from fewstep.methods import METHODS
from fewstep.methods.edm import TeacherPhase
from fewstep.methods.method import with_settings
from fewstep.runs.estimate import steps_that_fit
from fewstep.runs.flag_values import DEFAULTS, as_text
from fewstep.runs.presets import RECIPES
from fewstep.runs.settings import STARTS, flat, unused_settings
from fewstep.studies.compare.reading import shown_text

LENGTHS = ("steps", "images", "minutes")  # keys of a plan, at most one of them above 0
LONGEST_NAME = 80  # of a folder, before its hash
RESULTS = Path("results/compare")  # where comparisons lie whose folder is not named
DEFAULT_METHOD = DEFAULTS["method"]


class Cell(NamedTuple):
    """One training: the flags that set it apart, a seed, and steps of its own, 0 where the plan
    says how long it is."""

    flags: dict
    seed: int
    steps: int = 0

    @property
    def title(self):
        """E.g. `distill=add disc=patch`."""
        return " ".join(f"{key}={shown_text(value)}" for key, value in self.flags.items()) or "base"

    @property
    def family(self):
        """A name for the folder of all seeds of these flags, unique by its hash."""
        title = " ".join(f"{key}={as_text(value)}" for key, value in self.flags.items())
        return hashed_name(title or "base", self.flags)

    @property
    def folder(self):
        """Where it is trained, below the folder of cells."""
        return Path(self.family) / f"seed_{self.seed}"


def hashed_name(title, content):
    """A name for a folder: what can be read of a title, and a hash of the content, by which no
    other has the same."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{plain_name(title)}_{digest[:8]}"


def plain_name(text):
    """A text as a part of a folder's name: letters, digits and few signs, not too long."""
    return re.sub(r"[^A-Za-z0-9=._-]+", "_", text)[:LONGEST_NAME]


def default_folder(path, plan):
    """Where a comparison is written unless a folder is named: below `RESULTS` in one named as the
    file of its plan, or, where there is none (path is None), after its grid, with a hash of what
    the trainings depend on. So two plans do not get into each other's way, and the same command
    finds its folder again."""
    if path is not None:
        return RESULTS / (plain_name(Path(path).stem).strip(".") or "plan")
    grid = plan["grid"].items()
    title = " ".join(f"{key}={','.join(map(as_text, values))}" for key, values in grid)
    return RESULTS / hashed_name(title, {key: plan[key] for key in ("base", "grid", *LENGTHS)})


def make_cells(plan):
    """All cells of a plan, seeds innermost."""
    keys = list(plan["grid"])
    flag_sets = [dict(zip(keys, v)) for v in itertools.product(*plan["grid"].values())]
    if plan["cells"] and not keys:
        flag_sets = []  # the empty product would be one cell of its own
    none = [{}] * len(flag_sets)
    return [
        Cell(flags, seed, own.get("steps", 0))
        for flags, own in zip(flag_sets + plan["cells"], none + plan["own"], strict=True)
        for seed in own.get("seeds", plan["seeds"])
    ]


def merged(base, flags):
    """A cell's flags over the base's. A recipe of the cell's own comes between them: it replaces
    what the base says, and is replaced by what else the cell says."""
    recipe = RECIPES[flags["recipe"]] if flags.get("recipe") in RECIPES else {}
    return base | recipe | flags


def method_of(plan, cell):
    """The entry of `METHODS` that a cell trains with, as it is with the cell's flags."""
    flags = merged(plan["base"], cell.flags)
    return with_settings(METHODS[flags.get("method", DEFAULT_METHOD)], flags)


def shares_teacher(method):
    """Whether a `Method` starts from the teacher that all cells share, and neither from random
    weights nor, as reflow does, from a network of another kind: that each cell trains for itself,
    for as many steps as the teacher has."""
    return method.needs_teacher and method.teacher is TeacherPhase


def training_flags(plan, cell, teacher, steps=None):
    """train.py's flags of a cell but for its folders. teacher: file of the shared one, used where
    the method needs one; steps: replaces what the flags say."""
    flags = merged(plan["base"], cell.flags) | {"seed": cell.seed}
    method = method_of(plan, cell)
    flags.pop("teacher_ckpt", None)
    unused = unused_settings(method)  # what the base says for other methods
    if flags.get("recipe") not in method.recipes:
        unused.add("recipe")
    flags = {key: value for key, value in flags.items() if key in cell.flags or key not in unused}
    if shares_teacher(method):
        flags |= {"phase": "add", "teacher_ckpt": teacher}
    return flags | ({method.steps_flag: steps} if steps else {})


def cell_steps(plan, settings, method, device, teacher_seconds=0.0):
    """Steps of a cell of these settings. Minutes become steps by steps that are timed here;
    `teacher_seconds` come on top of them."""
    if plan["images"]:
        return max(1, plan["images"] // settings.data.batch_size)
    if plan["minutes"]:
        return steps_that_fit(settings, 60 * plan["minutes"] + teacher_seconds, device)
    return plan["steps"] or flat(settings.as_dict())[method.steps_flag]


def teacher_flags(plan, folder):
    """train.py's flags for the shared teacher, trained in `folder`: the base's but its method."""
    others = ("method", *STARTS)
    flags = {key: value for key, value in plan["base"].items() if key not in others}
    return flags | {"phase": "teacher", "save_dir": folder}
