"""Differentiable augmentation of what the discriminator sees (Zhao et al. 2020, "Differentiable
Augmentation for Data-Efficient GAN Training", arXiv:2006.10738), each operation applied to an image
with probability p, which a controller may steer (ADA, Karras et al. 2020, arXiv:2006.06676)."""

import torch
import torch.nn.functional as F
from torch import nn

SHIFT = 1 / 8  # of the image's size, at most, each way
CUTOUT = 1 / 2  # side of the square


def translate(x, u):
    """Shift by up to `SHIFT` of the size, zeros moving in. u `[B, 2]` in [0, 1): 0.5 stays."""
    batch, _, height, width = x.shape
    across, down = int(width * SHIFT), int(height * SHIFT)
    padded = F.pad(x, [across, across, down, down]).permute(0, 2, 3, 1)
    left = (u[:, :1] * (2 * across + 1)).long()  # where the window begins, 0 to 2 across
    top = (u[:, 1:] * (2 * down + 1)).long()
    rows = top + torch.arange(height, device=x.device)  # [B, H]
    columns = left + torch.arange(width, device=x.device)  # [B, W]
    which = torch.arange(batch, device=x.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def recolour(x, u):
    """Brightness +-0.5, saturation x 0 to 2, contrast x 0.5 to 1.5. u `[B, 3]`: 0.5 stays."""
    u = u.reshape(-1, 3, 1, 1, 1)
    x = x + (u[:, 0] - 0.5)
    grey = x.mean(dim=1, keepdim=True)
    x = grey + (x - grey) * (2 * u[:, 1])
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return mean + (x - mean) * (u[:, 2] + 0.5)


def cut_out(x, u):
    """Zero a square of half the size with its centre anywhere. u `[B, 2]`."""
    height, width = x.shape[2:]
    inside = []
    for place, size, axis in ((u[:, 1], height, 2), (u[:, 0], width, 3)):
        shape = [-1, 1, 1, 1]
        distance = torch.arange(size, device=x.device) - place[:, None] * size  # [B, size]
        shape[axis] = size
        inside.append((distance.abs() < size * CUTOUT / 2).reshape(shape))
    return x * ~(inside[0] & inside[1])


# name -> (function, how many uniform numbers an image it takes)
POLICIES = {"translation": (translate, 2), "color": (recolour, 3), "cutout": (cut_out, 2)}


class Augment(nn.Module):
    """The operations named in `policy` (a list of keys of `POLICIES`), each with probability `p`.

    `p` is a buffer, so that a resumed run goes on with it and reading it costs no transfer.
    """

    def __init__(self, policy, p):
        super().__init__()
        self.policy = list(policy)
        self.width = sum(1 + POLICIES[name][1] for name in self.policy)
        self.register_buffer("p", torch.tensor(float(p)))

    def draw(self, count):
        """Numbers that decide everything about `count` images: the same ones, the same result."""
        return torch.rand(count, self.width, device=self.p.device)

    def forward(self, x, draws=None):
        """Images `[B, 3, H, W]` -> images, differentiably."""
        if not self.policy:
            return x
        draws = self.draw(len(x)) if draws is None else draws
        start = 0
        for name in self.policy:
            operation, width = POLICIES[name]
            gate = (draws[:, start] < self.p).reshape(-1, 1, 1, 1)
            x = torch.where(gate, operation(x, draws[:, start + 1 : start + 1 + width]), x)
            start += 1 + width
        return x

    @torch.no_grad()
    def steer(self, mean_sign, target, images, speed):
        """ADA's rule (sec. 3): r = E[sign D(real)], `mean_sign`, above `target` means that D knows
        the training images, so p rises, else it falls, by images/speed: `speed` images take it from
        0 to 1."""
        # Logits that are not finite say nothing; without this, p would stay so for ever.
        sign = (mean_sign - target).sign().nan_to_num()
        self.p.add_(sign * (images / speed)).clamp_(0, 1)
