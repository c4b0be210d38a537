"""What a run writes for people: rows of `log.jsonl`, the curves picture, the sample sheets."""

import json
import math
import os
from textwrap import fill

from src.utils import naming, whole_file

COLOURS = ("red", "green", "blue")  # of channels
# Scales on which a factor is a distance.
LOGARITHMIC = ("loss", "adversarial")
# Of the curves picture: 16 panels, more than any run has, are 1280x800 pixels.
PANEL_WIDTH, PANEL_HEIGHT, LEAST_WIDTH, DOTS = 3.2, 2.0, 6.4, 100  # inches, and dots in one
TITLE = 46  # letters that fit above a panel
MOST_MARKERS = 40  # on a curve


def read_rows(path):
    """Rows of a JSONL log; a last line cut off by a kill is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def append_row(path, row):
    """Add one row to the log, whole or not at all; a number that is not finite becomes null."""
    finite = {key: None if _is_lost(value) else value for key, value in row.items()}
    before = path.stat().st_size if path.exists() else 0
    try:
        with naming(path), open(path, "a") as file:
            file.write(json.dumps(finite) + "\n")
    except OSError:
        os.truncate(path, before)
        raise


def _is_lost(value):
    return isinstance(value, float) and not math.isfinite(value)


def sync_log(path):
    """Let all rows reach the disk, before a checkpoint says that they are there."""
    if path.exists():
        with open(path, "rb+") as file, naming(path):
            os.fsync(file.fileno())


def drop_rows_after(path, phase, step):
    """Forget rows of `phase` beyond `step`: the steps after a checkpoint are about to be redone."""
    rows = read_rows(path)
    kept = [row for row in rows if row["phase"] != phase or row["step"] <= step]
    if len(kept) < len(rows) or (path.exists() and not path.read_bytes().endswith(b"\n")):
        with whole_file(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))


def curves_of(rows, panels):
    """{title: {key: [(step, value), ...]}} of what there is to draw, see `draw_curves`."""
    curves = {}
    for phase, titles in panels.items():
        own = [row for row in rows if row["phase"] == phase]
        for title, keys in titles.items():
            lines = {
                key: [(row["step"], row[key]) for row in own if row.get(key) is not None]
                for key in keys
            }
            if lines := {key: points for key, points in lines.items() if points}:
                curves[title] = lines
    return curves


def draw_curves(rows, path, panels, healthy=None):
    """The curves of all rows as one PNG that fits a screen. panels: {phase: {title: keys drawn in
    it}}; one without any of its keys in the rows of its phase is left out. healthy: {key: (low,
    high)}, a band behind its curve."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves = curves_of(rows, panels)
    if not curves:
        return
    columns = math.ceil(math.sqrt(len(curves)))
    deep = math.ceil(len(curves) / columns)
    size = max(LEAST_WIDTH, PANEL_WIDTH * columns), PANEL_HEIGHT * deep
    figure = pyplot.figure(figsize=size)
    for place, (title, lines) in enumerate(curves.items(), 1):
        axis = figure.add_subplot(deep, columns, place)
        draw_panel(axis, title, lines, healthy or {})
        if place > len(curves) - columns:  # nothing is below it
            axis.set_xlabel("step", fontsize=7, labelpad=1)
    # Inches by hand: matplotlib's own layout takes as long as all the drawing.
    width, height = size
    figure.subplots_adjust(
        0.5 / width, 0.4 / height, 1 - 0.1 / width, 1 - 0.4 / height, wspace=0.22, hspace=0.5
    )
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=DOTS)
    pyplot.close(figure)


def draw_panel(axis, title, lines, healthy):
    """Draw {key: [(step, value), ...]} into one panel, with the bands of `draw_curves`."""
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
    axis.set_title(fill(title, TITLE), fontsize=8, loc="left")
    axis.tick_params(which="both", labelsize=7)
    axis.legend(fontsize=6, labelspacing=0.2)
