"""Building blocks of the U-Net of DDPM (Ho et al. 2020, arXiv:2006.11239, appendix B).

Weights start as in DDPM's reference code: Xavier uniform, zero biases, and nearly zero for the last
convolution of each residual branch, so that a fresh block is close to its shortcut.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

GROUPS = 32
NEAR_ZERO_GAIN = 1e-5


def xavier_(layer, gain=1.0):
    """Give a convolution or linear layer Xavier uniform weights and zero biases; return it."""
    nn.init.xavier_uniform_(layer.weight, gain=gain)
    nn.init.zeros_(layer.bias)
    return layer


class Swish(nn.Module):
    """`x * sigmoid(x)` (Ramachandran et al. 2017, arXiv:1710.05941)."""

    def forward(self, x):
        return F.silu(x)


class TimeEmbedding(nn.Module):
    """Sinusoidal features of a time, then two linear layers.

    Features follow Vaswani et al. 2017 (arXiv:1706.03762, section 3.5) with base 10,000 and all
    cosines before all sines. Times may be fractional; numbers up to about 1,000 are resolved well.
    """

    def __init__(self, hidden_size, num_features=256):
        super().__init__()
        self.num_features = num_features
        self.mlp = nn.Sequential(
            nn.Linear(num_features, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    @staticmethod
    def sinusoids(t, num_features, base=10_000):
        """Times `[B]` -> fp32 features `[B, num_features]` (an even number) in [-1, 1]."""
        half = num_features // 2
        exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
        angles = t.float()[:, None] * torch.exp(-math.log(base) * exponents)  # [B, half]
        return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)

    def forward(self, t):
        """Times `[B]` (or one time without dimensions) -> embedding `[B, hidden_size]`."""
        features = self.sinusoids(t.reshape(-1), self.num_features)
        return self.mlp(features.to(self.mlp[0].weight.dtype))


class DownSample(nn.Module):
    """Halve height and width with a strided convolution; the embedding is ignored."""

    def __init__(self, in_ch):
        super().__init__()
        self.main = xavier_(nn.Conv2d(in_ch, in_ch, 3, stride=2, padding=1))

    def forward(self, x, temb):
        """`[B, C, H, W]` -> `[B, C, H/2, W/2]` (rounded up)."""
        return self.main(x)


class UpSample(nn.Module):
    """Double height and width (nearest), then a convolution; the embedding is ignored."""

    def __init__(self, in_ch):
        super().__init__()
        self.main = xavier_(nn.Conv2d(in_ch, in_ch, 3, padding=1))

    def forward(self, x, temb):
        """`[B, C, H, W]` -> `[B, C, 2H, 2W]`."""
        return self.main(F.interpolate(x, scale_factor=2, mode="nearest"))


class AttnBlock(nn.Module):
    """Single-head self-attention over all pixels with a residual connection."""

    def __init__(self, in_ch, norm_groups=GROUPS):
        super().__init__()
        self.group_norm = nn.GroupNorm(norm_groups, in_ch)
        self.proj_q = xavier_(nn.Conv2d(in_ch, in_ch, 1))
        self.proj_k = xavier_(nn.Conv2d(in_ch, in_ch, 1))
        self.proj_v = xavier_(nn.Conv2d(in_ch, in_ch, 1))
        self.proj = xavier_(nn.Conv2d(in_ch, in_ch, 1))

    def forward(self, x):
        """`[B, C, H, W]` -> the same shape: `x + proj(softmax(q k^T / sqrt(C)) v)`."""
        batch, channels, height, width = x.shape
        h = self.group_norm(x)
        q = self.proj_q(h).flatten(2).transpose(1, 2)  # [B, HW, C]
        k = self.proj_k(h).flatten(2)  # [B, C, HW]
        v = self.proj_v(h).flatten(2).transpose(1, 2)  # [B, HW, C]
        weights = torch.softmax(torch.bmm(q, k) * channels**-0.5, dim=-1)  # [B, HW, HW]
        h = torch.bmm(weights, v).transpose(1, 2)  # [B, C, HW]
        return x + self.proj(h.reshape(batch, channels, height, width))


class ResBlock(nn.Module):
    """Residual block conditioned on an embedding, optionally followed by attention.

    `in_ch` and `out_ch` are multiples of `norm_groups`; `tdim` is the embedding's width.
    """

    def __init__(self, in_ch, out_ch, tdim, dropout, attn=False, norm_groups=GROUPS):
        super().__init__()
        self.block1 = nn.Sequential(
            nn.GroupNorm(norm_groups, in_ch),
            Swish(),
            xavier_(nn.Conv2d(in_ch, out_ch, 3, padding=1)),
        )
        self.temb_proj = nn.Sequential(Swish(), xavier_(nn.Linear(tdim, out_ch)))
        self.block2 = nn.Sequential(
            nn.GroupNorm(norm_groups, out_ch),
            Swish(),
            nn.Dropout(dropout),
            xavier_(nn.Conv2d(out_ch, out_ch, 3, padding=1), gain=NEAR_ZERO_GAIN),
        )
        if in_ch == out_ch:
            self.shortcut = nn.Identity()
        else:
            self.shortcut = xavier_(nn.Conv2d(in_ch, out_ch, 1))
        self.attn = AttnBlock(out_ch, norm_groups) if attn else nn.Identity()

    def forward(self, x, temb):
        """`[B, in_ch, H, W]` and embedding `[B, tdim]` -> `[B, out_ch, H, W]`."""
        h = self.block1(x)
        h = h + self.temb_proj(temb)[:, :, None, None]
        h = self.block2(h)
        return self.attn(h + self.shortcut(x))
