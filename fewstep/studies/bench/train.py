"""Training steps of ours against the plain loop, fetching the images included.

    python -m fewstep bench train --preset full --batch_size 32 64 128
    python -m fewstep bench train --phase teacher --lever compile=off --lever attention=explicit
    python -m fewstep bench train --profile

The plain loop is eager fp32 without TF32, explicit attention, one kernel a tensor in the updates, a
DataLoader that decodes PNG files, and metrics read with `.item()` at every step. With --lever, our
defaults are compared with themselves, that one setting changed.
"""

import itertools
from argparse import ArgumentTypeError
from functools import partial

import torch
from torch.profiler import ProfilerActivity, profile

from fewstep.engine.microbatch import micro_batches_of, split
from fewstep.engine.precision import prepare_backends
from fewstep.engine.processes import ALONE
from fewstep.runs import building
from fewstep.runs.command_line import make_settings
from fewstep.runs.estimate import busy_step, random_phases
from fewstep.runs.presets import PRESETS
from fewstep.runs.settings import Speed
from fewstep.studies.bench.data import WORKERS, decoded, loader_batches, write_faces
from fewstep.studies.bench.turns import clear, compare, warm_up
from src.arguments import DEFAULT, MOST_STEPS, InRange, quoted, switch, whole_number

ROUNDS, BATCH, LEAST = 8, 64, 2
PHASES = ["teacher", "student"]
FILES = 32  # batches of them, so that a DataLoader's stumble between passes is rare

# What a step was before any of the speed settings that do not save memory.
PLAIN = dict(
    compile="off", precision="fp32", tf32=False, channels_last="off",
    attention="explicit", data_on_device="off", updates="loop", joint_disc=False,
)  # fmt: skip


def add_flags(parser):
    add = parser.add_argument
    add("--phase", choices=PHASES, help="phase that is measured (default: both)")
    add(
        "--preset",
        choices=list(PRESETS),
        default="full",
        help=f"settings that are measured ({DEFAULT})",
    )
    number = dict(type=whole_number, action=InRange, low=1, high=MOST_STEPS)
    add("--steps", **number, default=4, help=f"steps of a turn ({DEFAULT})")
    text = "change one speed setting of train.py, e.g. compile=off (may be repeated)"
    add("--lever", type=lever, action="append", default=[], metavar="NAME=VALUE", help=text)
    add("--profile", action="store_true", help="the largest costs of ours as well")


def lever(text):
    """An argparse type: "tf32=off" -> ("tf32", False), checked as train.py's flags are."""
    (name, equals, value), known = text.partition("="), vars(Speed())
    if not equals or name not in known:
        names = ", ".join(known)
        raise ArgumentTypeError(f"{quoted(text)}: write NAME=VALUE with a NAME of {names}")
    if isinstance(known[name], bool):
        value = switch(value)
    elif isinstance(known[name], int):
        value = whole_number(value)
    make_settings({name: value})
    return name, value


def measure(args, device, folder):
    """Each phase compared with the plain loop, or with its levers; a dict."""
    files = folder / "files"
    cache = decoded(write_faces(files, FILES * max(args.batch_size)), folder / "cache")
    results = {}
    for phase in [args.phase] if args.phase else PHASES:
        result = results[phase] = {"comparisons": []}
        for size in args.batch_size:
            ours = partial(our_turn, args, phase, size, device, cache)
            others = {
                f"{name}={value}": partial(ours, **{name: value}) for name, value in args.lever
            }
            others = others or {"plain loop": partial(plain_turn, args, phase, size, device, files)}
            for name, build in others.items():
                ways, title = {"defaults": ours, name: build}, f"{phase}, batches of {size}"
                row = compare(title, ways, size * args.steps, args.rounds, device)
                result["comparisons"].append({"batch_size": size} | row)
        if args.profile:
            clear(device)
            result["profile"] = largest_costs(warm_up(ours, device).run, device)
            print(f"{title}, the largest costs:\n{result['profile']}", flush=True)
    return results


def largest_costs(run, device):
    """The profiler's table of the three costliest operations of a call of `run()`, or of the
    kernels on a GPU."""
    kind, column = ProfilerActivity.CPU, "self_cpu_time_total"
    if device.type == "cuda":
        kind, column = ProfilerActivity.CUDA, "self_device_time_total"
    with profile(activities=[kind]) as profiler:
        run()
    return profiler.key_averages().table(sort_by=column, row_limit=3)


def our_turn(args, phase, batch_size, device, cache, **speed):
    """A function that takes the next `args.steps` steps at each call, with these values of the
    group `speed` in place of the defaults."""
    settings = preset_settings(args.preset, batch_size, **speed)
    batches = building.build_batches(settings, cache, device, ALONE)
    return turn(args.steps, phase, settings, device, map(batches, itertools.count()))


def plain_turn(args, phase, batch_size, device, files):
    """The same of the plain loop, which reads every metric at every step."""
    settings = preset_settings(args.preset, batch_size, **PLAIN)
    batches = loader_batches(files, batch_size, WORKERS, device)
    return turn(args.steps, phase, settings, device, batches, reads=True)


def preset_settings(preset, batch_size, **speed):
    """The `Settings` of the preset with these values. Raises `UserError`."""
    return make_settings({**PRESETS[preset], "batch_size": batch_size, **speed})


def turn(steps, phase, settings, device, batches, reads=False):
    """A function that trains the next `steps` steps of the phase of that name, from random weights
    and where everyone learns."""
    torch.manual_seed(0)
    trained = {one.name: one for one in random_phases(settings, device)}[phase]
    numbers = itertools.count(busy_step(trained))
    count = micro_batches_of(settings.data.batch_size, settings.speed.micro_batch, 1)

    def run():
        prepare_backends(device, settings.speed.tf32)  # another way may have changed them
        for number in itertools.islice(numbers, steps):
            metrics = trained.step(split(next(batches), range(count)), number)
            if reads:
                for value in metrics.values():
                    value.item()

    return run
