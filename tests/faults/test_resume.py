"""A run that is killed again and again ends as if nothing had happened."""

import os
import random
import shutil
import signal
from functools import partial

import pytest

from src.files import temporary_name
from tests.faults.comparing import assert_same_results, rows
from tests.faults.jobs import die_at_call, finish, said, signal_at, start

KILLS = 10
MOST_CALLS = 250_000  # of Python functions in a life; a run that is not killed has a million


def test_the_undisturbed_run_has_every_row_once(whole):
    seen = [(row["phase"], row["step"]) for row in rows(whole) if "concern" not in row]
    steps = [("teacher", s) for s in range(2, 9, 2)] + [("student", s) for s in range(2, 7, 2)]
    assert seen == steps


def test_kills_at_random_moments_change_nothing(whole, tmp_path):
    """SIGKILL wherever the run is by then: decoding, a step, a picture, a checkpoint, the export.
    The same command follows, as often as it takes; after ten kills the last run may finish."""
    chance, kills, runs = random.Random(7), 0, 0
    while kills < KILLS:
        folder, finished = tmp_path / f"run{runs}", False
        while not finished:
            moment = partial(die_at_call, chance.randrange(MOST_CALLS))
            code, text = finish(folder, before=moment if kills < KILLS else None)
            finished = code == 0
            assert finished or code == -signal.SIGKILL, text
            kills += not finished
        assert_same_results(folder, whole)
        runs += 1
    print(f"{kills} kills, {runs} runs finished")


def die_at(name, count, when):
    """What lets a process kill itself at the `count`-th call of a function, before or after it."""
    return partial(signal_at, name, count, [signal.SIGKILL], when)


@pytest.mark.parametrize(
    ("name", "moments"),
    [
        # Written, not yet in its place; and in its place, nothing after it done: by turns.
        ("os.replace", ["before", "after"]),
        ("fewstep.engine.loop.save_picture", ["before"]),  # images are sampled, none is shown
        ("fewstep.engine.loop.append_row", ["after"]),  # a row of a step that no checkpoint has
    ],
)
def test_a_kill_at_every_write_changes_nothing(whole, tmp_path, name, moments):
    """Life n dies at its n-th call, so that together all kinds of places are met. Of the rows that
    are the last thing written every other one is cut in two."""
    codes = []
    for life in range(1, 40):
        when = moments[life % len(moments)]
        process = start(tmp_path, before=die_at(name, life, when))
        process.join()
        codes.append(process.exitcode)
        if codes[-1] == 0:
            break
        if name.endswith("append_row") and life % 2:
            log = tmp_path / "run" / "log.jsonl"
            log.write_bytes(log.read_bytes()[:-7])
    print(f"{name}: {len(codes) - 1} kills")
    assert codes.count(-signal.SIGKILL) == len(codes) - 1 >= 3 and codes[-1] == 0, said(tmp_path)
    assert_same_results(tmp_path, whole)


def test_what_killed_writers_leave_is_swept(whole, tmp_path):
    # A process that is no more, and one that still is.
    copy = shutil.copytree(whole, tmp_path / "copy")
    export = copy / "export"
    dead = start(tmp_path / "other", before=partial(os.kill, 0, 0))
    dead.kill()
    dead.join()
    left = temporary_name(export / "best_model.pt", dead.pid)
    kept = temporary_name(export / "best_model.pt", os.getpid())
    others = temporary_name(export / "best_model.pt", dead.pid, host="another")
    for path in (left, kept, others):
        path.write_bytes(b"half")
    for folder in ("run", "run/teacher", "run/student", "run/samples"):
        (copy / folder / ".x.1.tmp.pt").write_bytes(b"half")
    assert finish(copy)[0] == 0
    assert not left.exists() and kept.exists() and others.exists()
    assert not list((copy / "run").rglob(".*"))
