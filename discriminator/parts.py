"""Pieces that several discriminators share."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from src.utils import UserError

SLOPE = 0.2  # of the leaky ReLUs


def he_(conv, after_relu=True):
    """Draw a convolution's weights so that its output has the variance of its input (He et al.
    2015, arXiv:1502.01852), after a leaky ReLU or not; no bias. PyTorch's own
    weights more than halve it layer by layer, and a deep discriminator begins almost blind. Returns
    the convolution."""
    nn.init.kaiming_normal_(conv.weight, a=SLOPE if after_relu else 1.0)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class NoiseLevelEmbedding(nn.Module):
    """sigma `(B,)` -> features `(B, dim)`: Fourier features of an arctan of sigma, then an MLP."""

    def __init__(self, dim, sigma_data, frequencies=16):
        super().__init__()
        self.sigma_data = sigma_data
        self.register_buffer("frequencies", 0.5 * torch.arange(1, frequencies + 1) * math.pi)
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, sigma):
        position = torch.atan(sigma / self.sigma_data) * (2 / math.pi)
        angles = position[:, None] * self.frequencies
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=1))


class Modulation(nn.Module):
    """Scale and shift of feature maps by the noise level: `h (1 + scale) + shift` (FiLM, Perez et
    al. 2018, arXiv:1709.07871). `[B, C, H, W]`, `(B, dim)` -> `[B, C, H, W]`."""

    def __init__(self, channels, dim):
        super().__init__()
        self.linear = nn.Linear(dim, 2 * channels)

    def forward(self, h, embedding):
        scale, shift = self.linear(embedding)[:, :, None, None].chunk(2, dim=1)
        return h * (1 + scale) + shift


class Head(nn.Module):
    """One logit a place: a hidden layer, projected on the noise level (Miyato and Koyama 2018,
    arXiv:1802.05637). `[B, C, H, W]` -> `[B, H, W]`."""

    def __init__(self, channels, embedding_dim, hidden=64):
        super().__init__()
        self.hidden = he_(nn.Conv2d(channels, hidden, 3, padding=1))
        self.out = he_(nn.Conv2d(hidden, 1, 1))
        self.projection = nn.Linear(embedding_dim, hidden)

    def forward(self, h, embedding):
        h = F.leaky_relu(self.hidden(F.leaky_relu(h, SLOPE)), SLOPE)
        # In fp32: the penalty compares logits that differ by less than bf16 resolves.
        with torch.autocast(h.device.type, enabled=False):
            h, embedding = h.float(), embedding.float()
            match = (h * self.projection(embedding)[:, :, None, None]).mean(dim=1)
            return self.out(h)[:, 0] + match


def minibatch_stddev(x, sets=1, group=4):
    """Append one channel: the standard deviation over groups of neighbours in the batch, averaged
    over channels and places (Karras et al. 2018, arXiv:1710.10196). A batch of equal images shows
    there. Groups have `group` images where that divides the batch, else a little fewer, or they are
    the whole batch. With `sets`, x is that many batches one after the other. `[B, C, H, W]` ->
    `[B, C + 1, H, W]`."""
    batch, channels, height, width = x.shape
    set_size = batch // sets
    group = next((size for size in range(group, 1, -1) if set_size % size == 0), set_size)
    grouped = x.float().reshape(batch // group, group, channels, height, width)
    spread = (grouped.var(dim=1, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    plane = spread.repeat_interleave(group).reshape(batch, 1, 1, 1).expand(-1, 1, height, width)
    return torch.cat([x, plane.to(x.dtype)], dim=1)


def normalise_spectrum(module):
    """Divide every convolution's and linear layer's weight by its largest singular value (Miyato et
    al. 2018, arXiv:1802.05957), in place."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            spectral_norm(layer)


def replace_batch_norm(module):
    """Put group normalisation in place of every `BatchNorm2d` below `module`; returns how many.

    Batch statistics differ between a batch of real and one of generated images, so a discriminator
    could judge by them, and its verdict on an image would depend on its neighbours. Raises
    `UserError` for kinds of batch normalisation that are not over images.
    """
    count = 0
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, _group_norm_like(child))
            count += 1
        elif isinstance(child, nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"--disc: its layer {name} is a {type(child).__name__}, whose statistics leak"
                " between real and generated images; choose an architecture without it"
            )
        else:
            count += replace_batch_norm(child)
    return count


def _group_norm_like(norm):
    channels = norm.num_features
    groups = next(g for g in range(min(32, channels), 0, -1) if channels % g == 0)
    plain = nn.GroupNorm(groups, channels)
    # timm's BatchNormAct2d has the dropout and the activation that follow in the same module.
    following = [getattr(norm, name, None) for name in ("drop", "act")]
    return nn.Sequential(plain, *filter(None, following)) if any(following) else plain
