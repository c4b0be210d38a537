"""Where architectures sign in by name.

An architecture is a *trunk*: a module with `maps`, the list of (resolution, channels) of the
feature maps that it gives for 64x64 images, and `trunk(x, sigma) -> [maps]`. The rest (input
scaling, noise level, heads, minibatch statistics, spectral norm, augmentation) is common to all and
lies in `discriminator/judge.py`. One new file in this package with a registered class is a new
`--disc`.
"""

IMAGE_SIZE = 64
REGISTRY = {}


def register(name):
    """Class decorator: the trunk is built by `--disc NAME` from then on.

    A trunk is called with `network` (arguments of the U-Net that is trained), `sigma_data`,
    `channels` and `depth` (0: its own choice). Class attributes: `spectral`, whether spectral
    normalisation is on unless asked otherwise; `argument`, what `--disc NAME:ARGUMENT` names, which
    is then passed as `argument` (None: there is no such thing).
    """

    def add(trunk):
        REGISTRY[name] = trunk
        return trunk

    return add


class Plain:
    """Class attributes of a trunk that has nothing special."""

    spectral = False
    argument = None
