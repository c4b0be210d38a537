"""Floating-point operations: counted of a function, and the most that the device does a second.

Operations are those of the model: they are counted on its plain form, explicit attention and
nothing recomputed, whatever form then runs.
"""

import torch
from torch.utils.flop_counter import FlopCounterMode

from fewstep.studies.bench.device import waiter
from fewstep.studies.bench.turns import seconds_of

TRIALS = 5


def flops_of(function):
    """Floating-point operations of the matrix products and convolutions that `function()` runs,
    backward passes included; a multiplication and an addition are two."""
    counter = FlopCounterMode(display=False)
    with counter:
        function()
    return counter.get_total_flops()


def peak_flops(device, dtype):
    """The most operations a second of a large matrix product in `dtype` on `device`, measured: what
    a network could reach, rather than what a data sheet says."""
    on_gpu = device.type == "cuda"
    size, products = (8192, 20) if on_gpu else (1536, 2)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(left)

    def multiply():
        for _ in range(products):
            torch.mm(left, right, out=out)

    wait = waiter(device)
    multiply()
    seconds = min(seconds_of(multiply, wait) for _ in range(TRIALS))
    return 2 * size**3 * products / seconds


def model_dtype(device):
    """The type whose peak utilisation is a share of: the fastest that training uses there."""
    return torch.bfloat16 if device.type == "cuda" else torch.float32


def utilisation(flops, seconds, peak):
    """Share of the device's peak that `flops` operations in `seconds` are."""
    return flops / seconds / peak
