"""The picture of a run's curves: all that there is, a healthy band, and where a sentinel spoke."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from fewstep.engine.curves import (
    Panel,
    concerns_of,
    concerns_text,
    curves_of,
    draw_curves,
    draw_panel,
)
from fewstep.runs.settings import HEALTHY, PANELS


def test_a_panel_draws_the_rows_of_its_phase_alone():
    """Two phases log a loss of the same name."""
    rows = [{"phase": "one", "step": 1, "loss": 2.0}, {"phase": "two", "step": 1, "loss": 3.0}]
    rows.append({"phase": "two", "step": 2, "loss": None})
    panels = {"one": {"first": Panel(["loss", "other"])}, "two": {"second": Panel(["loss"])}}
    panels["absent"] = {"third": Panel(["loss"])}
    assert curves_of(rows, panels) == {
        "first": {"loss": [(1, 2.0)]},
        "second": {"loss": [(1, 3.0)]},
    }


def test_the_curves_fit_a_screen_whatever_there_is_to_draw(tmp_path):
    for count in (1, 2, 3, 7, 16):
        keys = [f"key{place}" for place in range(count)]
        rows = [{"phase": "one", "step": step, **dict.fromkeys(keys, 0.5)} for step in (1, 2)]
        path, panels = (
            tmp_path / f"{count}.png",
            {"one": {f"panel {key}": Panel([key]) for key in keys}},
        )
        draw_curves(rows, path, panels)
        width, height = Image.open(path).size
        assert 640 <= width <= 1280 and height <= 800, count
    draw_curves([], tmp_path / "none.png", {"one": {"first": Panel(["key0"])}})
    assert not (tmp_path / "none.png").exists()


def panel_of(lines, healthy=None, title="loss"):
    axis = Figure().add_subplot()
    draw_panel(axis, title, lines, healthy or {})
    return axis


def test_a_curve_has_markers_so_that_a_single_point_is_seen():
    for count in (1, 5, 1000):
        (line,) = panel_of({"loss": [(step, 1.0) for step in range(count)]}).lines
        shown = len(range(0, count, line.get_markevery()))
        assert line.get_marker() == "o" and min(count, 5) <= shown <= 40


@pytest.mark.parametrize(
    "values, scale", [([1, 20], "log"), ([1, 5], "linear"), ([-1, 20], "linear"), ([0], "linear")]
)
def test_no_value_is_missing_on_a_logarithmic_scale(values, scale):
    assert panel_of({"loss": list(enumerate(values))}).get_yscale() == scale
    assert panel_of({"loss": list(enumerate(values))}, title="spread").get_yscale() == "linear"


def test_healthy_bands_stand_behind_the_curves_and_do_not_widen_the_panel():
    points = [(1, 1.0), (2, 1.2)]
    bare = panel_of({"a": points})
    axis = panel_of({"a": points, "b": points, "c": points}, {"a": (0.5, 2), "b": (-9, 1.1)})
    assert len(axis.patches) == 2 and axis.get_ylim() == bare.get_ylim()
    texts = [text.get_text() for text in axis.get_legend().get_texts()]
    assert texts == ["a", "b", "c", "healthy: 0.5 to 2", "healthy: -9 to 1.1"]
    both = panel_of({"a": points, "b": points}, {"a": (0, 1), "b": (0, 1)})
    assert len(both.patches) == 1, "one band where all have the same"


BESIDE = 10  # dots between the last column and the edge of the picture
ROWS = [{"phase": "student", "step": step, "spread": 1.0, "loss": 2.0} for step in (50, 100, 150)]
ROWS += [{"phase": "teacher", "step": 100, "loss": 2.0}]
CONCERN = {"phase": "student", "step": 100, "concern": "spread", "text": "spread = 0.1"}
PARTED = {"student": {"first": Panel(["spread"]), "second": Panel(["loss"])}}
PARTED["teacher"] = {"third": Panel(["loss"])}


def drawn(monkeypatch, path, rows, panels):
    """The figure as it is saved."""
    from matplotlib import pyplot

    figures = []
    monkeypatch.setattr(pyplot, "close", figures.append)
    draw_curves(rows, path, panels)
    monkeypatch.undo()
    pyplot.close(figures[0])
    return figures[0]


def test_where_a_sentinel_spoke_a_line_goes_through_the_panels_of_its_phase(tmp_path, monkeypatch):
    figure = drawn(monkeypatch, tmp_path / "curves.png", [*ROWS, CONCERN], PARTED)
    marked = {}
    for axis in figure.axes:
        lines = [line for line in axis.lines if line.get_linestyle() == ":"]
        marked[axis.get_title(loc="left")] = [line.get_xdata()[0] for line in lines]
    assert marked == {"first": [100], "second": [100], "third": []}
    (foot,) = figure.texts
    assert foot.get_text() == "dotted: a sentinel spoke (student, step 100: spread)"
    plain = drawn(monkeypatch, tmp_path / "plain.png", ROWS, PARTED)
    assert plain.texts[0].get_text() == ""


def test_all_that_spoke_are_named():
    more = [CONCERN, CONCERN | {"concern": "detail"}, CONCERN | {"step": 1500}]
    text = "student, step 100: spread, detail; student, step 1,500: spread"
    assert concerns_text(concerns_of(more)) == f"dotted: a sentinel spoke ({text})"
    assert concerns_text({}) == ""


def inside(box, outer):
    return box.x0 >= outer.x0 and box.x1 <= outer.x1 and box.y0 >= outer.y0 and box.y1 <= outer.y1


@pytest.mark.parametrize("phases", [["teacher", "student"], *([name] for name in PANELS)], ids=str)
def test_no_text_of_a_run_lies_over_another_panel_or_beyond_the_picture(
    tmp_path, monkeypatch, phases
):
    """With all panels that a run can have, and as many sentinels as there are."""
    rows = []
    for phase in phases:
        keys = [key for panel in PANELS[phase].values() for key in panel.keys]
        rows += [{"phase": phase, "step": at, **dict.fromkeys(keys, 0.1 * at)} for at in (1, 20)]
    rows += [CONCERN | {"phase": phases[-1], "step": at} for at in (10, 20, 30, 40)]
    figure = drawn(monkeypatch, tmp_path / "curves.png", rows, {one: PANELS[one] for one in phases})
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    cells = [axis.get_window_extent(renderer) for axis in figure.axes]
    for axis in figure.axes:
        texts = [axis._left_title, *axis.texts]
        for box in (text.get_window_extent(renderer) for text in texts if text.get_text()):
            assert inside(box, figure.bbox), axis.get_title(loc="left")
            assert box.x1 <= axis.bbox.x1 + BESIDE, "or in the last column it is cut off"
            assert not any(box.overlaps(cell) for cell in cells), axis.get_title(loc="left")
        title, normal = (text.get_window_extent(renderer) for text in texts)
        assert not title.overlaps(normal)


def test_each_panel_says_what_is_normal_and_bands_are_of_keys_that_are_drawn():
    for phase, panels in PANELS.items():
        for title, panel in panels.items():
            assert 5 < len(panel.normal) < 140, (phase, title)
    drawn_keys = {key for panels in PANELS.values() for one in panels.values() for key in one.keys}
    assert HEALTHY and set(HEALTHY) <= drawn_keys
