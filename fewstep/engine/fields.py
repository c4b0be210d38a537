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
