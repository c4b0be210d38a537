"""Programs in the process of the tests, where one of their own would load torch anew."""

import contextlib
import io
import os
import sys
from unittest.mock import patch

import train
from fewstep.__main__ import main as fewstep
from src.utils import run_command


def in_process(main, arguments, folder="."):
    """(exit code, all that was printed) of a program in `folder`, as a process would end."""
    text, before = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), os.getcwd()
    with (
        patch.object(sys, "argv", ["program", *map(str, arguments)]),
        contextlib.redirect_stdout(text),
        contextlib.redirect_stderr(text),
    ):
        os.chdir(folder)
        try:
            run_command(main)
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            os.chdir(before)
    text.flush()
    return code, text.buffer.getvalue().decode()


def train_in_process(arguments, output=None, folder="."):
    """As `fewstep.studies.training.run_training`: (exit code, the last line printed)."""
    code, text = in_process(train.main, arguments, folder)
    return code, text.splitlines()[-1]


def run_fewstep(arguments, folder="."):
    """(exit code, all that was printed) of `python -m fewstep ...`."""
    return in_process(fewstep, arguments, folder)
