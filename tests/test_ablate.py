"""`fewstep compare`: what a plan means, and a small ablation from end to end."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from fewstep.runs.estimate import StepSeconds
from fewstep.runs.presets import PRESETS
from fewstep.studies.compare import laboratory
from fewstep.studies.compare.laboratory import Laboratory
from fewstep.studies.compare.main import attempt, parse
from fewstep.studies.compare.plan import (
    Cell,
    as_arguments,
    complete_plan,
    make_cells,
    merged,
    parse_pairs,
    read_plan,
)
from fewstep.studies.compare.report import markdown, mean_sd, summarise
from src.utils import UserError, write_json

ROOT = Path(__file__).resolve().parents[1]


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


def test_flags_become_arguments_by_their_kind():
    flags = {"x_flip": False, "freeze_convs": True, "sigmas": [4.0, 2.0, 1.0, 0.5], "disc": None}
    assert as_arguments(flags) == (
        "--no-x_flip --freeze_convs --sigmas 4.0 2.0 1.0 0.5 --disc=none".split()
    )
    assert as_arguments({"disc_spectral": True, "penalty": None}) == [
        "--disc_spectral=on",
        "--penalty=none",
    ]
    told = parse_pairs(["sigmas=4 2 1 0.5,9 2 1 0.5", "disc_spectral=on,off"], "--grid", split=True)
    assert told == {"sigmas": ["4 2 1 0.5", "9 2 1 0.5"], "disc_spectral": ["on", "off"]}
    assert as_arguments({"sigmas": told["sigmas"][1]}) == "--sigmas 9 2 1 0.5".split()
    told = parse_pairs(["preset=tiny", "x_flip=false"], "--base", split=False)
    assert as_arguments(told) == ["--preset=tiny", "--no-x_flip"]


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
    assert plan["base"] == {"preset": "tiny", "lr": "0.01"} and plan["seeds"] == [3, 4]
    assert plan["minutes"] == 2 and plan["nfe_list"] == [1, 2, 4] and not args.dry_run
    assert len(make_cells(plan)) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"grids": {}}, "did you mean grid"),
        ({"grid": {"distil": ["add"]}}, "did you mean distill"),
        ({"grid": {"disc": "patch"}}, "grid disc needs a list"),
        ({"grid": {"lr": [1, 2]}}, "lr belongs to the teacher"),
        ({"grid": {"preset": ["tiny"]}}, "preset belongs to the teacher"),
        ({"base": {"seed": 3}}, "seed is set by the ablation"),
        ({"cells": [{"phase": "add"}]}, "phase is set by the ablation"),
        ({"cells": ["patch"]}, "cells should be a list of flag sets"),
        ({"seeds": []}, "one seed"),
        ({"nfe_list": [0]}, "nfe_list 0: at least 1"),
        ({"num_samples": 1}, "num_samples 1: at least 2"),
        ({"minutes": -1}, "minutes"),
        ({"minutes": "long"}, "minutes"),
        ({"base": ["preset=tiny"]}, "base should be a mapping"),
        ({"seeds": [1, 1]}, "is there twice"),
        ({"grid": {"disc": ["patch"]}, "cells": [{"disc": "patch"}]}, "is there twice"),
        ({"base": {"student_iterations": 9}, "minutes": 1}, "leave out one"),
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
        read_plan(path)
    path.write_text("just words")
    with pytest.raises(UserError, match="keys and values"):
        read_plan(path)


def test_the_table_has_mean_and_sd_and_best_first():
    plan = complete_plan({"grid": {"disc": ["patch", "unet", "none"]}, "seeds": [0, 1]}, "")
    values = {"patch": (30.0, 34.0), "unet": (10.0, 12.0)}
    results = []
    for cell in make_cells(plan):
        if cell.flags["disc"] == "none":
            results.append((cell, None, "it fell over"))
            continue
        distance = values[cell.flags["disc"]][cell.seed]
        score = dict(steps=100, minutes=1.5, spread=0.9, detail=None, distance={"1": distance})
        results.append((cell, score, None))
    rows = summarise(results, ["disc"], [1])
    table = markdown(rows, ["disc"], [1], {"floor": {"n=9": 1.0}}, "some-space", 77)
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == ["unet", "patch", "none"]
    assert "11.00 ± 1.41" in lines[0] and "32.00 ± 2.83" in lines[1] and "failed" in lines[2]
    assert "none failed: it fell over" in table and "floor: n=9: 1.00" in table
    assert "not FID" in table and "77 held-out" in table
    assert mean_sd([3.0]) == (3.0, None) and mean_sd([]) == (None, None)


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
  device: cpu
  cache_dir: {cache}
grid:
  disc: [patch, none, "timm:nothing"]
seeds: [0]
nfe_list: [1, 2]
num_samples: 6
"""


def ablate(tmp_path, *flags):
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "fewstep",
            "compare",
            str(tmp_path / "plan.yaml"),
            "--save_dir",
            str(tmp_path / "out"),
        ]
        + list(flags),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_an_ablation_from_end_to_end(tmp_path):
    (tmp_path / "plan.yaml").write_text(PLAN.format(cache=tmp_path / "cache"))
    listed = ablate(tmp_path, "--dry_run")
    assert listed.returncode == 0, listed.stderr
    assert "disc=patch seed=0: 3 steps, about" in listed.stdout
    assert "timm has no such model" in listed.stdout and not (tmp_path / "out").exists()

    result = ablate(tmp_path)
    assert result.returncode == 1, result.stderr[-2000:]  # one cell fails
    out = tmp_path / "out"
    table = (out / "ablation.md").read_text()
    assert "`patch`" in table and "(the floor): n=6" in table and "teacher: NFE 2" in table
    assert "disc=timm:nothing failed: exit code 2: error: --disc timm:nothing" in table
    rows = list(csv.DictReader((out / "ablation.csv").open()))
    done = [row for row in rows if row["seeds"] == "1"]
    assert {row["disc"] for row in done} == {"patch", "none"} and len(rows) == 3
    assert all(float(row["nfe1_mean"]) > 0 and row["steps"] == "3" for row in done)
    assert (out / "ablation.png").stat().st_size > 5000
    assert Image.open(out / "samples.png").height > 3 * 128  # the teacher and two cells

    scores = {p: p.stat().st_mtime_ns for p in out.glob("cells/*/*/score.json")}
    models = {p: p.stat().st_mtime_ns for p in out.rglob("*.pt")}
    again = ablate(tmp_path)
    assert again.returncode == 1 and (out / "ablation.md").read_text() == table
    assert len(scores) == 2 and scores == {p: p.stat().st_mtime_ns for p in scores}
    cells = {
        p: t for p, t in models.items() if p.name.startswith("checkpoint") and "cells" in p.parts
    }
    assert cells == {p: p.stat().st_mtime_ns for p in cells}, "finished cells are not run again"

    more = ablate(tmp_path, "--num_samples", "4")
    assert more.returncode == 1 and (out / "ablation.md").read_text() != table
    assert scores != {p: p.stat().st_mtime_ns for p in scores}, "scored anew"
    assert cells == {p: p.stat().st_mtime_ns for p in cells}, "but not trained anew"


def test_another_base_in_the_same_folder_is_refused(tmp_path):
    def made(**changes):
        plan = {"base": {"preset": "tiny", "num_iterations": 9}, "cells": [{}]} | changes
        return Laboratory(complete_plan(plan, ""), tmp_path)

    write_json(tmp_path / "base.json", made().check_folder())
    made(seeds=[7], nfe_list=1).check_folder()
    made(
        base={"preset": "tiny", "num_iterations": "9"}
    ).check_folder()  # as the command line has it
    with pytest.raises(UserError, match="num_iterations = 9, not 8"):
        made(base={"preset": "tiny", "num_iterations": 8}).check_folder()
    with pytest.raises(UserError, match="minutes = 0, not 3"):
        made(minutes=3).check_folder()


def test_why_a_training_ended():
    trace = ["Traceback (most recent call last):", '  File "x.py"', "ValueError: first", "  second"]
    assert laboratory._reason(trace) == "ValueError: first"
    assert (
        laboratory._reason(["torch.OutOfMemoryError: full", ""]) == "torch.OutOfMemoryError: full"
    )
    assert laboratory._reason(["step 3", "error: --disc x: no"]) == "error: --disc x: no"
    assert laboratory._reason(["Killed"]) == "Killed" and laboratory._reason([]) == "no output"


def test_any_failure_of_a_cell_is_told_and_ends_no_other():
    class Broken:
        def run(self, cell):
            raise RuntimeError("out of memory\nmore lines")

    assert attempt(Broken(), Cell({}, 0)) == (None, "RuntimeError: out of memory")


def test_a_stopped_ablation_lets_its_training_save(tmp_path):
    """SIGTERM to fewstep compare alone: train.py is told, saves, and a rerun goes on."""
    plan = PLAN.replace("student_iterations: 3", "student_iterations: 400")
    plan = plan.replace('[patch, none, "timm:nothing"]', "[none]").format(cache=tmp_path / "cache")
    (tmp_path / "plan.yaml").write_text(plan)
    command = [sys.executable, "-m", "fewstep", "compare", str(tmp_path / "plan.yaml")]
    command += ["--save_dir", str(tmp_path / "out")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    samples = "cells/*/seed_0/run/samples/student_0000010.png"
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob(samples)) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    saved = list((tmp_path / "out").glob("cells/*/seed_0/run/student/checkpoint_iter_*.pt"))
    assert len(saved) == 1


def test_the_budget_in_minutes_sets_the_steps(monkeypatch):
    base = {"preset": "tiny", "data": "synthetic", "device": "cpu"}
    plan = complete_plan({"base": base, "cells": [{}, {"warm_start": 10}], "minutes": 2}, "")
    usual, warm = make_cells(plan)
    times = StepSeconds(warm=2.0, alone=0.25, usual=0.5)
    monkeypatch.setattr(laboratory, "student_seconds", lambda settings, device: times)
    alone = PRESETS["tiny"]["disc_warmup"]
    lab = Laboratory(plan, "nowhere")
    assert lab.estimate(usual) == (240 + alone // 2, 120)
    assert lab.estimate(warm) == (210 + alone // 2, 120)
    slow = Cell({"warm_start": 60}, 0)
    with pytest.raises(UserError, match="all be warm-up"):
        lab.estimate(slow)
    plan = plan | {"minutes": 0}
    steps, seconds = Laboratory(plan, "nowhere").estimate(usual)
    assert steps == PRESETS["tiny"]["student_iterations"]
    assert seconds == pytest.approx((steps - alone) / 2 + alone / 4)
