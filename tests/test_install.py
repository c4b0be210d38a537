"""The project runs from its folder: it is not installed, and folders of others do not matter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def started(*command, cwd=ROOT, **more):
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | more
    arguments = [sys.executable, *map(str, command)]
    return subprocess.run(arguments, capture_output=True, text=True, env=environment, cwd=cwd)


@pytest.mark.parametrize("how", [[], ["--editable"]], ids=["installed", "editable"])
def test_pip_refuses_with_one_line_and_installs_nothing(how, tmp_path):
    pytest.importorskip("pip")
    options = ["--no-deps", "--no-index", "--target", tmp_path / "site"]
    ended = started("-m", "pip", "install", *options, *how, ROOT)
    assert ended.returncode != 0 and not (tmp_path / "site").exists()
    (line,) = [line for line in ended.stderr.splitlines() if "is not installed" in line]
    assert "runs from its folder: pip install -r requirements.txt" in line


NAMES = "src custom_model discriminator fewstep train sampling dataset measure_fid metrics torch"
NAMES += " numpy PIL yaml tqdm matplotlib scipy timm cleanfid"


@pytest.mark.parametrize("command", ["fewstep", "-m fewstep"])
def test_a_folder_named_like_a_module_is_not_taken_for_it(command, tmp_path):
    for name in NAMES.split():
        if name != "fewstep" or command != "-m fewstep":  # which Python takes from there
            (tmp_path / name).mkdir()
            (tmp_path / name / "__init__.py").write_text("raise SystemExit('not ours')\n")
    words = command.split() if command.startswith("-m") else [ROOT / command]
    path = {"PYTHONPATH": str(ROOT)} if command.startswith("-m") else {}
    ended = started(*words, "--help", cwd=tmp_path, **path)
    assert ended.returncode == 0 and "--help" in ended.stdout, ended.stderr
