"""What `model.sample` costs beside the evaluations of its bare network, with random weights.

    python -m fewstep bench sample --preset tiny --device cpu --batch_size 1 8 32
    python -m fewstep bench sample --fast

--fast: as `sampling.py --fast` samples.
"""

import itertools
from contextlib import nullcontext
from functools import partial

import torch

from custom_model import create_custom_model
from fewstep.engine.fast_sampling import make_fast
from fewstep.runs.presets import PRESETS
from fewstep.runs.settings import Network
from fewstep.studies.bench.turns import compare
from src.arguments import DEFAULT, MOST_EVALUATIONS, InRange, whole_number
from src.samplers import IMAGE_SHAPE

ROUNDS, BATCH, LEAST = 20, 32, 1


def add_flags(parser):
    add = parser.add_argument
    add("--preset", choices=list(PRESETS), default="full", help=f"whose network ({DEFAULT})")
    add("--fast", action="store_true", help="with everything that makes it faster")
    number = dict(type=whole_number, action=InRange, low=1, high=MOST_EVALUATIONS)
    add(
        "--nfe_list",
        **number,
        nargs="+",
        default=[1, 2, 4],
        help="network evaluations per image (default: 1 2 4)",
    )


def measure(args, device, folder):
    """Compare sampling with the bare network at each NFE and batch size; a dict."""
    torch.manual_seed(0)
    network = PRESETS[args.preset].get("network", Network().network)
    model = create_custom_model(device, network=network, sampler="few_step").eval()
    context = make_fast(model, device, folder / "compiled") if args.fast else nullcontext
    comparisons = []
    with context():
        for nfe, size in itertools.product(dict.fromkeys(args.nfe_list), args.batch_size):
            ways = {
                "bare network": partial(network_calls, model, nfe, size),
                "sample": partial(samples, model, nfe, size),
            }
            row = compare(f"NFE {nfe}, batches of {size}", ways, size, args.rounds, device)
            comparisons.append({"nfe": nfe, "batch_size": size} | row)
    return {"comparisons": comparisons}


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
