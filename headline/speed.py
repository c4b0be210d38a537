"""Images a second of the teacher and of the ADD student, eager and compiled, and where time goes.

    python -m headline.speed --json FILE --profile FILE --discs resnet unet -- FLAGS OF train.py

One process measures all, on the images of the run: each way of training is built, warmed up and
timed as benchmarks/ does. What was measured stays in FILE; a rerun goes on with the rest. Compiled
code is kept where the trainings look for it, so that they begin warm.
"""

import gc
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.contenders import prepare
from benchmarks.device import clear, waiter
from benchmarks.profiling import profile_lines, profiled
from benchmarks.report import begin, check_at_least, memory_text
from benchmarks.turns import seconds_of
from headline.rates import ways
from speed.compiling import compile_mode
from src.arguments import whole_number
from src.utils import (
    CommandParser,
    pick_device,
    read_json,
    reason_of,
    run_command,
    whole_file,
    write_json,
)
from training.building import build_batches, open_images
from training.command_line import parse_settings
from training.processes import ALONE


def built(what, mode, settings, cache, device, steps):
    """A `Contender` that trains the teacher, or a student against the discriminator `what`."""
    choice = settings.speed.compile if mode == "compiled" else "off"
    settings = replace(settings, speed=replace(settings.speed, compile=choice))
    phase = "teacher" if what == "teacher" else "add"
    if phase == "add":
        settings = replace(settings, discriminator=replace(settings.discriminator, disc=what))
    batches = partial(build_batches, settings, cache, device, ALONE)
    return prepare(phase, settings, batches, device, steps)


def measure(contender, images, rounds, wait):
    """A row from `rounds` turns of so many images: images a second, seconds of the first turn,
    bytes of device memory at the most."""
    seconds = [seconds_of(contender.run, wait) for _ in range(rounds)]
    return {
        "images_per_second": round(images / median(seconds), 2),
        "warmup_seconds": round(contender.warmup, 1),
        "peak_bytes": contender.peak,
    }


def free(device, mode):
    """Give back what the last way held. Dropping graphs imports the compiler, so only with one."""
    if device.type == "cuda" or mode == "compiled":
        clear(device)
    gc.collect()


def measure_all(path, profile_path, discs, settings, device, cache, steps, rounds):
    """Measure what the JSON file has not got yet, in `rounds` turns of `steps`; returns its
    content."""
    found = read_json(path) if path.exists() else begin(device) | {"rows": []}
    found["rows"] = [row for row in found["rows"] if "failure" not in row]
    known = {(row["what"], row["mode"]) for row in found["rows"]}
    is_compiled = compile_mode(settings.speed.compile, device) is not None
    wait, batch_size = waiter(device), settings.data.batch_size
    for what, mode in ways(discs, is_compiled):
        if (what, mode) in known:
            continue
        row = {"what": what, "mode": mode, "batch_size": batch_size}
        try:
            contender = built(what, mode, settings, cache, device, steps)
            row |= measure(contender, steps * batch_size, rounds, wait)
            print(f"{what}, {mode}: {row_text(row)}", flush=True)
            costs = profile_lines(profiled(contender.run, device, wait))
        except Exception as error:  # one way's failure must not take the others' time
            costs = [f"  failed: {reason_of(error)}"]
            if "images_per_second" not in row:
                row["failure"] = reason_of(error)
            print(f"{what}, {mode}: failed: {reason_of(error)}", flush=True)
        contender = None
        found["rows"].append(row)
        write_json(path, found)
        _append_profile(profile_path, [f"{what}, {mode}, costs of {steps} steps:", *costs])
        free(device, mode)
    return found


def row_text(row):
    """A row of the measurements in words."""
    return (
        f"{row['images_per_second']:.1f} images/s, first turn {row['warmup_seconds']:.1f} s,"
        f" peak {memory_text(row['peak_bytes'])}"
    )


def _append_profile(path, lines):
    before = path.read_text() if path.exists() else ""
    with whole_file(path) as temporary:
        temporary.write_text("\n".join([before + lines[0], *lines[1:]]) + "\n\n")


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    parser = CommandParser(prog="python -m headline.speed", description=__doc__)
    parser.add_argument("--json", required=True, help="where the numbers go")
    parser.add_argument("--profile", required=True, help="where the largest costs go")
    parser.add_argument("--discs", nargs="+", required=True, help="discriminators to time")
    parser.add_argument("--steps", type=whole_number, default=4, help="of a turn (%(default)s)")
    parser.add_argument("--rounds", type=whole_number, default=3, help="turns (%(default)s)")
    end = argv.index("--") if "--" in argv else len(argv)
    args = parser.parse_args(argv[:end])
    check_at_least(args, steps=1, rounds=1)
    settings = parse_settings(argv[end + 1 :], parser.prog)[0]
    device = pick_device(settings.run.device)
    cache = open_images(settings).train
    files = Path(args.json), Path(args.profile)
    measure_all(*files, args.discs, settings, device, cache, args.steps, args.rounds)


if __name__ == "__main__":
    run_command(main)
