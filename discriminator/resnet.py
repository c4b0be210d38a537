"""Residual discriminator after StyleGAN2 (Karras et al. 2020, arXiv:1912.04958), conditioned
on the noise level of its input (as in Diffusion-GAN, arXiv:2206.02262)."""

import torch
import torch.nn.functional as F
from torch import nn

from discriminator.parts import SLOPE, Modulation, NoiseLevelEmbedding, he_
from discriminator.registry import Plain, register


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, shifted and scaled by the noise level; halves height and width with
    `down`."""

    def __init__(self, in_channels, out_channels, embedding_dim, down):
        super().__init__()
        self.down = down
        self.conv1 = he_(nn.Conv2d(in_channels, in_channels, 3, padding=1))
        self.modulation = Modulation(in_channels, embedding_dim)
        self.conv2 = he_(nn.Conv2d(in_channels, out_channels, 3, padding=1))
        self.skip = he_(nn.Conv2d(in_channels, out_channels, 1, bias=False), after_relu=False)

    def forward(self, x, embedding):
        h = self.modulation(self.conv1(F.leaky_relu(x, SLOPE)), embedding)
        h = F.leaky_relu(h, SLOPE)
        if self.down:  # before the second convolution, which quarters its cost
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return (self.conv2(h) + self.skip(x)) * 0.5**0.5


MOST = 512  # channels at a low resolution


def widths(network, channels):
    """Channels at each resolution, from 64 to 4: `channels`, doubled at each halving up to `MOST`.
    0 stands for half the width of the U-Net."""
    return [min((channels or network["ch"] // 2) * 2**i, MOST) for i in range(5)]


@register("resnet")
class ResNetTrunk(Plain, nn.Module):
    """Maps at 32, 16, 8 and 4 for 64x64 images.

    channels: see `widths`. depth: blocks a resolution; 0: one.
    """

    def __init__(self, network, sigma_data, channels, depth):
        super().__init__()
        sizes, depth = widths(network, channels), depth or 1
        dim = 4 * sizes[0]
        self.embedding = NoiseLevelEmbedding(dim, sigma_data)
        self.stem = he_(nn.Conv2d(3, sizes[0], 3, padding=1), after_relu=False)
        self.levels = nn.ModuleList()
        for a, b in zip(sizes, sizes[1:]):
            more = [ResidualBlock(b, b, dim, down=False) for _ in range(depth - 1)]
            self.levels.append(nn.ModuleList([ResidualBlock(a, b, dim, down=True), *more]))
        self.maps = list(zip((32, 16, 8, 4), sizes[1:]))
        # Whatever the U-Net's layout, which group normalisation decides on a CPU: without one this
        # order takes 0.6 to 0.75 of the time there, and GPUs' matrix units want it anyway.
        self.to(memory_format=torch.channels_last)

    def forward(self, x, sigma):
        embedding = self.embedding(sigma)
        h = self.stem(x.to(memory_format=torch.channels_last))
        maps = []
        for level in self.levels:
            for block in level:
                h = block(h, embedding)
            maps.append(h)
        return maps
