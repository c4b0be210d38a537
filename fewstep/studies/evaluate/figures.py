"""The plot of the distance over the number of evaluations."""

from fewstep.studies.evaluate.tables import distance_title
from src.utils import whole_file


def draw_distance_over_nfe(content, path):
    """`scores.json` -> an SVG: student and teacher over NFE in the first space, the floor below."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    space = content["spaces"][0]
    figure, axis = pyplot.subplots(figsize=(6, 3.6))
    kinds = dict.fromkeys(row["model"] for row in content["rows"] if row["model"] != "real")
    for kind in kinds:
        rows = [row for row in content["rows"] if row["model"] == kind]
        points = sorted((row["nfe"], *_mean_sd(row, space)) for row in rows)
        nfes, means, sds = zip(*points)
        axis.errorbar(nfes, means, sds, marker="o", capsize=3, label=kind)
        if kind != "untuned student":  # its numbers would lie on the student's
            for nfe, mean in zip(nfes, means):
                place = dict(xytext=(0, -13 if kind == "student" else 6), fontsize=8)
                place |= dict(textcoords="offset points", ha="center")
                axis.annotate(f"{mean:.1f}", (nfe, mean), **place)
    (real,) = [row for row in content["rows"] if row["model"] == "real"]
    label = f"real training images (the floor, n = {real['count']})"
    axis.axhline(_mean_sd(real, space)[0], color="grey", linestyle="--", label=label)
    axis.margins(0.1, 0.15)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    ticks = sorted({row["nfe"] for row in content["rows"] if row["nfe"]})
    axis.set_xticks(ticks, [str(nfe) for nfe in ticks])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter("{x:g}")
    axis.set_xlabel("network evaluations (NFE)")
    axis.set_title(f"{distance_title(space)}, n = {content['num_samples']}", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.tight_layout()
    # Without a date and with fixed names, equal scores give equal files.
    with whole_file(path) as temporary, matplotlib.rc_context({"svg.hashsalt": "nfe"}):
        figure.savefig(temporary, metadata={"Date": None})
    pyplot.close(figure)


def _mean_sd(row, space):
    score = row["scores"][space["name"]]["frechet"]
    return score["mean"], score["sd"] or 0.0
