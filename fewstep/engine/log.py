"""What a run writes for people: rows of `log.jsonl`, the curves picture, the sample sheets."""

import json
import math
import os

from src.utils import naming, whole_file

COLOURS = ("red", "green", "blue")  # of channels
# Scales on which a factor is a distance.
LOGARITHMIC = ("loss", "adversarial")


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


def draw_curves(rows, path, panels):
    """The curves of all rows as one PNG. panels: {phase: {title: keys drawn in it}}; one without
    any of its keys in the rows of its phase is left out."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    curves = curves_of(rows, panels)
    if not curves:
        return
    figure, axes = pyplot.subplots(len(curves), 1, figsize=(8, 2.6 * len(curves)), squeeze=False)
    for axis, (title, lines) in zip(axes[:, 0], curves.items()):
        for key, points in lines.items():
            colour = key.rpartition("_")[2]
            colour = f"tab:{colour}" if colour in COLOURS else None
            axis.plot(*zip(*points), label=key, linewidth=1, color=colour)
        if title.endswith(LOGARITHMIC):
            axis.set_yscale("log")
        axis.set_title(title, fontsize=9)
        axis.legend(fontsize=8)
    axes[-1, 0].set_xlabel("step")
    # Inches by hand: matplotlib's own layout takes as long as all the drawing.
    height = figure.get_figheight()
    figure.subplots_adjust(0.12, 0.5 / height, 0.98, 1 - 0.35 / height, hspace=0.35)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=100)
    pyplot.close(figure)
