"""`train.py` as a process of its own that can be killed, given its command line."""

import os
import pkgutil
import signal
import sys
from itertools import count

from tests.forks import CONTEXT, begin_in, train_drawing_little

SMALL = (
    "--preset tiny --data synthetic --synthetic_count 16 --batch_size 2 --device cpu"
    " --num_iterations 8 --student_iterations 6 --warmup 1 --disc_warmup 1 --disc_channels 8"
    " --log_interval 2 --save_interval 2 --sample_interval 4 --teacher_steps 2 --best_images 8"
    " --self_input_share 1"  # two images have no room for a third kind of input
).split()


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


def signal_at(name, place, numbers, when="before"):
    """Let this process signal itself before or after the `place`-th call of a function or method,
    and go on if it can."""
    owner, _, function = name.rpartition(".")
    owner = pkgutil.resolve_name(owner)
    plain, calls = getattr(owner, function), [0]

    def signalling(*arguments, **named):
        calls[0] += 1
        if calls[0] == place and when == "before":
            send(numbers)
        result = plain(*arguments, **named)
        if calls[0] == place and when == "after":
            send(numbers)
        return result

    setattr(owner, function, signalling)


def die_at_call(number):
    """Let this process kill itself at its `number`-th call of a Python function, whichever it
    is."""
    calls = count(1)

    def watch(frame, event, argument):
        if event == "call" and next(calls) == number:
            send([signal.SIGKILL])

    sys.setprofile(watch)


def send(numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


def _run(arguments, output, before):
    begin_in(output.parent, output)
    sys.argv = ["train.py", *arguments]
    if before:
        before()
    train_drawing_little()
