"""The page's noise: its numbers are pinned, and it is noise."""

import numpy as np
import pytest

from fewstep.handin.page.noise import draw_noise, normal_values, pcg4d

SHAPE = (3, 64, 64)


def test_its_words_are_those_of_pcg4d():
    """The published code, in whole numbers of Python."""
    for words in ([0, 0, 0, 0], [1, 2, 3, 4], [3072, 3, 7, 2**32 - 1]):
        x, y, z, w = (word * 1664525 + 1013904223 for word in words)
        for shift in (16, 32):
            x = (x + y * w) % 2**32
            y = (y + z * x) % 2**32
            z = (z + x * y) % 2**32
            w = (w + y * z) % 2**32
            x, y, z, w = (word ^ (word >> shift) for word in (x, y, z, w))
        assert [int(word) for (word,) in pcg4d(*np.uint32(words)[:, None])] == [x, y, z, w]


def test_its_values_are_pinned():
    """A page of before gives the same images by the same seed."""
    values = normal_values(seed=7, image=2, draw=1, blocks=[0, 5])
    expected = [1.3146194663, -0.0585531871, -0.8347848832, 1.1952448601]  # of block 0
    expected += [1.9730703896, 0.1981255126, -0.7730849965, 1.2979340527]  # and of block 5
    np.testing.assert_allclose(values, expected, atol=1e-9)
    noise = draw_noise(7, 2, 1, SHAPE)
    assert noise.dtype == np.float32 and noise.shape == SHAPE
    np.testing.assert_allclose(noise.ravel()[[0, 1, 2, 3, 20, 21, 22, 23]], expected, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_it_is_white_and_of_unit_variance(seed):
    noise = np.stack([draw_noise(seed, image, 0, SHAPE) for image in range(4)]).astype(float)
    assert abs(noise.mean()) < 0.02 and abs(noise.var() - 1) < 0.03
    assert abs((noise**3).mean()) < 0.06 and abs((noise**4).mean() - 3) < 0.2
    spectrum = np.abs(np.fft.rfft(noise.reshape(4, -1), axis=1)) ** 2 / noise[0].size
    assert spectrum.max() < 25  # exponential of mean 1: no wave stands out


def test_every_number_of_its_address_gives_other_noise():
    plain = draw_noise(5, 5, 1, SHAPE).ravel()
    for address in ((6, 5, 1), (5, 6, 1), (5, 5, 2), (1, 5, 5)):
        other = draw_noise(*address, SHAPE).ravel()
        assert abs(np.corrcoef(plain, other)[0, 1]) < 0.04  # 4 of its standard deviations


def test_the_offset_is_one_number_a_channel():
    plain, shifted = (draw_noise(3, 0, 0, SHAPE, offset) for offset in (0.0, 0.5))
    shifts = (shifted - plain).reshape(3, -1)
    assert np.ptp(shifts, axis=1).max() < 1e-6
    drawn = [
        (draw_noise(3, image, 0, (3, 2, 2), 1.0) - draw_noise(3, image, 0, (3, 2, 2)))[:, 0, 0]
        for image in range(500)
    ]
    assert np.abs(np.mean(drawn, axis=0)).max() < 0.2 and abs(np.std(drawn) - 1) < 0.1
