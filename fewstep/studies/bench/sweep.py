"""Images a second over batch sizes, up to where memory ends."""

import gc
from functools import partial
from statistics import median

import torch

from fewstep.studies.bench.turns import report, seconds_of, warm_up


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
