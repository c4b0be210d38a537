"""The pictures of a run: samples from the same noise, curves of all trainings, the screening."""

from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.pictures import labelled_sheet, strip_of
from headline.collect import REAL
from src.utils import read_json, save_picture, whole_file

# Panel of the curves -> key of the log, drawn for every training that has it.
PANELS = {
    "loss of denoising and of the flow": "loss",
    "the same on held-out images": "heldout_loss",
    "distillation loss": "distill_loss",
    "discriminator's loss": "disc_loss",
    "logits of real minus generated images": ("logits_real", "logits_fake"),
    "spread of generated over real images (1 is right)": "spread",
}
FEW_POINTS = 8  # which a line would not show well


def draw_sheet(work, names, path):
    """The first images of each row of generated ones below each other; the noise is that of the
    column. Real images stay out: the folder is there to be passed on."""
    folder, strips = Path(work) / "scores", []
    for name in names:
        if name == REAL:
            continue
        with np.load(folder / f"{name}.npz") as stored:
            strips.append((read_json(folder / f"{name}.json")["row"]["images"], stored["images"]))
    if strips:
        save_picture(labelled_sheet([(title, strip_of(px)) for title, px in strips]), path)


def draw_curves(rows, batch_size, path):
    """A panel a key over the images seen, a line a training; the screening's are thin."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {title: _lines(rows, key, batch_size) for title, key in PANELS.items()}
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(9, 2.8 * len(panels)), squeeze=False)
    for axis, (title, lines) in zip(axes[:, 0], panels.items()):
        for name, points in lines.items():
            is_cell = name.startswith("screening")
            marker = "o" if len(points) < FEW_POINTS else None
            width = 0.6 if is_cell else 1.4
            axis.plot(*zip(*points), label=name, linewidth=width, marker=marker, markersize=3)
        if "loss" in title:
            axis.set_yscale("log")
        axis.set_title(title, fontsize=9)
        axis.legend(fontsize=6, loc="upper left", bbox_to_anchor=(1, 1))
    axes[-1, 0].set_xlabel("images seen")
    figure.tight_layout()
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=80)
    pyplot.close(figure)


def draw_screening(folder, path):
    """The figure and the samples of `ablate.py` in one picture, where they are there."""
    found = []
    for title, name in (("distances", "ablation.png"), ("samples", "samples.png")):
        if (Path(folder) / name).exists():
            with Image.open(Path(folder) / name) as picture:
                found.append((title, picture.convert("RGB")))
    if found:
        save_picture(labelled_sheet(found), path)


def _lines(rows, key, batch_size):
    """{training: [(images seen, value)]} of a key, or of the difference of a pair of keys."""
    first, second = key if isinstance(key, tuple) else (key, None)
    found = {}
    for row in rows:
        value, other = row.get(first), 0.0 if second is None else row.get(second)
        if value is not None and other is not None:
            point = (row["step"] * batch_size, value - other)
            found.setdefault(row["training"], []).append(point)
    return found
