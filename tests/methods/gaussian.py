"""Gaussian data, of which every flow is known exactly: the oracle of tests of flows.

Lines x_t = (1 - t) x0 + t n from data N(MEAN, STD^2) to noise have x_t ~ N((1 - t) MEAN, s_t^2)
with s_t^2 = (1 - t)^2 STD^2 + t^2, and the flow keeps (x_t - (1 - t) MEAN) / s_t.
"""

import torch
from torch import nn

from src.flow import FlowScheduler, RectifiedFlow

MEAN, STD = 0.3, 0.2


def spread(t):
    return ((1 - t) ** 2 * STD**2 + t**2) ** 0.5


def velocity(x, t):
    """E[n - x0 | x_t] in closed form."""
    slope = (t - (1 - t) * STD**2) / spread(t) ** 2
    return -MEAN + slope * (x - (1 - t) * MEAN)


def moved(x, t, end):
    """Where the flow has brought x from time t at time `end`."""
    return (1 - end) * MEAN + spread(end) / spread(t) * (x - (1 - t) * MEAN)


def mean_velocity(x, t, length):
    """The mean velocity from t to t - length; at length 0 the velocity."""
    safe = torch.where(length > 0, length, torch.ones_like(length))
    return torch.where(length > 0, (x - moved(x, t, t - length)) / safe, velocity(x, t))


class ExactNetwork(nn.Module):
    """In the place of the U-Net: times of 0 to 1000 in, the mean velocity out, each call noted."""

    def __init__(self):
        super().__init__()
        self.calls, self.unused = [], nn.Parameter(torch.zeros(1))

    def forward(self, x, time, length=None):
        length = torch.zeros_like(time) if length is None else length
        self.calls.append((time[0].item() / 1000, length[0].item() / 1000))
        return mean_velocity(x, *(value.reshape(-1, 1, 1, 1) / 1000 for value in (time, length)))


def exact_flow(told_length):
    """A model whose network is the oracle."""
    return RectifiedFlow(ExactNetwork(), FlowScheduler(), use_additional_condition=told_length)


def draw(count):
    """(data, noise) `[count, 3, 4, 4]`."""
    return MEAN + STD * torch.randn(count, 3, 4, 4), torch.randn(count, 3, 4, 4)
