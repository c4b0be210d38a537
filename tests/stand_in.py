"""A small network with random weights in the place and of the interface of clean-fid's Inception.

Its features have nothing to say; what is tested with it is how images reach them and what is made
of them, which must be as clean-fid does it. They are few, because matrix roots of 2048 x 2048 take
ten seconds, but more than the images of a test, so that covariances are singular as in use.
"""

import torch
from torch import nn


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 32, 7, stride=8)

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(self.convolution(x).relu(), 2).flatten(1)


class StandIn(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = Layers()

    def forward(self, x):
        return self.layers(x)


def save_stand_in(path, seed=0):
    """Write it as TorchScript, 128 features out of images `[B, 3, 299, 299]`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.jit.script(StandIn()).save(str(path))
    return path
