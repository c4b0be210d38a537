"""A discriminator that has learnt goes on with more channels and the same verdicts (Net2WiderNet,
Chen et al. 2016, arXiv:1511.05641)."""

import torch

from discriminator.resnet import widths

SEED = 0
SPREAD = 0.5  # of the copies' shares, in standard deviations of the weights that they share


def can_widen(name, spectral, network, narrow, wide):
    """Whether `widened` takes the discriminator called `name` from `narrow` to `wide` channels (0:
    as it derives them from `network`): only that of `resnet`, to whole multiples at each
    resolution, and no spectral normalisation, which copies would change."""
    if name != "resnet" or spectral == "on":
        return False
    narrow, wide = widths(network, narrow), widths(network, wide)
    return wide > narrow and not any(many % few for few, many in zip(narrow, wide))


def widened(weights, wide):
    """`weights`, the state dict of a `resnet` discriminator, in the shapes of `wide`, that of one
    with a whole multiple of its channels, which then gives the same logits.

    Each channel is there several times. A layer that reads them shares its weight of the channel
    out among the copies, unevenly, so that their gradients differ and they part. The same weights
    each time; what has its shape already is given back as it is.
    """
    generator = torch.Generator().manual_seed(SEED)
    return {
        name: _in_shape(name, weight, wide[name].shape, generator)
        for name, weight in weights.items()
    }


def _in_shape(name, weight, shape, generator):
    """One of the weights `[out, in, ...]`, or biases `[out]`, in the wider `shape`."""
    if weight.shape == shape:
        return weight
    # The modulation's rows are scales, then shifts: each half has its own copies.
    halves = weight.chunk(2) if "modulation" in name else [weight]
    times = shape[0] // len(weight)
    weight = torch.cat([half for half in halves for _ in range(times)])
    if weight.dim() == 1 or weight.shape[1] == shape[1]:
        return weight
    channels = weight.shape[1]
    if shape[1] % channels:
        channels -= 1  # the last one, the spread of the batch, stays one
    read, rest = weight[:, :channels], weight[:, channels:]
    times = shape[1] // channels
    uneven = torch.randn(times, *read.shape, generator=generator).to(weight)
    uneven = SPREAD * read.std() * (uneven - uneven.mean(dim=0))
    return torch.cat([*(read / times + uneven), rest], dim=1)
