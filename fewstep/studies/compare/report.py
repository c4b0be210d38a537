"""What a comparison leaves: one table as Markdown and CSV, one figure, one sheet of samples."""

import csv
import statistics

from PIL import Image

from fewstep.studies.compare.cells import as_text
from fewstep.studies.compare.laboratory import STRIP
from fewstep.studies.evaluate.figures import draw_distance_over_nfe
from fewstep.studies.evaluate.pictures import labelled_sheet
from fewstep.studies.evaluate.series import merge_rows
from fewstep.studies.evaluate.tables import cell_text, distance_title, markdown_table
from src.utils import save_picture, whole_file

FACTS = ("spread", "detail", "steps", "minutes")  # of a training; means over seeds are reported
SPREAD = "spread: distance between generated images over that of real ones (1 is right)"


def write_report(laboratory, results):
    """Write compare.md, .csv, .png and samples.png of the results so far, (cell, score or None, why
    it failed or None) each, to the laboratory's folder. Returns the table."""
    folder, nfes, space = laboratory.folder, laboratory.plan["nfe_list"], laboratory.spaces[0]
    families = summarise(results, space.name, nfes[0])
    named = {"name": space.name, "is_fid": space.is_fid}
    table = markdown(families, nfes, named, laboratory.baseline, notes(laboratory))
    with whole_file(folder / "compare.md") as temporary:
        temporary.write_text(table, encoding="utf-8")
    write_csv(families, nfes, space.name, folder / "compare.csv")
    rows = [*laboratory.baseline, *(row for family in families for row in family["rows"])]
    draw_distance_over_nfe(rows, named, laboratory.plan["num_samples"], folder / "compare.png")
    save_picture(samples_sheet(laboratory, results), folder / "samples.png")
    return table


def summarise(results, space, first_nfe):
    """A dict for each flag set, best first at an NFE, what failed last: its "flags" as texts,
    "rows" of scores over its seeds, how many "seeds", why some "failed", and the `FACTS`."""
    names = list(dict.fromkeys(key for cell, _, _ in results for key in cell.flags)) or ["cell"]
    families = []
    for title in dict.fromkeys(cell.title for cell, _, _ in results):
        entries = [entry for entry in results if entry[0].title == title]
        flags = entries[0][0].flags or {"cell": title}
        scores = [score for _, score, _ in entries if score]
        family = {"title": title, "seeds": len(scores)}
        family["flags"] = {key: as_text(flags[key]) if key in flags else "" for key in names}
        failures = [failure for _, _, failure in entries if failure]
        family["failed"] = "; ".join(dict.fromkeys(failures))
        for key in FACTS:
            known = [score[key] for score in scores if score.get(key) is not None]
            family[key] = statistics.mean(known) if known else None
        family["rows"] = [merge_rows(rows) for rows in zip(*(score["rows"] for score in scores))]
        families.append(family)

    def rank(family):
        return distance(family, first_nfe, space)["mean"] if family["seeds"] else float("inf")

    return sorted(families, key=rank)


def distance(family, nfe, space):
    """{"mean", "sd", "values"} of a flag set at an NFE, None where all its seeds failed."""
    scores = [row["scores"][space]["frechet"] for row in family["rows"] if row["nfe"] == nfe]
    return scores[0] if scores else None


def markdown(families, nfes, space, baseline, notes):
    """The table, and below it the floor, the teacher, what failed, and `notes`."""
    header = [*families[0]["flags"], *(f"NFE {nfe}" for nfe in nfes)]
    header += ["spread", "steps", "min", "seeds"]
    rows = []
    for family in families:
        row = [f"`{value}`" if value else "" for value in family["flags"].values()]
        row += [cell_text(distance(family, nfe, space["name"])) or "failed" for nfe in nfes]
        digits = {"spread": 2, "steps": 0, "minutes": 1}
        values = [(family[key], places) for key, places in digits.items()]
        row += ["" if value is None else f"{value:,.{places}f}" for value, places in values]
        rows.append([*row, str(family["seeds"])])
    lines = [f"{distance_title(space)}, mean ± sd over seeds where there are several:"]
    lines += ["", markdown_table(header, rows), ""]
    for row in baseline:
        floor = f" (the floor, n = {row['count']})" if row["model"] == "real" else ""
        lines.append(
            f"- {row['images']}{floor}: {cell_text(row['scores'][space['name']]['frechet'])}"
        )
    lines += [f"- {note}" for note in notes]
    failed = [family for family in families if family["failed"]]
    lines += [f"- {family['title']} failed: {family['failed']}" for family in failed]
    return "\n".join(lines) + "\n"


def notes(laboratory):
    """Sentences on what the numbers are."""
    plan, held_out = laboratory.plan, laboratory.reference_count
    sentences = [f"{plan['num_samples']} samples each against {held_out} held-out images", SPREAD]
    if laboratory.is_mixed and plan["minutes"]:
        minutes = laboratory.teacher_seconds() / 60
        extra = f"{minutes:.1f} min more: those of the teacher"
        extra = extra if plan["count_teacher"] else "no minutes more for that"
        sentences.append(f"min: of a cell's own training; cells without a teacher had {extra}")
    return sentences


def write_csv(families, nfes, space, path):
    """The same rows for a spreadsheet."""
    records = []
    for family in families:
        record = dict(family["flags"])
        for nfe in nfes:
            score = distance(family, nfe, space) or {}
            record |= {f"nfe{nfe}_{part}": score.get(part) for part in ("mean", "sd")}
        records.append(record | {key: family[key] for key in (*FACTS, "seeds", "failed")})
    with whole_file(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, records[0])
        writer.writeheader()
        writer.writerows(records)


def samples_sheet(laboratory, results):
    """Samples from the same noise: a row for the teacher and for each cell that has a score."""
    title = f"teacher, NFE {laboratory.settings.teacher.teacher_steps}"
    pictures = {title: laboratory.folder / f"teacher_{STRIP}"}
    for cell, score, _ in results:
        if score:
            value = score["rows"][0]["scores"][laboratory.spaces[0].name]["frechet"]["mean"]
            title = f"{cell.title} seed={cell.seed}, NFE {score['rows'][0]['nfe']}: {value:.1f}"
            pictures[title] = laboratory.place(cell) / STRIP
    strips = []
    for title, picture in pictures.items():
        if picture.exists():
            with Image.open(picture) as image:
                strips.append((title, image.convert("RGB")))
    return labelled_sheet(strips)
