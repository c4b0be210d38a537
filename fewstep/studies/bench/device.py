"""Waiting for a device, and its memory."""

import gc
import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from fewstep.engine.hardware import wait_for
from src.utils import UserError


def waiter(device):
    """wait(): blocks until `device` has done all that it was given."""
    return partial(wait_for, device)


def held_bytes(device):
    """Bytes that tensors take on a CUDA device at present; 0 on a CPU."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else 0


def peak_bytes(function, device, held):
    """Call `function()`; the most bytes that tensors took on a CUDA device meanwhile, less `held`
    that others hold. None on a CPU: its allocator keeps what it was once given, so nothing can be
    said of one function among others."""
    if device.type != "cuda":
        function()
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    function()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - held


def clear(device):
    """Give back the memory of what is no longer referred to, and drop compiled graphs: those of
    networks that are gone would count against the limit of those to come."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def is_out_of_memory(error):
    """Whether an exception says that memory ran out, on a device or on the host, wrapped by a
    compiler or not."""
    text = str(error).lower()
    words = ("out of memory", "not enough memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or any(word in text for word in words)


@contextmanager
def memory_named():
    """Where memory runs out in it, raise a `UserError` that says so."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise UserError("out of memory; give a smaller --batch_size") from error
        raise


def own_memory():
    """Bytes of memory that belong to this process alone, pages of mapped files left out; None where
    the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in lines if line.startswith("RssAnon:")]
    return int(kilobytes[0]) * 1024 if kilobytes else None


def cores():
    """How many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
