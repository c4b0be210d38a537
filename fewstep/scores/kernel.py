"""The kernel distance between two sets of features, KID where the features are Inception's
(Bińkowski et al. 2018, arXiv:1801.01401)."""

import numpy as np

from fewstep.scores.frechet import checked_features

BLOCK = 1000  # rows compared at a time


def kernel_distance(features_a, features_b, block=BLOCK):
    """Unbiased squared maximum mean discrepancy with the kernel k(x, y) = (x.y / D + 1)^3.

    Features `[N, D]` and `[M, D]` -> float: the mean of k over the pairs of different rows of each
    set, minus twice its mean over the pairs between the sets (Bińkowski et al. 2018, eq. 4). Over
    all pairs, so nothing is random. Expected 0 for equal distributions whatever N and M, so it may
    be negative. `block` rows of each set are compared at a time. Raises `ValueError` for fewer than
    two rows, values that are not finite, or different D.
    """
    a, b = _checked_pair(features_a, features_b)
    within_a = _sum_of_pairs(a, a, block) - _kernel((a * a).sum(axis=1), a.shape[1]).sum()
    within_b = _sum_of_pairs(b, b, block) - _kernel((b * b).sum(axis=1), b.shape[1]).sum()
    between = _sum_of_pairs(a, b, block)
    n, m = len(a), len(b)
    return float(within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * between / (n * m))


def kernel_interval(features_a, features_b, seed=0, resamples=400, share=0.95, block=BLOCK):
    """(low, high): a bootstrap interval of `kernel_distance` that holds `share` of its resamples.

    Rows of both sets are drawn with replacement (Efron 1979); pairs of a row with itself are left
    out, so that resamples are centred at the distance and not above it. Raises as that does.
    """
    a, b = _checked_pair(features_a, features_b)
    random = np.random.RandomState(seed)
    counts_a, counts_b = (
        random.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), resamples).astype(float)
        for rows in (a, b)
    )
    within = 0.0
    for rows, counts in ((a, counts_a), (b, counts_b)):
        own = _kernel((rows * rows).sum(axis=1), rows.shape[1])
        squares = counts**2
        pairs = counts.sum(axis=1) ** 2 - squares.sum(axis=1)
        pairs[pairs == 0] = np.nan  # of few rows, one may have been drawn alone
        within += (_weighted_sum(rows, rows, counts, counts, block) - squares @ own) / pairs
    between = _weighted_sum(a, b, counts_a, counts_b, block) / (len(a) * len(b))
    tail = (1 - share) / 2
    low, high = np.nanquantile(within - 2 * between, [tail, 1 - tail])
    return float(low), float(high)


def _checked_pair(features_a, features_b):
    a, b = checked_features(features_a, 2), checked_features(features_b, 2)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features {a.shape}, {b.shape}: numbers of dimensions differ")
    return a, b


def _weighted_sum(a, b, counts_a, counts_b, block):
    """Sums of k over all pairs, each as often as both its rows were drawn: `[resamples]`."""
    total = 0.0
    for i in range(0, len(a), block):
        for j in range(0, len(b), block):
            kernel = _kernel(a[i : i + block] @ b[j : j + block].T, a.shape[1])
            weighted = (counts_a[:, i : i + block] @ kernel) * counts_b[:, j : j + block]
            total = total + weighted.sum(axis=1)
    return total


def _kernel(products, dimension):
    """k of pairs with inner products `products`."""
    return (products / dimension + 1) ** 3


def _sum_of_pairs(a, b, block):
    """Sum of k over all pairs of a row of `a` and a row of `b`."""
    return sum(
        _kernel(a[i : i + block] @ b[j : j + block].T, a.shape[1]).sum()
        for i in range(0, len(a), block)
        for j in range(0, len(b), block)
    )
