"""A small network with random weights in the place and of the interface of clean-fid's Inception.

Its features have nothing to say; what is tested with it is how images reach them and what is made
of them, which must be as clean-fid does it.
"""

import torch
from torch import nn

from fewstep.scores import inception
from src.utils import file_digest

CLEANFIDS_GRID = 8  # 2048 features, as clean-fid's own code wants; their matrix root takes seconds
SMALL_GRID = 2  # 128 features, more than the images of a test: covariances are singular as well


class Layers(nn.Module):
    def __init__(self, grid: int):
        super().__init__()
        self.convolution = nn.Conv2d(3, 32, 7, stride=8)
        self.grid = grid

    def forward(self, x):
        features = nn.functional.adaptive_avg_pool2d(self.convolution(x).relu(), self.grid)
        return features.flatten(1)


class StandIn(nn.Module):
    def __init__(self, grid: int):
        super().__init__()
        self.layers = Layers(grid)

    def forward(self, x):
        return self.layers(x)


def save_stand_in(path, seed=0, grid=SMALL_GRID):
    """Write it as TorchScript, 32 * grid^2 features out of images `[B, 3, 299, 299]`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.jit.script(StandIn(grid)).save(str(path))
    return path


def trust_stand_in(monkeypatch, path, grid=SMALL_GRID):
    """Let the stand-in at `path` pass for clean-fid's file."""
    monkeypatch.setattr(inception, "FID_SHA256", file_digest(path).hex())
    monkeypatch.setattr(inception, "WIDTH", 32 * grid**2)
    return path
