"""What is where on an A4 page: points from its upper left corner, and which glyphs there are."""

from functools import cache

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, findfont, get_font

from src.utils import UserError

A4 = (210 / 25.4 * 72, 297 / 25.4 * 72)  # points
MARGIN = 54
WIDTH = A4[0] - 2 * MARGIN
TOLERANCE = 0.5  # points
FAMILY = "DejaVu Sans"  # comes with matplotlib
MEASURING_DPI = 288  # at 72 the pixel grid would falsify the widths of small letters


def fractions(left, top, width, height):
    """A rectangle in points -> left, bottom, width, height as shares of the page."""
    return [left / A4[0], 1 - (top + height) / A4[1], width / A4[0], height / A4[1]]


def contains(outer, inner):
    """Whether the box `inner` lies in `outer`."""
    low = inner.x0 >= outer.x0 - TOLERANCE and inner.y0 >= outer.y0 - TOLERANCE
    return low and inner.x1 <= outer.x1 + TOLERANCE and inner.y1 <= outer.y1 + TOLERANCE


def overlap(a, b):
    """Whether two boxes share more than an edge."""
    across = min(a.x1, b.x1) - max(a.x0, b.x0)
    down = min(a.y1, b.y1) - max(a.y0, b.y0)
    return across > TOLERANCE and down > TOLERANCE


@cache
def width_of(text, size, weight):
    """Points that one line of text takes. Raises `UserError` for letters that the font lacks, which
    would be drawn as empty boxes."""
    properties = FontProperties(family=FAMILY, size=size, weight=weight)
    font = get_font(findfont(properties))
    absent = [letter for letter in text if not font.get_char_index(ord(letter))]
    if absent:
        raise UserError(f"“{text}”: {FAMILY} has no {''.join(absent)!r}; write it in other letters")
    renderer = RendererAgg(1, 1, MEASURING_DPI)
    width, _, _ = renderer.get_text_width_height_descent(text, properties, False)
    return width * 72 / MEASURING_DPI
