"""A folder that another process holds."""

import subprocess
import sys
from contextlib import contextmanager

import pytest

from fewstep.engine import lock
from fewstep.engine.lock import InUse, sole_use, use_after_others

HOLDER = """
import sys
from pathlib import Path
from fewstep.engine.lock import sole_use
with sole_use(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_by_another(folder):
    """Yields the process that holds it until its input ends."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        yield process


def test_it_is_said_who_holds_a_folder(tmp_path):
    with held_by_another(tmp_path) as other:
        refusal = pytest.raises(InUse, match=f"process {other.pid} on .* is training there")
        with refusal, sole_use(tmp_path):
            pass
        with sole_use(tmp_path / "another"):
            pass
    with sole_use(tmp_path):
        pass


def test_who_waits_goes_on_when_the_other_has_ended(tmp_path, monkeypatch):
    with held_by_another(tmp_path) as other:
        looks = []

        def let_it_end(_):
            looks.append(other.poll())
            other.communicate()

        monkeypatch.setattr(lock.time, "sleep", let_it_end)
        with use_after_others(tmp_path):
            assert other.returncode == 0 and looks == [None]
            assert (tmp_path / ".lock").exists()
    assert not (tmp_path / ".lock").exists()
