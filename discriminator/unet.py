"""The denoiser's own encoder as a discriminator, from random weights unless asked otherwise.

That a denoiser's features judge noised images well is the finding of LADD (Sauer et al. 2024,
arXiv:2403.12015) and DMD2 (Yin et al. 2024, arXiv:2405.14867), which start from a trained one.
`--disc_start teacher` does so with the teacher of this run: nothing from outside comes in, but the
discriminator is then no longer from scratch in the strict sense.
"""

from torch import nn

from custom_model import CustomScheduler
from discriminator.registry import IMAGE_SIZE, Plain, register
from src.model_config import MODEL_DEFAULTS
from src.network import UNet
from src.utils import UserError


@register("unet")
class UNetTrunk(Plain, nn.Module):
    """Maps at the end of each resolution (of the full network 64, 32, 16, 8) and after the middle
    blocks.

    channels: width (a multiple of the U-Net's `norm_groups`); 0: the U-Net's. depth: residual
    blocks a level; 0: the U-Net's, but at least one, without which the way down would be linear.
    """

    def __init__(self, network, sigma_data, channels, depth):
        super().__init__()
        groups = network.get("norm_groups", MODEL_DEFAULTS["norm_groups"])
        if channels % groups:
            raise UserError(f"--disc_channels {channels}: --disc unet needs a multiple of {groups}")
        # Dropout would make the verdict on an image vary from call to call.
        chosen = dict(network, dropout=0.0, ch=channels or network["ch"])
        chosen["num_res_blocks"] = depth or max(1, network["num_res_blocks"])
        self._take(UNet(**chosen), chosen)
        self.scheduler = CustomScheduler(sigma_data=sigma_data)

    def _take(self, unet, arguments):
        self.time_embedding, self.head = unet.time_embedding, unet.head
        self.downblocks, self.middleblocks = unet.downblocks, unet.middleblocks
        widths = [arguments["ch"] * factor for factor in arguments["ch_mult"]]
        blocks = arguments["num_res_blocks"]
        # Without blocks a level keeps the width that the level above handed down.
        widths = widths if blocks else [arguments["ch"]] * len(widths)
        self.ends = [(level + 1) * (blocks + 1) - 1 for level in range(len(widths) - 1)]
        self.maps = [(IMAGE_SIZE >> level, width) for level, width in enumerate(widths)]
        self.maps.append((IMAGE_SIZE >> (len(widths) - 1), widths[-1]))

    def start_from(self, model, network):
        """Take the encoder of the teacher `model` (a copy of its weights); the width and depth of
        `network` then replace those asked for."""
        unet = UNet(**dict(network, dropout=0.0))
        unet.load_state_dict(model.network.state_dict())
        self._take(unet, network)
        self.scheduler = model.scheduler

    def forward(self, x, sigma):
        embedding = self.time_embedding(self.scheduler.tau(sigma))  # as the denoiser's
        h = self.head(x)
        maps = []
        for index, block in enumerate(self.downblocks):
            if index in self.ends:  # a DownSample: the level ends before it
                maps.append(h)
            h = block(h, embedding)
        maps.append(h)
        for block in self.middleblocks:
            h = block(h, embedding)
        return [*maps, h]
