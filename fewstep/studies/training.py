"""Trainings in processes of their own: one that dies takes nothing else with it."""

import re
import signal
import subprocess
import sys
from pathlib import Path

from fewstep.engine.stopping import STOPPED
from src.feedback import Progress
from src.files import IS_WINDOWS

TRAIN = Path(__file__).resolve().parents[2] / "train.py"
LOOKS = 1.0  # seconds between two looks at what it prints
TAIL = 2000  # bytes of its output, in which the last line stands


def run_training(arguments, output):
    """Run train.py to its end, what it prints appended to the file `output`.

    What it printed last is shown while it runs. Returns its exit code and the line that says why it
    ended. When this process is told to stop
    (`KeyboardInterrupt`), so is that one, and its checkpoint is waited for. A training that was
    told to stop raises `KeyboardInterrupt` here too.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output, "a") as file:
        before = output.stat().st_size  # of earlier runs, whose errors are not this one's
        command = [sys.executable, str(TRAIN), *arguments]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = wait_for(process, output)
        except KeyboardInterrupt:
            # One signal more does no harm where it has had its own. On Windows it always has, with
            # all programs of the window, and to terminate is to kill.
            if not IS_WINDOWS:
                process.terminate()
            process.wait()
            raise
    if code in STOPPED:
        raise KeyboardInterrupt
    with open(output, "rb") as file:
        file.seek(before)
        lines = file.read().decode(errors="replace").splitlines()
    if code < 0:
        lines.append(f"error: killed by signal {-code} ({signal.Signals(-code).name})")
    return code, ending_of(lines)


def wait_for(process, output):
    """The exit code of a process at its end; its last line in the file `output` is shown."""
    with Progress("the training begins", bar_format="  {desc}") as report:
        while True:
            try:
                return process.wait(LOOKS)
            except subprocess.TimeoutExpired:
                if line := last_line(output):
                    report.set_description_str(line, refresh=False)


def last_line(path):
    """The last line of a file that is not blank; "" where there is none."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def ending_of(lines):
    """The line of a program's output that says why it ended: its last error, else its last line."""
    lines = [line for line in lines if line.strip()]
    errors = [line for line in lines if re.match(r"(error: |[\w.]+(Error|Exception)\b)", line)]
    return [*lines, *errors][-1] if lines else "no output"
