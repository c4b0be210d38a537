"""Sheets of pictures: many images in one, a label above each row, and how they are read again."""

import numpy as np
from PIL import Image, ImageDraw

from src.errors import UserError

SIDE = 64  # pixels of an image of ours
SCALE, GAP = 2, 2
LABEL_HEIGHT = 16  # pixels of the line above a row
SCALES = (2, 1, 3, 4)  # that are looked for in a sheet that is read


def picture_sheet(pixels, columns=8, scale=SCALE, gap=GAP, labels=None):
    """Tile uint8 images `[N, H, W, 3]` into one PIL image, row by row, each enlarged by `scale`.

    labels: a text for each row, which stands above it; None: no row has one. Raises `ValueError`
    for another number of labels.
    """
    pixels = np.asarray(pixels).repeat(scale, axis=1).repeat(scale, axis=2)
    columns = min(columns, len(pixels))
    missing = -len(pixels) % columns  # of the last row
    white, above = dict(constant_values=255), LABEL_HEIGHT if labels else 0
    pixels = np.pad(pixels, ((0, missing), (gap, 0), (gap, 0), (0, 0)), **white)
    rows = [
        np.pad(np.concatenate(list(row), axis=1), ((above, 0), (0, 0), (0, 0)), **white)
        for row in pixels.reshape(-1, columns, *pixels.shape[1:])
    ]
    if labels and len(labels) != len(rows):
        raise ValueError(f"{len(labels)} labels for {len(rows)} rows")
    sheet = Image.fromarray(np.pad(np.concatenate(rows), ((0, gap), (0, gap), (0, 0)), **white))
    for place, label in enumerate(labels or []):
        draw_label(sheet, place * len(rows[0]), label)
    return sheet


def draw_label(sheet, top, text):
    """Write a row's label into the free line of a PIL image that begins at `top`."""
    ImageDraw.Draw(sheet).text((4, top + 2), text, fill="black")


def numbered(title, count, columns):
    """Labels for the rows of `count` images of one kind: the title, and which images they are."""
    firsts = range(0, count, columns)
    return [f"{title}, images {a} to {min(a + columns, count) - 1}" for a in firsts]


def first_rows(path, count=1):
    """The first rows of pictures of the sheet in a file, without labels, as one PIL image. Raises
    `UserError` where it is no sheet of `picture_sheet`, with labels or without."""
    try:
        image = Image.open(path).convert("RGB")
    except OSError as error:
        raise UserError(f"{path}: not readable as a picture") from error
    for scale in SCALES:
        cell = scale * SIDE + GAP
        for above in (0, LABEL_HEIGHT):
            columns, beside = divmod(image.width - GAP, cell)
            rows, below = divmod(image.height - GAP, cell + above)
            if min(columns, rows) > 0 and not (beside or below):
                return _joined(image, min(count, rows), cell, above)
    raise UserError(f"{path}: not a sheet of {SIDE}×{SIDE} pictures")


def _joined(image, count, cell, above):
    """So many rows of a sheet below each other, the lines `above` them left out."""
    joined = Image.new("RGB", (image.width, count * cell + GAP), "white")
    for place in range(count):
        top = place * (cell + above) + above
        row = image.crop((0, top, image.width, top + cell + GAP))
        joined.paste(row, (0, place * cell))
    return joined
