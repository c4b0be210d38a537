"""The first hour of docs/challenge.md as a notebook: the one of the page, and its cells run."""

import io
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
from contextlib import redirect_stdout
from pathlib import Path

import pytest

import fewstep.__main__
import sampling
import train
from fewstep.handin.archive import checks
from fewstep.handin.archive.contents import PROVIDED
from src.model_config import NETWORKS
from tests.commands import run_here

ROOT = Path(__file__).resolve().parents[1]
GENERATOR = runpy.run_path(str(ROOT / ".ci" / "notebook.py"))
SHELL = "%%bash -e\n"

# command: (its function, flags that make it short: of one that is given twice the last one counts)
COMMANDS = {
    "train.py": (
        train.main,
        "--preset tiny --data synthetic --synthetic_count 32 --batch_size 4 --device cpu"
        " --num_iterations 2 --warmup 1 --student_iterations 2 --student_warmup 1 --disc_warmup 1"
        " --warm_start 0 --disc_channels 8 --teacher_steps 1 --best_images 0",
    ),
    "sampling.py": (sampling.main, "--num_samples 2 --device cpu"),
    "evaluate": (
        fewstep.__main__.main,
        "--num_samples 4 --device cpu --features random --seeds 42 --no_auc --teacher_nfe_list 1",
    ),
    "submit": (fewstep.__main__.main, "--num_samples 2"),
}
# What a rented machine has of its own, and a test leaves alone; git finds what it is asked for.
ABSENT = 'nvidia-smi() { :; }; pip() { :; }; python() { :; }; git() { cp -r "../$2" "$3"; }\n'


def page():
    return GENERATOR["PAGE"].read_text(encoding="utf-8")


def code_cells():
    cells = json.loads(GENERATOR["notebook_of"](page()))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_is_made_of_the_page():
    committed = GENERATOR["NOTEBOOK"].read_text(encoding="utf-8")
    assert committed == GENERATOR["notebook_of"](page()), "run python .ci/notebook.py"


def test_blocks_become_cells_and_a_change_of_folder_lasts():
    text = "# A\n\n```bash\nls\ncd there\nls -a\n```\n```python\nx = 1\n```\nB\n"
    cells = GENERATOR["cells_of"](text)
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in cells] == [
        ("markdown", "# A"),
        ("code", "%%bash -e\nls"),
        ("code", "%cd there"),
        ("code", "%%bash -e\nls -a"),
        ("code", "x = 1"),
        ("markdown", "B"),
    ]


def test_the_table_of_cards_is_what_the_cell_prints():
    (code,) = [code for code in code_cells() if not code.startswith("%")]
    with redirect_stdout(io.StringIO()) as out:
        exec(code, {})
    assert out.getvalue() in page() and out.getvalue().count("\n") > 5


def lines_of(cell):
    """The commands of a cell, each on a line."""
    return cell.removeprefix(SHELL).replace("\\\n", " ").splitlines()


def run_line(line, folder):
    """A command of a cell in a folder: one of the project's in this process, at tiny size."""
    is_ours = re.search(r"\bpython (?:-m fewstep )?([\w.]+)([^|>]*)", line)
    if not is_ours or is_ours[1] not in COMMANDS:
        command = ["bash", "-e", "-c", ABSENT + line]
        return subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True
        ).stdout
    main, shorter = COMMANDS[is_ours[1]]
    name = "fewstep " + is_ours[1] if main is fewstep.__main__.main else is_ours[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ended = run_here(main, *name.split(), *shlex.split(is_ours[2]), *shorter.split())
    assert not ended.code, f"{line}\n{ended.out}\n{ended.err}"
    return ended.out


@pytest.fixture
def rented(tmp_path, monkeypatch):
    """An empty folder, from which the two clones of the page can be made."""
    for name in PROVIDED:
        (tmp_path / "CHALLENGE_URL" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "CHALLENGE_URL" / name)
    for clone in ("CHALLENGE_URL", "PROJECT_URL"):
        (tmp_path / clone / "data").mkdir(parents=True)
    for name in ("train_split.txt", "val_split.txt"):
        (tmp_path / "CHALLENGE_URL" / "data" / name).write_text("1\n2\n")
    monkeypatch.setattr(checks, "NETWORK", NETWORKS["tiny"])  # the full one would take minutes
    monkeypatch.setattr(checks, "PARAMETERS", {False: 395_971})
    (tmp_path / "rented").mkdir()
    return tmp_path / "rented"


def test_its_cells_lead_to_a_checked_archive(rented, few_pictures, one_thread):
    """At tiny size, from an empty folder."""
    for package in ("typst", "tensorboard"):
        pytest.importorskip(package, reason=f"pip install {package}")
    folder, said = rented, {}
    for cell in code_cells():
        if cell.startswith("%cd "):
            folder = folder / cell.removeprefix("%cd ")
        elif cell.startswith(SHELL):
            said |= {line: run_line(line, folder) for line in lines_of(cell)}
    assert sorted(os.listdir(folder / "data"))[-2:] == ["train_split.txt", "val_split.txt"]
    (handed_in,) = [text for line, text in said.items() if "submit" in line]
    assert "✗" not in handed_in and handed_in.count("✓") == 14
    assert (folder / "submission.zip").exists()
    assert (folder / "results" / "rehearsal" / "evaluation" / "report.html").exists()
    assert list((folder / "results" / "long" / "tensorboard" / "student").iterdir())
