"""The loss curves of every phase of a run, as one picture."""

import math

COLUMNS = 3
WIDTH, ROW = 6.77, 1.55  # inches: the text of an A4 page, and a row of panels
COLOURS = ("#2b6cb0", "#dd6b20", "#718096")

# Panels, one for each phase that logs one of the keys: title -> {key: label}.
PANELS = {
    "loss": {"loss": "training", "heldout_loss": "held-out"},
    "warm start": {"warm_loss": "training"},
    "distillation": {"distill_loss": "training"},
    "fake score": {"fake_score_loss": "training"},
    "discriminator": {"disc_loss": "training"},
    "logits": {"logits_real": "training", "logits_fake": "generated", "logits_heldout": "held-out"},
}


def curves_of(rows):
    """{panel's title: {label: (steps, values)}} of all that the log has finite values for."""
    panels = {}
    for phase in dict.fromkeys(row["phase"] for row in rows):
        for title, keys in PANELS.items():
            curves = {label: _points(rows, phase, key) for key, label in keys.items()}
            curves = {label: curve for label, curve in curves.items() if curve[0]}
            if curves:
                panels[f"{phase.capitalize()}: {title}"] = curves
    return panels


def _points(rows, phase, key):
    rows = [row for row in rows if row["phase"] == phase and row.get(key) is not None]
    values = {row["step"]: row[key] for row in rows if math.isfinite(row[key])}
    return list(values), list(values.values())


def draw_curves(rows, path):
    """Draw all panels of the log into the SVG `path`; the same rows give the same file."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    panels = curves_of(rows)
    deep = -(-len(panels) // COLUMNS)
    with matplotlib.rc_context({"svg.hashsalt": "curves", "font.size": 7, "axes.linewidth": 0.5}):
        figure = Figure(figsize=(WIDTH, ROW * deep), layout="tight")
        for place, (title, curves) in enumerate(panels.items(), 1):
            _draw(figure.add_subplot(deep, COLUMNS, place), title, curves)
        FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})


def _draw(axes, title, curves):
    for (label, (steps, values)), colour in zip(curves.items(), COLOURS):
        form = "o" if len(steps) == 1 else "-"  # one point makes no line
        axes.plot(steps, values, form, label=label, color=colour, linewidth=1, markersize=3)
    every = [value for _, values in curves.values() for value in values]
    if min(every) > 0 and max(every) > 10 * min(every):
        axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.set_title(title, fontsize=8, loc="left")
    axes.grid(axis="y", linewidth=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.locator_params(axis="x", nbins=4)
    if len(curves) > 1:
        axes.legend(frameon=False, handlelength=1.2, labelspacing=0.25)
