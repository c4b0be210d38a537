"""Distances between sets of images, and what else tells generated from real ones.

What others may use: `comparison` for all scores, or the Fréchet distance alone, of several sets to
one; the feature spaces `inception` and `random_features`; `frechet` for distances of features;
`folders` and `feature_cache`, which read and remember image files. Images are uint8 `[N, H, W, 3]`.
"""
