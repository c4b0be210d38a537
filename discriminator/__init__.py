"""Discriminators, all from random weights: one architecture a file, found by name in `REGISTRY`.

Each is a module `disc(x, sigma) -> logits [B, N]`: images `[B, 3, H, W]` that were noised at level
sigma `(B,)` (0: clean), and N logits an image (places and heads); losses see logits only.
"""

from discriminator.resnet import ResNetDiscriminator

REGISTRY = {"resnet": ResNetDiscriminator}


def build_discriminator(name, **arguments):
    """The discriminator called `name`, with random weights. Raises `KeyError` for another name."""
    return REGISTRY[name](**arguments)
