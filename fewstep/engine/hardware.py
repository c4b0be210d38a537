"""What a run ran on, in the words of a results table."""

import platform
from pathlib import Path

import torch


def hardware(device, processes=1):
    """The name of the torch device of each of so many processes: the GPU's own, or the processor's
    with the threads in use."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return f"{processes} x {name}" if processes > 1 else name
    threads = torch.get_num_threads()
    name = f"{_processor()}, {threads} thread{'s' * (threads > 1)}"
    return f"{name}, {processes} processes" if processes > 1 else name


def wait_for(device):
    """Block until a torch device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):  # not Linux, or a processor that has no name there
        return platform.processor() or platform.machine()
