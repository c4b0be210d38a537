"""The picture of a run's curves, which should answer one question: is this normal?"""

import math
from textwrap import fill
from typing import NamedTuple

from src.utils import whole_file

COLOURS = ("red", "green", "blue")  # of channels
# Scales on which a factor is a distance.
LOGARITHMIC = ("loss", "adversarial")
# Of the picture: 16 panels, more than any run has, are 1280x800 pixels.
PANEL_WIDTH, PANEL_HEIGHT, LEAST_WIDTH, DOTS = 3.2, 2.0, 6.4, 100  # inches, and dots in one
TITLE, NORMAL, FOOT = 46, 60, 50  # letters that fit above a panel, and below it for each column
NORMAL_SIZE = 6  # points
MOST_MARKERS = 40  # on a curve
CONCERN = dict(color="tab:red", linestyle=":", linewidth=1)


class Panel(NamedTuple):
    """What is drawn in a panel: keys of rows, a curve each; normal: how healthy ones look, in one
    short sentence, which stands above them."""

    keys: list
    normal: str = ""


def curves_of(rows, panels):
    """{title: {key: [(step, value), ...]}} of what there is to draw, see `draw_curves`."""
    curves = {}
    for phase, titles in panels.items():
        own = [row for row in rows if row["phase"] == phase]
        for title, panel in titles.items():
            lines = {
                key: [(row["step"], row[key]) for row in own if row.get(key) is not None]
                for key in panel.keys
            }
            if lines := {key: points for key, points in lines.items() if points}:
                curves[title] = lines
    return curves


def concerns_of(rows):
    """{phase: {step: names}} of the sentinels that spoke, which are rows of their own."""
    spoken = {}
    for row in rows:
        if "concern" in row:
            spoken.setdefault(row["phase"], {}).setdefault(row["step"], []).append(row["concern"])
    return spoken


def draw_curves(rows, path, panels, healthy=None):
    """The curves of all rows as one PNG that fits a screen. panels: {phase: {title: `Panel`}}; one
    without any of its keys in the rows of its phase is left out. healthy: {key: (low, high)}, a
    band behind its curve. Where a sentinel spoke, a line goes through all panels of its phase."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves, spoken = curves_of(rows, panels), concerns_of(rows)
    if not curves:
        return
    of_title = {title: (phase, panels[phase][title]) for phase in panels for title in panels[phase]}
    columns = math.ceil(math.sqrt(len(curves)))
    deep = math.ceil(len(curves) / columns)
    width, height = size = max(LEAST_WIDTH, PANEL_WIDTH * columns), PANEL_HEIGHT * deep
    figure = pyplot.figure(figsize=size)
    for place, (title, lines) in enumerate(curves.items(), 1):
        phase, panel = of_title[title]
        axis = figure.add_subplot(deep, columns, place)
        draw_panel(axis, title, lines, healthy or {}, panel.normal, spoken.get(phase, {}))
        if place > len(curves) - columns:  # nothing is below it
            axis.set_xlabel("step", fontsize=7, labelpad=1)
    foot = fill(concerns_text(spoken), FOOT * round(width / PANEL_WIDTH))
    figure.text(0.1 / width, 0.05 / height, foot, fontsize=7, color=CONCERN["color"])
    # Inches by hand: matplotlib's own layout takes as long as all the drawing.
    below, above = (0.4 + 0.12 * len(foot.splitlines())) / height, 1 - 0.5 / height
    figure.subplots_adjust(0.5 / width, below, 1 - 0.1 / width, above, wspace=0.22, hspace=0.62)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DOTS)
    pyplot.close(figure)


def concerns_text(spoken):
    """What the dotted lines of {phase: {step: names}} are, one line; empty where there are none."""
    texts = [
        f"{phase}, step {step:,}: {', '.join(names)}"
        for phase, steps in spoken.items()
        for step, names in steps.items()
    ]
    return f"dotted: a sentinel spoke ({'; '.join(texts)})" if texts else ""


def draw_panel(axis, title, lines, healthy, normal="", spoken=()):
    """Draw {key: [(step, value), ...]} into one panel, with the bands of `draw_curves`. normal: see
    `Panel`. spoken: steps at which a sentinel spoke."""
    bands = {}
    for key, points in lines.items():
        colour = key.rpartition("_")[2]
        colour = f"tab:{colour}" if colour in COLOURS else None
        style = dict(marker="o", markersize=2.5, markevery=math.ceil(len(points) / MOST_MARKERS))
        (line,) = axis.plot(*zip(*points), label=key, linewidth=1, color=colour, **style)
        if key in healthy:
            bands.setdefault(healthy[key], []).append(line.get_color())
    values = [value for points in lines.values() for _, value in points]
    # Values below 0 would be missing; and within a factor of 10 there may be no number to read.
    if title.endswith(LOGARITHMIC) and max(values) > 10 * min(values) > 0:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
    limits = axis.get_ylim()  # of the curves: a band may be many times as high
    for (low, high), colours in bands.items():
        colour = colours[0] if len(colours) == 1 and len(lines) > 1 else "tab:green"
        axis.axhspan(low, high, color=colour, alpha=0.12, label=f"healthy: {low:g} to {high:g}")
    axis.set_ylim(limits)
    for step in spoken:
        axis.axvline(step, **CONCERN)
    normal = fill(normal, NORMAL)
    gap = 3 + 1.3 * NORMAL_SIZE * len(normal.splitlines())  # points, for the sentence
    axis.set_title(fill(title, TITLE), fontsize=8, loc="left", pad=gap)
    place = dict(xycoords="axes fraction", textcoords="offset points", va="bottom")
    axis.annotate(normal, (0, 1), (0, 2), fontsize=NORMAL_SIZE, color="dimgrey", **place)
    axis.tick_params(which="both", labelsize=7)
    axis.legend(fontsize=6, labelspacing=0.2)
