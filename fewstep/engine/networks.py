"""Networks made ready to learn as the speed settings say; see `speed/`."""

import torch

from fewstep.engine.attention import fuse_attention
from fewstep.engine.precision import lay_out
from fewstep.engine.recompute import recompute_activations
from src.samplers import IMAGE_SHAPE


def prepare_network(model, speed, device):
    """A model whose U-Net computes as `speed` says; not compiled yet."""
    # Each block has one forward pass, so the two replace different blocks.
    if speed.attention == "fused":
        fuse_attention(model)
    if speed.checkpointing:
        recompute_activations(model)
    return lay_out(model, device, speed.channels_last)


def leave_unused(disc, device):
    """Let parameters that no logit depends on (behind the last head that was asked for, say) not
    learn: DDP demands the gradient of every parameter that does."""
    disc.eval()
    images, sigma = torch.zeros(2, *IMAGE_SHAPE, device=device), torch.ones(2, device=device)
    disc(images, sigma).sum().backward()
    for parameter in disc.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    disc.zero_grad(set_to_none=True)
