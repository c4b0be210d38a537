"""Fields of settings: a name, a default, a range and a meaning, from which a flag is made.

A method declares its settings as a frozen dataclass of such fields; see `runs.settings`.
"""

from dataclasses import field

from src.arguments import MOST_STEPS

HIGHEST_SIGMA = 1e4


def setting(default, text, choices=None, low=None, high=None):
    """A dataclass field with its help text, allowed values, and inclusive range."""
    meta = dict(text=text, choices=choices, low=low, high=high)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=meta)
    return field(default=default, metadata=meta)


def steps(default, text, low=1):
    """A `setting` that is counted in steps."""
    return setting(default, text, low=low, high=MOST_STEPS)


def log_sigma(mean, text):
    """A `setting`: the mean of ln sigma. With it and `spread` at their ends, levels and what
    divides by their squares stay finite and above 0 as fp32."""
    return setting(mean, text, low=-6, high=6)


def spread(std, text):
    """A `setting`: the standard deviation of ln sigma."""
    return setting(std, text, low=0, high=3)


def weight(default, text):
    """A `setting`: the weight of a loss."""
    return setting(default, text, low=0, high=1e6)


def warm_up(default):
    """A `setting`: the warm-up of the learning rate that stands before it."""
    return steps(default, "first steps, in which that learning rate rises to its peak", low=0)


def average_share(default, of="the steps so far"):
    """A `setting`: how long the average of the weights remembers."""
    text = "half-life of the average of the weights (EMA), which is what is saved, as a share of"
    return setting(default, f"{text} {of}", low=0, high=1)


def levels(default):
    """A `setting`: the four noise levels that a few-step generator is sampled at."""
    text = "the four noise levels of sampling, from large to small: one evaluation uses the first,"
    text += " two the first and the third, four all"
    return setting(default, text, low=1e-4, high=HIGHEST_SIGMA)
