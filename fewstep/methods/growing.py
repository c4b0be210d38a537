"""A start at half the side: the U-Net without its outermost level, on smaller images.

Structure is what a small budget lacks, and half the side costs a quarter. The network grows from
the inside ("Greedy growing", arXiv:2405.16759), through its own modules alone: in the start its
outermost level is reduced to the shortcuts of its residual blocks, and Down- and UpSample are left
out. A fresh block is its shortcut, and those two layers begin as a mean and a copy, so that the
whole network goes on where the inner one has stopped.

Averaging 2x2 pixels of x0 + sigma n leaves the mean of x0 and noise of half the strength: what the
inner network sees at `sigma` is what the whole one will see at the same `sigma`, pooled. So time
input and preconditioning stay as they are ("simple diffusion", arXiv:2301.11093, moves them
instead). The teacher's levels are drawn twice as high, to hide as much of a smaller image; the
times of flows stay as they are drawn.
"""

from types import MethodType

import torch
from torch import nn
from torch.nn import functional as F


def halve(x):
    """`[B, C, H, W]` -> means of 2x2 pixels, `[B, C, H/2, W/2]`."""
    return F.avg_pool2d(x, 2)


class Growth:
    """The forward passes of a `UNet` while it grows, of which `use` puts one in place.

    "whole": its own; "inner": without the outermost level, on images of half the side; "coarse":
    whole images pooled before, and copied after, the inner pass: what a sampler of whole images can
    use.
    """

    def __init__(self, network):
        self.network = network
        passes = {"inner": inner_pass, "coarse": coarse_pass}
        self.passes = {name: MethodType(one, network) for name, one in passes.items()}
        self.passes["whole"] = network.forward

    def use(self, name):
        self.network.forward = self.passes[name]

    def compile(self, execution, names, label):
        """Compile these passes where the run compiles; afterwards the last of them is in place."""
        for name in names:
            self.use(name)
            execution.compile({f"{label} ({name})" if len(names) > 1 else label: self.network})
            self.passes[name] = self.network.forward


def is_resampling(block):
    """Whether a block of a `UNet` is a DownSample or UpSample, which have no shortcut."""
    return not hasattr(block, "shortcut")


def begin_as_shortcut(network):
    """Give the outermost DownSample and UpSample of a fresh `UNet` the weights of a mean of 2x2
    pixels and of a copy."""
    down = next(block for block in network.downblocks if is_resampling(block))
    up = [block for block in network.upblocks if is_resampling(block)][-1]
    for layer, taps, share in ((down.main, slice(1, 3), 0.25), (up.main, slice(1, 2), 1.0)):
        nn.init.zeros_(layer.weight)
        same = torch.eye(len(layer.weight))[:, :, None, None]
        with torch.no_grad():
            layer.weight[:, :, taps, taps] = share * same


def inner_pass(network, x, timestep, condition=None):
    """The `UNet` without its outermost level: `[B, 3, H, W]`, times `[B]` -> `[B, 3, H, W]`."""
    temb = network.embed(timestep, condition)
    downs, ups = network.downblocks, network.upblocks
    first = next(i for i, block in enumerate(downs) if is_resampling(block))
    last = max(i for i, block in enumerate(ups) if is_resampling(block))
    h = network.head(x)
    outer_skips = [h]
    for block in downs[:first]:
        h = block.shortcut(h)
        outer_skips.append(h)
    h = network.levels(h, temb, downs[first + 1 :], ups[:last])
    for block in ups[last + 1 :]:
        h = block.shortcut(torch.cat([h, outer_skips.pop()], dim=1))
    return network.tail(h)


def coarse_pass(network, x, timestep, condition=None):
    """`inner_pass` for whole images."""
    inner = inner_pass(network, halve(x), timestep, condition)
    return F.interpolate(inner, scale_factor=2)
