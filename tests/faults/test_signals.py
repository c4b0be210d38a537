"""Signals to stop: a checkpoint, one line, the agreed exit code; and one training a folder."""

import os
import signal
import time
from functools import partial

import pytest

import fewstep
from fewstep.engine.lock import sole_use
from fewstep.engine.stopping import STOPPED, TIME_IS_UP, Interrupted, StopRequests
from src.utils import UserError
from tests.faults.comparing import assert_same_results
from tests.faults.jobs import finish, said, signal_at, start

CODES = {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGHUP: 129}
CODES |= {signal.SIGUSR1: 138, signal.SIGUSR2: 140, signal.SIGXCPU: 152}


def last_line(folder):
    lines = [line.rpartition("\r")[2] for line in said(folder).splitlines() if line.strip()]
    return lines[-1]


TEACHER, STUDENT = "fewstep.methods.edm.TeacherPhase", "fewstep.methods.adversarial.StudentPhase"
SAVE = "fewstep.engine.loop.save_checkpoint"
INTERRUPTS = [signal.SIGINT, signal.SIGTERM, signal.SIGINT]

# One life of a run after another: (function, at which of its calls, signals, what is said). The
# last two checkpoints are those of an undisturbed run.
LIVES = [
    ("train.open_images", 1, [signal.SIGINT], "stopped"),  # nothing is trained yet
    (SAVE, 1, [signal.SIGINT], "stopped at step 3 of 8 (teacher)"),
    # Of several signals during a save the first one counts.
    ("fewstep.engine.checkpoints.torch_save", 1, INTERRUPTS, "stopped at step 5 of 8 (teacher)"),
    (f"{TEACHER}.step", 1, [signal.SIGUSR1], "stopped at step 6 of 8 (teacher)"),
    (SAVE, 1, [signal.SIGTERM], "stopped at step 8 of 8 (teacher)"),
    ("train.build_distilled", 1, [signal.SIGHUP], "stopped"),  # between the phases
    (f"{STUDENT}.step", 3, [signal.SIGXCPU], "stopped at step 3 of 6 (student)"),
    (SAVE, 2, [signal.SIGUSR2], "stopped at step 6 of 6 (student)"),
]


def test_signals_save_say_how_to_go_on_and_cost_nothing(whole, tmp_path):
    for name, count, numbers, message in LIVES:
        code, text = finish(tmp_path, before=partial(signal_at, name, count, numbers))
        assert code == CODES[numbers[0]], text
        assert last_line(tmp_path) == f"{message}; run it again to go on"
        assert "Traceback" not in text and not list(tmp_path.rglob("*.tmp.*"))
        if message != "stopped":
            step, phase = int(message.split()[3]), message.split("(")[1].rstrip(")")
            assert (tmp_path / "run" / phase / f"checkpoint_iter_{step}.pt").exists()
    code, text = finish(tmp_path)
    assert code == 0, text
    assert_same_results(tmp_path, whole)


def test_a_checkpoint_from_before_any_best_one_can_be_named_as_weights(tmp_path):
    at_the_second = partial(signal_at, f"{STUDENT}.step", 2, [signal.SIGINT])
    code, text = finish(tmp_path, "--save_interval", "100", before=at_the_second)
    assert code in STOPPED, text
    (checkpoint,) = (tmp_path / "run" / "student").glob("checkpoint_iter_*.pt")
    assert len(fewstep.load(checkpoint).sample(2, nfe=2, seed=0)) == 2


def test_outside_the_loop_a_signal_acts_at_once_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted) as caught, StopRequests():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
    assert caught.value.exit_code == 143 and signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(Interrupted), StopRequests() as stop:
        with stop.deferred():
            os.kill(os.getpid(), signal.SIGINT)
            reached = stop.number
        raise AssertionError("a signal that nobody answered is raised at the end")
    assert reached == signal.SIGINT


@pytest.mark.parametrize("number", CODES)
def test_every_signal_that_means_go_away_stops_a_run(number):
    with pytest.raises(Interrupted) as caught, StopRequests():
        os.kill(os.getpid(), number)
        time.sleep(10)
    assert caught.value.exit_code == CODES[number] and CODES[number] in STOPPED


def test_a_signal_that_nohup_has_ignored_stops_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequests() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stop.number and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def wait_in_step(path):
    """Let this process stay in its third step until a file is there."""
    from fewstep.methods.edm import TeacherPhase

    plain, calls = TeacherPhase.step, [0]

    def waiting(self, *arguments):
        calls[0] += 1
        while calls[0] == 3 and not path.exists():
            time.sleep(0.01)
        return plain(self, *arguments)

    TeacherPhase.step = waiting


def test_a_second_training_in_the_folder_is_refused_and_the_first_goes_on(whole, tmp_path):
    go_on = tmp_path / "cache" / "go_on"
    first = start(tmp_path, before=partial(wait_in_step, go_on))
    while not (tmp_path / "run" / "teacher" / "checkpoint_iter_2.pt").exists():
        assert first.is_alive(), said(tmp_path)
        time.sleep(0.01)
    paths = ["--save_dir", tmp_path / "run", "--cache_dir", tmp_path / "cache"]
    other = tmp_path / "other"
    code, text = finish(other, *paths)
    assert code == 2, text
    assert f"run: process {first.pid} on " in text and "is training there" in text
    go_on.touch()
    first.join()
    assert first.exitcode == 0
    for path in (go_on, other / "said"):
        path.unlink()
    assert_same_results(tmp_path, whole)


def test_a_dead_process_holds_no_lock(tmp_path):
    first = start(tmp_path, before=partial(wait_in_step, tmp_path / "never"))
    while not (tmp_path / "run" / "teacher" / "checkpoint_iter_2.pt").exists():
        assert first.is_alive(), said(tmp_path)
        time.sleep(0.01)
    first.kill()
    first.join()
    assert (tmp_path / "run" / ".lock").exists()
    code, text = finish(tmp_path, "--max_minutes", "1e-9")
    assert code == TIME_IS_UP and "going on with the teacher at step 2" in text
    assert not (tmp_path / "run" / ".lock").exists()


def test_the_lock_is_let_go_of_when_a_mistake_ends_the_run(tmp_path):
    with pytest.raises(UserError, match="a mistake"), sole_use(tmp_path):
        raise UserError("a mistake")
    with sole_use(tmp_path):
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []
