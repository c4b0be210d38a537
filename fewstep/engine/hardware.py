"""What a run runs on: its name, what the processor can do, and whether others take it away."""

import ctypes
import os
import platform
import sys
import time
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

# Of /proc/cpuinfo, best first: units that multiply in bf16, whole matrices or vectors.
MATRIX_UNIT = "amx_bf16"
BF16_UNITS = (MATRIX_UNIT, "avx512_bf16")
GAIN_WORTH_IT = 1.1  # over fp32, below which bf16's rounding buys nothing

# Options of glibc's mallopt, as malloc.h numbers them. Up to which size blocks are kept: older
# releases refuse a threshold above 32 MiB.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BLOCKS = 1 << 30, 32 << 20

STARVED = 0.6  # share of the processor's time below which a run is starved
SECONDS_TO_JUDGE = 60


def hardware(device, processes=1):
    """The name of the torch device of each of so many processes: the GPU's own, or the processor's
    with the threads in use."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return f"{processes} x {name}" if processes > 1 else name
    threads = torch.get_num_threads()
    name = _cpuinfo("model name") or platform.processor() or platform.machine()
    name = f"{name}, {threads} thread{'s' * (threads > 1)}"
    return f"{name}, {processes} processes" if processes > 1 else name


def wait_for(device):
    """Block until a torch device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@cache
def bf16_units():
    """The name of this processor's units for bf16 ("amx_bf16" or "avx512_bf16"), or None: elsewhere
    bf16 is emulated, and slower than fp32."""
    if not torch.backends.mkldnn.is_available():
        return None
    flags = _cpuinfo("flags").split()
    return next((unit for unit in BF16_UNITS if unit in flags), None)


@cache
def bf16_pays():
    """Whether a network trains faster in bf16 on this processor: with matrix units it does; with
    vector units alone it depends on the maker, so a short trial decides."""
    unit = bf16_units()
    return unit == MATRIX_UNIT or (unit is not None and bf16_gain() >= GAIN_WORTH_IT)


def bf16_gain(clock=time.process_time, trials=4):
    """How many times as fast as in fp32 a block of the U-Net learns in bf16 on this processor, in
    the plain layout (channels-last convolutions crash there in torch 2.6): the best of `trials`
    each, in turn. Takes well under a second, and draws no random number."""
    x = torch.linspace(-1, 1, 4 * 64 * 32 * 32).reshape(4, 64, 32, 32)
    weight = torch.linspace(-0.1, 0.1, 64 * 64 * 9).reshape(64, 64, 3, 3).requires_grad_()
    best = {}
    for trial in range(2 * trials):
        is_bf16 = trial % 2 == 1
        start = clock()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            hidden = F.conv2d(F.silu(F.group_norm(x, 32)), weight, padding=1)
            out = F.conv2d(F.silu(F.group_norm(hidden, 32)), weight, padding=1)
        out.float().square().mean().backward()
        best[is_bf16] = min(best.get(is_bf16, float("inf")), clock() - start)
    return best[False] / best[True]


def _cpuinfo(key):
    """The value of the first line of that key; empty where there is none, as outside Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def keep_freed_memory():
    """Have this process keep the memory of tensors that are gone for those that come, where the C
    library is glibc; elsewhere nothing happens. By default a large block goes back to the system,
    which clears every page of the next one: a tenth of a training step (docs/performance.md)."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    mallopt = getattr(library, "mallopt", None)
    if mallopt:
        mallopt(M_TRIM_THRESHOLD, KEPT_BLOCKS[0])
        for size in KEPT_BLOCKS:
            if mallopt(M_MMAP_THRESHOLD, size):
                break


class ProcessorShare:
    """Notices, once, that other programs take the processor away from this process's threads.

    Threads of one operation wait for each other, so a thread that another program delays delays
    them all: two threads beside one busy program can be ten times slower than one alone.
    """

    def __init__(self, device, threads, clock=time.perf_counter, used=time.process_time):
        self.clock, self.used, self.threads = clock, used, threads
        self.is_watching = device.type == "cpu"  # a GPU's host waits most of the time
        self.since = None

    def warning(self):
        """One line where, over a minute or more since an earlier call, the threads had less than
        `STARVED` of the time; else None. The first call only begins the watch: up to there the
        process may have waited for a compiler."""
        now = self.clock(), self.used()
        if self.since is None:
            self.since = now
        wall, used = now[0] - self.since[0], now[1] - self.since[1]
        if not self.is_watching or wall < SECONDS_TO_JUDGE:
            return None
        self.since = now
        share = used / (wall * self.threads)
        if share >= STARVED:
            return None
        self.is_watching = False
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        remedy = "stop the other, or wait for it"
        if self.threads > 1:
            remedy = "give fewer --threads, or stop the other"
            if hasattr(os, "sched_setaffinity"):  # of Linux
                remedy = (
                    "give fewer --threads (and `taskset -c N` a core of its own), or stop the other"
                )
        return f"another program is busy: {threads} had {share:.0%} of the time; {remedy}"
