"""What a comparison leaves: one table as Markdown and CSV, one figure, one sheet of samples."""

import csv
import statistics
from functools import partial

from fewstep.scores.comparison import PIXELS
from fewstep.studies.compare.reading import shown_text
from fewstep.studies.evaluate.pictures import draw_distance_over_nfe, labelled_sheet
from fewstep.studies.evaluate.report import write_text
from fewstep.studies.evaluate.tables import (
    distance_of,
    distance_title,
    merge_rows,
    order_sentence,
    score_text,
)
from src.formatting import markdown_table, paragraphs, text_table
from src.sheets import first_rows
from src.utils import save_picture, whole_file

STRIP = "samples.png"  # of a cell, in its folder
TEACHER_STRIP = "teacher.png"  # beside the sheet of all
FACTS = {"spread": 2, "detail": 2, "steps": 0, "minutes": 1}  # beside distances; their decimals
# The same of cells whose student learns beside a discriminator, {key of a score: (decimals, what
# it is)}: what differs between them may be how much their students learnt, not what from.
BALANCE = {
    "waited": (2, "share of the steps in which the student waited for its discriminator"),
    "lead": (2, "the discriminator's at the end; 1: it always knows, 0: it guesses"),
}
SENTINELS = (
    "spread: distance between generated images, detail: share of power that 2x2 averaging removes;"
    " both at NFE {}, over those of held-out images (1 is right)"
)


def write_report(laboratory, results):
    """Write compare.md, .csv, .png and samples.png of the results so far, (cell, score or None, why
    it failed or None) each, to the laboratory's folder. Returns the families of `summarise`."""
    folder, plan, spaces = laboratory.folder, laboratory.plan, laboratory.spaces
    families = summarise(results, spaces, plan["nfe_list"])
    table = markdown(families, spaces, laboratory.baseline, notes(laboratory))
    write_text(folder / "compare.md", table)
    write_csv(families, folder / "compare.csv")
    rows = sum((family["rows"] for family in families), laboratory.baseline)
    draw_distance_over_nfe(rows, spaces[0], plan["num_samples"], folder / "compare.png")
    save_picture(samples_sheet(laboratory, results), folder / "samples.png")
    return families


def summarise(results, spaces, nfes):
    """A dict for each flag set, best first in the first space at the first NFE, what failed last:
    its "flags" as texts ("" where it does not set one), "rows" of scores over its seeds,
    "distances" of these in each space at each NFE (None: all failed), its "places" among all, one
    a space, how many "seeds", why some "failed", and the means of `FACTS` and `BALANCE`, those of
    images at the first NFE."""
    names = list(dict.fromkeys(key for cell, _, _ in results for key in cell.flags)) or ["cell"]
    families = []
    for title in dict.fromkeys(cell.title for cell, _, _ in results):
        cells, scores, failures = zip(*(entry for entry in results if entry[0].title == title))
        flags, scores = cells[0].flags or {"cell": title}, [score for score in scores if score]
        rows = [merge_rows(rows) for rows in zip(*(score["rows"] for score in scores))]
        by_nfe = {row["nfe"]: row for row in rows}
        family = {
            "title": title,
            "flags": {key: shown_text(flags[key]) if key in flags else "" for key in names},
            "rows": rows,
            "distances": {
                space["name"]: {
                    nfe: distance_of(by_nfe[nfe], space) if nfe in by_nfe else None for nfe in nfes
                }
                for space in spaces
            },
            "seeds": len(scores),
            "failed": "; ".join(dict.fromkeys(filter(None, failures))),
        }
        for key in ("steps", "minutes"):
            family[key] = statistics.mean(score[key] for score in scores) if scores else None
        for key in BALANCE:
            values = [score[key] for score in scores if score.get(key) is not None]
            family[key] = statistics.mean(values) if values else None
        for key in ("spread", "detail"):
            family[key] = rows[0]["scores"][PIXELS][key]["mean"] if scores else None
        families.append(family | {"places": []})
    for space in reversed(spaces):  # so that the order of the first one stays
        families.sort(key=lambda family: _first_distance(family, space))
        for place, family in enumerate(families, 1):
            family["places"].insert(0, place if family["seeds"] else None)
    return families


def _first_distance(family, space):
    """Its mean distance in a space at the first NFE; of what failed infinity."""
    return distance_of(family["rows"][0], space)["mean"] if family["seeds"] else float("inf")


def facts_of(families):
    """{key: decimals} of the columns beside distances; of `BALANCE` those that some family has."""
    there = [key for key in BALANCE if any(family[key] is not None for family in families)]
    return FACTS | {key: BALANCE[key][0] for key in there}


def markdown(families, spaces, baseline, notes):
    """The table, and below it the order, the floor, the teacher, `notes`, and what failed."""
    header = list(families[0]["flags"])
    for space, scores in families[0]["distances"].items():
        prefix = "" if space == spaces[0]["name"] else f"{space}, "
        header += [f"{prefix}NFE {nfe}" for nfe in scores]
    several, facts = len(spaces) > 1, facts_of(families)
    rows = []
    for family in families:
        row = [f"`{value}`" if value else "" for value in family["flags"].values()]
        for scores in family["distances"].values():
            row += [score_text(score) or "failed" for score in scores.values()]
        if several:
            row.append(", ".join(str(place) for place in family["places"] if place))
        for key, digits in facts.items():
            row.append("" if family[key] is None else f"{family[key]:,.{digits}f}")
        rows.append([*row, str(family["seeds"])])
    lines = [f"- {sentence}" for sentence in order(families, spaces, baseline)]
    for row in baseline:
        floor = f" (the floor, n = {row['count']})" if row["model"] == "real" else ""
        texts = [score_text(distance_of(row, space)) for space in spaces]
        lines.append(f"- {row['images']}{floor}: {', '.join(texts)}")
    lines += [f"- {key}: {BALANCE[key][1]}" for key in facts if key in BALANCE]
    lines += [f"- {note}" for note in notes]
    lines += [f"- {one['title']} failed: {one['failed']}" for one in families if one["failed"]]
    title = f"{distance_title(spaces[0])}, mean ± sd over training seeds where there are several:"
    header += ["place in each space"] * several
    table = markdown_table([*header, *facts, "seeds"], rows)
    return "\n".join([title, "", table, "", *lines]) + "\n"


def summary(families, spaces, baseline, width):
    """What is printed of a comparison, in lines of at most `width` characters: distances in the
    first space, which flags are the best, and what failed."""
    names = [space["name"] for space in spaces]
    nfes = list(families[0]["distances"][names[0]])
    header = ["cell", *(f"NFE {nfe}" for nfe in nfes)]
    header += ["places", "seeds"] if len(spaces) > 1 else ["seeds"]
    rows = []
    for family in families:
        row = [score_text(family["distances"][names[0]][nfe]) or "failed" for nfe in nfes]
        if len(spaces) > 1:
            row.append(", ".join(str(place) for place in family["places"] if place))
        rows.append([family["title"], *row, str(family["seeds"])])
    rows += [[row["images"], score_text(distance_of(row, spaces[0]))] for row in baseline]
    rows = [row + [""] * (len(header) - len(row)) for row in rows]
    texts = [f"{distance_title(spaces[0])}, mean ± sd over training seeds where there are several"]
    if len(spaces) > 1:
        texts[0] += f"; places: at NFE {nfes[0]} in {' and '.join(names)}"
    texts += order(families, spaces, baseline)
    texts += [f"{one['title']} failed: {one['failed']}" for one in families if one["failed"]]
    return f"{text_table(header, rows, width)}\n\n{paragraphs(texts, width)}"


def order(families, spaces, baseline):
    """Sentences: which flag set is the best, and whether the spaces agree; and all rows of the
    first NFE in their order, with what is beyond the noise of the training seeds."""
    scored = [family for family in families if family["seeds"]]
    if not scored:
        return []
    nfe = scored[0]["rows"][0]["nfe"]
    best = [min(scored, key=partial(_first_distance, space=space))["title"] for space in spaces]
    sentences = []
    if len(spaces) > 1 and len(set(best)) == 1:
        sentences = [f"Best at NFE {nfe} in all {len(spaces)} feature spaces: {best[0]}"]
    elif len(spaces) > 1:
        each = "; ".join(f"{title} in {space['name']}" for title, space in zip(best, spaces))
        sentences = [f"The feature spaces disagree on the best at NFE {nfe}: {each}"]
    rows = [*baseline, *(family["rows"][0] for family in scored)]
    content = {"rows": rows, "spaces": spaces}
    return [*sentences, order_sentence(content, "; seeds of training")]


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
    records, facts = [], facts_of(families)
    for family in families:
        record = dict(family["flags"])
        for place, (space, scores) in enumerate(family["distances"].items()):
            for nfe, score in scores.items():
                for part in ("mean", "sd"):
                    key = f"nfe{nfe}_{part}"
                    record[f"{space}_{key}" if place else key] = score and score[part]
        records.append(record | {key: family[key] for key in (*facts, "seeds", "failed")})
    with whole_file(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, records[0])
        writer.writeheader()
        writer.writerows(records)


def samples_sheet(laboratory, results):
    """Samples from the same noise: a row for the teacher and for each cell that has a score."""
    scored = {"teacher": (laboratory.folder / TEACHER_STRIP, laboratory.baseline[1:])}
    scored |= {
        f"{cell.title} seed={cell.seed}": (laboratory.place(cell) / STRIP, score["rows"])
        for cell, score, _ in results
        if score
    }
    strips = []
    for title, (path, rows) in scored.items():
        if rows and path.exists():  # comparisons of earlier versions had no strip of the teacher
            text = score_text(distance_of(rows[0], laboratory.spaces[0]))
            strips.append((f"{title}, NFE {rows[0]['nfe']}: {text}", first_rows(path)))
    return labelled_sheet(strips)
