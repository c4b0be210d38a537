"""Sheets of pictures: where images and labels stand, and what is read back."""

import numpy as np
import pytest
from PIL import Image

from src.sheets import GAP, LABEL_HEIGHT, first_rows, numbered, picture_sheet
from src.utils import UserError


def random_pixels(count, side=64):
    return np.random.RandomState(0).randint(0, 255, (count, side, side, 3)).astype(np.uint8)


def test_images_stand_row_by_row():
    pixels = np.stack([np.full((4, 4, 3), 10 * i, np.uint8) for i in range(5)])
    sheet = np.asarray(picture_sheet(pixels, columns=3, scale=2, gap=2))
    assert sheet.shape == (2 * 10 + 2, 3 * 10 + 2, 3)
    assert sheet[5, 5, 0] == 0 and sheet[5, 25, 0] == 20 and sheet[15, 15, 0] == 40
    assert sheet[0, 0, 0] == 255 and sheet[15, 25, 0] == 255


def test_each_label_stands_above_its_row():
    pixels = np.full((4, 64, 64, 3), 128, np.uint8)
    sheet = np.asarray(picture_sheet(pixels, 2, labels=["first", "second"]))
    step = LABEL_HEIGHT + 2 * 64 + GAP
    assert sheet.shape == (2 * step + GAP, 2 * 130 + GAP, 3)
    first, second = (sheet[top : top + LABEL_HEIGHT] for top in (0, step))
    assert first.min() < 100 and second.min() < 100 and not np.array_equal(first, second)
    for top in (LABEL_HEIGHT + GAP, step + LABEL_HEIGHT + GAP):
        assert np.all(sheet[top : top + 128, GAP : GAP + 128] == 128)
    with pytest.raises(ValueError, match="1 labels for 2 rows"):
        picture_sheet(pixels, 2, labels=["first"])


def test_rows_of_one_kind_are_numbered():
    assert numbered("NFE 1", 5, 3) == ["NFE 1, images 0 to 2", "NFE 1, images 3 to 4"]


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_first_rows_are_read_back_without_labels(tmp_path, scale, count):
    pixels = random_pixels(24)
    plain = picture_sheet(pixels, 8, scale)
    plain.save(tmp_path / "plain.png")
    picture_sheet(pixels, 8, scale, labels=["a", "b", "c"]).save(tmp_path / "labelled.png")
    height = min(count, 3) * (64 * scale + GAP) + GAP
    expected = np.asarray(plain)[:height]
    for name in ("plain", "labelled"):
        assert np.array_equal(np.asarray(first_rows(tmp_path / f"{name}.png", count)), expected)


def test_what_is_no_sheet_is_named(tmp_path):
    picture_sheet(random_pixels(8, 60)).save(tmp_path / "other.png")
    with pytest.raises(UserError, match="other.png: not a sheet of 64×64 pictures"):
        first_rows(tmp_path / "other.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "small.png")
    with pytest.raises(UserError, match="small.png: not a sheet"):
        first_rows(tmp_path / "small.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match="text.png: not readable as a picture"):
        first_rows(tmp_path / "text.png")
