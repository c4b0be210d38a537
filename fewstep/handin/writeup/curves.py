"""The loss curves of every phase of a run, as one picture."""

from textwrap import fill

from fewstep.engine.curves import curves_of
from fewstep.runs.settings import PANELS

COLUMNS = 3
WIDTH, ROW = 6.77, 1.55  # inches: the text of an A4 page, and a row of panels
TITLE = 42  # characters that fit above a panel
COLOURS = ("#2b6cb0", "#dd6b20", "#718096")

# Of all panels those of losses, and of what the discriminator answers.
LOSSES = {
    phase: {title: one for title, one in panels.items() if "loss" in title or "logits" in title}
    for phase, panels in PANELS.items()
}


def draw_curves(rows, path):
    """Draw all panels of the log into the SVG `path`; the same rows give the same file."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    panels = curves_of(rows, LOSSES)
    deep = -(-len(panels) // COLUMNS)
    with matplotlib.rc_context({"svg.hashsalt": "curves", "font.size": 7, "axes.linewidth": 0.5}):
        figure = Figure(figsize=(WIDTH, ROW * deep), layout="tight")
        for place, (title, curves) in enumerate(panels.items(), 1):
            _draw(figure.add_subplot(deep, COLUMNS, place), title, curves)
        FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})


def _draw(axes, title, curves):
    for (key, points), colour in zip(curves.items(), COLOURS):
        form = "o" if len(points) == 1 else "-"  # one point makes no line
        axes.plot(*zip(*points), form, label=key, color=colour, linewidth=1, markersize=3)
    values = [value for points in curves.values() for _, value in points]
    if min(values) > 0 and max(values) > 10 * min(values):
        axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_title(fill(title, TITLE), fontsize=7, loc="left")
    axes.grid(axis="y", linewidth=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.locator_params(axis="x", nbins=4)
    if len(curves) > 1:
        axes.legend(frameon=False, handlelength=1.2, labelspacing=0.25)
