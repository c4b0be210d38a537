"""Programs that a real run starts: told to stop, killed, interrupted, failing."""

import time
from pathlib import Path

import pytest

from headline import children
from headline.children import run_until
from src.utils import UserError

WAITS = """
import pathlib, signal, subprocess, sys, time
ready, left = map(pathlib.Path, sys.argv[1:3])
if sys.argv[3] == "saves":
    signal.signal(signal.SIGTERM, lambda *_: (left.write_text("saved"), sys.exit(143)))
if sys.argv[3] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    left.write_text(str(child.pid))
print("begun", flush=True)
ready.write_text("x")
time.sleep(60)
"""


def run_waiting(folder, kind, monkeypatch):
    """Run a program that waits, with its time over as soon as it is ready."""
    script, ready, left = folder / "script.py", folder / "ready", folder / "left"
    script.write_text(WAITS)
    plain = children._wait

    def wait_until_ready(process, until):
        while not ready.exists():
            time.sleep(0.02)
        return plain(process, until)

    monkeypatch.setattr(children, "_wait", wait_until_ready)
    now = time.monotonic()
    kill_at = now if kind == "stubborn" else now + 60
    finished = run_until([script, ready, left, kind], folder / "output.txt", now, kill_at)
    return finished, left


def test_a_program_is_told_to_stop_and_saves(tmp_path, monkeypatch):
    finished, left = run_waiting(tmp_path, "saves", monkeypatch)
    assert not finished and left.read_text() == "saved"
    assert (tmp_path / "output.txt").read_text() == "begun\n"


def test_one_without_a_handler_ends_as_well(tmp_path, monkeypatch):
    assert not run_waiting(tmp_path, "plain", monkeypatch)[0]


def test_one_that_does_not_stop_is_killed_with_its_children(tmp_path, monkeypatch, capsys):
    finished, left = run_waiting(tmp_path, "stubborn", monkeypatch)
    assert not finished and "was killed" in capsys.readouterr().out
    stat = Path(f"/proc/{left.read_text()}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX":
        time.sleep(0.02)  # the system ends it


def test_an_interruption_is_passed_on_and_waited_for(tmp_path, monkeypatch):
    plain, told = children._wait, []

    def interrupted_once(process, until):
        if not told:
            while not (tmp_path / "ready").exists():
                time.sleep(0.02)
            told.append(process)
            raise KeyboardInterrupt
        return plain(process, until)

    (tmp_path / "script.py").write_text(WAITS)
    monkeypatch.setattr(children, "_wait", interrupted_once)
    names = [tmp_path / name for name in ("script.py", "ready", "left")]
    later = time.monotonic() + 600
    with pytest.raises(KeyboardInterrupt):
        run_until([*names, "saves"], tmp_path / "output.txt", later, later + 60)
    assert (tmp_path / "left").read_text() == "saved" and told[0].returncode == 143


def test_a_program_that_fails_tells_why(tmp_path):
    output, later = tmp_path / "output.txt", time.monotonic() + 60
    assert run_until(["-c", "print('fine')"], output, later, later)
    failing = "import sys; print('error: no room', file=sys.stderr); print('bye'); sys.exit(2)"
    with pytest.raises(UserError, match="exit code 2: error: no room"):
        run_until(["-c", failing], output, later, later)
    with pytest.raises(UserError, match="exit code 3: no output"):  # not what the last one said
        run_until(["-c", "import sys; sys.exit(3)"], output, later, later)
    with pytest.raises(UserError, match="exit code 1: ZeroDivisionError"):
        run_until(["-c", "1 / 0"], output, later, later)
    with pytest.raises(UserError, match="killed by signal 9"):
        run_until(["-c", "import os; os.kill(os.getpid(), 9)"], output, later, later)
