"""The U-Net of DDPM (Ho et al. 2020, arXiv:2006.11239, appendix B), with a fractional time and an
optional second number (the condition) as input."""

import torch
from torch import nn

from src.module import (
    GROUPS,
    NEAR_ZERO_GAIN,
    DownSample,
    ResBlock,
    Swish,
    TimeEmbedding,
    UpSample,
    xavier_,
)


class UNet(nn.Module):
    """RGB images and times to RGB predictions of the same size.

    `ch` is the width of level 0 and `ch_mult` the factor at each level; levels halve the
    resolution. Channels are normalised in `norm_groups` groups, of which widths are multiples; a
    block of as many channels loses what the embedding adds to each. `attn` names the levels whose
    residual blocks attend, of which each level has `num_res_blocks` on the way down and one more on
    the way up. With `use_additional_condition` a second number per image is embedded beside the
    time.
    The default values have 58,753,283 parameters.
    """

    def __init__(
        self,
        ch=128,
        ch_mult=(1, 2, 2, 2),
        attn=(1,),
        num_res_blocks=4,
        dropout=0.1,
        use_additional_condition=False,
        norm_groups=GROUPS,
    ):
        super().__init__()
        if any(not 0 <= level < len(ch_mult) for level in attn):
            raise ValueError(f"attn={list(attn)}: levels are 0 to {len(ch_mult) - 1}")
        tdim, groups = 4 * ch, norm_groups
        last = len(ch_mult) - 1
        self.use_additional_condition = use_additional_condition
        self.smallest_side = 2**last  # sides are multiples of it
        self.time_embedding = TimeEmbedding(tdim)
        if use_additional_condition:
            self.condition_embedding = TimeEmbedding(tdim)
            self.condition_fusion = nn.Sequential(
                nn.Linear(2 * tdim, tdim), nn.SiLU(), nn.Linear(tdim, tdim)
            )

        self.head = xavier_(nn.Conv2d(3, ch, 3, padding=1))
        self.downblocks = nn.ModuleList()
        skips = [ch]  # channels of every state that the way up concatenates
        now = ch
        for level, factor in enumerate(ch_mult):
            for _ in range(num_res_blocks):
                attends = level in attn
                block = ResBlock(now, ch * factor, tdim, dropout, attends, groups)
                self.downblocks.append(block)
                now = ch * factor
                skips.append(now)
            if level != last:
                self.downblocks.append(DownSample(now))
                skips.append(now)

        self.middleblocks = nn.ModuleList(
            [ResBlock(now, now, tdim, dropout, attends, groups) for attends in (True, False)]
        )

        self.upblocks = nn.ModuleList()
        for level, factor in reversed(list(enumerate(ch_mult))):
            for _ in range(num_res_blocks + 1):
                in_ch = now + skips.pop()
                attends = level in attn
                block = ResBlock(in_ch, ch * factor, tdim, dropout, attends, groups)
                self.upblocks.append(block)
                now = ch * factor
            if level != 0:
                self.upblocks.append(UpSample(now))

        self.tail = nn.Sequential(
            nn.GroupNorm(groups, now),
            Swish(),
            xavier_(nn.Conv2d(now, 3, 3, padding=1), gain=NEAR_ZERO_GAIN),
        )

    def forward(self, x, timestep, condition=None):
        """Images `[B, 3, H, W]`, times `[B]` (about 0 to 1,000) -> `[B, 3, H, W]`.

        `condition` `[B]` has the same scale as the time. It is required by a network that was built
        with `use_additional_condition` (`ValueError` otherwise) and ignored by any other. H and W
        must be divisible by 2 once per level after the first.
        """
        temb = self.embed(timestep, condition)
        return self.tail(self.levels(self.head(x), temb, self.downblocks, self.upblocks))

    def embed(self, timestep, condition=None):
        """Times, and conditions if it is built with them, `[B]` -> embedding `[B, 4 ch]`."""
        temb = self.time_embedding(timestep)
        if not self.use_additional_condition:
            return temb
        if condition is None:
            raise ValueError("this UNet was built with a condition: pass condition=[B]")
        both = torch.cat([temb, self.condition_embedding(condition)], dim=-1)  # [B, 8 ch]
        return self.condition_fusion(both)

    def levels(self, h, temb, downblocks, upblocks):
        """Down through these blocks, through the middle, and up through those, each on what came
        up to it and what went down there. `[B, C, H, W]` -> the same shape but for C."""
        skips = [h]
        for block in downblocks:
            h = block(h, temb)
            skips.append(h)
        for block in self.middleblocks:
            h = block(h, temb)
        for block in upblocks:
            if isinstance(block, ResBlock):
                h = torch.cat([h, skips.pop()], dim=1)
            h = block(h, temb)
        return h
