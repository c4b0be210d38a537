"""Training steps, our defaults against the plain step: fetching the batch, all networks, updates.

    python -m fewstep.studies.bench.bench_train --phase both --preset full --batch_size 64
    python -m fewstep.studies.bench.bench_train --lever compile=off --lever attention=explicit
    python -m fewstep.studies.bench.bench_train --sweep 32 64 128
    python -m fewstep.studies.bench.bench_train --profile

The plain step is eager fp32 without TF32, explicit attention, one kernel a tensor in the updates,
and a DataLoader that decodes PNG files. A ratio is its time over that of our defaults; with
--lever, the time with that one setting changed over that of our defaults. Compiled code goes to a
temporary folder, so that warm-up shows what compiling costs; TORCHINDUCTOR_CACHE_DIR keeps it.
"""

import tempfile
from pathlib import Path

from fewstep.runs.presets import PRESETS
from fewstep.runs.settings import Data
from fewstep.studies.bench.contenders import parse_lever
from fewstep.studies.bench.device import memory_named
from fewstep.studies.bench.flops import model_dtype, peak_flops
from fewstep.studies.bench.report import add_common_flags, begin, finish, parsed, whole
from fewstep.studies.bench.train_measures import Bench, compare, profile, pull_lever, sweep
from src.arguments import LARGEST_BATCH, line
from src.utils import CommandParser, pick_device, run_command

PHASES = {"teacher": ["teacher"], "add": ["add"], "both": ["teacher", "add"]}


def build_parser():
    parser = CommandParser(prog="python -m fewstep.studies.bench.bench_train", description=__doc__)
    parser.add_argument("--phase", choices=list(PHASES), default="both", help="(%(default)s)")
    parser.add_argument("--preset", choices=list(PRESETS), default="full", help="(%(default)s)")
    batch = whole(2, LARGEST_BATCH)
    parser.add_argument("--batch_size", **batch, help="images a step (the preset's)")
    parser.add_argument("--steps", **whole(1, 10**6), default=4, help="steps a turn (%(default)s)")
    parser.add_argument(
        "--lever",
        type=line,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one setting of the group `speed`, e.g. compile=off (may be repeated)",
    )
    parser.add_argument(
        "--sweep", **batch, nargs="+", default=[], help="batch sizes for images/s and peak memory"
    )
    parser.add_argument("--profile", action="store_true", help="the largest costs")
    add_common_flags(parser, rounds=8)
    return parser


def parse_arguments(argv=None):
    args = parsed(build_parser(), argv)
    args.lever = [parse_lever(text) for text in args.lever]
    if args.batch_size is None:
        args.batch_size = PRESETS[args.preset].get("batch_size", Data().batch_size)
    return args


def measure(bench, phase, levers, sizes, with_profile, peak):
    """All that was asked for of one phase, or the comparison with the plain step; a dict."""
    if not (levers or sizes or with_profile):
        return {"comparison": compare(bench, phase, peak)}
    result = {}
    if levers:
        result["levers"] = [pull_lever(bench, phase, *lever) for lever in levers]
    if sizes:
        result["sweep"] = sweep(bench, phase, sizes, peak)
    if with_profile:
        result["profile"] = profile(bench, phase)
    return result


def main(argv=None):
    args = parse_arguments(argv)
    device = pick_device(args.device)
    results = begin(device) | {"preset": args.preset, "batch_size": args.batch_size}
    peak = results["peak_flops"] = peak_flops(device, model_dtype(device))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        bench = Bench(
            args.preset,
            args.batch_size,
            args.steps,
            args.rounds,
            device,
            Path(folder),
            largest=max([args.batch_size, *args.sweep]),
        )
        for phase in PHASES[args.phase]:
            with memory_named():
                results[phase] = measure(bench, phase, args.lever, args.sweep, args.profile, peak)
    finish(args.json, results)


if __name__ == "__main__":
    run_command(main)
