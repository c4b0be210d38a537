"""Colour statistics by hand and against NumPy."""

import numpy as np
import pytest

from fewstep.scores.pixels import channel_difference, channel_statistics


def test_by_hand():
    images = np.zeros((2, 1, 2, 3), np.uint8)
    images[..., 0] = 10
    images[0, ..., 1] = 4  # half of the pixels 4, half 0
    images[0, 0, 0, 2] = 200  # one of four
    statistics = channel_statistics(images)
    assert statistics["mean"] == [10, 2, 50]
    assert statistics["std"] == pytest.approx([0, 2, 50 * 3**0.5])


def test_against_numpy():
    images = np.random.RandomState(0).randint(0, 256, (5, 8, 6, 3)).astype(np.uint8)
    statistics = channel_statistics(images)
    pixels = images.reshape(-1, 3).astype(np.float64)
    assert statistics["mean"] == pytest.approx(pixels.mean(axis=0).tolist(), rel=1e-12)
    assert statistics["std"] == pytest.approx(pixels.std(axis=0).tolist(), rel=1e-12)


def test_difference():
    reference = np.zeros((3, 4, 4, 3), np.uint8)
    reference[:, ::2] = (100, 50, 20)
    generated = np.zeros((2, 4, 4, 3), np.uint8)  # another count
    generated[:, ::2] = (100, 100, 20)
    generated[..., 2] += 7
    assert channel_difference(generated, reference) == pytest.approx(
        dict(mean_r=0, mean_g=25, mean_b=7, contrast_r=1, contrast_g=2, contrast_b=1)
    )


def test_other_images_are_refused():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    for other in (images / 255, images[0], images[..., :2], images[:0]):
        with pytest.raises(ValueError, match="uint8"):
            channel_statistics(other)
    with pytest.raises(ValueError, match="one value only"):
        channel_difference(images, images)
