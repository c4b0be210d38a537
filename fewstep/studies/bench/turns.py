"""Two ways timed in turn, so that a machine's slow minutes fall on both."""

import gc
import time
from statistics import median
from typing import NamedTuple

import torch

from fewstep.engine.hardware import wait_for
from src.formatting import size_text


class Way(NamedTuple):
    """run(): takes one turn. warmup: seconds of the first turn, which compiles and tunes. peak: the
    most bytes that it needs on a GPU for itself; None on a CPU, whose allocator keeps what it was
    once given."""

    run: callable
    warmup: float
    peak: int


def warm_up(build, device):
    """Build a function with `build()` and call it; on a GPU twice, for its memory."""
    on_gpu = device.type == "cuda"
    held = torch.cuda.memory_allocated(device) if on_gpu else 0
    run = build()
    warmup = seconds_of(run, device)
    if not on_gpu:
        return Way(run, warmup, None)
    torch.cuda.reset_peak_memory_stats(device)
    seconds_of(run, device)
    return Way(run, warmup, torch.cuda.max_memory_allocated(device) - held)


def seconds_of(function, device):
    """Seconds of one call of `function()`, the work that it gives to the device included."""
    wait_for(device)
    began = time.perf_counter()
    function()
    wait_for(device)
    return time.perf_counter() - began


def in_turns(first, second, rounds, device):
    """Seconds of each call of two functions, two lists: `rounds` calls each, ABBAABBA..."""
    functions, seconds = (first, second), ([], [])
    for place in range(rounds):
        for which in (0, 1) if place % 2 == 0 else (1, 0):
            seconds[which].append(seconds_of(functions[which], device))
    return seconds


def compare(title, ways, images, rounds, device):
    """Time two ways of taking so many images a turn; print their ratio, and return plain values.

    ways: {name: build} of two. The ratio is the second's time over the first's, pair by pair: how
    many times as fast the first is.
    """
    clear(device)
    warm = [warm_up(build, device) for build in ways.values()]
    seconds = in_turns(*(way.run for way in warm), rounds, device)
    ratios = [slow / fast for fast, slow in zip(*seconds, strict=True)]
    name = f"{title}, {' over '.join(reversed(ways))}"
    spread = f"min {min(ratios):.3f}, max {max(ratios):.3f}, {rounds} pairs"
    print(f"{name}: ratio {median(ratios):.3f} ({spread})")
    rows = {}
    for which, way, times in zip(ways, warm, seconds):
        rate, peak = images / median(times), way.peak
        memory = "" if peak is None else f", peak memory {size_text(peak, 'GiB', 2)}"
        print(f"  {which}: {rate:.1f} images/s, first turn {way.warmup:.1f} s{memory}", flush=True)
        rows[which] = {"images_per_second": rate, "warmup_seconds": way.warmup, "peak_bytes": peak}
    return {"name": name, "ratios": ratios, "ways": rows}


def clear(device):
    """Give back the memory of what is no longer referred to, and drop compiled graphs: those of
    networks that are gone would count against the limit of those to come."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
