"""The Fréchet distance against closed forms and against SciPy's matrix root."""

import numpy as np
import pytest
from scipy import linalg

from fewstep.scores.frechet import (
    feature_distance,
    feature_statistics,
    frechet_distance,
    projected,
    unbiased_distance,
)


def random_covariance(random, dimension, rank=None):
    factor = random.standard_normal((dimension, rank or dimension))
    return factor @ factor.T / dimension


def test_one_dimension():
    # (m1 - m2)^2 + (s1 - s2)^2
    assert frechet_distance([1.0], [[4.0]], [4.0], [[25.0]]) == pytest.approx(9 + 9)
    assert frechet_distance(1.0, 4.0, 4.0, 25.0) == pytest.approx(18)


def test_covariances_that_commute():
    random = np.random.RandomState(0)
    basis = linalg.qr(random.standard_normal((6, 6)))[0]
    a, b = random.uniform(0.1, 5, (2, 6))
    mean1, mean2 = random.standard_normal((2, 6))
    expected = ((mean1 - mean2) ** 2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    cov1, cov2 = basis * a @ basis.T, basis * b @ basis.T
    assert frechet_distance(mean1, cov1, mean2, cov2) == pytest.approx(expected, rel=1e-10)


def test_general_covariances_against_scipy():
    random = np.random.RandomState(1)
    cov1, cov2 = random_covariance(random, 20), random_covariance(random, 20)
    mean1, mean2 = random.standard_normal((2, 20))
    root = linalg.sqrtm(cov1 @ cov2).real
    expected = ((mean1 - mean2) ** 2).sum() + np.trace(cov1 + cov2 - 2 * root)
    assert frechet_distance(mean1, cov1, mean2, cov2) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(mean2, cov2, mean1, cov1) == pytest.approx(expected, rel=1e-8)


def test_singular_covariances():
    # supports in orthogonal subspaces: the product is zero, so its root is too
    random = np.random.RandomState(2)
    small = random_covariance(random, 5)
    cov1, cov2 = linalg.block_diag(small, np.zeros((5, 5))), np.zeros((10, 10))
    cov2[5:, 5:] = random_covariance(random, 5)
    expected = np.trace(cov1) + np.trace(cov2)
    assert frechet_distance(np.zeros(10), cov1, np.zeros(10), cov2) == pytest.approx(expected)


def test_equal_sets_are_at_distance_zero_even_when_rank_deficient():
    random = np.random.RandomState(3)
    mean, cov = random.standard_normal(50), random_covariance(random, 50, rank=10)
    assert 0 <= frechet_distance(mean, cov, mean, cov) < 1e-5


def test_a_shift_adds_its_square():
    features = np.random.RandomState(4).standard_normal((100, 8))
    mean, cov = feature_statistics(features)
    shifted = feature_statistics(features + 0.5)
    assert frechet_distance(mean, cov, *shifted) == pytest.approx(8 * 0.25, rel=1e-8)


def test_statistics_in_double_precision():
    # in float32 the variance of 1e4 + {0, 1e-3} would be lost
    features = (1e4 + np.array([[0.0], [1e-3]])).astype(np.float64)
    mean, cov = feature_statistics(features)
    assert mean.dtype == cov.dtype == np.float64 and cov.shape == (1, 1)
    assert cov[0, 0] == pytest.approx(5e-7, rel=1e-3)
    half = np.full((3, 2), 0.1, dtype=np.float32)
    assert feature_statistics(half)[0].dtype == np.float64


@pytest.mark.parametrize(
    "features", [np.zeros((1, 3)), np.zeros(3), np.array([[1.0], [np.nan]]), [[1.0], [np.inf]]]
)
def test_unusable_features_are_refused(features):
    with pytest.raises(ValueError, match="features"):
        feature_statistics(features)


def test_different_dimensions_are_refused():
    with pytest.raises(ValueError, match="shapes differ"):
        frechet_distance(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match="shapes differ"):
        frechet_distance(np.zeros(2), np.eye(3), np.zeros(2), np.eye(3))


@pytest.mark.parametrize("shift, scale", [(0.0, 1.0), (0.2, 1.0), (0.0, 0.8)])
def test_the_extrapolated_distance_of_gaussians_is_unbiased(shift, scale):
    """64 dimensions, 300 images: the plain distance is far off, the extrapolated one is not."""
    random, dimension, values, plain = np.random.RandomState(0), 64, [], []
    truth = dimension * (shift**2 + (1 - scale) ** 2)
    for _ in range(12):
        a = random.standard_normal((300, dimension))
        b = shift + scale * random.standard_normal((300, dimension))
        values.append(unbiased_distance(a, b))
        plain.append(feature_distance(a, b))
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert abs(np.mean(values) - truth) < 3 * error + 0.02 * np.mean(plain)
    assert np.mean(plain) - truth > 10 * abs(np.mean(values) - truth)


def test_nothing_is_extrapolated_from_few_images_a_dimension():
    random = np.random.RandomState(0)
    shapes = (191, 64), (192, 64), (768, 999)
    few, many, wide = (random.standard_normal(shape) for shape in shapes)
    assert unbiased_distance(few, many) is None and unbiased_distance(many, few) is None
    assert unbiased_distance(many, many) is not None
    assert unbiased_distance(wide, wide) is not None  # of 256 directions
    assert unbiased_distance(wide[1:], wide) is None


def test_features_of_many_dimensions_are_projected():
    random = np.random.RandomState(0)
    features = random.standard_normal((50, 600))
    small = projected(features)
    assert small.shape == (50, 256) and np.array_equal(projected(features), small)
    distances = [((f[:25] - f[25:]) ** 2).sum() for f in (features, small)]
    assert distances[1] == pytest.approx(distances[0], rel=0.1)
    assert projected(small) is small
