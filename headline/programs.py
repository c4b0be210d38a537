"""The programs of a real run as argument lists of `python`, and what they are told."""

import json
from pathlib import Path

from ablation.plan import Cell, as_arguments
from headline.flow import uses
from headline.recipe import levels_from, student_flags, teacher_flags
from src.utils import read_json, whole_file

TITLES = {
    "teacher": "teacher",
    "student": "ADD student",
    "flow": "rectified flow",
    "disc_only": "discriminator only (`--distill none`)",
    "distill_only": "distillation only (`--disc none`)",
}
HALVES = {"disc_only": {"distill": "none"}, "distill_only": {"disc": "none"}}
# The folder and file of each training's result, below the folder of the run.
WEIGHTS = {name: f"{name}/final_model.pt" for name in TITLES}
WEIGHTS |= {"teacher": "teacher/teacher/model.pt", "flow": "flow/model.pt"}
SCREENING_SEED = 42  # of every cell, train.py's own


def training_arguments(name, steps, work, preset, batch_size, common, base, student, compile):
    """train.py, or the flow's program, for the training `name` of so many steps.

    common: flags of all trainings; base and student: those that the user or the screening chose,
    which replace the recipe's; compile: train.py's flag.
    """
    work, is_first_kind = Path(work), name in ("teacher", "flow")
    flags = common | {"compile": compile}
    if is_first_kind:
        flags |= teacher_flags(preset, steps) | base
    else:
        flags |= student_flags(preset, steps, batch_size) | base | student | HALVES.get(name, {})
    flags |= {"save_dir": work / name}
    if name == "flow":
        flags = {key: value for key, value in flags.items() if key == "preset" or uses(key)}
        return ["-m", "headline.flow", *as_arguments(flags)]
    flags |= {"phase": "teacher" if is_first_kind else "add"}
    if not is_first_kind:
        flags |= {"teacher_ckpt": work / WEIGHTS["teacher"]}
        flags |= {"export_dir": work / name / "export"}
    return ["train.py", *as_arguments(flags)]


def speed_arguments(work, discs, preset, common):
    """`headline.speed`, with short turns for the tiny network."""
    files = [f"--json={Path(work) / 'speed.json'}", f"--profile={Path(work) / 'profile.txt'}"]
    size = ["--steps=1", "--rounds=2"] if preset == "tiny" else []
    return ["-m", "headline.speed", *files, "--discs", *discs, *size, "--", *as_arguments(common)]


def score_arguments(work, common, num_samples, seeds, teacher_nfe_list, tune_samples, no_auc):
    """`headline.score` with its own flags."""
    told = [f"--num_samples={num_samples}", f"--tune_samples={tune_samples}", "--seeds", *seeds]
    told += ["--teacher_nfe_list", *teacher_nfe_list, *["--no_auc"] * no_auc]
    return ["-m", "headline.score", f"--work={work}", *told, "--", *as_arguments(common)]


def screening_arguments(work):
    """`ablate.py` with the plan of `write_screening`."""
    work = Path(work)
    return ["ablate.py", work / "screening.yaml", f"--save_dir={work / 'screening'}"]


def write_screening(work, preset, sigmas, steps, batch_size, flags, samples):
    """Write the plan of the screening: every first level with every discriminator.

    steps: {disc: N}, what fits in the same time; warm-ups are the shortest cell's for all. flags:
    those of all cells, which replace the recipe's.
    """
    work = Path(work)
    shared = student_flags(preset, min(steps.values()), batch_size)
    del shared["student_iterations"]
    cells = [
        {"sigmas": levels_from(first, preset), "disc": disc, "student_iterations": count}
        for first in sigmas
        for disc, count in steps.items()
    ]
    base = shared | flags | {"teacher_ckpt": work / WEIGHTS["teacher"]}
    base = {key: str(v) if isinstance(v, Path) else v for key, v in base.items()}
    content = {"base": base, "cells": cells, "seeds": [SCREENING_SEED]}
    content |= {"num_samples": samples, "nfe_list": [1, 2, 4]}
    with whole_file(work / "screening.yaml") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")  # JSON is YAML


def screening_cells(work):
    """[(flags, folder)] of the cells of the screening that is planned, run or not."""
    plan, cells = Path(work) / "screening.yaml", Path(work) / "screening" / "cells"
    planned = json.loads(plan.read_text())["cells"] if plan.exists() else []
    return [(flags, cells / Cell(flags, SCREENING_SEED).folder) for flags in planned]


def screening_scores(work):
    """[(flags, score)] of the cells of the screening that have one."""
    scored = [(flags, folder / "score.json") for flags, folder in screening_cells(work)]
    return [(flags, read_json(path)) for flags, path in scored if path.exists()]


def winner(work):
    """{"sigmas": ..., "disc": ...} of the cell that is nearest at NFE 1; {} where there is none."""
    found = screening_scores(work)
    if not found:
        return {}
    flags, _ = min(found, key=lambda pair: pair[1]["distance"]["1"])
    return {key: flags[key] for key in ("sigmas", "disc")}
