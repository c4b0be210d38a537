"""A command as users start it, without the seconds that a process of its own needs to import."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple
from unittest.mock import patch

from src.utils import run_command


class Ended(NamedTuple):
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


def run_here(main, *words):
    """Run the command whose function is `main`, words: its name and its arguments."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    arguments = [str(word) for word in words]
    with (
        patch.object(sys, "argv", arguments),
        redirect_stdout(streams[0]),
        redirect_stderr(streams[1]),
    ):
        try:
            run_command(main)
        except SystemExit as ended:
            code = ended.code
    texts = []
    for stream in streams:
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return Ended(code, *texts)
