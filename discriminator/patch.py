"""PatchGAN at three scales (Isola et al. 2017, arXiv:1611.07004; multi-scale as in pix2pixHD, Wang
et al. 2018, arXiv:1711.11585), spectrally normalised (Miyato et al. 2018, arXiv:1802.05957).

Each scale judges patches only: with one layer a place has seen 18 pixels of its image, head
included, which are 18, 36 or 72 pixels of the original.
"""

import torch.nn.functional as F
from torch import nn

from discriminator.parts import SLOPE, Modulation, NoiseLevelEmbedding, he_
from discriminator.registry import Plain, register


class PatchScale(nn.Module):
    """Two strided 4x4 convolutions and `depth - 1` plain 3x3 ones: `[B, 3, H, W]` ->
    `[B, 2 channels, H/4, W/4]`."""

    def __init__(self, channels, depth, embedding_dim):
        super().__init__()
        self.first = he_(nn.Conv2d(3, channels, 4, stride=2, padding=1), after_relu=False)
        self.modulation = Modulation(channels, embedding_dim)
        self.second = he_(nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1))
        self.more = nn.ModuleList(
            he_(nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)) for _ in range(depth - 1)
        )

    def forward(self, x, embedding):
        h = F.leaky_relu(self.modulation(self.first(x), embedding), SLOPE)
        h = self.second(h)
        for layer in self.more:
            h = layer(F.leaky_relu(h, SLOPE))
        return h


@register("patch")
class PatchTrunk(Plain, nn.Module):
    """Maps at 16, 8 and 4, each from a network of its own on the image at full, half and quarter
    size. channels: of the first layer; 0: the width of the U-Net. depth: layers at the resolution
    of the map; 0: two."""

    spectral = True

    def __init__(self, network, sigma_data, channels, depth):
        super().__init__()
        channels, depth = channels or network["ch"], depth or 2
        dim = 2 * channels
        self.embedding = NoiseLevelEmbedding(dim, sigma_data)
        self.scales = nn.ModuleList(PatchScale(channels, depth, dim) for _ in range(3))
        self.maps = [(resolution, 2 * channels) for resolution in (16, 8, 4)]

    def forward(self, x, sigma):
        embedding = self.embedding(sigma)
        maps = []
        for scale in self.scales:
            maps.append(scale(x, embedding))
            x = F.avg_pool2d(x, 2)
        return maps
