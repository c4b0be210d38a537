"""What a comparison leaves: one table as Markdown and CSV, one figure, one sheet of samples."""

import csv
import statistics

from PIL import Image

from fewstep.studies.compare.cells import as_text
from fewstep.studies.evaluate.pictures import draw_distance_over_nfe, labelled_sheet
from fewstep.studies.evaluate.report import write_text
from fewstep.studies.evaluate.tables import distance_of, distance_title, merge_rows, score_text
from src.formatting import markdown_table
from src.utils import save_picture, whole_file

STRIP = "samples.png"  # of a cell, in its folder
FACTS = {"spread": 2, "detail": 2, "steps": 0, "minutes": 1}  # beside distances; their decimals
SENTINELS = (
    "spread: distance between generated images, detail: share of power that 2x2 averaging removes;"
    " both at NFE {}, over those of held-out images (1 is right)"
)


def write_report(laboratory, results):
    """Write compare.md, .csv, .png and samples.png of the results so far, (cell, score or None, why
    it failed or None) each, to the laboratory's folder. Returns the table."""
    folder, plan, space = laboratory.folder, laboratory.plan, laboratory.space
    families = summarise(results, space, plan["nfe_list"])
    table = markdown(families, space, laboratory.baseline, notes(laboratory))
    write_text(folder / "compare.md", table)
    write_csv(families, folder / "compare.csv")
    rows = sum((family["rows"] for family in families), laboratory.baseline)
    draw_distance_over_nfe(rows, space, plan["num_samples"], folder / "compare.png")
    save_picture(samples_sheet(laboratory, results), folder / "samples.png")
    return table


def summarise(results, space, nfes):
    """A dict for each flag set, best first at the first NFE, what failed last: its "flags" as
    texts, "rows" of scores over its seeds, "distances" of these at each NFE (None: all failed), how
    many "seeds", why some "failed", and the means of `FACTS`, those of images at the first NFE."""
    names = list(dict.fromkeys(key for cell, _, _ in results for key in cell.flags)) or ["cell"]
    families = []
    for title in dict.fromkeys(cell.title for cell, _, _ in results):
        cells, scores, failures = zip(*(entry for entry in results if entry[0].title == title))
        flags, scores = cells[0].flags or {"cell": title}, [score for score in scores if score]
        rows = [merge_rows(rows) for rows in zip(*(score["rows"] for score in scores))]
        distances = {row["nfe"]: distance_of(row, space) for row in rows}
        family = {
            "title": title,
            "flags": {key: as_text(flags[key]) if key in flags else "" for key in names},
            "rows": rows,
            "distances": {nfe: distances.get(nfe) for nfe in nfes},
            "seeds": len(scores),
            "failed": "; ".join(dict.fromkeys(filter(None, failures))),
        }
        for key in ("steps", "minutes"):
            family[key] = statistics.mean(score[key] for score in scores) if scores else None
        for key in ("spread", "detail"):
            family[key] = rows[0]["scores"][space["name"]][key]["mean"] if scores else None
        families.append(family)

    def rank(family):
        return family["distances"][nfes[0]]["mean"] if family["seeds"] else float("inf")

    return sorted(families, key=rank)


def markdown(families, space, baseline, notes):
    """The table, and below it the floor, the teacher, `notes`, and what failed."""
    header = [*families[0]["flags"], *(f"NFE {nfe}" for nfe in families[0]["distances"])]
    rows = []
    for family in families:
        row = [f"`{value}`" if value else "" for value in family["flags"].values()]
        row += [score_text(score) or "failed" for score in family["distances"].values()]
        for key, digits in FACTS.items():
            row.append("" if family[key] is None else f"{family[key]:,.{digits}f}")
        rows.append([*row, str(family["seeds"])])
    lines = []
    for row in baseline:
        floor = f" (the floor, n = {row['count']})" if row["model"] == "real" else ""
        lines.append(f"- {row['images']}{floor}: {score_text(distance_of(row, space))}")
    lines += [f"- {note}" for note in notes]
    lines += [f"- {one['title']} failed: {one['failed']}" for one in families if one["failed"]]
    title = f"{distance_title(space)}, mean ± sd over seeds where there are several:"
    table = markdown_table([*header, *FACTS, "seeds"], rows)
    return "\n".join([title, "", table, "", *lines]) + "\n"


def notes(laboratory):
    """Sentences on what the numbers are."""
    plan, count = laboratory.plan, len(laboratory.comparison.heldout)
    sentences = [
        f"{plan['num_samples']} samples each against {count} held-out images",
        SENTINELS.format(plan["nfe_list"][0]),
    ]
    if laboratory.is_mixed:
        text = "minutes: of a cell's own training; those of the shared teacher"
        if laboratory.teacher_minutes is not None:
            text += f" ({laboratory.teacher_minutes:.1f})"
        text += " come on top where a method needs it"
        if plan["minutes"]:
            text += ", and cells of the other methods trained as long more"
        sentences.append(text)
    return sentences


def write_csv(families, path):
    """The same rows for a spreadsheet."""
    records = []
    for family in families:
        record = dict(family["flags"])
        for nfe, score in family["distances"].items():
            for part in ("mean", "sd"):
                record[f"nfe{nfe}_{part}"] = score and score[part]
        records.append(record | {key: family[key] for key in (*FACTS, "seeds", "failed")})
    with whole_file(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, records[0])
        writer.writeheader()
        writer.writerows(records)


def samples_sheet(laboratory, results):
    """Samples from the same noise: a row for the teacher and for each cell that has a score."""
    scored = {"teacher": (laboratory.folder, laboratory.baseline[1:])}
    scored |= {
        f"{cell.title} seed={cell.seed}": (laboratory.place(cell), score["rows"])
        for cell, score, _ in results
        if score
    }
    strips = []
    for title, (folder, rows) in scored.items():
        if rows:
            text = score_text(distance_of(rows[0], laboratory.space))
            with Image.open(folder / STRIP) as image:
                strips.append((f"{title}, NFE {rows[0]['nfe']}: {text}", image.convert("RGB")))
    return labelled_sheet(strips)
