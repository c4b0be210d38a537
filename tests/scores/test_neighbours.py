"""Neighbours in feature space against brute force, the `prdc` package and examples by hand."""

import numpy as np
import pytest

from fewstep.scores.neighbours import (
    density_coverage,
    kth_distances,
    memorisation,
    nearest,
    precision_recall,
)


def points(n, dimension, seed=0, shift=0.0):
    return np.random.RandomState(seed).standard_normal((n, dimension)) + shift


def copied(generated, heldout, training):
    return memorisation(nearest(generated, training)[0], nearest(heldout, training)[0])


def column(*values):
    return np.array(values, dtype=float)[:, None]


def all_distances(a, b):
    return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_nearest_against_all_distances(chunk):
    a, b = points(40, 5), points(61, 5, seed=1)
    expected = all_distances(a, b)
    distances, indices = nearest(a, b, chunk=chunk)
    np.testing.assert_allclose(distances, expected.min(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(indices, expected.argmin(axis=1))
    assert distances.dtype == np.float64


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_neighbours_in_the_same_set(chunk):
    a = points(40, 5)
    expected = np.sort(all_distances(a, a), axis=1)  # the first column is the row itself
    for k in (1, 4, 39):
        np.testing.assert_allclose(kth_distances(a, k, chunk), expected[:, k], rtol=1e-12)


def test_copies_are_at_distance_zero_exactly():
    a = points(100, 50) * 1e3 + 1e6
    distances, indices = nearest(a[::-1], a)
    assert (distances == 0).all() and (indices == np.arange(100)[::-1]).all()
    twice = np.concatenate([a, a])
    assert (kth_distances(twice, 1) == 0).all() and (kth_distances(twice, 2) > 0).all()


@pytest.mark.parametrize("n, m", [(30, 30), (100, 61), (61, 300)])
@pytest.mark.parametrize("k, dimension", [(1, 2), (3, 16), (5, 64)])
def test_against_prdc(n, m, k, dimension):
    compute_prdc = pytest.importorskip("prdc").compute_prdc
    real, generated = points(n, dimension), 0.8 * points(m, dimension, seed=1, shift=0.2)
    expected = compute_prdc(real, generated, nearest_k=k)
    for chunk in (7, 1000):
        precision, recall = precision_recall(real, generated, k, chunk)
        density, coverage = density_coverage(real, generated, k, chunk)
        assert precision == pytest.approx(expected["precision"])
        assert recall == pytest.approx(expected["recall"])
        assert density == pytest.approx(expected["density"])
        assert coverage == pytest.approx(expected["coverage"])


def test_by_hand_on_a_line():
    real = column(0, 1, 3, 10)  # distances to the nearest other row 1, 1, 2, 7
    generated = column(0.5, 2, 50, 51)  # 1.5, 1.5, 1, 1
    # 0.5 lies in the balls of 0 and 1; 2 in that of 3 and on the edge of that of 1; 50, 51 in none.
    # 0, 1 and 3 lie in the balls of 0.5 and 2; 10 in none.
    assert precision_recall(real, generated, k=1) == (2 / 4, 3 / 4)
    # balls around the generated: 2, 1, 0, 0; those of 0, 1 and 3 hold one of them
    assert density_coverage(real, generated, k=1) == (3 / 4, 3 / 4)


def test_what_the_four_numbers_say():
    real = points(400, 4)
    assert precision_recall(real, real[::-1]) == (1, 1)
    assert density_coverage(real, real.copy())[1] == 1
    assert precision_recall(real, points(300, 4, shift=100)) == (0, 0)
    assert density_coverage(real, points(300, 4, shift=100)) == (0, 0)
    few = real[np.arange(400) % 5]  # five modes: every one real, most of the real ones missed
    precision, recall = precision_recall(real, few)
    assert precision == 1 and recall < 0.05
    assert density_coverage(real, few)[1] < 0.15
    density, coverage = density_coverage(real, points(400, 4, seed=1))
    assert density == pytest.approx(1, abs=0.1) and coverage > 0.9


def test_memorisation():
    training, heldout = points(500, 3), points(400, 3, seed=1)
    copies = copied(training[:300], heldout, training)
    assert copies["nearest_median"] == 0 and copies["share_closer"] == 1
    assert copies["nearest_median_heldout"] == np.median(nearest(heldout, training)[0])
    near = copied(training + 1e-3, heldout, training)
    assert near["nearest_median"] == pytest.approx(1e-3 * 3**0.5)
    assert near["share_closer"] > 0.99
    far = copied(points(300, 3, shift=50), heldout, training)
    assert far["share_closer"] == 0
    assert far["nearest_median"] > 20 * far["nearest_median_heldout"]
    half = copied(np.concatenate([training[:150], far_points()]), heldout, training)
    assert half["share_closer"] == pytest.approx(0.5)


def far_points():
    return points(150, 3, seed=3, shift=50)


def test_one_in_a_hundred_new_images_is_closer():
    shares = [
        copied(points(300, 3, 10 + i), points(300, 3, 60 + i), points(200, 3, 110 + i))[
            "share_closer"
        ]
        for i in range(50)
    ]
    assert np.mean(shares) == pytest.approx(0.01, abs=3 * np.std(shares) / 50**0.5)
    assert np.mean(shares) < 0.015


def test_too_few_rows_are_refused():
    enough, few = points(4, 2), points(3, 2)
    assert len(kth_distances(enough, 3)) == 4
    for real, generated in ((few, enough), (enough, few)):
        with pytest.raises(ValueError, match="at least 4 rows"):
            precision_recall(real, generated, k=3)
    with pytest.raises(ValueError, match="at least 4 rows"):
        density_coverage(few, enough, k=3)
    assert density_coverage(enough, few[:1], k=3)[0] >= 0
    with pytest.raises(ValueError, match="k = 0"):
        kth_distances(enough, 0)
    with pytest.raises(ValueError, match="dimensions differ"):
        nearest(few, column(0, 1))
    with pytest.raises(ValueError, match="NaN"):
        nearest(few, column(np.nan))
    with pytest.raises(ValueError, match="at least 1 rows"):
        nearest(few, points(0, 2))
