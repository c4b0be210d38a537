"""Processes without the seconds of their start: a server that has imported everything forks each.

A forked process is like a started one: it has its own memory, files and signals. As a script, this
is a `train.py` that draws little.
"""

import multiprocessing
import os
import signal
import sys

from src.utils import run_command, whole_file

CONTEXT = multiprocessing.get_context("forkserver")
# Every optimiser imports torch's compiler, which takes longer than a small run.
CONTEXT.set_forkserver_preload(["train", "matplotlib.pyplot", "torch._dynamo", "tests.forks"])


def begin_in(folder, output, errors=None):
    """Let this process, just forked, be as if started in `folder` with one thread; what it and its
    children print goes to the files `output` and `errors`, or all of it to `output`."""
    # What the server had set for itself must not count.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    os.dup2(os.open(output, flags), 1)
    os.dup2(os.open(errors, flags) if errors else 1, 2)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
    os.chdir(folder)
    import torch

    torch.set_num_threads(1)


def train_drawing_little():
    """The command `train.py` without most of the time of a short run; other tests draw in full."""
    import fewstep.engine.loop
    import train

    loop = fewstep.engine.loop
    loop.draw_curves, loop.SHEET_IMAGES, train.HELDOUT_IMAGES = _write_something, 2, 4
    run_command(train.main, in_parallel=True)


def _write_something(rows, path, *panels):
    with whole_file(path) as temporary:
        temporary.write_bytes(b"curves")


if __name__ == "__main__":
    train_drawing_little()
