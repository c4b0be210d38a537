"""Colour and contrast of a set of images: the plainest things a generator can get wrong."""

import numpy as np

from fewstep.scores.checks import checked_images


def channel_statistics(images):
    """uint8 images `[N, H, W, 3]` -> {"mean": [r, g, b], "std": [r, g, b]} over all pixels.

    In grey levels, 0 to 255; the standard deviation is the population's. Raises `ValueError` for
    another shape or type.
    """
    images, levels = checked_images(images), np.arange(256)
    means, stds = [], []
    for channel in range(3):
        # from the histogram: exact, and without a float copy of the images
        share = np.bincount(images[..., channel].ravel(), minlength=256) / images[..., 0].size
        means.append(float(share @ levels))
        stds.append(float(np.sqrt(share @ (levels - means[-1]) ** 2)))
    return {"mean": means, "std": stds}


def channel_difference(generated, reference):
    """How the colours of uint8 images `[N, H, W, 3]` differ from those of `[M, H, W, 3]`.

    `mean_r`, `mean_g`, `mean_b`: mean of the generated minus that of the reference, in grey levels
    (0 is right); `contrast_r`, ...: its standard deviation over the reference's (1 is right).
    Raises `ValueError` for another shape or type, or a reference with a channel of one value.
    """
    made, real = channel_statistics(generated), channel_statistics(reference)
    if min(real["std"]) == 0:
        raise ValueError("a channel of the reference images has one value only")
    means = {f"mean_{c}": made["mean"][i] - real["mean"][i] for i, c in enumerate("rgb")}
    contrasts = {f"contrast_{c}": made["std"][i] / real["std"][i] for i, c in enumerate("rgb")}
    return {**means, **contrasts}
