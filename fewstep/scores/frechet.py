"""The Fréchet distance between two Gaussians (Dowson & Landau 1982; Heusel et al. 2017,
arXiv:1706.08500, eq. 6): what turns features of two sets of images into one number."""

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


PROJECTED, PROJECTION_SEED = 256, 1
ENOUGH = 3  # times as many images as dimensions, from which a straight line extrapolates well
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of both sets, from which `unbiased_distance` extrapolates


def feature_statistics(features):
    """Features `[N, D]` -> mean `[D]` and unbiased covariance `[D, D]`, both float64.

    Raises `ValueError` for fewer than two rows or for values that are not finite.
    """
    features = checked_features(features, 2)
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet_distance(mean1, cov1, mean2, cov2):
    """|mean1 - mean2|^2 + Tr(cov1 + cov2 - 2 (cov1 cov2)^(1/2)), a float that is at least 0.

    Means `[D]`, symmetric positive semidefinite covariances `[D, D]`. The trace of the root is the
    sum of the roots of the eigenvalues of cov1^(1/2) cov2 cov1^(1/2), which is symmetric and has
    the eigenvalues of cov1 cov2. So singular covariances (fewer images than dimensions) need no
    special case, unlike with a general matrix root. Raises `ValueError` if shapes differ.
    """
    mean1, mean2 = np.atleast_1d(mean1).astype(np.float64), np.atleast_1d(mean2).astype(np.float64)
    cov1, cov2 = np.atleast_2d(cov1).astype(np.float64), np.atleast_2d(cov2).astype(np.float64)
    if mean1.shape != mean2.shape or cov1.shape != cov2.shape or cov1.shape != mean1.shape * 2:
        raise ValueError(
            f"shapes differ: means {mean1.shape}, {mean2.shape}; covariances {cov1.shape}, "
            f"{cov2.shape}"
        )
    root1 = _positive_root(cov1)
    eigenvalues = np.linalg.eigvalsh(root1 @ cov2 @ root1)
    trace_of_root = np.sqrt(eigenvalues.clip(min=0)).sum()
    difference = mean1 - mean2
    distance = difference @ difference + np.trace(cov1) + np.trace(cov2) - 2 * trace_of_root
    return max(float(distance), 0.0)


def feature_distance(features_a, features_b):
    """The Fréchet distance between features `[N, D]` and `[M, D]`, as of their statistics.

    Fewer images than dimensions would allow a shorter way, by the singular values of N x M numbers;
    it is exact where matrix roots carry rounding of 4e-7, and would so differ from everyone's FID.
    """
    return frechet_distance(*feature_statistics(features_a), *feature_statistics(features_b))


def unbiased_distance(features_a, features_b, seed=0):
    """The Fréchet distance that infinitely many images would have, from `[N, D]` and `[M, D]`.

    The distance of finite sets is too large by about c / N (Chong & Forsyth 2020, "Effectively
    unbiased FID", arXiv:1911.07023): it is taken for shares of both sets and extrapolated by a
    straight line in 1 / share to 0. That holds where N is large beside D, so features of more
    dimensions are projected to `PROJECTED` random ones first, whose seed is fixed; the value is of
    that projection. May be below 0 by its own error; None for fewer images than `ENOUGH` times
    the dimensions, where the line would miss by more than that. Raises as `feature_distance`.
    """
    features_a, features_b = checked_features(features_a, 2), checked_features(features_b, 2)
    if min(len(features_a), len(features_b)) < ENOUGH * min(features_a.shape[1], PROJECTED):
        return None
    random = np.random.RandomState(seed)
    orders = [random.permutation(len(features)) for features in (features_a, features_b)]
    shuffled = [projected(f)[order] for f, order in zip((features_a, features_b), orders)]
    distances = [
        feature_distance(*(f[: max(2, round(share * len(f)))] for f in shuffled))
        for share in SHARES
    ]
    return float(np.polyfit(1 / np.array(SHARES), distances, 1)[1])


def projected(features):
    """Features `[N, D]` -> their coordinates `[N, PROJECTED]` along random orthonormal directions,
    always the same ones for a D, scaled so that the mean square of a distance is kept; unchanged
    where D is no larger."""
    dimension = features.shape[1]
    if dimension <= PROJECTED:
        return features
    normal = np.random.RandomState(PROJECTION_SEED).standard_normal((dimension, PROJECTED))
    directions, _ = np.linalg.qr(normal)
    return features @ directions * np.sqrt(dimension / PROJECTED)


def _positive_root(matrix):
    """The symmetric root of a symmetric positive semidefinite matrix; rounding below 0 is cut."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def distance_name(space_name, is_fid):
    """What a Fréchet distance in a feature space may be called: FID in that of FID alone."""
    return "FID" if is_fid else f"Fréchet distance in {space_name} (not FID)"
