"""The loss curves of both phases, as panels of the write-up."""

import math
from typing import NamedTuple

from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

from fewstep.handin.writeup.geometry import MARGIN, WIDTH
from fewstep.handin.writeup.pages import SMALLEST, Overfull

LOWEST, HIGHEST = 92, 175  # points of a row of panels
GAP = 14
WIDE = 10  # a larger ratio of values is drawn on a logarithmic scale
COLOURS = ("#2b6cb0", "#dd6b20", "#718096")


class Panel(NamedTuple):
    """Some keys of one phase's log rows, under one title."""

    title: str
    phase: str
    keys: dict  # key -> label


PANELS = [
    Panel("Teacher: denoising", "teacher", {"loss": "training", "heldout_loss": "held-out"}),
    Panel("Student: warm start", "student", {"warm_loss": "training"}),
    Panel("Student: distillation", "student", {"distill_loss": "training"}),
    Panel("Fake score: denoising", "student", {"fake_score_loss": "training"}),
    Panel("Discriminator: loss", "student", {"disc_loss": "training"}),
    Panel(
        "Discriminator: logits",
        "student",
        {"logits_real": "training", "logits_fake": "generated", "logits_heldout": "held-out"},
    ),
]


def points_of(rows, phase, key):
    """(steps, values) of one curve; values that are not finite are left out."""
    points = [(row["step"], row[key]) for row in rows if row["phase"] == phase and key in row]
    points = [point for point in points if point[1] is not None and math.isfinite(point[1])]
    return [step for step, _ in points], [value for _, value in points]


def curve_panels(rows):
    """The panels that the log has values for."""
    return [
        panel for panel in PANELS if any(points_of(rows, panel.phase, key)[0] for key in panel.keys)
    ]


def draw_panels(page, rows, reserved):
    """Fill `page` with all panels, but leave `reserved` points. Raises `Overfull`."""
    panels = curve_panels(rows)
    columns = 2 if len(panels) in (2, 4) else 3
    deep = -(-len(panels) // columns)
    height = min(HIGHEST, (page.room - reserved - GAP * (deep - 1)) / deep)
    if height < LOWEST:
        raise Overfull("no room for the loss curves")
    width = (WIDTH - GAP * (columns - 1)) / columns
    top = page.y
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        left = MARGIN + column * (width + GAP)
        axes = page.axes(left, top, width, height)
        _draw(axes, rows, panel)
        place_in_page = left, top + row * (height + GAP), width, height
        page.settle(axes, *place_in_page, f"curves {panel.title}")
    page.skip(deep * height + (deep - 1) * GAP)


def _draw(axes, rows, panel):
    every = []
    for (key, label), colour in zip(panel.keys.items(), COLOURS):
        steps, values = points_of(rows, panel.phase, key)
        if steps:
            form = "o" if len(steps) == 1 else "-"  # one point makes no line
            axes.plot(steps, values, form, label=label, color=colour, linewidth=1.1, markersize=3)
            every += values
    last = max(row["step"] for row in rows if row["phase"] == panel.phase)
    axes.set_xlim(0, last)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    low, high = min(every), max(every)
    if low > 0 and high > WIDE * low:
        axes.set_yscale("log")
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1, 3) if high > 100 * low else (1, 2, 5)
        ticks = [digit * 10.0**decade for decade in decades for digit in steps]
        axes.yaxis.set_major_locator(FixedLocator([t for t in ticks if low <= t <= high]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(labelsize=SMALLEST, length=2.5, width=0.5, pad=2)
    axes.grid(axis="y", linewidth=0.3, alpha=0.6)
    axes.set_title(panel.title, fontsize=SMALLEST + 0.5, loc="left", pad=5)
    if len(axes.lines) > 1:
        axes.legend(fontsize=SMALLEST, frameon=False, handlelength=1.2, labelspacing=0.25)
