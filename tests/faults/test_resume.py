"""A run that is killed again and again ends as if nothing had happened."""

import os
import random
import signal
from functools import partial

import pytest

from tests.faults.comparing import assert_same_results, rows
from tests.faults.jobs import finish, said, signal_at, start

KILLS = 10
MOST_LIVES = 200


def test_the_undisturbed_run_has_every_row_once(whole):
    seen = [(row["phase"], row["step"]) for row in rows(whole) if "concern" not in row]
    steps = [("teacher", s) for s in range(2, 9, 2)] + [("student", s) for s in range(2, 7, 2)]
    assert seen == steps


def test_kills_at_random_moments_change_nothing(whole, tmp_path):
    """SIGKILL wherever the run is by then: decoding, a step, a picture, a checkpoint, the export.
    The same command follows, as often as it takes; after ten kills the last run may finish."""
    chance, kills, lives, runs = random.Random(7), 0, 0, 0
    while kills < KILLS:
        folder, finished = tmp_path / f"run{runs}", False
        while not finished:
            process, lives = start(folder), lives + 1
            assert lives < MOST_LIVES
            process.join(timeout=None if kills >= KILLS else chance.uniform(0.05, 1.5))
            if process.exitcode is None:
                process.kill()
                process.join()
            finished = process.exitcode == 0
            assert finished or process.exitcode == -signal.SIGKILL, said(folder)
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
    """Life n dies at its n-th call, so that together all kinds of places are met."""
    codes = []
    for life in range(1, 40):
        when = moments[life % len(moments)]
        process = start(tmp_path, before=die_at(name, life, when))
        process.join()
        codes.append(process.exitcode)
        if codes[-1] == 0:
            break
    print(f"{name}: {len(codes) - 1} kills")
    assert codes.count(-signal.SIGKILL) == len(codes) - 1 >= 3 and codes[-1] == 0, said(tmp_path)
    assert_same_results(tmp_path, whole)


def test_a_log_line_cut_in_two_is_mended(whole, tmp_path):
    process = start(tmp_path, before=die_at("fewstep.engine.loop.append_row", 6, "after"))
    process.join()
    assert process.exitcode == -signal.SIGKILL
    log = tmp_path / "run" / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-7])
    assert finish(tmp_path)[0] == 0
    assert_same_results(tmp_path, whole)


def test_what_killed_writers_leave_is_swept(whole, tmp_path):
    # A process that is no more, and one that still is.
    export = tmp_path / "export"
    export.mkdir()
    dead = start(tmp_path / "other", before=partial(os.kill, 0, 0))
    dead.kill()
    dead.join()
    left = export / f".best_model.{dead.pid}.tmp.pt"
    kept = export / f".best_model.{os.getpid()}.tmp.pt"
    for path in (left, kept):
        path.write_bytes(b"half")
    for folder in ("run", "run/teacher", "run/student", "run/samples"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / ".x.1.tmp.pt").write_bytes(b"half")
    assert finish(tmp_path)[0] == 0
    assert not left.exists() and kept.exists()
    assert not list((tmp_path / "run").rglob(".*"))
