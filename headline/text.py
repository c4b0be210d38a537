"""`results.md`: what a run found, with what its numbers are worth."""

from evaluation import tables
from headline import targets
from headline.targets import Target


def markdown(content):
    """The content of `results.json` as Markdown."""
    parts = ["# A real run", _facts(content)]
    if content["failed"]:
        lines = [f"- {part}: {reason}" for part, reason in content["failed"].items()]
        parts.append("**Failed**\n\n" + "\n".join(lines))
    if content["targets"]:
        found = [Target(**target) for target in content["targets"]]
        parts.append("## Targets\n\n" + targets.markdown(found))
    if content["trainings"]:
        parts.append("## Trainings\n\n" + _trainings(content["trainings"]))
    if content["scores"]:
        parts.append("## Scores\n\n" + tables.markdown(content["scores"]))
    if content["screening"]:
        parts.append("## Screening\n\n" + _screening(content["screening"]))
    if content["speed"]:
        where = content["speed_measured_on"]
        told = "" if where == content["hardware"] else f"Measured on {where}.\n\n"
        parts.append("## Speed\n\n" + told + _speed(content["speed"]))
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _facts(content):
    settings, facts = content["settings"], content["scores"]
    lines = [
        f"{content['hardware'] or 'hardware not known yet'}, torch {content['torch']},"
        f" {content['date']}; preset {settings['preset']}, batches of {settings['batch_size']};"
        f" {content['spent_minutes']:.1f} minutes spent, {settings['minutes']:g} planned, in"
        f" {len(content['commands'])} command{'s' * (len(content['commands']) > 1)}.",
    ]
    if content["note"]:
        lines.append(content["note"])
    if facts:
        space = facts["spaces"][0]
        lines.append(
            f"Trained on {facts['training_count']:,} images, scored against"
            f" {facts['reference_count']:,} held-out ones. Where those are a part of a larger set,"
            " the floor is that part's own."
        )
        if not space["is_fid"]:
            lines.append(
                f"Distances are taken in `{space['name']}`, fixed random features. That is not"
                " Inception, and no number here is an FID."
            )
    return "\n\n".join(lines)


def _trainings(found):
    head = ["training", "steps", "of", "images seen", "minutes", "images/s"]
    rows = [
        [
            row["title"],
            f"{row['steps']:,}",
            f"{row['steps_planned']:,}",
            f"{row['images_seen']:,}",
            f"{row['minutes']:.1f}",
            "" if row["images_per_second"] is None else f"{row['images_per_second']:.0f}",
        ]
        for row in found.values()
    ]
    note = (
        "The flow sees as many images as teacher and student together, each half of the method as"
        " many as the student. Minutes are of training alone, compiling included; images/s is the"
        " median over rows of the log."
    )
    return f"{table(head, rows)}\n\n{note}"


def _screening(cells):
    nfes = list(cells[0]["distance"])
    head = ["levels", "discriminator", *(f"NFE {nfe}" for nfe in nfes), "spread", "steps", "min"]
    rows = [
        [
            " ".join(f"{level:g}" for level in cell["sigmas"]),
            cell["disc"],
            *(f"{cell['distance'][nfe]:.2f}" for nfe in nfes),
            "" if cell["spread"] is None else f"{cell['spread']:.2f}",
            f"{cell['steps']:,}",
            f"{cell['minutes']:.1f}",
        ]
        for cell in sorted(cells, key=lambda cell: cell["distance"][nfes[0]])
    ]
    return table(head, rows)


def _speed(rows):
    head = ["training", "mode", "images/s", "first turn, s", "peak, GiB"]
    found = []
    for row in rows:
        what = row["what"] if row["what"] == "teacher" else f"ADD student, disc {row['what']}"
        if "images_per_second" not in row:
            found.append([what, row["mode"], f"failed: {row['failure']}", "", ""])
            continue
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:.1f}"
        rate, warmup = f"{row['images_per_second']:.1f}", f"{row['warmup_seconds']:.0f}"
        found.append([what, row["mode"], rate, warmup, peak])
    return table(head, found)


def table(head, rows):
    """A Markdown table of texts."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))
