"""Where a step's time goes: the costliest kernels or operations, and how busy the GPU is."""

from typing import NamedTuple

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from fewstep.studies.bench.turns import seconds_of

SHOWN = 10
LONGEST_NAME = 90


class Profile(NamedTuple):
    """costs: (name, share of all, calls), the largest first; empty where nothing was recorded.
    busy: kernel time over wall time without the profiler, or None on a CPU."""

    costs: list
    busy: float


def profiled(function, device, wait):
    """Profile one call of `function()`, which has run before."""
    on_gpu = device.type == "cuda"
    wall = seconds_of(function, wait)  # the profiler slows the host, not the kernels
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as found:
        seconds_of(function, wait)
    events = [event for event in found.key_averages() if _counts(event, on_gpu)]
    total = sum(_seconds(event, on_gpu) for event in events)
    if not total:
        return Profile([], None)  # a system may forbid to look at its GPU's counters
    events.sort(key=lambda event: _seconds(event, on_gpu), reverse=True)
    costs = [(e.key, _seconds(e, on_gpu) / total, e.count) for e in events[:SHOWN]]
    return Profile(costs, total / wall if on_gpu else None)


def profile_lines(found):
    """Lines of what `profiled` returned."""
    if not found.costs:
        return ["  the profiler recorded nothing; may it look at this device?"]
    lines = [] if found.busy is None else [f"GPU busy for {100 * found.busy:.1f} % of the time"]
    for name, share, calls in found.costs:
        lines.append(f"  {100 * share:5.1f} %  {calls:6d} calls  {name[:LONGEST_NAME]}")
    return lines


def _counts(event, on_gpu):
    """Kernels alone on a GPU: operations would count theirs again, annotations those below."""
    if not on_gpu:
        return True
    return event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False)


def _seconds(event, on_gpu):
    return 1e-6 * (event.self_device_time_total if on_gpu else event.self_cpu_time_total)
