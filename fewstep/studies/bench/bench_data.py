"""Batches from the decoded cache against a torch DataLoader that decodes PNG files one by one.

    python -m fewstep.studies.bench.bench_data --device cpu
    python -m fewstep.studies.bench.bench_data --counts 1000 10000 100000   # over the size

A turn is a pass over all images. Files and caches are drawn to a temporary folder.
"""

import itertools
import tempfile
from pathlib import Path
from statistics import median

from fewstep.engine.batches import StepBatches
from fewstep.studies.bench.cache_growth import growth_line, measure_growth
from fewstep.studies.bench.device import cores, waiter
from fewstep.studies.bench.pictures import decoded, draw_files, file_loader
from fewstep.studies.bench.report import add_common_flags, begin, finish, parsed, whole
from fewstep.studies.bench.turns import in_turns, ratio_line, ratios, seconds_of
from src.arguments import LARGEST_BATCH, MOST_IMAGES
from src.utils import CommandParser, UserError, pick_device, run_command


def build_parser():
    parser = CommandParser(prog="python -m fewstep.studies.bench.bench_data", description=__doc__)
    add, images = parser.add_argument, whole(1, MOST_IMAGES)
    add("--images", **images, default=2000, help="PNG files (%(default)s)")
    add("--batch_size", **whole(1, LARGEST_BATCH), default=32, help="(%(default)s)")
    add("--counts", **images, nargs="+", help="measure caches of these sizes instead")
    add_common_flags(parser, rounds=6)
    return parser


def parse_arguments(argv=None):
    args = parsed(build_parser(), argv)
    if args.images < args.batch_size:
        raise UserError(f"--images {args.images}: fewer than --batch_size {args.batch_size}")
    return args


def cache_pass(cache, batch_size, device, on_device):
    """A function that takes one epoch of whole batches from the cache, the next at each call."""
    batches = StepBatches(cache, batch_size, 0, True, device, on_device=on_device)
    steps = itertools.count()

    def take():
        for _ in range(len(cache) // batch_size):
            batches(next(steps))

    return take


def loader_pass(paths, batch_size, workers, device):
    """A function that takes one epoch from a `DataLoader`, whose workers stay for the next."""
    loader = file_loader(paths, batch_size, workers)

    def take():
        for x in loader:
            x.to(device)

    return take


def compare(images, batch_size, rounds, device, folder):
    """Print a ratio for each number of workers and way of keeping the cache; a dict of them."""
    paths = draw_files(folder / "files", images)
    wait = waiter(device)
    opened = []
    seconds = seconds_of(lambda: opened.append(decoded(paths, folder / "cache")), wait)
    cache = opened[0]
    print(f"decoding {images} files once: {images / seconds:.0f} images/s")
    taken = images // batch_size * batch_size
    results = {"decoded_images_per_second": images / seconds, "comparisons": []}
    for on_device in [False, True] if device.type == "cuda" else [False]:
        place = "in the GPU's memory" if on_device else "on disk"
        for workers in sorted({0, min(4, cores())}):
            name = f"cache {place} against a DataLoader, workers {workers}"
            turns = in_turns(
                cache_pass(cache, batch_size, device, on_device),
                loader_pass(paths, batch_size, workers, device),
                rounds,
                wait,
            )
            print(ratio_line(name, turns.first, turns.second))
            rates = [taken / median(s) for s in (turns.first, turns.second)]
            print(f"  {rates[0]:.0f} against {rates[1]:.0f} images/s", flush=True)
            results["comparisons"].append(
                {
                    "name": name,
                    "on_device": on_device,
                    "workers": workers,
                    "ratios": ratios(turns.first, turns.second),
                    "cache_images_per_second": rates[0],
                    "loader_images_per_second": rates[1],
                }
            )
    return results


def main(argv=None):
    args = parse_arguments(argv)
    device = pick_device(args.device)
    results = begin(device)
    if args.counts:
        results["growth"] = []
        for count in args.counts:
            row = measure_growth(count, args.batch_size)
            results["growth"].append(row)
            print(growth_line(row, args.batch_size), flush=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            results |= compare(args.images, args.batch_size, args.rounds, device, Path(folder))
    finish(args.json, results)


if __name__ == "__main__":
    run_command(main)
