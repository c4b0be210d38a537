"""Programs in processes of their own, that are told to stop before the command's time is over."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from src.utils import UserError

ROOT = Path(__file__).resolve().parents[1]
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)  # exit codes after a checkpoint


def run_until(arguments, output, stop_at, kill_at, environment=None):
    """Run `python ARGUMENTS` in the project's folder; True when it has finished, False when it was
    stopped or killed here and is to be gone on with.

    What it says is added to the file `output`. At `stop_at` (of `time.monotonic`) it gets SIGTERM,
    on which a training saves and ends; at `kill_at` it and all that it started are killed. An
    interruption of this process is passed on, and waited for as long. Raises `UserError` with the
    reason where it fails.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output, "a") as file:
        began = file.tell()
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | (environment or {}),
            start_new_session=True,  # so that it can be killed with its own children
        )
    try:
        code = _wait(process, stop_at)
    except KeyboardInterrupt:
        _end(process, min(kill_at, time.monotonic() + kill_at - stop_at))
        raise
    is_told = code is None
    if is_told:
        code = _end(process, kill_at)
    if code in STOPPED or (is_told and code < 0):
        return False
    if code:
        raise UserError(f"{_code_text(code)}: {_last_words(output, began)} (see {output})")
    return True


def _wait(process, until):
    """The exit code, or None where the process still runs at `until`."""
    try:
        return process.wait(timeout=max(0.0, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None


def _end(process, kill_at):
    """Tell a process to stop, and kill its group where it has not by `kill_at`; its exit code."""
    process.terminate()
    code = _wait(process, kill_at)
    if code is None:
        os.killpg(process.pid, signal.SIGKILL)  # a leader's number is that of its group
        code = process.wait()
        print("  did not stop in time and was killed: it goes on at its last checkpoint")
    return code


def _code_text(code):
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _last_words(output, began):
    """The last error that a program has told since byte `began`, else its last line."""
    with open(output, "rb") as file:
        file.seek(began)
        lines = file.read().decode(errors="replace").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    errors = [line for line in lines if line.partition(" ")[0].endswith(("error:", "Error:"))]
    return [*lines, *errors][-1] if lines else "no output"
