"""Sets of generated and real images, sheets that show some of them, and the plot of distances."""

import re

import numpy as np
from PIL import Image

from fewstep.studies.evaluate.tables import distance_of, distance_title
from src.feedback import Progress
from src.samplers import image_batches
from src.sheets import LABEL_HEIGHT, draw_label, numbered, picture_sheet
from src.utils import UserError, whole_file

SHEET_IMAGES, SHEET_COLUMNS = 40, 10
MOST_LABELLED = 3  # lines whose points bear their values, and share the plot with the legend


def real_images(cache, count, seed):
    """`count` of the images of `cache` (all, if there are fewer) as uint8 `[N, H, W, 3]`."""
    picks = np.random.default_rng(seed).permutation(len(cache))[:count]
    return cache.take(np.sort(picks)).numpy()


def sample_images(model, nfe, count, batch_size, seed, title, sigmas=None):
    """`count` images as uint8 `[count, 64, 64, 3]`; image i depends on `seed` and i alone."""
    images = []
    try:
        with Progress(title, count) as report:
            for batch in image_batches(model.eval(), nfe, count, batch_size, seed, sigmas):
                images.append(batch)
                report.update(len(batch))
    except UserError as error:
        raise UserError(f"{title}: {error}") from error
    return np.concatenate(images)


def sheet_of(pixels, title):
    """The first pictures of uint8 `[N, H, W, 3]` in rows, each labelled, as a PIL image."""
    pixels = pixels[:SHEET_IMAGES]
    labels = numbered(title, len(pixels), SHEET_COLUMNS)
    return picture_sheet(pixels, SHEET_COLUMNS, labels=labels)


def strip_of(pixels):
    """The first row of `sheet_of`, without its label."""
    return picture_sheet(pixels[:SHEET_COLUMNS], SHEET_COLUMNS)


def labelled_sheet(strips):
    """Strips of pictures, (title, PIL image) each, below each other under their titles."""
    width = max((strip.width for _, strip in strips), default=1)
    height = max(1, sum(strip.height + LABEL_HEIGHT for _, strip in strips))
    sheet = Image.new("RGB", (width, height), "white")
    top = 0
    for title, strip in strips:
        draw_label(sheet, top, title)
        sheet.paste(strip, (0, top + LABEL_HEIGHT))
        top += strip.height + LABEL_HEIGHT
    return sheet


def draw_distance_over_nfe(rows, space, count, path):
    """Rows of scores -> a picture file: a line over NFE for each model, with error bars of one
    standard deviation over seeds, and the floor of `count` real images.

    space: of `space_record`, whose distance is drawn; path: its suffix says the format.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 3.6))
    models = list(dict.fromkeys(row["model"] for row in rows if row["nfe"]))
    few = len(models) <= MOST_LABELLED
    for model in models:
        scored = sorted((row for row in rows if row["model"] == model), key=lambda row: row["nfe"])
        nfes, scores = [row["nfe"] for row in scored], [distance_of(row, space) for row in scored]
        means, sds = [one["mean"] for one in scores], [one["sd"] or 0.0 for one in scores]
        style = dict(marker="o", capsize=3, linestyle="--" if model == "teacher" else "-")
        label = re.sub(r", NFE \d+", "", scored[0]["images"])
        axis.errorbar(nfes, means, sds, label=label, **style)
        if few:
            place = dict(xytext=(0, 6 if model == "teacher" else -13), fontsize=8)
            place |= dict(textcoords="offset points", ha="center")
            for nfe, mean in zip(nfes, means):
                axis.annotate(f"{mean:.1f}", (nfe, mean), **place)
    (real,) = [row for row in rows if row["model"] == "real"]
    label = f"real training images (the floor, n = {real['count']})"
    axis.axhline(distance_of(real, space)["mean"], color="grey", linestyle=":", label=label)
    axis.margins(0.1, 0.15)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    ticks = sorted({row["nfe"] for row in rows if row["nfe"]})
    axis.set_xticks(ticks, [str(nfe) for nfe in ticks])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_xlabel("network evaluations (NFE)")
    axis.set_title(f"{distance_title(space)}, n = {count}", fontsize=10)
    axis.grid(alpha=0.3)
    beside = {} if few else dict(loc="upper left", bbox_to_anchor=(1, 1))
    axis.legend(fontsize=8, **beside)
    # Without a date and with fixed names, equal scores give equal files.
    with whole_file(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "nfe"}):
        dateless = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(temporary, dpi=120, bbox_inches="tight", metadata=dateless)
    pyplot.close(figure)
