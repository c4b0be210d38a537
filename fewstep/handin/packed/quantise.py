"""Weights as symmetric 8-bit integers with one scale for each output channel."""

import torch

LARGEST = 127  # -128 is not used
# What 127 stands for, as shares of a channel's largest magnitude: below 1, weights are cut off.
# With 8 bits the best place is close to 1, whatever the weights; see docs/pretrained.md.
CLIPPING = tuple((102 - i) / 100 for i in range(13))


def quantise(weight, clipping=CLIPPING):
    """Finite weights `[O, ...]` -> (int8 of their shape, float32 scales `[O]`).

    Channel o is about scales[o] * values[o], with values in -127..127. Of the scales
    share * max |weight| / 127 for the shares in `clipping` each channel has the one that leaves the
    least squared error (Nagel et al. 2021, arXiv:2106.08295, section 3.1). A channel of zeros has
    scale 0.
    """
    rows = weight.detach().float().flatten(1)  # [O, I]
    largest = rows.abs().amax(dim=1)
    best_scale = torch.zeros_like(largest)
    best_error = (rows * rows).sum(dim=1)  # what scale 0 leaves
    for share in clipping:
        scale = largest * (share / LARGEST)
        error = (_rounded(rows, scale) * scale[:, None]).sub_(rows).square_().sum(dim=1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
    return _rounded(rows, best_scale).to(torch.int8).reshape(weight.shape), best_scale


def dequantise(values, scales):
    """int8 `[O, ...]` and float32 scales `[O]` -> float32 `[O, ...]`, the same on every machine:
    each weight is one product, rounded once."""
    return values.float() * scales.reshape(-1, *[1] * (values.ndim - 1))


def _rounded(rows, scale):
    """Rows `[O, I]` over their scales `[O]`, as whole numbers in float32; 0 where the scale is."""
    inverse = torch.where(scale > 0, 1 / scale, 0)
    return (rows * inverse[:, None]).round_().clamp_(-LARGEST, LARGEST)
