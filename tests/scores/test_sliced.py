"""The sliced Wasserstein distance against POT, SciPy and what each level should notice."""

import numpy as np
import pytest
from scipy.ndimage import convolve1d
from scipy.stats import wasserstein_distance

from fewstep.images.synthetic import draw_face
from fewstep.scores.ladder import LADDER
from fewstep.scores.sliced import (
    double,
    halve,
    laplacian_pyramid,
    patch_wasserstein,
    sliced_wasserstein,
)


def clouds(n, m, dimension, seed=0):
    random = np.random.RandomState(seed)
    return random.standard_normal((n, dimension)), 0.7 * random.standard_normal((m, dimension)) + 1


def unit_directions(dimension, count):
    directions = np.random.RandomState(5).standard_normal((dimension, count))
    return directions / np.linalg.norm(directions, axis=0)


@pytest.fixture(scope="module")
def faces():
    return np.stack([draw_face(index, seed=0) for index in range(200)])


@pytest.fixture(scope="module")
def floor(faces):
    return patch_wasserstein(faces[100:], faces[:100])


@pytest.mark.parametrize("n, m", [(50, 50), (50, 60), (60, 50), (7, 100), (1, 3)])
def test_against_pot(n, m):
    ot = pytest.importorskip("ot")
    a, b = clouds(n, m, 6)
    directions = unit_directions(6, 70)
    expected = ot.sliced_wasserstein_distance(a, b, projections=directions, p=1)
    assert sliced_wasserstein(a, b, directions) == pytest.approx(expected, rel=1e-9)
    assert sliced_wasserstein(b, a, directions) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n, m", [(40, 40), (40, 33), (1, 5), (6, 4)])
def test_one_dimension_against_scipy(n, m):
    a, b = clouds(n, m, 1)
    expected = wasserstein_distance(a[:, 0], b[:, 0])
    assert sliced_wasserstein(a, b, np.ones((1, 1))) == pytest.approx(expected, rel=1e-12)


def test_by_hand():
    # half of the mass at 0 stays, half goes to 1
    assert sliced_wasserstein([[0.0]], [[0.0], [1.0]], [[1.0]]) == 0.5
    # along x everything moves by 3, along y by 4
    a = np.zeros((2, 2))
    assert sliced_wasserstein(a, a + [3, 4], np.eye(2)) == 3.5


def test_pyramid_can_be_undone():
    images = np.random.RandomState(0).randint(0, 256, (3, 64, 48, 3)).astype(np.uint8)
    pyramid = laplacian_pyramid(images, 3)
    assert [level.shape[1:3] for level in pyramid] == [(64, 48), (32, 24), (16, 12)]
    restored = pyramid[-1]
    for level in pyramid[-2::-1]:
        restored = level + double(restored)
    np.testing.assert_allclose(restored, images, atol=1e-4)
    assert len(laplacian_pyramid(images, 1)) == 1
    for levels in (0, 6):
        with pytest.raises(ValueError, match="cannot be halved"):
            laplacian_pyramid(images, levels)


def test_filters_against_scipy():
    images = np.random.RandomState(0).standard_normal((2, 12, 8, 3)).astype(np.float32)
    taps = np.array([1, 4, 6, 4, 1]) / 16
    smooth = convolve1d(
        convolve1d(images, taps, axis=1, mode="nearest"), taps, axis=2, mode="nearest"
    )
    np.testing.assert_allclose(halve(images), smooth[:, ::2, ::2], atol=1e-6)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    spread = np.zeros((2, 28, 20, 3))
    spread[:, ::2, ::2] = 4 * padded
    larger = convolve1d(convolve1d(spread, taps, axis=1), taps, axis=2)
    np.testing.assert_allclose(double(images), larger[:, 2:-2, 2:-2], atol=1e-6)


def test_flat_colour_is_in_the_last_level_only():
    flat = np.full((1, 64, 64, 3), (10, 200, 77), np.uint8)
    pyramid = laplacian_pyramid(flat, 3)
    assert np.abs(pyramid[0]).max() < 1e-4 and np.abs(pyramid[1]).max() < 1e-4
    np.testing.assert_allclose(
        pyramid[2], np.broadcast_to([10, 200, 77], (1, 16, 16, 3)), rtol=1e-6
    )


def test_zero_for_equal_sets_and_the_same_each_time(faces, floor):
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    assert patch_wasserstein(faces[:20], faces[:20]) == {64: 0, 32: 0, 16: 0}
    assert patch_wasserstein(faces[100:], faces[:100]) == floor
    assert patch_wasserstein(faces[100:], faces[:100], seed=1) != floor
    assert np.array_equal(np.random.get_state()[1], before)


def test_levels_follow_the_size(faces):
    assert list(patch_wasserstein(faces[:4], faces[4:8])) == [64, 32, 16]
    smaller = faces[:, ::2, ::2]
    assert list(patch_wasserstein(smaller[:4], smaller[4:9])) == [32, 16]


@pytest.mark.parametrize(
    "corruption, raised, level",
    [("noise 10/255", 2, 64), ("3x3 blur", 3, 64), ("red +10/255", 1.5, 16)],
)
def test_each_level_sees_its_own(faces, floor, corruption, raised, level):
    corrupted = LADDER[corruption](faces[100:], np.random.RandomState(0))
    distances = patch_wasserstein(corrupted, faces[:100])
    times = {key: distances[key] / floor[key] for key in floor}
    assert times[level] > raised, times
    assert max(times, key=times.get) == level, times


def test_by_which_set_the_patches_are_normalised(faces):
    """Half the contrast: by its own statistics it would be lost, and swapped the scale differs."""
    grey = (faces // 2 + 64).astype(np.uint8)
    a, b = patch_wasserstein(grey, faces), patch_wasserstein(faces, grey)
    assert a[16] > 200
    for level in a:
        assert b[level] == pytest.approx(2 * a[level], rel=0.05)


def test_other_images_are_refused(faces):
    with pytest.raises(ValueError, match="one size"):
        patch_wasserstein(faces[:2, ::2, ::2], faces[:2])
    with pytest.raises(ValueError, match="uint8"):
        patch_wasserstein(faces[:2] / 255, faces[:2])
    with pytest.raises(ValueError, match="at least 16x16"):
        patch_wasserstein(faces[:2, :8], faces[:2, :8])
    with pytest.raises(ValueError, match="cannot be halved"):
        patch_wasserstein(faces[:2, :33, :33], faces[:2, :33, :33])
    flat = np.zeros_like(faces[:2])
    with pytest.raises(ValueError, match="flat at 64"):
        patch_wasserstein(faces[:2], flat)
