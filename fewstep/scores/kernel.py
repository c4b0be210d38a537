"""The kernel distance between two sets of features, KID where the features are Inception's
(Bińkowski et al. 2018, arXiv:1801.01401)."""

from fewstep.scores.frechet import checked_features


def kernel_distance(features_a, features_b, block=1000):
    """Unbiased squared maximum mean discrepancy with the kernel k(x, y) = (x.y / D + 1)^3.

    Features `[N, D]` and `[M, D]` -> float: the mean of k over the pairs of different rows of each
    set, minus twice its mean over the pairs between the sets (Bińkowski et al. 2018, eq. 4). Over
    all pairs, so nothing is random. Expected 0 for equal distributions whatever N and M, so it may
    be negative. `block` rows of each set are compared at a time. Raises `ValueError` for fewer than
    two rows, values that are not finite, or different D.
    """
    a, b = checked_features(features_a, 2), checked_features(features_b, 2)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"features {a.shape}, {b.shape}: numbers of dimensions differ")
    within_a = _sum_of_pairs(a, a, block) - _kernel((a * a).sum(axis=1), a.shape[1]).sum()
    within_b = _sum_of_pairs(b, b, block) - _kernel((b * b).sum(axis=1), b.shape[1]).sum()
    between = _sum_of_pairs(a, b, block)
    n, m = len(a), len(b)
    return float(within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * between / (n * m))


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
