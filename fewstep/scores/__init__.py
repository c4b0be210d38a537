"""Distances between sets of images, and what else tells generated from real ones.

What others may use: from here the Fréchet distance (`Scorer`, `feature_distance`) and its feature
spaces; from `comparison` all scores at once (`Comparison`, `PIXELS`); from `feature_cache` and
`folders` what reads and remembers image files. Images are uint8 `[N, H, W, 3]` throughout.
"""

from fewstep.scores.frechet import (
    Scorer,
    distance_name,
    feature_distance,
    feature_statistics,
    frechet_distance,
)
from fewstep.scores.inception import InceptionSpace, download_weights, weights_path
from fewstep.scores.random_features import random_feature_space

__all__ = [
    "InceptionSpace",
    "Scorer",
    "distance_name",
    "download_weights",
    "feature_distance",
    "feature_statistics",
    "frechet_distance",
    "random_feature_space",
    "weights_path",
]
