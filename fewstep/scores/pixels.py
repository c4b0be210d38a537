"""Images as arrays: their type and shape, their colours and contrast, and small copies of them."""

import numpy as np


def checked_images(images):
    """`images` as an array. Raises `ValueError` unless it is uint8 `[N, H, W, 3]`, N at least 1."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
        raise ValueError(f"images {images.dtype} {images.shape}: uint8 [N, H, W, 3] is needed")
    return images


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


def thumbnails(images):
    """uint8 images `[N, H, W, 3]` -> `[N, D]`, averaged over 2x2 pixels so that a shift by one
    pixel is no other image, and scaled so that distances are RMS differences in grey levels."""
    count, height, width, channels = images.shape
    small = images[:, : height // 2 * 2, : width // 2 * 2]
    small = small.reshape(count, height // 2, 2, width // 2, 2, channels)
    small = small.mean(axis=(2, 4), dtype=np.float32).reshape(count, -1)
    return small / np.float32(np.sqrt(small.shape[1]))
