"""What is odd about images is said before training on them."""

import numpy as np
import pytest

from fewstep.images import ImageSets
from fewstep.images.cache import cached_images
from fewstep.runs.variety import check_variety, oddities
from src.utils import UserError


@pytest.fixture
def images_of(tmp_path):
    """values -> a set of images, each of its grey value alone."""

    def make(*values):
        pixels = [np.full((64, 64, 3), value, np.uint8) for value in values]
        digest = "-".join(map(str, values))
        return cached_images(tmp_path, digest, len(values), lambda: iter(pixels))

    return make


def test_different_images_give_no_line(images_of):
    assert oddities(images_of(1, 2, 3, 4), images_of(5, 6)) == []


def test_copies_are_counted(images_of):
    (line,) = oddities(images_of(1, 1, 1, 1, 2), images_of(3))
    assert line == "of 5 training images only 2 differ"


def test_images_in_both_sets_are_counted(images_of):
    (line,) = oddities(images_of(1, 2, 3), images_of(3, 4))
    assert line.startswith("1 of 2 held-out images are training images too")


@pytest.mark.parametrize("value", [0, 127, 255])
def test_images_of_one_colour_are_an_error(images_of, value):
    with pytest.raises(UserError, match="grey: all training images are of one colour"):
        check_variety(ImageSets(images_of(value, value), images_of(5), "grey"))
