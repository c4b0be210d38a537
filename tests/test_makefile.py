"""`make demo` and `make page` hand names of folders on as they are, whatever is in them."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def words_of(*arguments):
    """The words of the commands that make would run."""
    command = ["make", "--no-print-directory", "-n", *arguments]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return shlex.split(shown.replace("\\\n", " "))


@pytest.mark.skipif(not shutil.which("make"), reason="make is not here")
@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("/faces", "demo-faces"),
        ("/path with spaces/x", "demo-path_with_spaces-x"),
        ('/it\'s "so" $HOME; #1', 'demo-it\'s_"so"_$HOME;_#1'),
    ],
)
def test_a_folder_is_one_word(folder, name):
    words = words_of("-o", ".venv/installed", "demo", f"DATA={folder}")
    assert words[words.index("--data_root") + 1] == folder
    for flag, end in {
        "--save_dir": "",
        "--export_dir": "/checkpoints",
        "--ckpt_path": "/checkpoints/best_model.pt",
        "--run_dir": "",
    }.items():
        assert words[words.index(flag) + 1] == f"results/{name}{end}"


@pytest.mark.skipif(not shutil.which("make"), reason="make is not here")
def test_the_page_is_of_the_published_student():
    folder = "/a page/x"
    words = words_of("-o", "weights", "-o", ".venv/installed", "page", f"PAGE={folder}")
    assert words[1:4] == ["-m", "fewstep", "export"]
    assert words[words.index("--ckpt_path") + 1] == "checkpoints/pretrained"
    assert words[words.index("--page") + 1] == folder
