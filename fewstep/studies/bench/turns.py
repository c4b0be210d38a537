"""Two ways timed in turn, so that a machine's slow minutes fall on both; one way over sizes."""

import gc
import time
from functools import partial
from statistics import median
from typing import NamedTuple

import torch

from fewstep.engine.hardware import wait_for


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
    first, second = (warm_up(build, device) for build in ways.values())
    seconds = in_turns(first.run, second.run, rounds, device)
    ratios = [slow / fast for fast, slow in zip(*seconds, strict=True)]
    name = f"{title}, {' over '.join(reversed(ways))}"
    spread = f"min {min(ratios):.3f}, max {max(ratios):.3f}, {rounds} pairs"
    print(f"{name}: ratio {median(ratios):.3f} ({spread})")
    rows = {
        which: report(which, way, images, median(times))
        for which, way, times in zip(ways, (first, second), seconds)
    }
    return {"name": name, "ratios": ratios, "ways": rows}


def report(name, way, images, seconds):
    """Print a line about one way that takes so many images in so many seconds; the same as a
    dict."""
    memory = "" if way.peak is None else f", peak memory {way.peak / 2**30:.2f} GiB"
    rate = images / seconds
    print(f"  {name}: {rate:.1f} images/s, first turn {way.warmup:.1f} s{memory}", flush=True)
    return {"images_per_second": rate, "warmup_seconds": way.warmup, "peak_bytes": way.peak}


def sweep(title, sizes, build, rounds, device, steps=1):
    """Time the function that `build(size)` gives, which takes `steps` batches of that size, for
    each size until memory is full; a list of dicts."""
    rows = []
    for size in sizes:
        clear(device)
        try:
            way = warm_up(partial(build, size), device)
            seconds = median(seconds_of(way.run, device) for _ in range(rounds))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            print(f"  {title}, batches of {size}: out of memory; larger ones are left out")
            break
        row = report(f"{title}, batches of {size}", way, steps * size, seconds)
        rows.append({"batch_size": size} | row)
        del way  # the next size needs its memory
    return rows


def clear(device):
    """Give back the memory of what is no longer referred to, and drop compiled graphs: those of
    networks that are gone would count against the limit of those to come."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def is_out_of_memory(error):
    """Whether memory ran out, on a device or on the host, wrapped by a compiler or not."""
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return any(word in str(error).lower() for word in words)
