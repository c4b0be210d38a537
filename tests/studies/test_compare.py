"""`fewstep compare`: what a plan means, and a small comparison from end to end."""

import csv
import io
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from fewstep import methods
from fewstep.engine.lock import InUse
from fewstep.runs.command_line import make_settings
from fewstep.runs.flag_values import as_arguments
from fewstep.runs.presets import PRESETS
from fewstep.runs.yaml_files import read_yaml
from fewstep.scores.spaces import free_names
from fewstep.studies import training
from fewstep.studies.compare import cells as compare_cells
from fewstep.studies.compare import laboratory
from fewstep.studies.compare.cells import (
    Cell,
    cell_steps,
    make_cells,
    merged,
    teacher_flags,
    training_flags,
)
from fewstep.studies.compare.laboratory import Laboratory, balance_of, check_lengths
from fewstep.studies.compare.main import attempt, list_cells, main, parse, run_all
from fewstep.studies.compare.plan import complete_plan, parse_pairs
from fewstep.studies.compare.reading import flag_value
from fewstep.studies.compare.report import markdown, summarise, summary
from fewstep.studies.evaluate.tables import score_row
from src import feedback
from src.sheets import first_rows
from src.utils import UserError, write_json
from tests.studies.programs import train_in_process

RACES = Path(__file__).parents[2] / "races"


def test_a_grid_is_every_combination_with_every_seed():
    plan = complete_plan(
        {"grid": {"distill": ["add", "none"], "adv_weight": [1, 3]}, "seeds": [0, 1]}, ""
    )
    cells = make_cells(plan)
    assert len(cells) == 8 and len({cell.folder for cell in cells}) == 8
    assert cells[0].flags == {"distill": "add", "adv_weight": 1} and cells[0].seed == 0
    assert cells[-1].title == "distill=none adv_weight=3" and cells[-1].seed == 1


def test_cells_of_their_own_stand_beside_the_grid():
    listed = [{"disc": "timm:resnet10t"}, {"sigmas": [9.0, 2.0, 1.0, 0.5]}]
    cells = make_cells(complete_plan({"cells": listed}, ""))
    assert [cell.flags for cell in cells] == listed
    both = make_cells(complete_plan({"grid": {"disc": ["patch"]}, "cells": listed}, ""))
    assert [cell.flags for cell in both] == [{"disc": "patch"}, *listed]


def test_a_cell_may_have_steps_of_its_own():
    listed = [{"disc": "patch", "steps": 7}, {"disc": "unet"}]
    plan = complete_plan({"cells": listed, "seeds": [1, 2], "minutes": 5}, "")
    assert [(cell.flags, cell.steps) for cell in make_cells(plan)] == [
        ({"disc": "patch"}, 7),
        ({"disc": "patch"}, 7),
        ({"disc": "unet"}, 0),
        ({"disc": "unet"}, 0),
    ]
    lab = Laboratory(plan | {"base": {"preset": "tiny"}}, "nowhere")
    assert lab._steps(make_cells(plan)[0]) == 7 and not Path("nowhere").exists()
    for wrong in (-1, 10**12, [1, 2]):
        with pytest.raises(UserError, match="plan: steps"):
            complete_plan({"cells": [{"steps": wrong}]}, "plan")


def test_a_cell_may_have_seeds_of_its_own():
    listed = [{"disc": "patch", "seeds": [1, 2]}, {"disc": "unet"}, {"disc": "none", "seeds": 7}]
    cells = make_cells(complete_plan({"cells": listed, "seeds": [5]}, ""))
    assert [(cell.flags["disc"], cell.seed) for cell in cells] == [
        ("patch", 1),
        ("patch", 2),
        ("unet", 5),
        ("none", 7),
    ]


@pytest.mark.parametrize("path", sorted(RACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_published_plans_can_be_run(path, tmp_path):
    _, plan = parse([str(path), "--base", "data=synthetic", "--save_dir", str(tmp_path)])
    lab = Laboratory(plan, tmp_path)
    for cell in make_cells(plan):
        lab.check(cell)
    if path.stem in ("small", "tiny"):
        raced = {cell.flags["method"] for cell in make_cells(plan)}
        assert raced == set(methods.METHODS), "every method takes part"


def test_flags_become_arguments_by_their_kind():
    flags = {"x_flip": False, "freeze_convs": True, "sigmas": [4.0, 2.0, 1.0, 0.5], "disc": None}
    assert as_arguments(flags) == (
        "--no-x_flip --freeze_convs --sigmas 4.0 2.0 1.0 0.5 --disc=none".split()
    )
    assert as_arguments({"disc_spectral": True, "penalty": None}) == [
        "--disc_spectral=on",
        "--penalty=none",
    ]
    pairs = parse_pairs(
        ["sigmas=4 2 1 0.5,9 2 1 0.5", "disc_spectral=on,off"], "--grid", split=True
    )
    assert pairs == {"sigmas": ["4 2 1 0.5", "9 2 1 0.5"], "disc_spectral": ["on", "off"]}
    assert as_arguments({"sigmas": pairs["sigmas"][1]}) == "--sigmas 9 2 1 0.5".split()
    pairs = parse_pairs(["preset=tiny", "x_flip=false"], "--base", split=False)
    settled = {key: flag_value(key, value) for key, value in pairs.items()}
    assert as_arguments(settled) == ["--preset=tiny", "--no-x_flip"]


def test_a_cells_recipe_replaces_the_base_and_not_the_cells_own_flags():
    base = {"disc": "resnet", "fake_steps": 1, "lr": 0.1}
    flags = merged(base, {"recipe": "dmd2", "fake_steps": 7})
    assert flags["disc"] == "unet" and flags["fake_steps"] == 7 and flags["lr"] == 0.1
    assert merged({"recipe": "dmd2", "disc": "patch"}, {})["disc"] == "patch"


def test_folders_are_short_unique_and_the_same_for_the_same_flags():
    first, other = Cell({"augment": "a,b", "disc": "x" * 300}, 1), Cell({"augment": "a_b"}, 1)
    again = Cell(dict(reversed(first.flags.items())), 2)
    assert len(first.family) < 100 and first.family[-8:] == again.family[-8:]
    assert first.folder != again.folder
    assert Cell({"augment": "a,b"}, 1).family != other.family


def test_yaml_and_flags_make_one_plan(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("base: {preset: tiny, lr: 0.001}\ngrid:\n  disc: [patch, none]\nminutes: 2\n")
    args, plan = parse([str(path), "--base", "lr=0.01", "--seeds", "3", "4"])
    assert plan["base"] == {"preset": "tiny", "lr": 0.01} and plan["seeds"] == [3, 4]
    assert plan["minutes"] == 2 and plan["nfe_list"] == [1, 2, 4] and not args.dry_run
    assert len(make_cells(plan)) == 4


def folder_of(*arguments):
    """Where a comparison is written, relative to the folder of all of them."""
    return str(parse(arguments)[0].save_dir).removeprefix("results/compare/")


def test_each_plan_and_each_grid_has_a_folder_of_its_own(tmp_path):
    for name in ("first", "second", "..", "a b"):
        (tmp_path / f"{name}.yaml").write_text("cells: [{disc: patch}]\n")
    folders = [folder_of(str(tmp_path / f"{n}.yaml")) for n in ("first", "second", "..", "a b")]
    assert folders == ["first", "second", "plan", "a_b"]
    first = str(tmp_path / "first.yaml")
    assert folder_of(first, "--seeds", "7", "--steps", "9") == "first"
    assert folder_of(first, "--save_dir", "elsewhere") == "elsewhere"

    grid = ["--grid", "disc=patch,none", "distill=add"]
    usual = folder_of(*grid)
    assert usual.startswith("disc=patch_none_distill=add_") and usual == folder_of(*grid)
    assert usual == folder_of(*grid, "--seeds", "7", "--num_samples", "9"), "it goes on there"
    others = {folder_of("--grid", "disc=patch"), folder_of(*grid, "--minutes", "3")}
    others.add(folder_of(*grid, "--base", "preset=tiny"))
    assert len(others | {usual}) == 4, "what one of them trains is nothing to another"


def test_a_default_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    (tmp_path / "results").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="--save_dir results/compare/disc=patch_.*not a folder"):
        parse(["--grid", "disc=patch"])


def test_an_empty_value_can_be_seen_and_names_no_other_folder():
    empty, unset = Cell({"augment": ""}, 0), Cell({"disc": "patch"}, 0)
    assert empty.title == "augment=(none)" and empty.family.startswith("augment=_")
    results = [(cell, None, "it fell over") for cell in (empty, unset)]
    families = summarise(results, [{"name": "space", "is_fid": False}], [1])
    assert [family["flags"]["augment"] for family in families] == ["(none)", ""]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"grids": {}}, "did you mean grid"),
        ({"grid": {"distil": ["add"]}}, "did you mean distill"),
        ({"grid": {"disc": "patch"}}, "grid disc needs a list"),
        ({"grid": {"lr": [0.1, 1]}}, "lr is the same for all cells"),
        ({"grid": {"preset": ["tiny"]}}, "preset is the same for all cells"),
        ({"base": {"seed": 3}}, "seed is set by the comparison"),
        ({"base": {"max_minutes": 5}}, "max_minutes would end each training as a failure"),
        ({"cells": [{"phase": "add"}]}, "phase is set by the comparison"),
        ({"cells": ["patch"]}, "cells should be a list of flag sets"),
        ({"seeds": []}, "seeds: at least one"),
        ({"nfe_list": [0]}, "nfe_list 0: at least 1"),
        ({"num_samples": 1}, "num_samples 1: at least 2"),
        ({"minutes": -1}, "minutes"),
        ({"minutes": "long"}, "minutes: 'long': a number is needed"),
        ({"nfe_list": "1,2,4"}, "nfe_list: '1,2,4': a whole number is needed; no commas"),
        ({"nfe_list": ["1", "01"]}, "nfe_list: 1 is there twice"),
        ({"seeds": ["1:30"]}, "'1:30': a whole number"),
        ({"seeds": [True]}, "'True': a whole number"),
        ({"seeds": ["9999999999"]}, "at most 2147483647"),
        ({"grid": {"disc_stddev": ["y", "n", "true"]}}, "disc_stddev=on seed=42 is there twice"),
        ({"grid": {"disc_stddev": ["y", "maybe"]}}, "disc_stddev 'maybe': use one of true, on"),
        ({"base": {"x_flip": "maybe"}, "cells": [{}]}, "x_flip 'maybe': use one of"),
        ({"grid": {"student_lr": ["0.001", "1e-3"]}}, "student_lr=0.001 seed=42 is there twice"),
        ({"grid": {"student_lr": [".001", 0.001]}}, "student_lr=0.001 seed=42 is there twice"),
        ({"grid": {"adv_weight": [1, "1.0"]}}, "adv_weight=1 seed=42 is there twice"),
        ({"grid": {"sigmas": ["4 2 1 .5", [4.0, 2, 1, 0.5]]}}, "is there twice"),
        ({"grid": {"augment": ["color+cutout", "color, cutout"]}}, "is there twice"),
        ({"grid": {"disc_heads": ["16+8", "16,08"]}}, "disc_heads=16,8 seed=42 is there twice"),
        ({"cells": [{"disc_channels": "1e1"}, {"disc_channels": 10}]}, "is there twice"),
        ({"grid": {"gan_loss": ["hing"]}}, "invalid choice: 'hing'"),
        ({"base": {"student_lr": "fast"}, "cells": [{}]}, "'fast': a number is needed"),
        ({"base": ["preset=tiny"]}, "base should be a mapping"),
        ({"seeds": [1, 1]}, "seeds: 1 is there twice"),
        ({"grid": {"disc": ["patch"]}, "cells": [{"disc": "patch"}]}, "is there twice"),
        ({"base": {"student_iterations": 9}, "minutes": 1}, "leave out one"),
        ({"cells": [{"student_iterations": 9}], "images": 1}, "leave out one"),
        ({"steps": 4, "minutes": 1}, "steps and minutes both say how long"),
        ({"steps": 1.5}, "steps: '1.5': a whole number is needed"),
        ({"grid": {"method": ["adversarial", "rectified_flo"]}}, "did you mean rectified_flow"),
        ({"cells": [{"method": "rectified_flow", "num_iterations": 9}], "steps": 3}, "both say"),
        ({"cells": [{"method": "rectified_flow", "data_seed": 9}]}, "is the same for all cells"),
        ({"cells": [{"disc": "patch", "seeds": [3, 3]}]}, "3 is there twice"),
        ({"cells": [{"disc": "patch", "seeds": -1}]}, "seeds -1: at least 0"),
    ],
)
def test_mistakes_in_a_plan_are_named(content, message):
    with pytest.raises(UserError) as caught:
        complete_plan(content, "plan.yaml")
    assert message in str(caught.value) and "plan.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.yaml"], "nothing.yaml: no such file"),
        ([], "nothing to compare"),
        (["--grid", "disc"], "--grid disc: write NAME=VALUE"),
        (["--base", "preset"], "--base preset"),
        (["--grid", "disc=patch", "disc=none"], "disc is there twice"),
    ],
)
def test_mistakes_on_the_command_line_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        parse(arguments)


def test_a_file_that_is_not_yaml_is_named(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("grid: [unclosed")
    with pytest.raises(UserError, match="plan.yaml: not readable as YAML"):
        read_yaml(path, "grid:")
    path.write_text("just words")
    with pytest.raises(UserError, match="keys and values"):
        read_yaml(path, "grid:")


def test_yaml_is_taken_as_it_is_written(tmp_path):
    """YAML's own reading makes 8 of 010, 90 of 1:30 and a truth value of a word."""
    path = tmp_path / "plan.yaml"
    path.write_text(
        "shared: &shared {lr: 1e-3}\nbase: {<<: *shared, disc_spectral: on, penalty: none}\n"
        "seeds: [010, 1e2]\nnfe_list: 1\ngrid: {disc_stddev: [y, no], x: 1:30}\n"
    )
    content = read_yaml(path, "grid:")
    assert content["base"] == {"lr": "1e-3", "disc_spectral": "on", "penalty": "none"}
    assert content["grid"] == {"disc_stddev": ["y", "no"], "x": "1:30"}
    del content["shared"], content["grid"]["x"]
    plan = complete_plan(content, "plan.yaml")
    assert plan["seeds"] == [10, 100] and plan["nfe_list"] == [1]
    assert plan["grid"] == {"disc_stddev": [True, False]} and plan["base"]["lr"] == 0.001


@pytest.mark.parametrize(
    "text",
    [
        "base: {preset: tiny}\ngrid: {disc: [patch]}\nbase: {preset: full}\n",
        "grid: {disc: [patch], disc: [unet]}\n",
        "cells:\n- {lr: 1, 'lr': 2}\n",
    ],
)
def test_a_key_that_is_there_twice_is_refused(text, tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"plan.yaml: .*line \d: (base|disc|lr) is there twice"):
        read_yaml(path, "grid:")


def families_of(other):
    """Three flag sets with two training seeds each, one of which failed; other: the distance in the
    second space from that in the first."""
    plan = complete_plan({"grid": {"disc": ["patch", "unet", "none"]}, "seeds": [0, 1]}, "")
    values = {"patch": (30.0, 34.0), "unet": (10.0, 12.0)}
    results = []
    for cell in make_cells(plan):
        if cell.flags["disc"] == "none":
            results.append((cell, None, "it fell over"))
            continue
        distance = values[cell.flags["disc"]][cell.seed]
        scores = {"space": {"frechet": distance}, "pixels": {"spread": 0.9, "detail": 1.1}}
        scores["other"] = {"frechet": other(distance)}
        score = dict(steps=100, minutes=1.5)
        score["rows"] = [score_row(cell.title, cell.title, 1, 9, [scores])]
        results.append((cell, score, None))
    floor = score_row("real", "real", None, 9, [{n: {"frechet": 1.0} for n in ("space", "other")}])
    spaces = [{"name": name, "is_fid": False} for name in ("space", "other")]
    return summarise(results, spaces, [1]), spaces, floor


def test_the_table_has_mean_and_sd_and_best_first():
    families, spaces, floor = families_of(lambda distance: 2 * distance)
    table = markdown(families, spaces, [floor], ["77 held-out images"])
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == ["unet", "patch", "none"]
    assert "11.00 ± 1.41" in lines[0] and "32.00 ± 2.83" in lines[1] and "failed" in lines[2]
    assert "| 1, 1 | 0.90 | 1.10 | 100 | 1.5 | 2 |" in lines[0] and "22.00 ± 2.83" in lines[0]
    assert "| 2, 2 | 0.90 | 1.10 | 100 | 1.5 | 2 |" in lines[1]
    assert "Best at NFE 1 in all 2 feature spaces: disc=unet" in table
    assert "none failed: it fell over" in table and "(the floor, n = 9): 1.00" in table
    assert "not FID" in table and "77 held-out" in table


def test_the_table_says_how_much_students_learnt_where_they_could_wait():
    families, spaces, floor = families_of(lambda distance: 2 * distance)
    rows = [{"step": 50}, {"step": 100, "student_waits": 0.5, "disc_lead": 0.2}]
    rows += [{"step": 250, "student_waits": 0.1, "disc_lead": 0.4}, {"step": 250, "concern": "x"}]
    rows = [{"phase": "teacher", "step": 900}, *({"phase": "student"} | row for row in rows)]
    assert balance_of(rows) == {"waited": pytest.approx(0.2), "lead": 0.4}
    assert balance_of(rows[:1]) == {}
    assert "waited" not in markdown(families, spaces, [floor], [])
    families[0] |= balance_of(rows)
    lines = markdown(families, spaces, [floor], []).splitlines()
    unet, patch, _ = [line for line in lines if line.startswith("| `")]
    assert "| 1.5 | 0.20 | 0.40 | 2 |" in unet and "| 1.5 |  |  | 2 |" in patch
    assert "- waited: share of the steps" in "\n".join(lines)


@pytest.mark.parametrize("width", [80, 100])
def test_what_is_printed_fits_a_terminal(width):
    families, spaces, floor = families_of(lambda distance: 2 * distance)
    families[1]["title"] = "disc=patch " + "gan_loss=hinge " * 9
    lines = summary(families, spaces, [floor], width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].split() == ["cell", "NFE", "1", "places", "seeds"]
    rows = [" ".join(line.split()) for line in lines]
    assert "disc=unet 11.00 ± 1.41 1, 1 2" in rows and "real 1.00" in rows
    (long,) = [row for row in rows if row.startswith("disc=patch gan_loss=hinge")]
    assert long.endswith(" 32.00 ± 2.83 2, 2 2")
    assert "disc=none failed: it fell over" in lines


def test_spaces_that_disagree_are_said_to():
    families, spaces, floor = families_of(lambda distance: 100 - distance)
    table = markdown(families, spaces, [floor], [])
    assert [family["places"] for family in families] == [[1, 2], [2, 1], [None, None]]
    wanted = "disagree on the best at NFE 1: disc=unet in space; disc=patch in other"
    assert wanted in table and "Best at" not in table
    alone = markdown(families, spaces[:1], [floor], [])
    assert "Best at" not in alone and "disagree" not in alone and "place" not in alone


PLAN = """
base:
  preset: tiny
  data: synthetic
  synthetic_count: 32
  batch_size: 4
  num_iterations: 3
  warmup: 1
  teacher_steps: 2
  student_iterations: 3
  disc_warmup: 1
  best_images: 4
  device: cpu
  cache_dir: {cache}
grid:
  disc: [patch, "timm:nothing"]
cells:
  - {{method: rectified_flow}}
seeds: [0]
nfe_list: [1, 2]
num_samples: 6
"""


def compare(tmp_path, *flags):
    return main([str(tmp_path / "plan.yaml"), "--save_dir", str(tmp_path / "out"), *flags])


def test_two_methods_from_end_to_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(laboratory, "run_training", train_in_process)
    for name, quick in {"PLACES": 1, "STEPS": 1}.items():
        monkeypatch.setattr(f"fewstep.runs.estimate.{name}", quick)
    monkeypatch.setattr("fewstep.engine.loop.draw_curves", lambda *_: None)
    (tmp_path / "plan.yaml").write_text(PLAN.format(cache=tmp_path / "cache"))
    assert compare(tmp_path, "--dry_run") == 0
    listed = capsys.readouterr().out
    assert "disc=patch seed=0: 3 steps, about" in listed
    assert "timm has no such model" in listed and not (tmp_path / "out").exists()
    assert f"results would go to {tmp_path / 'out'}" in listed

    assert compare(tmp_path) == 1  # one cell fails
    out = tmp_path / "out"
    table = (out / "compare.md").read_text()
    assert "(the floor, n = 6)" in table and "teacher, NFE 2: " in table
    assert "| `patch` |  |" in table and "|  | `rectified_flow` |" in table
    assert "those of the shared teacher (" in table
    assert "disc=timm:nothing failed: exit code 2: error: --disc timm:nothing" in table
    rows = list(csv.DictReader((out / "compare.csv").open()))
    done = [row for row in rows if row["seeds"] == "1"]
    kinds = {(row["disc"], row["method"]) for row in done}
    assert kinds == {("patch", ""), ("", "rectified_flow")} and len(rows) == 3
    assert all(row["steps"] == "3" and float(row["minutes"]) > 0 for row in done)
    for key in ("nfe1_mean", "nfe2_mean", "spread", "detail"):
        assert all(float(row[key]) > 0 for row in done), "every method is scored alike"
    for space in free_names()[1:]:
        assert all(float(row["efficientnet-lite0_nfe1_mean"]) > 0 for row in done), space
    assert (out / "compare.png").stat().st_size > 5000
    # the teacher and two cells, each with its label, however often it was drawn
    assert Image.open(out / "samples.png").height == 3 * (16 + 2 + 128 + 2)
    assert first_rows(out / "teacher.png").height == 2 + 128 + 2

    scores = {p: p.stat().st_mtime_ns for p in out.glob("cells/*/*/score.json")}
    models = {p: p.stat().st_mtime_ns for p in out.rglob("*.pt")}
    assert compare(tmp_path) == 1 and (out / "compare.md").read_text() == table
    assert len(scores) == 2 and scores == {p: p.stat().st_mtime_ns for p in scores}
    cells = {
        p: t for p, t in models.items() if p.name.startswith("checkpoint") and "cells" in p.parts
    }
    assert cells == {p: p.stat().st_mtime_ns for p in cells}, "finished cells are not run again"

    assert compare(tmp_path, "--num_samples", "4") == 1
    assert (out / "compare.md").read_text() != table
    assert scores != {p: p.stat().st_mtime_ns for p in scores}, "scored anew"
    assert cells == {p: p.stat().st_mtime_ns for p in cells}, "but not trained anew"


class SharedLaboratory:
    """Another process has the cells of `taken` until it is waited for, and then has scored some."""

    def __init__(self, monkeypatch, taken, scored=()):
        self.taken, self.scored, self.calls = set(taken), {}, []

        def sleep(_):
            self.calls.append("waits")
            self.taken.clear()
            self.scored |= {seed: {"by": "another"} for seed in scored}

        monkeypatch.setattr("fewstep.studies.compare.main.time.sleep", sleep)

    def sole_use(self, cell):
        if cell.seed in self.taken:
            raise InUse(cell.folder, "process 7 on ours")
        return nullcontext()

    def score_of(self, cell):
        if cell.seed == 5:
            raise UserError("of another plan, and cannot be with this one")
        return self.scored.get(cell.seed)

    def run(self, cell):
        if cell.seed in self.scored:
            return self.scored[cell.seed]
        self.calls.append(cell.seed)
        if cell.seed == 3:
            raise UserError("no good")
        return {"by": "us"}


def test_cells_that_another_process_has_come_last(monkeypatch, capsys):
    cells = make_cells(complete_plan({"cells": [{"disc": "patch"}], "seeds": [1, 2, 3, 4, 5]}, ""))
    refusals = {cell.folder: "cannot be" if cell.seed == 5 else None for cell in cells}
    shared = SharedLaboratory(monkeypatch, taken=[1, 4], scored=[3, 4])
    parts = list(run_all(shared, cells, refusals))
    assert [[cell.seed for cell, *_ in part] for part in parts] == [
        [2],
        [2, 3],
        [2, 3, 5],
        [1, 2, 3, 4, 5],  # with what the other has scored meanwhile
        [1, 2, 3, 4, 5],
    ]
    assert shared.calls == [2, 3, "waits", 1]
    ours, theirs = ({"by": "us"}, None), ({"by": "another"}, None)
    assert [tuple(outcome) for _, *outcome in parts[2]] == [
        ours,
        (None, "no good"),
        (None, "cannot be"),
    ]
    last = [tuple(outcome) for _, *outcome in parts[-1]]
    assert last == [ours, ours, theirs, theirs, (None, "cannot be")]
    assert capsys.readouterr().out.count("process 7 on ours is at it") == 2


METHODS = {"grid": {"method": ["adversarial", "rectified_flow"]}, "seeds": 3, "minutes": 2}


def test_methods_are_cells_of_their_own_phases_and_lengths():
    plan = complete_plan(METHODS | {"base": {"num_iterations": 7, "teacher_ckpt": "t.pt"}}, "")
    distilled, flow = make_cells(plan)
    flags = training_flags(plan, distilled, "t.pt", 5)
    assert (flags["phase"], flags["teacher_ckpt"]) == ("add", "t.pt")
    assert (flags["student_iterations"], flags["num_iterations"]) == (5, 7)
    flags = training_flags(plan, flow, "t.pt", 5)
    assert flags == {"num_iterations": 5, "method": "rectified_flow", "seed": 3}


def test_a_cell_whose_flags_ask_for_no_teacher_is_given_none(tmp_path):
    cells = [{"method": "consistency"}, {"method": "consistency", "ct_start": "random"}]
    plan = complete_plan({"cells": cells, "base": {"num_iterations": 7, "data": "synthetic"}}, "")
    tuned, scratch = make_cells(plan)
    assert training_flags(plan, tuned, "t.pt", 5)["teacher_ckpt"] == "t.pt"
    flags = training_flags(plan, scratch, "t.pt", 5)
    assert flags.keys() == {"method", "ct_start", "ct_iterations", "data", "seed"}
    lab = Laboratory(plan, tmp_path)
    assert lab.is_mixed
    for cell in (tuned, scratch):
        lab.check(cell)


def test_scores_belong_to_the_generator_that_was_exported():
    base = {**PRESETS["tiny"], "data": "synthetic"}
    changes = [{}, {"export": "best"}, {"export": "best", "best_images": 9}, {"student_ckpt": "x"}]
    identities = [laboratory._identity(make_settings(base | more)) for more in changes]
    assert len({str(sorted(one.items())) for one in identities}) == len(changes)
    same = laboratory._identity(make_settings(base | {"save_dir": "x", "log_interval": 7}))
    assert same == identities[0]


def test_a_recipe_of_the_base_is_of_those_methods_that_have_it():
    base = {"preset": "tiny", "recipe": "pairs", "data": "synthetic"}
    plan = complete_plan(METHODS | {"base": base}, "")
    distilled, flow = make_cells(plan)
    assert training_flags(plan, distilled, "t.pt", 500)["recipe"] == "pairs"
    assert "recipe" not in training_flags(plan, flow, "t.pt", 500)


def test_a_method_with_a_teacher_of_another_kind_trains_it_itself(tmp_path, monkeypatch):
    cells = [{"method": "consistency"}, {"method": "reflow"}]
    base = {"preset": "tiny", "num_iterations": 7, "data": "synthetic"}
    plan = complete_plan({"cells": cells, "base": base, "minutes": 2}, "")
    tuned, reflow = make_cells(plan)
    flags = training_flags(plan, reflow, "t.pt", 5)
    assert (flags["num_iterations"], flags["reflow_iterations"]) == (7, 5)
    assert not {"phase", "teacher_ckpt"} & flags.keys(), "all of its phases"
    lab = Laboratory(plan, tmp_path)
    assert lab.is_mixed
    lab.check(reflow)
    write_json(tmp_path / "teacher" / "training_config.json", {"teacher_seconds": 90.0})

    def seconds_as_steps(settings, seconds, device):
        return int(seconds)

    monkeypatch.setattr(compare_cells, "steps_that_fit", seconds_as_steps)
    assert lab.estimate(reflow) == (120, 210), "its flow has the time of the teacher"
    assert lab.estimate(tuned) == (120, 120)
    alone = complete_plan({"cells": [{"method": "reflow"}]}, "")
    assert not Laboratory(alone, tmp_path).needs_teacher


def test_a_method_without_a_teacher_is_given_its_minutes_too(tmp_path, monkeypatch):
    plan = complete_plan(METHODS | {"base": {"preset": "tiny", "data": "synthetic"}}, "")
    lab = Laboratory(plan, tmp_path)
    assert lab.is_mixed and lab.trains_teacher
    write_json(tmp_path / "teacher" / "training_config.json", {"teacher_seconds": 90.0})
    assert lab.added_seconds() == 90
    assert Laboratory(plan | {"minutes": 0, "steps": 2}, tmp_path).added_seconds() == 0
    assert Laboratory(plan | {"grid": {"disc": ["none"]}}, tmp_path).added_seconds() == 0
    monkeypatch.setattr(compare_cells, "steps_that_fit", lambda settings, seconds, device: seconds)
    assert cell_steps(plan, lab.settings, None, lab.device, 90) == 210
    named = plan | {"base": plan["base"] | {"teacher_ckpt": str(tmp_path / "x" / "y" / "t.pt")}}
    with pytest.raises(UserError, match="no teacher_seconds; compare equal steps"):
        Laboratory(named, tmp_path).added_seconds()
    alone = complete_plan({"cells": [{"method": "rectified_flow"}]}, "")
    assert not Laboratory(alone, tmp_path).needs_teacher


def test_images_become_steps_by_the_batch():
    plan = complete_plan({"base": {"preset": "tiny", "data": "synthetic"}, "cells": [{}]}, "")
    lab = Laboratory(plan | {"images": 100}, "nowhere")
    batch = PRESETS["tiny"]["batch_size"]
    assert cell_steps(lab.plan, lab.settings, None, None) == 100 // batch


PRINTS = """
import sys, time
print("student:  40%| 4/10 [00:10<00:15, 130 images/s]\\n", file=sys.stderr, flush=True)
while not sys.stdin.read(1): time.sleep(0.01)
"""


def test_what_a_training_says_is_shown_while_it_runs(tmp_path, monkeypatch):
    for module, name in ((training, "LOOKS"), (feedback, "SECONDS"), (feedback, "QUICK")):
        monkeypatch.setattr(module, name, 0.02)
    shown, output = io.StringIO(), tmp_path / "output.txt"
    monkeypatch.setattr("sys.stderr", shown)
    with open(output, "w") as file:
        command = [sys.executable, "-c", PRINTS]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file)
    stop = threading.Thread(target=lambda: (wait_until(lambda: "130" in shown.getvalue()),
                                            process.communicate(b"x")))  # fmt: skip
    stop.start()
    code = training.wait_for(process, output)
    stop.join()
    assert code == 0
    assert shown.getvalue().splitlines()[-1] == "  student:  40%| 4/10 [00:10<00:15, 130 images/s]"
    output.write_bytes(b"x" * 5000 + b"\nlast \xff\n\n")
    assert training.last_line(output) == "last \ufffd"
    output.write_bytes(b"")
    assert training.last_line(output) == ""


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_training_is_not_explained_by_the_errors_of_an_earlier_one(tmp_path, monkeypatch):
    output, program = tmp_path / "output.txt", tmp_path / "train.py"
    output.write_text("error: disk full (yesterday)\n")
    monkeypatch.setattr(training, "TRAIN", program)
    program.write_text("print('step 3'); raise SystemExit(1)")
    assert training.run_training([], output) == (1, "step 3")
    program.write_text("import os; print('step 5', flush=True); os.kill(os.getpid(), 9)")
    assert training.run_training([], output) == (-9, "error: killed by signal 9 (SIGKILL)")
    assert "yesterday" in output.read_text()


def test_steps_are_timed_again_for_another_base_until_the_cell_has_begun(tmp_path, monkeypatch):
    """As many steps as fit are of the base too, and of what else trains."""
    timed = []

    def estimate(self, cell):
        timed.append(cell)
        return len(timed), 0

    monkeypatch.setattr(Laboratory, "estimate", estimate)

    def laboratory(disc, *cells, minutes=5):
        base = {"preset": "tiny", "data": "synthetic", "disc": disc}
        plan = {"cells": [{"adv_weight": 2.0}, *cells], "base": base, "minutes": minutes}
        lab = Laboratory(complete_plan(plan, ""), tmp_path)
        lab.digests = {"teacher": "0"}
        return lab, make_cells(lab.plan)

    def steps(*arguments):
        lab, cells = laboratory(*arguments)
        return lab._steps(cells[0])

    def check(minutes):
        lab, cells = laboratory("patch", minutes=minutes)
        lab.check_lengths(cells)

    assert [steps("patch"), steps("patch"), steps("resnet")] == [1, 1, 2]
    assert steps("resnet", {"method": "rectified_flow"}) == 3
    check(minutes=20)  # nothing has been trained for five
    (family,) = (tmp_path / "cells").iterdir()
    (family / "seed_0" / "run").mkdir(parents=True)
    (family / "seed_0" / "run" / "training_config.json").write_text("{}")
    assert steps("patch") == 3  # and train.py refuses another base
    check(minutes=5)
    with pytest.raises(UserError, match="was begun with minutes 5, not minutes 20"):
        check(minutes=20)
    (family / "steps.json").unlink()
    with pytest.raises(UserError, match="was begun with steps, not minutes 5"):
        check(minutes=5)


def test_a_score_belongs_to_the_weights_of_what_it_started_from(tmp_path):
    file = tmp_path / "disc.pt"
    file.write_bytes(b"one")
    base = {"preset": "tiny", "data": "synthetic", "disc_ckpt": str(file)}
    cells = [{"distill": "dmd"}, {"method": "rectified_flow"}]
    lab = Laboratory(complete_plan({"cells": cells, "base": base, "steps": 99}, ""), tmp_path)
    lab.digests = {}
    distilled, flow = make_cells(lab.plan)
    before = lab._score_identity(distilled, 99)
    file.write_bytes(b"another")
    after = lab._score_identity(distilled, 99)
    assert {key for key in before if before[key] != after[key]} == {"disc_ckpt_digest"}
    assert "disc_ckpt_digest" not in lab._score_identity(flow, 99), "which has no use for it"
    assert not {"disc_ckpt", "student_ckpt"} & set(teacher_flags(lab.plan, tmp_path))


def test_why_a_training_ended():
    trace = ["Traceback (most recent call last):", '  File "x.py"', "ValueError: first", "  second"]
    assert training.ending_of(trace) == "ValueError: first"
    assert (
        training.ending_of(["torch.OutOfMemoryError: full", ""]) == "torch.OutOfMemoryError: full"
    )
    assert training.ending_of(["step 3", "error: --disc x: no"]) == "error: --disc x: no"
    assert training.ending_of(["Killed"]) == "Killed" and training.ending_of([]) == "no output"


def test_the_failure_of_a_cell_ends_no_other():
    def broken(cell):
        raise RuntimeError("out of memory\nmore lines")

    assert attempt(broken, Cell({}, 0)) == (None, "RuntimeError: out of memory")


STUB = """
import signal, sys, time
def save(*_):
    print("saved")
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("training", flush=True)
time.sleep(60)
"""


def test_a_stopped_comparison_lets_its_training_save(tmp_path, monkeypatch):
    """SIGTERM to the comparison alone: the training is told, and waited for."""
    (tmp_path / "train.py").write_text(STUB)
    monkeypatch.setattr(training, "TRAIN", tmp_path / "train.py")
    (tmp_path / "plan.yaml").write_text(PLAN.format(cache=tmp_path / "cache"))
    output = tmp_path / "out" / "teacher" / "output.txt"

    def stop():
        wait_until(lambda: output.exists() and output.read_text())
        os.kill(os.getpid(), signal.SIGTERM)

    before, watching = signal.getsignal(signal.SIGTERM), threading.Thread(target=stop)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as `main` does, if it gets there
    try:
        watching.start()
        with pytest.raises(KeyboardInterrupt):
            compare(tmp_path)
    finally:
        watching.join()
        signal.signal(signal.SIGTERM, before)
    assert output.read_text().split() == ["training", "saved"]


def test_the_budget_in_minutes_sets_the_steps(monkeypatch):
    base = {"preset": "tiny", "data": "synthetic", "device": "cpu"}
    plan = complete_plan({"base": base, "cells": [{}, {"warm_start": 400}], "minutes": 2}, "")
    usual, slow = make_cells(plan)
    for name, fake in {
        "steps_that_fit": lambda settings, seconds, device: int(2 * seconds),
        "training_seconds": lambda settings, device: settings.student.student_iterations / 2,
    }.items():
        monkeypatch.setattr(compare_cells, name, fake, raising=False)
        monkeypatch.setattr(laboratory, name, fake, raising=False)
    lab = Laboratory(plan, "nowhere")
    assert lab.estimate(usual) == (240, 120)
    with pytest.raises(UserError, match="all be warm-up"):
        lab.estimate(slow)
    steps, seconds = Laboratory(plan | {"minutes": 0}, "nowhere").estimate(usual)
    assert steps == PRESETS["tiny"]["student_iterations"] == 2 * seconds


def test_a_dry_run_times_all_seeds_of_a_cell_at_once(capsys):
    base = {"preset": "tiny", "data": "synthetic", "device": "cpu"}
    plan = {"base": base, "grid": {"disc": ["patch", "unet"]}, "seeds": [0, 1], "minutes": 2}
    cells, timed = make_cells(complete_plan(plan, "")), []
    lab = SimpleNamespace(place=lambda cell: Path("nowhere"), folder="nowhere")
    lab.estimate = lambda cell: timed.append(cell) or (len(timed), 60.0)
    refusals = {cell.folder: None for cell in cells} | {cells[-1].folder: "no such seed"}
    list_cells(lab, cells, refusals)
    assert [cell.title for cell in timed] == ["disc=patch", "disc=unet"]
    lines = capsys.readouterr().out.splitlines()
    assert "seed=0: 1 steps" in lines[0] and "seed=1: 1 steps" in lines[1]
    assert "seed=0: 2 steps" in lines[2] and "seed=1: no such seed" in lines[3]
    assert lines[4].startswith("about 3 min of training in all")


def test_a_cell_is_not_taken_further(tmp_path):
    """train.py would: but its schedules would then not be those of cells of as many steps."""
    flags = dict(data="synthetic", phase="teacher", save_dir=tmp_path, num_iterations=4000)
    recorded = {"teacher": {"num_iterations": 2000}}
    write_json(tmp_path / "training_config.json", {"identities": recorded})
    check_lengths(flags)  # nothing is trained yet
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "checkpoint_iter_2000.pt").touch()
    with pytest.raises(UserError, match=r"2,000 steps \(num_iterations\), not 4,000"):
        check_lengths(flags)
    check_lengths(flags | {"num_iterations": 2000})
