"""Tables and paragraphs for a terminal."""

import pytest

from src.formatting import paragraphs, terminal_width, text_table

HEADER = ["images", "distance", "AUC"]
ROWS = [["real training images", "2.01 ± 0.06", "0.73"], ["student", "28.69 ± 0.38", "1.00"]]


def test_columns_are_aligned():
    assert text_table(HEADER, ROWS, 80) == (
        "images                    distance   AUC\n"
        "real training images   2.01 ± 0.06  0.73\n"
        "student               28.69 ± 0.38  1.00"
    )


def test_the_first_column_gets_more_lines_before_the_last_one_is_left_out():
    narrow = text_table(HEADER, ROWS, 36).splitlines()
    assert narrow[1:3] == ["real training      2.01 ± 0.06  0.73", "  images"]
    assert "AUC" in narrow[0] and "AUC" not in text_table(HEADER, ROWS, 35)


@pytest.mark.parametrize("width", [20, 36, 80])
def test_no_line_is_longer(width):
    rows = [*ROWS, ["disc=timm:" + "x" * 200, "failed", ""], ["", "", ""]]
    text = text_table(HEADER, rows, width)
    assert max(map(len, text.splitlines())) <= width and text.count("x") == 200
    words = paragraphs(["a word and " * 40, "another"], width).splitlines()
    assert max(map(len, words)) <= width and words[-1] == "another"


@pytest.mark.parametrize("columns, width", [("60", 80), ("99", 80), ("100", 100), ("250", 100)])
def test_a_line_has_80_or_100_characters(monkeypatch, columns, width):
    monkeypatch.setenv("COLUMNS", columns)
    assert terminal_width() == width
