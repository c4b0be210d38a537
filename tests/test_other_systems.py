"""Windows, as far as Linux can play it: a training without what is missing there."""

import importlib
import os
import signal
import subprocess
import sys

import pytest

from fewstep.studies import training
from src import files
from src.files import temporary_name
from tests.faults.jobs import finish
from tests.test_layers import modules

SIGNALS = {"SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM"}  # those of Windows
BREAK = 21  # the number of its SIGBREAK, here that of a signal which nobody sends
MODULES = ("fcntl", "grp", "pwd", "resource", "termios")
FUNCTIONS = "fork getuid geteuid getpgid killpg getloadavg sysconf mkfifo nice chown sync"
FUNCTIONS += " sched_getaffinity sched_setaffinity O_DIRECTORY O_NOFOLLOW O_NONBLOCK"


def become_windows():
    """Let this process import all of the project anew without what Windows does not have."""
    for name in dir(signal):
        if name.startswith("SIG") and name[3] != "_" and name not in SIGNALS:
            delattr(signal, name)
    signal.SIGBREAK = BREAK
    for name in FUNCTIONS.split():
        delattr(os, name)
    os.kill, os.replace = refused, Scanned(os.replace)
    names = modules()
    files.IS_WINDOWS = True  # for what this process has imported already
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(dict.fromkeys(MODULES))
    importlib.import_module("src.files").IS_WINDOWS = True
    for name in names:
        importlib.import_module(name)


def refused(process, number):
    raise AssertionError(f"on Windows os.kill({process}, {number}) ends or interrupts programs")


class Scanned:
    """`os.replace` of files that a virus scanner has open when they are first moved."""

    def __init__(self, plain):
        self.plain, self.refused = plain, set()

    def __call__(self, source, path):
        if str(path) not in self.refused:
            self.refused.add(str(path))
            raise PermissionError(13, "Access is denied", str(source))
        self.plain(source, path)


def become_windows_and_break():
    """The same, and the window is closed in the third step."""
    become_windows()
    from fewstep.methods.edm import TeacherPhase

    plain, calls = TeacherPhase.step, [0]

    def step(self, *arguments):
        calls[0] += 1
        if calls[0] == 3:
            signal.raise_signal(BREAK)
        return plain(self, *arguments)

    TeacherPhase.step = step


def test_a_training_stops_goes_on_and_ends_without_what_windows_lacks(tmp_path):
    leftover = temporary_name(tmp_path / "cache" / "set.npy", 1)
    leftover.parent.mkdir()
    leftover.touch()
    code, text = finish(tmp_path, before=become_windows_and_break)
    assert code == 128 + BREAK, text
    assert "stopped at step 3 of 8 (teacher); run it again to go on" in text
    assert "this system has no locks; start no second training there" in text
    code, text = finish(tmp_path, before=become_windows)
    assert code == 0 and "going on with the teacher at step 3" in text, text
    assert (tmp_path / "export" / "best_model.pt").exists() and leftover.exists()


def test_a_file_that_stays_open_is_an_error_after_some_tries(tmp_path, monkeypatch):
    (tmp_path / "new").touch()
    tries, waits = [], []

    def replace(source, path):
        tries.append(path)
        raise PermissionError

    monkeypatch.setattr(files.os, "replace", replace)
    monkeypatch.setattr(files.time, "sleep", waits.append)
    for is_windows, count in ((True, 5), (False, 1)):
        monkeypatch.setattr(files, "IS_WINDOWS", is_windows)
        with pytest.raises(PermissionError):
            files.move_into_place(tmp_path / "new", tmp_path / "old")
        assert len(tries) == count
        tries.clear()
    assert waits == list(files.PATIENCE)


@pytest.mark.parametrize("is_windows", [True, False])
def test_a_stopped_comparison_kills_no_training_on_windows(is_windows, tmp_path, monkeypatch):
    done = []

    class Process:
        def __init__(self, *arguments, **options):
            pass

        def wait(self, timeout=None):
            done.append("wait")
            if len(done) == 1:
                raise KeyboardInterrupt

        def terminate(self):
            done.append("terminate")

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(training, "IS_WINDOWS", is_windows)
    with pytest.raises(KeyboardInterrupt):
        training.run_training([], tmp_path / "output")
    assert done == (["wait", "wait"] if is_windows else ["wait", "terminate", "wait"])
