"""Any backbone of the timm library (Wightman 2019, doi:10.5281/zenodo.4414861) with random weights:
`--disc timm:NAME`. timm is imported only when asked for."""

import difflib

import torch
from torch import nn

from discriminator.registry import IMAGE_SIZE, Plain, register
from src.errors import UserError, package_for, reason_of


@register("timm")
class TimmTrunk(Plain, nn.Module):
    """The backbone's feature maps at all its depths. The noise level reaches the heads only."""

    argument = "NAME"

    def __init__(self, network, sigma_data, channels, depth, argument):
        super().__init__()
        for flag, value in (("--disc_channels", channels), ("--disc_depth", depth)):
            if value:
                raise UserError(f"{flag} {value}: a timm backbone has a size of its own; leave it")
        self.backbone = _create(argument)
        self.channels_last = str(getattr(self.backbone, "output_fmt", "NCHW")).endswith("NHWC")
        try:
            with torch.no_grad():
                maps = self.eval()(torch.zeros(2, 3, IMAGE_SIZE, IMAGE_SIZE), None)
        except Exception as error:
            raise _unfit(argument, error) from error
        self.maps = [(h.shape[2], h.shape[1]) for h in maps]
        self.train()

    def forward(self, x, sigma):
        maps = self.backbone(x)
        return [h.movedim(-1, 1) for h in maps] if self.channels_last else list(maps)


def _create(name):
    timm = package_for(f"--disc timm:{name}", "timm")
    known = timm.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=4, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "timm.list_models() names them"
        raise UserError(f"--disc timm:{name}: timm has no such model; {hint}")
    sized = getattr(timm.models.get_pretrained_cfg(name), "fixed_input_size", False)
    size = {"img_size": IMAGE_SIZE} if sized else {}
    try:
        return timm.create_model(name, pretrained=False, features_only=True, **size)
    except Exception as error:
        raise _unfit(name, error) from error


def _unfit(name, error):
    """Whatever a backbone objects to, in one line."""
    return UserError(
        f"--disc timm:{name}: gives no feature maps at {IMAGE_SIZE}x{IMAGE_SIZE}"
        f" ({reason_of(error)});"
        " try resnet18, convnext_atto or vit_tiny_patch16_224"
    )
