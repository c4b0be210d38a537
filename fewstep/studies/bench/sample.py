"""What `model.sample` costs beside the evaluations of its bare network, with random weights.

    python -m fewstep bench sample --preset tiny --device cpu --sweep 1 8 32
    python -m fewstep bench sample --fast

--fast: as `sampling.py --fast` samples.
"""

from contextlib import nullcontext
from functools import partial

import torch

from custom_model import create_custom_model
from fewstep.engine.fast_sampling import make_fast
from fewstep.runs.presets import PRESETS
from fewstep.runs.settings import Network
from fewstep.studies.bench.turns import compare, sweep
from src.arguments import LARGEST_BATCH, MOST_EVALUATIONS, InRange, whole_number
from src.samplers import IMAGE_SHAPE

ROUNDS = 20


def add_flags(parser):
    parser.add_argument("--preset", choices=list(PRESETS), default="full", help="(%(default)s)")
    parser.add_argument("--fast", action="store_true", help="with everything that makes it faster")
    add = partial(parser.add_argument, type=whole_number, action=InRange, low=1)
    add("--batch_size", high=LARGEST_BATCH, default=32, help="(%(default)s)")
    add("--nfe_list", high=MOST_EVALUATIONS, nargs="+", default=[1, 2, 4], help="(1 2 4)")
    text = "batch sizes to time as well, at the first of --nfe_list"
    add("--sweep", high=LARGEST_BATCH, nargs="+", default=[], help=text)


def measure(args, device, folder):
    """Compare sampling with the bare network at each NFE, and time batch sizes; a dict."""
    torch.manual_seed(0)
    network = PRESETS[args.preset].get("network", Network().network)
    model = create_custom_model(device, network=network, sampler="few_step").eval()
    context = make_fast(model, device, folder / "compiled") if args.fast else nullcontext
    results = {"comparisons": []}
    with context():
        for nfe in dict.fromkeys(args.nfe_list):
            ways = {
                "bare network": partial(network_calls, model, nfe, args.batch_size),
                "sample": partial(samples, model, nfe, args.batch_size),
            }
            row = compare(f"NFE {nfe}", ways, args.batch_size, args.rounds, device)
            results["comparisons"].append({"nfe": nfe} | row)
        nfe = args.nfe_list[0]
        build = partial(samples, model, nfe)
        results["sweep"] = sweep(f"NFE {nfe}", args.sweep, build, args.rounds, device)
    return results


def samples(model, nfe, batch_size):
    """A function that samples one batch, which stays on the device."""
    return partial(model.sample, (batch_size, *IMAGE_SHAPE), nfe)


def network_calls(model, nfe, batch_size):
    """A function that evaluates the bare network `nfe` times on one batch."""
    x = torch.randn(batch_size, *IMAGE_SHAPE, device=model.device)
    times = torch.full((batch_size,), 500.0, device=model.device)

    @torch.no_grad()
    def run():
        for _ in range(nfe):
            model.network(x, times, None)

    return run
