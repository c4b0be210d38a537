"""The table of an ablation as Markdown and CSV, and its figure."""

import csv
import statistics

from PIL import Image

from fewstep.studies.compare.plan import as_text
from fewstep.studies.evaluate.pictures import labelled_sheet
from src.utils import save_picture, whole_file


def write_report(laboratory, results):
    """Write table, figure and sheet of the results so far to the laboratory's folder; returns the
    table. results: (cell, score or None, why it failed or None)."""
    plan, folder, baseline = laboratory.plan, laboratory.folder, laboratory.baseline
    nfes, space = plan["nfe_list"], laboratory.scorer.space.name
    flags = list(dict.fromkeys(key for cell, _, _ in results for key in cell.flags)) or ["cell"]
    rows = summarise(results, flags, nfes)
    table = markdown(rows, flags, nfes, baseline, space, laboratory.reference_count)
    with whole_file(folder / "ablation.md") as temporary:
        temporary.write_text(table)
    write_csv(rows, flags, nfes, folder / "ablation.csv")
    draw(rows, nfes, baseline, space, folder / "ablation.png")
    strips = []
    for title, path in laboratory.strips(results):
        with Image.open(path) as picture:
            strips.append((title, picture.convert("RGB")))
    save_picture(labelled_sheet(strips), folder / "samples.png")
    return table


def summarise(results, flags, nfes):
    """One row a flag set from results (cell, score or None, why it failed or None).

    flags: names of the varied flags. Returns dicts; distances are (mean, sd or None) over seeds.
    """
    groups = {}
    for cell, score, failure in results:
        groups.setdefault(cell.title, []).append((cell, score, failure))
    rows = []
    for entries in groups.values():
        scores = [score for _, score, _ in entries if score]
        failures = [failure for _, _, failure in entries if failure]
        cell = entries[0][0]
        told = cell.flags or {"cell": cell.title}
        row = {"flags": {key: as_text(told[key]) if key in told else "" for key in flags}}
        row["seeds"], row["failed"] = len(scores), "; ".join(dict.fromkeys(failures))
        for key in ("steps", "minutes", "spread", "detail"):
            known = [score[key] for score in scores if score.get(key) is not None]
            row[key] = statistics.mean(known) if known else None
        for nfe in nfes:
            row[nfe] = mean_sd([score["distance"][str(nfe)] for score in scores])
        rows.append(row)
    return rows


def mean_sd(values):
    """(mean, standard deviation) of a list; the latter None for one value, both for none."""
    if not values:
        return None, None
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else None


def markdown(rows, flags, nfes, baseline, space_name, reference_count):
    """The table: cells from best to worst at the first NFE, then teacher and floor."""
    distances = [f"NFE {nfe}" for nfe in nfes]
    head = [*flags, *distances, "spread", "steps", "min", "seeds"]
    lines = [
        f"Fréchet distance in `{space_name}` (not FID) to {reference_count} held-out images, mean ±"
        " sd over seeds where there are several:",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for row in ordered(rows, nfes):
        cells = [f"`{value}`" if value else "" for value in row["flags"].values()]
        if row["seeds"]:
            cells += [_plus_minus(*row[nfe]) for nfe in nfes]
            cells += [_number(row["spread"], 2), _number(row["steps"], 0)]
            cells += [_number(row["minutes"], 1), str(row["seeds"])]
        else:
            cells += ["failed"] + [""] * (len(nfes) + 3)
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "spread: distance between generated images over that of real ones (1 is right)",
        "",
    ]
    for title, values in baseline.items():
        told = ", ".join(f"{key}: {value:.2f}" for key, value in values.items())
        lines.append(f"- {title}: {told}")
    for row in rows:
        if row["failed"]:
            name = " ".join(f"{k}={v}" for k, v in row["flags"].items())
            lines.append(f"- {name} failed: {row['failed']}")
    return "\n".join(lines) + "\n"


def write_csv(rows, flags, nfes, path):
    """The same rows for a spreadsheet."""
    head = [*flags, *(f"nfe{nfe}_{part}" for nfe in nfes for part in ("mean", "sd"))]
    head += ["spread", "detail", "steps", "minutes", "seeds", "failed"]
    with whole_file(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for row in ordered(rows, nfes):
            distances = [value for nfe in nfes for value in row[nfe]]
            rest = [row[key] for key in head[len(flags) + 2 * len(nfes) :]]
            cells = [*row["flags"].values(), *distances, *rest]
            writer.writerow(["" if value is None else value for value in cells])


def draw(rows, nfes, baseline, space_name, path):
    """One line of dots a cell, one colour an NFE, with the baselines as vertical lines."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import ScalarFormatter

    rows = [row for row in ordered(rows, nfes) if row["seeds"]][::-1]
    figure, axis = pyplot.subplots(figsize=(8, 1.6 + 0.32 * len(rows)))
    for index, nfe in enumerate(nfes):
        means = [row[nfe][0] for row in rows]
        errors = [row[nfe][1] or 0 for row in rows]
        places = [place + 0.12 * (index - (len(nfes) - 1) / 2) for place in range(len(rows))]
        axis.errorbar(means, places, xerr=errors, fmt="o", markersize=4, label=f"NFE {nfe}")
    lines = [
        (f"{title}, {key}", v) for title, known in baseline.items() for key, v in known.items()
    ]
    for style, (label, value) in zip(("-", "--", ":", "-."), lines):
        axis.axvline(value, color="grey", linestyle=style, linewidth=1, label=label)
    names = [" ".join(f"{k}={v}" for k, v in row["flags"].items() if v) for row in rows]
    axis.set_yticks(range(len(rows)), names or [], fontsize=8)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(lambda x, _: f"{x:g}" if f"{x:e}"[0] in "235" else "")
    axis.tick_params(axis="x", which="minor", labelsize=7)
    axis.set_xlabel(f"Fréchet distance in {space_name} (lower is better)")
    axis.grid(axis="x", alpha=0.3, which="both")
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def ordered(rows, nfes):
    """From best to worst at the first NFE; what failed comes last."""
    return sorted(rows, key=lambda row: (row[nfes[0]][0] is None, row[nfes[0]][0] or 0))


def _plus_minus(mean, sd):
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def _number(value, digits):
    return "" if value is None else f"{value:,.{digits}f}"
