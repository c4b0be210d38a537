"""Discriminators, all from random weights: one architecture a file, found by name in `REGISTRY`.

Each is a module `disc(x, sigma) -> logits [B, N]`: images `[B, 3, H, W]` that were noised at level
sigma `(B,)` (0: clean), and N logits an image (places and heads); losses see logits only. With
`from_level` it also takes `level` `(B,)`, that of the evaluation that made the image.
Augmentation happens inside. To add one, see `discriminator/registry.py`. What others may use:
`build_discriminator`, `check_name` and `known_names` from here, `POLICIES` from `augment`.
"""

import importlib
import pkgutil

from discriminator.judge import Discriminator
from discriminator.registry import REGISTRY
from src.utils import UserError, did_you_mean


def find_architectures():
    """Import every file of this package, so that its trunks sign in."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


find_architectures()


def check_name(name):
    """(trunk class, argument) of `--disc NAME` or `NAME:ARGUMENT`. Raises `UserError`."""
    kind, colon, argument = name.partition(":")
    if kind not in REGISTRY:
        hint = did_you_mean(kind, REGISTRY)
        raise UserError(f"--disc {name}: use none or one of {', '.join(known_names())}{hint}")
    trunk = REGISTRY[kind]
    if bool(argument) != (trunk.argument is not None) or (colon and not argument):
        form = f"{kind}:{trunk.argument}" if trunk.argument else kind
        raise UserError(f"--disc {name}: write --disc {form}")
    return trunk, argument


def known_names():
    """What `--disc` takes beside none, e.g. `resnet` or `timm:NAME`."""
    return [f"{k}:{t.argument}" if t.argument else k for k, t in sorted(REGISTRY.items())]


def build_discriminator(
    name, network, sigma_data, teacher=None, channels=0, depth=0, spectral="auto", **options
):
    """The discriminator called `name`, with random weights.

    network: arguments of the U-Net in training, from which sizes of 0 are derived. teacher: a
    denoiser over the same U-Net whose encoder to start from instead, where the architecture can.
    channels, depth: of the trunk, 0 for its own choice. spectral: "on", "off" or "auto" (as the
    architecture has it). options: of `Discriminator`. Raises `UserError`.
    """
    trunk_class, argument = check_name(name)
    sizes = dict(channels=channels, depth=depth) | ({"argument": argument} if argument else {})
    trunk = trunk_class(network=network, sigma_data=sigma_data, **sizes)
    if teacher is not None:
        if not hasattr(trunk, "start_from"):
            raise UserError(f"--disc_start teacher: --disc {name} cannot; use --disc unet")
        trunk.start_from(teacher, network)
    normalised = trunk_class.spectral if spectral == "auto" else spectral == "on"
    return Discriminator(trunk, sigma_data, spectral=normalised, **options)
