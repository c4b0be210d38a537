"""What sampling costs, with random weights: against the bare network, with and without --fast, and
over batch sizes.

    python -m fewstep.studies.bench.bench_sample --preset tiny --device cpu --sweep 1 8 32

All comparisons are of batches of --batch_size. "fast" is what `sampling.py --fast` does, "plain"
what it does without. Compiled code goes to a temporary folder, unless TORCHINDUCTOR_CACHE_DIR names
another.
"""

import copy
import tempfile
from contextlib import contextmanager, nullcontext
from functools import partial
from statistics import median
from typing import NamedTuple

import torch

from custom_model import CustomGenerativeModel, create_custom_model
from fewstep.engine.fast_sampling import make_fast
from fewstep.runs.presets import PRESETS
from fewstep.runs.settings import Network
from fewstep.studies.bench.device import (
    clear,
    held_bytes,
    is_out_of_memory,
    memory_named,
    peak_bytes,
    waiter,
)
from fewstep.studies.bench.report import add_common_flags, begin, finish, memory_text, parsed, whole
from fewstep.studies.bench.turns import in_turns, ratio_line, ratios, seconds_of
from src.arguments import LARGEST_BATCH, MOST_EVALUATIONS
from src.samplers import IMAGE_SHAPE, image_batches
from src.utils import CommandParser, pick_device, run_command


class Way(NamedTuple):
    """A model, and a factory of contexts to sample it in."""

    model: CustomGenerativeModel
    context: callable


def random_model(preset, device):
    """The student's model of a preset, untrained."""
    torch.manual_seed(0)
    network = PRESETS[preset].get("network", Network().network)
    return create_custom_model(device, network=network, sampler="few_step").eval()


def both_ways(model, device, folder):
    """{"plain": ..., "fast": ...} of one model. Each has torch's switches as they are with it
    alone: `make_fast` turns some that hold for the whole process. folder: for compiled code."""
    before = _switches()
    fast = copy.deepcopy(model)
    context = make_fast(fast, device, folder)
    return {
        "plain": Way(model, partial(_switched, before, nullcontext)),
        "fast": Way(fast, partial(_switched, _switches(), context)),
    }


def _switches():
    cudnn = torch.backends.cudnn
    return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark


@contextmanager
def _switched(switches, context):
    cudnn = torch.backends.cudnn
    torch.set_float32_matmul_precision(switches[0])
    cudnn.allow_tf32, cudnn.benchmark = switches[1:]
    with context():
        yield


def network_calls(way, batch_size, nfe):
    """A function that calls the bare network `nfe` times on one batch."""
    x = torch.randn(batch_size, *IMAGE_SHAPE, device=way.model.device)
    times = torch.full((batch_size,), 500.0, device=way.model.device)

    @torch.no_grad()
    def call():
        with way.context():
            for _ in range(nfe):
                way.model.network(x, times, None)

    return call


def samples(way, batch_size, nfe):
    """A function that samples one batch, which stays on the device."""

    def call():
        with way.context():
            way.model.sample((batch_size, *IMAGE_SHAPE), nfe)

    return call


def pictures(way, batch_size, nfe):
    """A function that samples one batch as bytes on the CPU, as `sampling.py` wants them."""

    def call():
        with way.context():
            list(image_batches(way.model, nfe, batch_size, batch_size))

    return call


def compare(ways, batch_size, nfe, rounds, wait):
    """Print the ratios at one NFE; a list of results."""
    plain, fast = ways["plain"], ways["fast"]
    pairs = {
        "plain, sample over the bare network": (network_calls, plain, samples, plain),
        "fast, sample over the bare network": (network_calls, fast, samples, fast),
        "plain, bytes on the CPU over sample": (samples, plain, pictures, plain),
        "fast, bytes on the CPU over sample": (samples, fast, pictures, fast),
        "plain over fast": (samples, fast, samples, plain),
    }
    found = []
    for name, (first, first_way, second, second_way) in pairs.items():
        both = first(first_way, batch_size, nfe), second(second_way, batch_size, nfe)
        turns = in_turns(*both, rounds, wait)
        print(ratio_line(f"NFE {nfe}, {name}", turns.first, turns.second), flush=True)
        row = {"nfe": nfe, "name": name, "ratios": ratios(turns.first, turns.second)}
        found.append(row | {"warmup_seconds": turns.warmups})
    return found


def sweep(ways, sizes, nfe, rounds, device):
    """Print images/s and peak memory over batch sizes, each way's up to where memory ends; a list
    of results."""
    found, wait = [], waiter(device)
    for name, way in ways.items():
        for size in sizes:
            clear(device)
            sample, others = samples(way, size, nfe), held_bytes(device) - _weight_bytes(way.model)
            try:
                warmup = seconds_of(sample, wait)
                peak = peak_bytes(sample, device, others)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                print(f"{name}, batches of {size}: out of memory; larger ones are left out")
                break
            rate = size / median(seconds_of(sample, wait) for _ in range(rounds))
            print(
                f"{name}, NFE {nfe}, batches of {size}: {rate:.1f} images/s,"
                f" peak {memory_text(peak)}, warm-up {warmup:.1f} s",
                flush=True,
            )
            row = {"way": name, "nfe": nfe, "batch_size": size, "images_per_second": rate}
            found.append(row | {"peak_bytes": peak, "warmup_seconds": warmup})
    return found


def _weight_bytes(model):
    return sum(p.numel() * p.element_size() for p in model.parameters())


def build_parser():
    parser = CommandParser(prog="python -m fewstep.studies.bench.bench_sample", description=__doc__)
    parser.add_argument("--preset", choices=list(PRESETS), default="full", help="(%(default)s)")
    batch, nfe = whole(1, LARGEST_BATCH), whole(1, MOST_EVALUATIONS)
    parser.add_argument("--batch_size", **batch, default=32, help="(%(default)s)")
    parser.add_argument("--nfe_list", **nfe, nargs="+", default=[1, 2, 4], help="(1 2 4)")
    parser.add_argument(
        "--sweep",
        **batch,
        nargs="+",
        default=[],
        help="batch sizes for images/s and peak memory, at the first of --nfe_list",
    )
    add_common_flags(parser, rounds=20)
    return parser


def main(argv=None):
    args = parsed(build_parser(), argv)
    device = pick_device(args.device)
    results = begin(device) | {"preset": args.preset, "batch_size": args.batch_size}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        ways = both_ways(random_model(args.preset, device), device, folder)
        results["comparisons"] = []
        for nfe in dict.fromkeys(args.nfe_list):
            with memory_named():
                found = compare(ways, args.batch_size, nfe, args.rounds, waiter(device))
            results["comparisons"] += found
        results["sweep"] = sweep(ways, args.sweep, args.nfe_list[0], args.rounds, device)
    finish(args.json, results)


if __name__ == "__main__":
    run_command(main)
