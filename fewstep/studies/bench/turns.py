"""Two ways of doing one thing, in turns, so that a machine's slow minutes fall on both alike."""

import time
from statistics import median
from typing import NamedTuple


class Turns(NamedTuple):
    """Seconds of each call of both functions, pair by pair, and of one warm-up call of each."""

    first: list
    second: list
    warmups: tuple


class Spread(NamedTuple):
    """The least, the median and the greatest of some numbers."""

    least: float
    median: float
    greatest: float


def in_turns(first, second, rounds, wait):
    """Call both functions `rounds` times in the order ABBAABBA..., after a warm-up call of each,
    which pays for compilation and tuning. wait() blocks until the device is done."""
    both = (first, second)
    warmups = tuple(seconds_of(function, wait) for function in both)
    seconds = ([], [])
    for place in range(rounds):
        for which in (0, 1) if place % 2 == 0 else (1, 0):
            seconds[which].append(seconds_of(both[which], wait))
    return Turns(*seconds, warmups)


def seconds_of(function, wait):
    """Seconds of one call of `function()`, the device's work included."""
    wait()
    began = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - began


def ratios(seconds_first, seconds_second):
    """Second over first, pair by pair: how many times as fast the first is."""
    return [second / first for first, second in zip(seconds_first, seconds_second, strict=True)]


def spread(values):
    """`Spread` of a list of numbers."""
    return Spread(min(values), median(values), max(values))


def ratio_line(name, seconds_first, seconds_second):
    """One line: `name`, and the ratios of times, second over first."""
    found = spread(ratios(seconds_first, seconds_second))
    return (
        f"{name}: ratio {found.median:.3f}"
        f" (min {found.least:.3f}, max {found.greatest:.3f}, {len(seconds_first)} pairs)"
    )
