"""Schedules as pure functions of the step."""

import math


def warmup_cosine(step, total, warmup, missed=0):
    """Factor of the learning rate: linear from 0 over `warmup` steps, then half a cosine to 0.

    missed: how many of the steps so far had no update; the warm-up counts updates.
    """
    rise = min(1.0, (step - missed + 1) / (warmup + 1))
    progress = max(0, step - warmup) / max(1, total - warmup)
    return rise * 0.5 * (1 + math.cos(math.pi * progress))


def ramp(step, start, length):
    """0 before `start`, then linear to 1 over `length` steps."""
    if step < start:
        return 0.0
    return min(1.0, (step - start + 1) / max(1, length))


def late_decay(progress, final, begin):
    """1 until the share `begin` of the steps, then linear to `final` at `progress` = 1, the whole
    of them."""
    if progress <= begin:
        return 1.0
    return 1 + (final - 1) * (progress - begin) / (1 - begin)


def cosine_fall(progress, final):
    """1 at the share `progress` = 0 of the steps, `final` at 1, half a cosine between."""
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress))


def ema_decay(step, share):
    """Decay whose half-life is `share` of the steps so far (at least one): an average that grows
    with the run, so that no length has to be guessed (EDM's ramp-up, EDM2's power function)."""
    return 0.5 ** (1 / max(1.0, share * step))


def warmed_decay(step, decay):
    """`decay`, but less in the first steps, where the average would remember the start."""
    return min(decay, (1 + step) / (10 + step))


def is_picture_step(step, interval):
    """True at multiples of `interval`, and early at 10, 20, 50, 100, 200, 500, ..."""
    if step % interval == 0:
        return True
    return 10 <= step < interval and step in {d * 10**e for d in (1, 2, 5) for e in range(1, 7)}
