"""Training steps of ours against the plain loop, fetching the images included.

    python -m fewstep bench train --preset full --batch_size 64
    python -m fewstep bench train --phase teacher --lever compile=off --lever attention=explicit
    python -m fewstep bench train --sweep 32 64 128 --profile

The plain loop is eager fp32 without TF32, explicit attention, one kernel a tensor in the updates, a
DataLoader that decodes PNG files, and metrics read with `.item()` at every step. With --lever, our
defaults are compared with themselves, that one setting changed.
"""

from argparse import ArgumentTypeError
from functools import partial
from operator import attrgetter

from torch.profiler import ProfilerActivity, profile

from fewstep.runs.command_line import make_settings
from fewstep.runs.presets import PRESETS
from fewstep.runs.settings import Data, Speed
from fewstep.studies.bench.faces import decoded, write_faces
from fewstep.studies.bench.steps import Turns
from fewstep.studies.bench.turns import clear, compare, seconds_of, sweep, warm_up
from src.arguments import LARGEST_BATCH, MOST_STEPS, InRange, shown, whole_number

ROUNDS = 8
PHASES = ["teacher", "student"]
FILES = 32  # batches of them, so that a DataLoader's stumble between passes is rare


def add_flags(parser):
    parser.add_argument("--phase", choices=PHASES, help="one of them (both)")
    parser.add_argument("--preset", choices=list(PRESETS), default="full", help="(%(default)s)")
    add = partial(parser.add_argument, type=whole_number, action=InRange)
    add("--batch_size", low=2, high=LARGEST_BATCH, help="images a step (the preset's)")
    add("--steps", low=1, high=MOST_STEPS, default=4, help="steps a turn (%(default)s)")
    text = "batch sizes for images/s and peak memory"
    add("--sweep", low=2, high=LARGEST_BATCH, nargs="+", default=[], help=text)
    text = "change one speed setting of train.py, e.g. compile=off (may be repeated)"
    add = partial(parser.add_argument, metavar="NAME=VALUE", help=text)
    add("--lever", type=lever, action="append", default=[])
    parser.add_argument("--profile", action="store_true", help="the three largest costs")


def lever(text):
    """An argparse type: "tf32=off" -> ("tf32", False), checked as train.py's flags are."""
    (name, equals, value), known = text.partition("="), vars(Speed())
    if not equals or name not in known:
        names = ", ".join(known)
        raise ArgumentTypeError(f"{shown(text)}: write NAME=VALUE with a NAME of {names}")
    if isinstance(known[name], bool):
        value = {"on": True, "off": False}.get(value, value)
    elif isinstance(known[name], int):
        value = whole_number(value)
    make_settings({name: value})
    return name, value


def measure(args, device, folder):
    """What was asked for of each phase, or its comparison with the plain loop; a dict."""
    size = args.batch_size or PRESETS[args.preset].get("batch_size", Data().batch_size)
    paths = write_faces(folder / "files", FILES * max([size, *args.sweep]))
    cache = decoded(paths, folder / "cache")
    turns = Turns(args.preset, args.steps, device, folder / "files", cache)
    phases = [args.phase] if args.phase else PHASES
    return {phase: measure_phase(args, turns, phase, size) for phase in phases}


def measure_phase(args, turns, phase, size):
    """The comparisons, the sweep and the profile of one phase; a dict."""
    ours, device = partial(turns.ours, phase), turns.device
    others = {f"{name}={value}": partial(ours, size, **{name: value}) for name, value in args.lever}
    if not (args.lever or args.sweep or args.profile):
        others = {"plain loop": partial(turns.plain, phase, size)}
    result = {"batch_size": size, "comparisons": []}
    for name, build in others.items():
        clear(device)
        ways = {"defaults": partial(ours, size), name: build}
        row = compare(phase, ways, size * args.steps, args.rounds, device)
        result["comparisons"].append(row)
    result["sweep"] = sweep(phase, args.sweep, ours, args.rounds, device, args.steps)
    if args.profile:
        clear(device)
        print(f"{phase}, the three largest costs:")
        result["profile"] = largest_costs(warm_up(partial(ours, size), device).run, device)
    return result


def largest_costs(run, device):
    """Profile a call of `run()`. Prints and returns (name, share of all time, calls) of the three
    costliest operations, or of kernels on a GPU."""
    kind, seconds = ProfilerActivity.CPU, attrgetter("self_cpu_time_total")
    if device.type == "cuda":
        kind, seconds = ProfilerActivity.CUDA, attrgetter("self_device_time_total")
    with profile(activities=[kind]) as profiler:
        seconds_of(run, device)
    events = sorted(profiler.key_averages(), key=seconds, reverse=True)
    total = sum(map(seconds, events)) or 1  # a system may forbid to look at its GPU's counters
    costs = [(event.key, seconds(event) / total, event.count) for event in events[:3]]
    for name, share, calls in costs:
        print(f"  {100 * share:5.1f} %  {calls:6d} calls  {name[:80]}", flush=True)
    return costs
