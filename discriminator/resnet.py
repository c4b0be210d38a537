"""Residual discriminator after StyleGAN2 (Karras et al. 2020, arXiv:1912.04958), told the noise
level of its input (as in Diffusion-GAN, arXiv:2206.02262) and judging at several resolutions."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class NoiseLevelEmbedding(nn.Module):
    """sigma `(B,)` -> features `(B, dim)`: Fourier features of an arctan of sigma, then an MLP."""

    def __init__(self, dim, sigma_data, frequencies=16):
        super().__init__()
        self.sigma_data = sigma_data
        self.register_buffer("frequencies", 0.5 * torch.arange(1, frequencies + 1) * math.pi)
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, sigma):
        place = torch.atan(sigma / self.sigma_data) * (2 / math.pi)
        angles = place[:, None] * self.frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=1))


class DownBlock(nn.Module):
    """Two 3x3 convolutions, shifted and scaled by the noise level, halving height and width."""

    def __init__(self, in_channels, out_channels, embedding_dim):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.modulation = nn.Linear(embedding_dim, 2 * in_channels)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x, embedding):
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.leaky_relu(x, 0.2)) * (1 + scale) + shift
        # Averaging before the second convolution quarters its cost.
        h = self.conv2(F.avg_pool2d(F.leaky_relu(h, 0.2), 2))
        return (h + self.skip(F.avg_pool2d(x, 2))) * 0.5**0.5


def minibatch_stddev(x, group=4):
    """Append one channel: the standard deviation over groups of neighbours in the batch, averaged
    over channels and places (Karras et al. 2018, arXiv:1710.10196). A batch of equal
    images shows there. `[B, C, H, W]` -> `[B, C + 1, H, W]`."""
    batch, channels, height, width = x.shape
    group = math.gcd(batch, group)
    grouped = x.float().reshape(batch // group, group, channels, height, width)
    spread = (grouped.var(dim=1, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    plane = spread.repeat_interleave(group).reshape(batch, 1, 1, 1).expand(-1, 1, height, width)
    return torch.cat([x, plane.to(x.dtype)], dim=1)


class ResNetDiscriminator(nn.Module):
    """`disc(x, sigma) -> logits [B, N]` from heads at 16x16, 8x8 and 4x4 (for 64x64 images).

    channels: width at full resolution, doubled at each halving up to `max_channels`.
    sigma_data: standard deviation of the data, which scales the input to unit variance.
    """

    def __init__(self, channels=64, sigma_data=0.5, max_channels=512, image_size=64):
        super().__init__()
        self.sigma_data = sigma_data
        depth = int(math.log2(image_size // 4))
        widths = [min(channels * 2**i, max_channels) for i in range(depth + 1)]
        embedding_dim = 4 * channels
        self.embedding = NoiseLevelEmbedding(embedding_dim, sigma_data)
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            DownBlock(a, b, embedding_dim) for a, b in zip(widths, widths[1:])
        )
        # Full-size and half-size maps see too little of the image to judge it.
        head_widths = widths[2:-1] + [widths[-1] + 1]
        self.heads = nn.ModuleList(Head(width, embedding_dim) for width in head_widths)

    def forward(self, x, sigma):
        x = x * (sigma**2 + self.sigma_data**2).rsqrt()[:, None, None, None]
        embedding = self.embedding(sigma)
        h = self.stem(x)
        maps = []
        for block in self.blocks:
            h = block(h, embedding)
            maps.append(h)
        maps = maps[1:-1] + [minibatch_stddev(maps[-1])]
        logits = [head(h, embedding) for head, h in zip(self.heads, maps)]
        return torch.cat([place.flatten(1) for place in logits], dim=1).float()


class Head(nn.Module):
    """One logit a place: a hidden layer, projected on the noise level (Miyato and Koyama 2018,
    arXiv:1802.05637). `[B, C, H, W]` -> `[B, H, W]`."""

    def __init__(self, channels, embedding_dim, hidden=64):
        super().__init__()
        self.hidden = nn.Conv2d(channels, hidden, 3, padding=1)
        self.out = nn.Conv2d(hidden, 1, 1)
        self.projection = nn.Linear(embedding_dim, hidden)

    def forward(self, h, embedding):
        h = F.leaky_relu(self.hidden(F.leaky_relu(h, 0.2)), 0.2)
        # In fp32: the penalty compares logits that differ by less than bf16 resolves.
        with torch.autocast(h.device.type, enabled=False):
            h, embedding = h.float(), embedding.float()
            match = (h * self.projection(embedding)[:, :, None, None]).mean(dim=1)
            return self.out(h)[:, 0] + match
