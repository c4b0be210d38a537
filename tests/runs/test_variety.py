"""What is odd about images is said before training on them."""

import numpy as np
import pytest

from fewstep.images import ImageSets
from fewstep.images.cache import cached_images
from fewstep.runs.variety import check_variety, oddities, visible_colour
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


@pytest.mark.parametrize("count, said", [(99, True), (100, False)])
def test_images_that_will_be_learnt_by_heart_are_said(images_of, capsys, count, said):
    check_variety(ImageSets(images_of(*range(count)), images_of(200), "grey"))
    line = f"warning: only {count} training images: they will be learnt by heart"
    assert (line in capsys.readouterr().out) == said


@pytest.mark.parametrize("first, offset, said", [(5, 0, True), (80, 0, False), (5, 0.3, False)])
def test_a_first_level_that_leaves_the_mean_colour_visible_is_said(images_of, first, offset, said):
    """Greys 90 to 165 differ by 0.42 (standard deviation); noise of 64x64 pixels moves a mean by a
    64th of its level, and offset noise by that offset times the level."""
    images = images_of(*range(60, 200, 5))
    config = {"few_step_sigmas": {"1": [first], "2": [first, 0.5]}, "noise_offset": offset}
    line = visible_colour(config, images)
    assert bool(line) == said
    if said:
        assert "by 0.078" in line and "differ by 0.32" in line and "begin at 41 or more" in line


def test_models_without_levels_have_no_first_level(images_of):
    assert visible_colour({"model_type": "rectified_flow"}, images_of(1, 2)) == ""
