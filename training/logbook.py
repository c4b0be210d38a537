"""What a run writes for people: rows of `log.jsonl`, the curves picture, the sample sheets."""

import json

from src.utils import whole_file

# Panels of the curves picture: title -> keys drawn in it.
PANELS = {
    "teacher: denoising loss": ["loss", "heldout_loss"],
    "student: distillation loss": ["distill_loss"],
    "student: discriminator's hinge loss": ["disc_loss"],
    "student: discriminator logits": ["logits_real", "logits_heldout", "logits_fake"],
    "student: gradient norm ratio, distillation / adversarial": ["grad_ratio"],
}


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
    """Add one row to the log."""
    with open(path, "a") as file:
        file.write(json.dumps(row) + "\n")


def drop_rows_after(path, phase, step):
    """Forget rows of `phase` beyond `step`: the steps after a checkpoint are about to be redone."""
    rows = read_rows(path)
    kept = [row for row in rows if row["phase"] != phase or row["step"] <= step]
    if len(kept) < len(rows) or (path.exists() and not path.read_bytes().endswith(b"\n")):
        with whole_file(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))


def draw_curves(rows, path):
    """The curves of all rows as one PNG, a panel for each group of keys that occurs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {
        title: [key for key in keys if any(key in row for row in rows)]
        for title, keys in PANELS.items()
    }
    panels = {title: keys for title, keys in panels.items() if keys}
    if not panels:
        return
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(8, 2.6 * len(panels)), squeeze=False)
    for axis, (title, keys) in zip(axes[:, 0], panels.items()):
        for key in keys:
            points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
            axis.plot(*zip(*points), label=key, linewidth=1)
        if title.endswith("loss") or "ratio" in title:
            axis.set_yscale("log")
        axis.set_title(title, fontsize=9)
        axis.legend(fontsize=8)
    axes[-1, 0].set_xlabel("step")
    figure.tight_layout()
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=100)
    pyplot.close(figure)
