"""Distances between sets of images."""

from fewstep.scores.frechet import feature_distance, feature_statistics, frechet_distance
from fewstep.scores.random_features import random_feature_space
from fewstep.scores.scoring import Scorer, distance_name

__all__ = [
    "Scorer",
    "distance_name",
    "feature_distance",
    "feature_statistics",
    "frechet_distance",
    "random_feature_space",
    "set_distance",
]


def set_distance(images_a, images_b, space, batch_size=256, device="cpu"):
    """Fréchet distance of two sets of uint8 images `[N, H, W, 3]` in a feature space.

    `space` has `embed(images, batch_size, device) -> [N, D]`, such as `random_feature_space()`.
    The value depends on both sets' sizes: compare only numbers with equal sizes.
    """
    return Scorer(space, images_b, device, batch_size).distance(images_a)
