"""What more processes and higher resolutions cost.

    python -m fewstep.studies.bench.bench_scaling --preset tiny --device cpu --resolutions 32 64 128
    torchrun --nproc_per_node 2 -m fewstep.studies.bench.bench_scaling --preset tiny --device cpu

Alone: operations, seconds and images/s of a denoising step over resolutions. Under torchrun: steps
whose gradients are exchanged against the same steps without exchange, in turn, and the images/s of
all processes together; run it with 1, 2, 4, ... processes to see how they scale.
"""

from statistics import median

import torch

from custom_model import NETWORKS
from fewstep.engine.microbatch import split
from fewstep.engine.precision import lay_out, prepare_backends
from fewstep.engine.processes import ALONE, from_environment, hush
from fewstep.runs.building import build_teacher
from fewstep.runs.estimate import SIGMA_DATA
from fewstep.runs.presets import PRESETS
from fewstep.studies.bench.contenders import PLAIN, settings_of
from fewstep.studies.bench.device import waiter
from fewstep.studies.bench.flops import flops_of, model_dtype, peak_flops, utilisation
from fewstep.studies.bench.report import add_common_flags, begin, finish, parsed, whole
from fewstep.studies.bench.turns import in_turns, ratio_line, ratios, seconds_of
from src.arguments import LARGEST_BATCH
from src.utils import CommandParser, UserError, pick_device, run_command

LARGEST_SIDE = 512  # of an image, whose attention matrices take 16 GiB in the full network


def teacher_steps(settings, device, processes, size):
    """(a function that takes one step of a new teacher on random images of `size` x `size`, the
    same without exchanging gradients)."""
    torch.manual_seed(0)
    stage = build_teacher(settings, SIGMA_DATA, device, processes)
    share = settings.data.batch_size // processes.count
    images = torch.rand(share, 3, size, size, device=device) * 2 - 1
    parts = split(lay_out(images, device, settings.speed.channels_last), [processes.rank])

    def step():
        stage.step(parts, 0)

    def step_alone():
        with stage.learner.joined.no_sync():
            stage.step(parts, 0)

    return step, step_alone


def over_resolutions(args, settings, device):
    """Print a line for each resolution; a list of results."""
    peak, found, wait = peak_flops(device, model_dtype(device)), [], waiter(device)
    plain = settings_of(args.preset, 2, PLAIN, "data/cache")
    for size in args.resolutions:
        counted, _ = teacher_steps(plain, device, ALONE, size)
        flops = flops_of(counted) / plain.data.batch_size
        step, _ = teacher_steps(settings, device, ALONE, size)
        seconds_of(step, wait)
        seconds = median(seconds_of(step, wait) for _ in range(args.rounds))
        images = settings.data.batch_size
        share = utilisation(flops * images, seconds, peak)
        print(
            f"{size}x{size}: {flops / 1e9:.3g} GFLOP an image and step,"
            f" {images / seconds:.1f} images/s, utilisation {100 * share:.1f} %",
            flush=True,
        )
        found.append({"size": size, "flops": flops, "images_per_second": images / seconds})
    return found


def over_processes(args, settings, device, processes):
    """Print what exchanging gradients costs, and the rate of all processes; a dict."""
    step, step_alone = teacher_steps(settings, device, processes, 64)
    turns = in_turns(step, step_alone, args.rounds, waiter(device))
    rate = settings.data.batch_size / median(turns.first)
    print(f"{processes.count} processes: {rate:.1f} images/s together")
    print(ratio_line("without exchange over with it", turns.first, turns.second), flush=True)
    found = ratios(turns.first, turns.second)
    return {"processes": processes.count, "images_per_second": rate, "ratios": found}


def build_parser():
    parser = CommandParser(
        prog="python -m fewstep.studies.bench.bench_scaling", description=__doc__
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="full", help="(%(default)s)")
    batch, sizes = whole(2, LARGEST_BATCH), whole(8, LARGEST_SIDE)
    parser.add_argument(
        "--batch_size", **batch, default=32, help="of all processes together (%(default)s)"
    )
    parser.add_argument("--resolutions", **sizes, nargs="+", default=[], help="e.g. 32 64 128")
    add_common_flags(parser, rounds=8)
    return parser


def parse_arguments(argv=None):
    args = parsed(build_parser(), argv)
    network = NETWORKS[PRESETS[args.preset].get("network", "full")]
    factor = 2 ** (len(network["ch_mult"]) - 1)
    for size in args.resolutions:
        if size % factor:
            raise UserError(f"--resolutions {size}: a multiple of {factor} is needed")
    return args


def main(argv=None):
    processes = from_environment()
    hush(processes)
    args = parse_arguments(argv)
    if args.batch_size % processes.count:
        raise UserError(f"--batch_size {args.batch_size}: {processes.count} processes share it")
    if args.resolutions and processes.count > 1:
        raise UserError("--resolutions: without torchrun")
    device = processes.device_of(pick_device(args.device))
    settings = settings_of(args.preset, args.batch_size, {}, "data/cache")
    prepare_backends(device, settings.speed.tf32)
    results = begin(device) | {"preset": args.preset, "batch_size": args.batch_size}
    processes.join(device)
    if args.resolutions:
        results["resolutions"] = over_resolutions(args, settings, device)
    else:
        results["processes"] = over_processes(args, settings, device, processes)
    if processes.is_first:
        finish(args.json, results)
    processes.leave()


if __name__ == "__main__":
    run_command(main)
