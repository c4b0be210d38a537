"""A page that is filled from top to bottom with text, pictures, tables and axes, all measured."""

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox

from fewstep.handin.writeup.geometry import (
    A4,
    FAMILY,
    MARGIN,
    MEASURING_DPI,
    TOLERANCE,
    WIDTH,
    contains,
    fractions,
    overlap,
    width_of,
)
from src.utils import UserError

SMALLEST = 8  # points; no text is smaller
SIZES = (10, 9.5, 9, 8.5, SMALLEST)  # of the body, tried in this order
LEADING = 1.38

INK, GREY = "#1a1a1a", "#5a5a5a"
STYLE = {
    "pdf.fonttype": 42,  # whole glyphs with their codes: text can be selected and searched
    "font.family": FAMILY,
    "axes.linewidth": 0.5,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.parse_math": False,
}


class Overfull(Exception):
    """The content does not fit at this size of text."""


def fitted(builds, name):
    """The `Page` that one of `builds` (page -> None) fills: the first that fits at the largest size
    of text at which any of them does.

    Raises `UserError` where none fits at the smallest.
    """
    for size in SIZES:
        for build in builds:
            page = Page(size)
            try:
                with matplotlib.rc_context(STYLE):
                    build(page)
                    page.check()
                return page
            except Overfull as error:
                reason = error
    raise UserError(f"{name} does not fit on its page at {SMALLEST} points: {reason}")


class Page:
    """An A4 page in points; `y` is the distance of the next block from the top edge.

    size: of the body text. Every method that adds a block raises `Overfull` where there is no room
    for it; `check` measures what was drawn.
    """

    def __init__(self, size):
        self.size, self.small = size, max(SMALLEST, size - 1)
        self.figure = Figure(figsize=(A4[0] / 72, A4[1] / 72), dpi=MEASURING_DPI)
        self.renderer = FigureCanvasAgg(self.figure).get_renderer()
        self.y = MARGIN
        self.blocks = []  # (name, artists)

    @property
    def room(self):
        """Points left above the lower margin."""
        return A4[1] - MARGIN - self.y

    def skip(self, points):
        """Leave `points` blank."""
        self.y += points

    def paragraph(self, text, size=None, weight="normal", colour=INK, indent=0, mark=""):
        """Text in lines; with `indent` all of them begin there; `mark` stands before the first."""
        size = size or self.size
        lines = self.lines(text, size, weight, WIDTH - indent)
        artists = []
        for place, line in enumerate(lines):
            baseline = self.y + size * (LEADING * place + 0.95)
            if mark and not place:
                artists.append(self.put(MARGIN, baseline, mark, size, weight, colour))
            artists.append(self.put(MARGIN + indent, baseline, line, size, weight, colour))
        self.take(len(lines) * size * LEADING, text[:30], artists)

    def heading(self, text):
        """A section's title with its space above and below."""
        self.skip(0.6 * self.size)
        self.paragraph(text, self.size + 2.5, "bold")
        self.skip(0.3 * self.size)

    def height_of(self, text, size):
        """Points that `paragraph` takes."""
        return len(self.lines(text, size, "normal", WIDTH)) * size * LEADING

    def pictures(self, image, height, label, left):
        """A PIL image from `left` points on, `height` high, its label in the space before it."""
        width = height * image.width / image.height
        axes = self.axes(left, self.y, width, height)
        axes.imshow(image, interpolation="none", aspect="auto")
        axes.set_axis_off()
        lines = label.split("\n")
        baseline = self.y + self.small + 0.5
        artists = [
            self.put(
                MARGIN,
                baseline + place * self.small * LEADING,
                line,
                self.small,
                "normal" if place else "bold",
                GREY if place else INK,
            )
            for place, line in enumerate(lines)
        ]
        self.blocks.append((f"picture {label}", [axes]))
        self.take(max(height, len(lines) * self.small * LEADING), f"label {label}", artists)

    def axes(self, left, top, width, height):
        """Axes whose frame lies there, in points from the page's upper left corner."""
        return self.figure.add_axes(fractions(left, top, width, height))

    def settle(self, axes, left, top, width, height, name):
        """Shrink the frame of `axes` until all that belongs to it lies in that rectangle."""
        wanted = Bbox.from_bounds(left, top, width, height)
        axes.set_position(fractions(left, top, width, height))
        drawn = self._extent(axes)
        x0, y0 = left + (wanted.x0 - drawn.x0), top + (wanted.y0 - drawn.y0)
        x1 = wanted.x1 - (drawn.x1 - wanted.x1)
        y1 = wanted.y1 - (drawn.y1 - wanted.y1)
        axes.set_position(fractions(x0, y0, x1 - x0, y1 - y0))
        self.blocks.append((name, [axes]))

    def lines(self, text, size, weight, width):
        """Words of `text` in lines of at most `width` points; longer words are cut."""
        # Word by word (nothing is kerned at a space): measuring a line anew at each of its words
        # would take most of the time.
        lines, line, taken = [], [], 0.0
        space = width_of(" ", size, weight)
        for word in text.split(" "):
            needed = width_of(word, size, weight)
            if line and taken + space + needed > width:
                lines.append(" ".join(line))
                line = []
            while needed > width:
                count = 1
                while width_of(word[: count + 1], size, weight) <= width:
                    count += 1
                lines.append(word[:count])
                word = word[count:]
                needed = width_of(word, size, weight)
            taken = taken + space + needed if line else needed
            line.append(word)
        return [*lines, " ".join(line)]

    def check(self):
        """Raise `Overfull` for a block outside the margins or over another one."""
        self.figure.draw_without_rendering()
        inside = Bbox.from_extents(MARGIN, MARGIN, A4[0] - MARGIN, A4[1] - MARGIN)
        boxes = []
        for name, artists in self.blocks:
            box = Bbox.union([self._extent(artist) for artist in artists])
            if not contains(inside, box):
                raise Overfull(f"“{name}” reaches into the margin")
            for other_name, other in boxes:
                if overlap(box, other):
                    raise Overfull(f"“{name}” lies over “{other_name}”")
            boxes.append((name, box))

    def take(self, height, name, artists):
        """Note a block of `artists` that begins at `y`, and go on below it. Raises `Overfull`."""
        if height > self.room + TOLERANCE:
            raise Overfull(f"no room for “{name}”")
        self.blocks.append((name, artists))
        self.y += height

    def put(self, x, y, text, size, weight, colour, align="left"):
        """One line of text with its baseline at `y`; returns the artist."""
        return self.figure.text(
            x / A4[0],
            1 - y / A4[1],
            text,
            fontsize=size,
            fontweight=weight,
            color=colour,
            horizontalalignment=align,
            verticalalignment="baseline",
            parse_math=False,
        )

    def rule(self, y):
        """A thin line across the column; returns the artist."""
        x = [MARGIN / A4[0], 1 - MARGIN / A4[0]]
        line = Line2D(x, [1 - y / A4[1]] * 2, linewidth=0.5, color=GREY)
        line.set_transform(self.figure.transFigure)
        return self.figure.add_artist(line)

    def _extent(self, artist):
        """What it covers, in points from the page's upper left corner."""
        box = artist.get_tightbbox(self.renderer)
        x0, y0, x1, y1 = (value * 72 / MEASURING_DPI for value in box.extents)
        return Bbox.from_extents(x0, A4[1] - y1, x1, A4[1] - y0)
