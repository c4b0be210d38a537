"""The kernel distance against clean-fid, torch-fidelity and its definition."""

import numpy as np
import pytest
import torch

from fewstep.scores.kernel import kernel_distance, kernel_interval


def two_sets(n, m, dimension, seed=0, shift=0.5):
    random = np.random.RandomState(seed)
    return random.standard_normal((n, dimension)), random.standard_normal((m, dimension)) + shift


@pytest.mark.parametrize("n, dimension", [(2, 3), (150, 64), (1000, 20)])
def test_equal_counts_against_clean_fid(n, dimension):
    reference = pytest.importorskip("cleanfid.fid").kernel_distance
    a, b = two_sets(n, n, dimension)
    assert kernel_distance(a, b) == pytest.approx(reference(a, b, num_subsets=1), rel=1e-6)


def test_equal_counts_against_torch_fidelity():
    kid = pytest.importorskip("torch_fidelity.metric_kid")
    a, b = two_sets(300, 300, 64)
    result = kid.kid_features_to_metric(
        torch.from_numpy(a), torch.from_numpy(b), kid_subsets=1, kid_subset_size=300, verbose=False
    )
    assert kernel_distance(a, b) == pytest.approx(result[kid.KEY_METRIC_KID_MEAN], rel=1e-6)


def test_different_counts_by_the_definition():
    a, b = two_sets(7, 5, 3)

    def k(x, y):
        return (sum(x * y) / 3 + 1) ** 3

    within_a = np.mean([k(a[i], a[j]) for i in range(7) for j in range(7) if i != j])
    within_b = np.mean([k(b[i], b[j]) for i in range(5) for j in range(5) if i != j])
    expected = within_a + within_b - 2 * np.mean([k(x, y) for x in a for y in b])
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert kernel_distance(b, a) == pytest.approx(expected, rel=1e-12)


def test_blocks_do_not_matter():
    a, b = two_sets(50, 33, 8)
    assert kernel_distance(a, b, block=7) == pytest.approx(kernel_distance(a, b), rel=1e-10)


def test_unbiased():
    """The mean over many small draws of one distribution is 0, which the biased estimate is not."""
    random = np.random.RandomState(1)
    draws = random.standard_normal((400, 30, 4))
    values = np.array([kernel_distance(draw[:18], draw[18:]) for draw in draws])
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean()) < 3 * error
    assert values.min() < 0
    # Counting a row as its own partner adds about (E k(x, x) - E k(x, y)) / n.
    bias = np.mean([((draw**2).sum(axis=1) / 4 + 1) ** 3 for draw in draws]) / 18
    assert bias > 10 * error


def test_grows_with_the_difference():
    distances = [kernel_distance(*two_sets(200, 300, 16, shift=s)) for s in (0, 0.2, 0.5, 1)]
    assert distances == sorted(distances) and distances[-1] > 1


def test_unusable_features_are_refused():
    a, b = two_sets(4, 4, 3)
    with pytest.raises(ValueError, match="at least 2 rows"):
        kernel_distance(a[:1], b)
    with pytest.raises(ValueError, match="at least 2 rows"):
        kernel_distance(a, b[:1])
    with pytest.raises(ValueError, match="dimensions differ"):
        kernel_distance(a, b[:, :2])
    b[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        kernel_distance(a, b)


def test_the_interval_holds_the_distance_and_shrinks():
    a, b = two_sets(400, 300, 8, shift=0.3)
    low, high = kernel_interval(a, b)
    assert low < kernel_distance(a, b) < high
    fewer = kernel_interval(a[:100], b[:75])
    assert high - low < 0.7 * (fewer[1] - fewer[0])
    assert kernel_interval(a, b, block=64) == pytest.approx((low, high), rel=1e-9)


def test_how_often_the_interval_holds_the_truth():
    """Of equal distributions the truth is 0, and of shifted ones that of very many images."""
    truth = kernel_distance(*two_sets(6000, 6000, 4, seed=99))
    for shift, value in ((0.0, 0.0), (0.5, truth)):
        held = 0
        for seed in range(40):
            low, high = kernel_interval(*two_sets(80, 80, 4, seed, shift), resamples=200)
            held += low <= value <= high
        assert held >= 34, shift  # 38 of 40 are expected
