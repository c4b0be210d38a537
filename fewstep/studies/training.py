"""Trainings in processes of their own: one that dies takes nothing else with it."""

import re
import subprocess
import sys
from pathlib import Path

from fewstep.engine.stopping import STOPPED
from src.files import IS_WINDOWS

TRAIN = Path(__file__).resolve().parents[2] / "train.py"


def run_training(arguments, output):
    """Run train.py to its end, what it prints appended to the file `output`.

    Returns its exit code and the line that says why it ended. When this process is told to stop
    (`KeyboardInterrupt`), so is that one, and its checkpoint is waited for. A training that was
    told to stop raises `KeyboardInterrupt` here too.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output, "a") as file:
        command = [sys.executable, str(TRAIN), *arguments]
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # One signal more does no harm where it has had its own. On Windows it always has, with
            # all programs of the window, and to terminate is to kill.
            if not IS_WINDOWS:
                process.terminate()
            process.wait()
            raise
    if code in STOPPED:
        raise KeyboardInterrupt
    return code, ending_of(output.read_text(errors="replace").splitlines())


def ending_of(lines):
    """The line of a program's output that says why it ended: its last error, else its last line."""
    lines = [line for line in lines if line.strip()]
    errors = [line for line in lines if re.match(r"(error: |[\w.]+(Error|Exception)\b)", line)]
    return [*lines, *errors][-1] if lines else "no output"
