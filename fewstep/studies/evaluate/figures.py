"""The plot of the distance over the number of evaluations."""

import re

from fewstep.studies.evaluate.tables import distance_title
from src.utils import whole_file

MOST_LABELLED = 3  # lines whose points bear their values, and share the plot with the legend
DASHED = ("teacher", "untuned student")


def draw_distance_over_nfe(rows, space, count, path):
    """Rows of scores -> a picture file: a line over NFE for each model, with error bars of one
    standard deviation over seeds, and the floor of `count` real images.

    space: {"name", "is_fid"} of the scores that are drawn; path: its suffix says the format.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 3.6))
    models = list(dict.fromkeys(row["model"] for row in rows if row["model"] != "real"))
    few = len(models) <= MOST_LABELLED
    for model in models:
        scored = [row for row in rows if row["model"] == model]
        points = sorted((row["nfe"], *_mean_sd(row, space)) for row in scored)
        nfes, means, sds = zip(*points)
        style = dict(marker="o", capsize=3, linestyle="--" if model in DASHED else "-")
        label = re.sub(r", NFE \d+", "", scored[0]["images"])
        axis.errorbar(nfes, means, sds, label=label, **style)
        if few and model != "untuned student":  # its numbers would lie on the student's
            place = dict(xytext=(0, 6 if model == "teacher" else -13), fontsize=8)
            place |= dict(textcoords="offset points", ha="center")
            for nfe, mean in zip(nfes, means):
                axis.annotate(f"{mean:.1f}", (nfe, mean), **place)
    (real,) = [row for row in rows if row["model"] == "real"]
    label = f"real training images (the floor, n = {real['count']})"
    axis.axhline(_mean_sd(real, space)[0], color="grey", linestyle=":", label=label)
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


def _mean_sd(row, space):
    score = row["scores"][space["name"]]["frechet"]
    return score["mean"], score["sd"] or 0.0
