"""Runs that differ in their seed alone: how much a training's luck changes its scores."""

from pathlib import Path

from fewstep.runs.command_line import settings_from_json
from fewstep.runs.run_folder import CONFIG_NAME
from fewstep.runs.settings import exporting
from fewstep.studies.evaluate.series import model_series
from fewstep.studies.evaluate.subjects import open_subjects
from fewstep.studies.evaluate.tables import TRAININGS, merge_rows
from src.arguments import check_input_folder
from src.utils import UserError, read_json

OTHER = "student of seed "  # kind and name of a row, before the number


def check_seed_runs(run_dir, others):
    """Raise `UserError` unless each run folder of `others` was trained as that in `run_dir` was,
    but for its seed."""
    if others and not run_dir:
        raise UserError("--seed_runs: give --run_dir too, the run that they are beside")
    for other in others:
        check_input_folder("--seed_runs", other)
    seen = {_seed_of(run_dir): run_dir} if others else {}
    for other in others:
        mine, theirs = _identities(run_dir), _identities(other)
        for key in sorted({*mine, *theirs}):
            if mine.get(key) != theirs.get(key):
                phase, setting = key
                raise UserError(
                    f"--seed_runs {other}: its {setting} of the {phase} is not that of {run_dir};"
                    " only the seed may differ"
                )
        seed = _seed_of(other)
        if seed in seen:
            raise UserError(f"--seed_runs {other}: it has the seed {seed} of {seen[seed]} too")
        seen[seed] = other


def seed_series(others, nfes, count, batch_size, device, data_flags):
    """A `Series` for the student of each of these run folders at each NFE. data_flags: as for
    `open_subjects`."""
    series = []
    for other in others:
        student = open_subjects(other, None, None, data_flags, device).student
        name = f"{OTHER}{_seed_of(other)}"  # folders of several seeds often have the same name
        series += [model_series(name, name, nfe, student, count, batch_size) for nfe in nfes]
    return series


def over_trainings(rows):
    """A further row for each NFE of several trainings: means and standard deviations of their
    scores, over the seeds of training. rows: of the student and of `seed_series`."""
    trained = [r for r in rows if r["model"] == "student" or r["model"].startswith(OTHER)]
    merged = []
    for first in [row for row in trained if row["model"] == "student"]:
        same = [row for row in trained if row["nfe"] == first["nfe"]]
        if len(same) > 1:
            row = merge_rows(same) | {"model": TRAININGS}
            merged.append(row | {"images": f"{first['images']}, mean of {len(same)} trainings"})
    return merged


def _identities(run_dir):
    """{(phase, setting): value} of all but the seed and the teacher's weights, which come of it."""
    record = read_json(Path(run_dir) / CONFIG_NAME)
    phases = record.get("identities", {}) | {"run": exporting(settings_from_json(record).run)}
    pairs = [(name, *item) for name, identity in phases.items() for item in identity.items()]
    return {(name, key): value for name, key, value in pairs if key not in ("seed", "teacher")}


def _seed_of(run_dir):
    return settings_from_json(read_json(Path(run_dir) / CONFIG_NAME)).run.seed
