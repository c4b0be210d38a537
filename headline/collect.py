"""What a run's folder holds so far, as one plain dict: the content of `results.json`."""

from datetime import date
from pathlib import Path

import torch

from evaluation.tables import without_folders
from headline import targets
from headline.programs import TITLES, screening_cells, screening_scores
from src.utils import read_json
from training.logbook import read_rows

REAL = "real"  # the row of real images


def collect(work, state, flags):
    """All that is known of the run in `work`. state: content of its state file; flags: those of the
    present command."""
    work, batch = Path(work), flags["batch_size"]
    speed = _read(work / "speed.json")
    content = {
        "date": date.today().isoformat(),
        "torch": torch.__version__,
        "hardware": _hardware(work, speed),
        "speed_measured_on": speed.get("device"),
        "note": flags["note"],
        "settings": {key: flags[key] for key in ("preset", "batch_size", "base", "minutes")},
        "spent_minutes": round(state["spent"] / 60, 2),
        "commands": [_without_folders(command) for command in state["commands"]],
        "failed": {part: without_folders(reason) for part, reason in state["failed"].items()},
        "speed": speed.get("rows", []),
        "trainings": trainings(work, state["steps"], batch),
        "screening": [_cell(*found) for found in screening_scores(work)],
        "student_flags": state["student"],
        "tuned_levels": _read(work / "scores" / "tuned.json").get("levels", {}),
        "scores": scores(work),
        "targets": [],
    }
    profile = work / "profile.txt"
    content["profile"] = profile.read_text().splitlines() if profile.exists() else []
    if content["scores"]:
        space = content["scores"]["spaces"][0]["name"]
        found = targets.targets(content["scores"]["rows"], space)
        content["targets"] = [target._asdict() for target in found]
    return content


def trainings(work, steps, batch_size):
    """{training: what it was and took} of those that have begun."""
    found = {}
    for name, planned in steps.items():
        rows = [row for row in read_rows(Path(work) / name / "log.jsonl") if "seconds" in row]
        last = rows[-1] if rows else {"step": 0, "seconds": 0.0}
        rates = [row["images_per_second"] for row in rows[1:]]  # the first pays for compiling
        found[name] = {
            "title": TITLES[name],
            "steps_planned": planned,
            "steps": last["step"],
            "images_seen": last["step"] * batch_size,
            "minutes": round(last["seconds"] / 60, 2),
            "images_per_second": round(sorted(rates)[len(rates) // 2], 1) if rates else None,
        }
    return found


def scores(work):
    """The content of a `scores.json` of the rows that are scored, or {}."""
    folder = Path(work) / "scores"
    facts, names = _read(folder / "facts.json"), row_names(work)
    if not (facts and names):
        return {}
    return facts | {"rows": [read_json(folder / f"{name}.json")["row"] for name in names]}


def row_names(work):
    """Names of the scored rows, in the order of the table."""
    folder = Path(work) / "scores"
    order = _read(folder / "order.json").get("rows", [])
    return [name for name in order if (folder / f"{name}.json").exists()]


def all_rows(work, steps):
    """Rows of the logs of all trainings, each with the name of its training: those of `steps` and
    the cells of the screening."""
    work, found = Path(work), []
    for name in steps:
        found += [{"training": name} | row for row in read_rows(work / name / "log.jsonl")]
    for flags, folder in screening_cells(work):
        name = f"screening: from {flags['sigmas'][0]:g}, {flags['disc']}"
        found += [{"training": name} | row for row in read_rows(folder / "run" / "log.jsonl")]
    return found


def _cell(flags, score):
    told = {key: score.get(key) for key in ("steps", "minutes", "spread", "detail", "distance")}
    return {key: flags[key] for key in ("sigmas", "disc")} | told


def _hardware(work, speed):
    """What the run ran on, as its teacher or its measurement of speed says; None where neither is
    its own and there."""
    own = _read(work / "teacher" / "training_config.json").get("device")
    return own or (None if speed.get("taken") else speed.get("device"))


def _without_folders(command):
    return command | {"arguments": [without_folders(text) for text in command["arguments"]]}


def _read(path):
    return read_json(path) if path.exists() else {}
