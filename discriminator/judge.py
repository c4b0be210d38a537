"""`disc(x, sigma) -> logits [B, N]`: a trunk of any architecture with what all have in common."""

import torch
from torch import nn

from discriminator.augment import Augment
from discriminator.parts import (
    Head,
    NoiseLevelEmbedding,
    minibatch_stddev,
    normalise_spectrum,
    replace_batch_norm,
)
from src.utils import UserError

COARSE = 16  # finer maps see too little of the image to judge it
EMBEDDING = 64


class Discriminator(nn.Module):
    """Images `[B, 3, 64, 64]` noised at sigma `(B,)` (0: clean) -> logits `[B, N]`, fp32.

    trunk: a registered architecture. sigma_data: standard deviation of the data, which scales the
    input to unit variance. heads: resolutions at which every map is judged (empty: all up to 16).
    stddev: append the minibatch's spread to the last of them. condition: tell the network its noise
    level. from_level: tell it the noise level of the evaluation that made an image. spectral:
    normalise every weight, but for what tells it that. policy, p: see `Augment`.
    Raises `UserError` for a head where the trunk has no map.
    """

    def __init__(
        self,
        trunk,
        sigma_data,
        heads=(),
        stddev=True,
        condition=True,
        from_level=False,
        spectral=False,
        policy=(),
        p=1.0,
    ):
        super().__init__()
        resolutions = [resolution for resolution, _ in trunk.maps]
        for resolution in heads:
            if resolution not in resolutions:
                known = ", ".join(str(r) for r in sorted(set(resolutions)))
                raise UserError(f"--disc_heads {resolution}: this network has maps at {known}")
        judged = set(heads) or {r for r in resolutions if r <= COARSE} or {min(resolutions)}
        self.used = [index for index, resolution in enumerate(resolutions) if resolution in judged]
        self.trunk, self.sigma_data = trunk, sigma_data
        self.stddev, self.condition = stddev, condition
        self.augment = Augment(policy, p)
        self.embedding = NoiseLevelEmbedding(EMBEDDING, sigma_data)
        widths = [trunk.maps[index][1] for index in self.used]
        widths[-1] += int(stddev)
        self.heads = nn.ModuleList(Head(width, EMBEDDING) for width in widths)
        self.replaced_norms = replace_batch_norm(self)
        if spectral:
            normalise_spectrum(self)
        self.level_embedding = None
        if from_level:
            # At first it says nothing, so that one that learnt without it begins as it was; its
            # spectrum, of zeros, cannot be normalised.
            self.level_embedding = NoiseLevelEmbedding(EMBEDDING, sigma_data)
            nn.init.zeros_(self.level_embedding.mlp[-1].weight)
            nn.init.zeros_(self.level_embedding.mlp[-1].bias)

    def forward(self, x, sigma, draws=None, level=None, sets=1):
        """draws: of `self.augment.draw`, where two calls must be augmented alike. level: `(B,)`,
        the noise level of the evaluation that made an image, which `from_level` needs; of a real
        image, that of the generated ones it is compared with. sets: how many equally large batches
        follow one another in x, whose spreads are not mixed."""
        x = self.augment(x, draws)
        x = x * self._input_scale(sigma)[:, None, None, None]
        condition = sigma if self.condition else torch.zeros_like(sigma)
        maps = self.trunk(x, condition)
        maps = [maps[index] for index in self.used]
        if self.stddev:
            maps[-1] = minibatch_stddev(maps[-1], sets)
        embedding = self.embedding(condition)
        if self.level_embedding is not None:
            if level is None:
                raise ValueError(
                    "level: this discriminator asks for the noise level of the evaluation that made"
                    " each image"
                )
            embedding = embedding + self.level_embedding(level)
        logits = [head(h, embedding).flatten(1) for head, h in zip(self.heads, maps)]
        return torch.cat(logits, dim=1).float()

    def _input_scale(self, sigma):
        """`(B,)`: to unit variance, or a denoiser's own c_in where the trunk is its encoder."""
        scheduler = getattr(self.trunk, "scheduler", None)
        if scheduler is not None:
            return scheduler.scales(sigma)[0]
        return (sigma**2 + self.sigma_data**2).rsqrt()
