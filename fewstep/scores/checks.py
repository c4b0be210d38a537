"""What scores take: features and images of the right shape, or a `ValueError`."""

import numpy as np


def checked_features(features, least=1):
    """`features` as a float64 array `[N, D]`.

    Raises `ValueError` for another shape, fewer than `least` rows, or values that are not finite.
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < least:
        raise ValueError(f"features {features.shape}: [N, D] with at least {least} rows is needed")
    if not np.isfinite(features).all():
        raise ValueError("features hold NaN or infinite values")
    return features


def checked_images(images):
    """`images` as an array. Raises `ValueError` unless it is uint8 `[N, H, W, 3]`, N at least 1."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not images.size:
        raise ValueError(f"images {images.dtype} {images.shape}: uint8 [N, H, W, 3] is needed")
    return images
