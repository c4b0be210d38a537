"""`train.py` as a process of its own that can be killed, without the seconds of its start.

A server that has imported everything forks each run. A forked run is like a started one: it has its
own memory, files and signals, and `train.py` is given its command line.
"""

import multiprocessing
import os
import pkgutil
import signal
import sys
from pathlib import Path

from src.utils import whole_file

SMALL = (
    "--preset tiny --data synthetic --synthetic_count 16 --batch_size 2 --device cpu"
    " --num_iterations 8 --student_iterations 6 --warmup 1 --disc_warmup 1 --disc_channels 8"
    " --log_interval 2 --save_interval 2 --sample_interval 4 --teacher_steps 2 --best_images 8"
    " --self_input_share 1"  # two images have no room for a third kind of input
).split()

CONTEXT = multiprocessing.get_context("forkserver")
# Every optimiser imports torch's compiler, which takes longer than the run.
LOADED_BEFORE = ["train", "matplotlib.pyplot", "torch._dynamo", "tests.faults.jobs"]
CONTEXT.set_forkserver_preload(LOADED_BEFORE)


def words(folder, *flags):
    """The command line of a small run, all of whose files are in `folder`."""
    places = ["--save_dir", folder / "run", "--export_dir", folder / "export"]
    places += ["--cache_dir", folder / "cache"]
    return [str(word) for word in (*SMALL, *places, *flags)]


def start(folder, *flags, before=None):
    """Begin a run; its stdout and stderr go to FOLDER/said. before(*its arguments): called in it
    first, a picklable function or `functools.partial`."""
    folder.mkdir(parents=True, exist_ok=True)
    process = CONTEXT.Process(target=_run, args=(words(folder, *flags), folder / "said", before))
    process.start()
    return process


def finish(folder, *flags, before=None):
    """Run to the end. Returns (exit code, what was said)."""
    process = start(folder, *flags, before=before)
    process.join()
    return process.exitcode, said(folder)


def said(folder):
    return (folder / "said").read_text(errors="replace")


def signal_at(name, count, numbers, when="before"):
    """Let this process signal itself before or after the `count`-th call of a function or method,
    and go on if it can."""
    owner, _, function = name.rpartition(".")
    owner = pkgutil.resolve_name(owner)
    plain, calls = getattr(owner, function), [0]

    def signalling(*arguments, **named):
        calls[0] += 1
        if calls[0] == count and when == "before":
            send(numbers)
        result = plain(*arguments, **named)
        if calls[0] == count and when == "after":
            send(numbers)
        return result

    setattr(owner, function, signalling)


def send(numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


def _write_something(rows, path, panels):
    with whole_file(path) as temporary:
        temporary.write_bytes(b"curves")


def _run(arguments, output, before):
    # Forked: what the server had set for itself must not count.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.chdir(Path(output).parent)
    import torch

    import fewstep.engine.loop
    import train
    from src.utils import run_command

    torch.set_num_threads(1)
    # Most of the time of so short a run; other tests do both in full.
    loop = fewstep.engine.loop
    loop.draw_curves, loop.SHEET_IMAGES, train.HELDOUT_IMAGES = _write_something, 2, 4
    sys.argv = ["train.py", *arguments]
    if before:
        before()
    try:
        run_command(train.main)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
