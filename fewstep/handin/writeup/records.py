"""What a run folder holds for the write-up; all that is missing is named at once."""

from pathlib import Path
from typing import NamedTuple

from custom_model import create_custom_model
from fewstep.engine.log import read_rows
from fewstep.methods.timeline import Timeline
from fewstep.runs.command_line import settings_from_json
from fewstep.runs.run_folder import CONFIG_NAME
from fewstep.runs.settings import Settings, method_of
from fewstep.scores.inception import FID_SHA256
from fewstep.studies.evaluate.subjects import fingerprint
from src.utils import UserError, load_model, read_json, read_model_config

NFE = (1, 2, 4)
EARLY_STEP = 200  # sheets before it show hardly more than noise
LEARNT = 100  # and so do those of a student that has learnt for fewer steps
EARLY_SHARE = 0.5  # of a phase's steps, after which nothing is early
SCORES = {"spaces", "rows", "seeds", "num_samples", "reference", "date", "weights_sha256"}
ROW = {"images", "model", "nfe", "count", "scores"}
SPACE = {"name", "sha256", "is_fid"}


class Phase(NamedTuple):
    """One phase of the training, from the records of the run that it was part of."""

    name: str
    facts: dict  # of training_config.json
    settings: Settings | None
    rows: list  # of log.jsonl
    sheet: Path | None  # of early samples, None where no sheet is early
    sheet_step: int | None


class Records(NamedTuple):
    """Everything that the write-up is made of."""

    phases: list  # `Phase`s in the order of the training
    config: dict  # model_config.json
    scores: dict  # evaluation/scores.json
    finals: dict  # NFE -> sheet of the evaluation


def read_records(run_dir, teacher_dir=None):
    """`Records` of the finished run in `run_dir`.

    teacher_dir: the run that trained the teacher, where it was another; None: as the run says.
    Raises one `UserError` that names everything that is missing.
    """
    run_dir, lacks = Path(run_dir), []
    facts = _json(run_dir / CONFIG_NAME, "the settings", lacks)
    config = _json(run_dir / "model_config.json", "the student", lacks)
    if facts and not facts.get("finished"):
        lacks.append(f"the end of the training ({CONFIG_NAME}: the run is not finished)")
    if teacher_dir is None and "teacher_file" in facts:
        # RUN/teacher/model.pt, or a flow's RUN/final_model.pt.
        inner, outer = list(Path(facts["teacher_file"]).parents)[:2]
        teacher_dir = inner if (inner / CONFIG_NAME).is_file() else outer
    method = method_of(settings_from_json(facts) if facts else Settings())
    names, folders = method.phases, {name: run_dir for name in method.phases}
    if method.needs_teacher:
        folders[method.teacher.name] = Path(teacher_dir or run_dir)
    phases = [_phase(folders[name], name, lacks, folders[name] != run_dir) for name in names]
    scores = _scores(run_dir, lacks)
    finals = {nfe: run_dir / "evaluation" / f"student_nfe={nfe}.png" for nfe in NFE}
    if not all(path.is_file() for path in finals.values()):
        lacks.append("final samples (evaluation/student_nfe=K.png)")
    if lacks:
        raise UserError(
            f"{run_dir}: the write-up lacks: {'; '.join(dict.fromkeys(lacks))}. Scores and final"
            f" samples come from python -m fewstep evaluate --run_dir {run_dir}"
        )
    return Records(phases, config, scores, finals)


def _json(path, name, lacks):
    if path.is_file():
        return read_json(path)
    lacks.append(f"{name} ({path.name})")
    return {}


def _phase(folder, name, lacks, is_elsewhere):
    """The records of phase `name` in the run `folder`; what it lacks is added to `lacks`."""
    title = f"the settings of the {name}'s run: name its folder with --teacher_dir"
    facts = _json(folder / CONFIG_NAME, title, lacks if is_elsewhere else [])
    facts_of = {f"{name}_seconds": "training time", "device": "hardware", "torch": "torch version"}
    for key, what in facts_of.items():
        if facts and key not in facts:
            lacks.append(f"the {what} of the {name} ({CONFIG_NAME}: {key})")
    rows = [row for row in read_rows(folder / "log.jsonl") if row.get("phase") == name]
    if not rows:
        lacks.append(f"the {name}'s loss curves ({folder.name}/log.jsonl)")
    settings = settings_from_json(facts) if facts else None
    alone = Timeline.of(settings).alone if name == "student" and settings else 0
    sheets = sorted((folder / "samples").glob(f"{name}_*.png"))
    steps = {int(path.stem.rpartition("_")[2]): path for path in sheets}
    if not steps:
        lacks.append(f"early samples of the {name} (samples/{name}_*.png)")
    step = early_step(steps, rows[-1]["step"] if rows else 0, alone)
    return Phase(name, facts, settings, rows, steps.get(step), step)


def early_step(steps, last, alone):
    """Of the steps that have a sheet the one whose samples are early in a phase of `last` steps, in
    the first `alone` of which the network does not learn; None where none is.

    It is the first one that shows something, or the last one of the first half.
    """
    early = [step for step in sorted(steps) if alone < step <= EARLY_SHARE * last]
    # Of a short run the first quarter shows something.
    shows = max(min(EARLY_STEP, last // 4), alone + min(LEARNT, last // 4))
    return next((step for step in early if step >= shows), early[-1] if early else None)


def _scores(run_dir, lacks):
    path, student = run_dir / "evaluation" / "scores.json", run_dir / "final_model.pt"
    for file, what in ((path, "scores"), (student, "the student")):
        if not file.is_file():
            lacks.append(f"{what} ({file.relative_to(run_dir)})")
    if not (path.is_file() and student.is_file() and (run_dir / "model_config.json").is_file()):
        return {}
    try:
        scores = read_scores(path, student)
    except UserError as error:
        lacks.append(str(error))
        return {}
    scored = {row["nfe"] for row in scores["rows"] if row["model"] == "student"}
    if absent := [str(nfe) for nfe in NFE if nfe not in scored]:
        lacks.append(f"scores of the student at NFE {', '.join(absent)}")
    return scores


def read_scores(path, checkpoint):
    """The content of the `scores.json` of `fewstep evaluate` at `path`. Raises `UserError` where it
    is of another form, or not of the weights and noise levels of `checkpoint`."""
    scores = read_json(path)
    well_formed = _are_records(scores.get("rows"), ROW) and _are_records(
        scores.get("spaces"), SPACE
    )
    if not well_formed or not scores.keys() >= SCORES:
        raise UserError(f"{path}: not what fewstep evaluate writes; run it again")
    for space in scores["spaces"]:
        if space["is_fid"] and space["sha256"] != FID_SHA256:
            digest = space["sha256"]
            raise UserError(
                f"{path}: it calls FID what is of weights other than Inception's (SHA-256"
                f" {digest}); run fewstep evaluate again"
            )
    config = read_model_config(Path(checkpoint).with_name("model_config.json"))
    now = fingerprint(load_model(checkpoint, create_custom_model), config)
    if any(scores.get(key) != value for key, value in now.items()):
        raise UserError(
            f"{path}: of other weights or noise levels, or of an earlier version; run fewstep"
            " evaluate again"
        )
    return scores


def _are_records(value, keys):
    return isinstance(value, list) and all(
        isinstance(one, dict) and one.keys() >= keys for one in value
    )
