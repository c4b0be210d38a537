"""What a run folder holds for the write-up; all that is missing is said at once."""

from pathlib import Path
from typing import NamedTuple

from PIL import Image

from fewstep.engine.log import read_rows
from fewstep.runs.command_line import settings_from_json
from fewstep.runs.derived import alone_steps
from fewstep.runs.run_folder import CONFIG_NAME
from fewstep.runs.settings import Settings
from fewstep.studies.evaluate.subjects import fingerprint
from src.utils import UserError, read_json

STUDENT_NFE = (1, 2, 4)
EARLY_STEP = 200  # sheets before it show hardly more than noise
LEARNT = 100  # and so do those of a student that has learnt for fewer steps
SHEET_GAP = 2  # of `picture_sheet`
IMAGE_SIZE = 64


class Sheet(NamedTuple):
    """A picture sheet: its image, the side of a cell with one gap, and where it comes from."""

    image: Image.Image
    cell: int
    step: int | None

    def rows(self, first, count):
        """`count` of its rows of pictures from row `first` on, as a PIL image."""
        top = first * self.cell
        return self.image.crop((0, top, self.image.width, top + count * self.cell + SHEET_GAP))

    @property
    def columns(self):
        return (self.image.width - SHEET_GAP) // self.cell

    @property
    def height(self):
        """How many rows of pictures it has."""
        return (self.image.height - SHEET_GAP) // self.cell


class Records(NamedTuple):
    """Everything that the write-up is made of; see `read_records`."""

    settings: Settings
    teacher_settings: Settings  # of the run that trained the teacher
    facts: dict  # of training_config.json
    teacher_facts: dict
    config: dict  # model_config.json of the student
    rows: list  # of both logs
    scores: dict
    early: dict  # phase -> `Sheet`
    finals: dict  # NFE -> `Sheet`
    finals_are_scored: bool  # else they are rows of the run's last sheet


def read_records(run_dir, teacher_dir=None):
    """`Records` of the finished run in `run_dir`.

    teacher_dir: the run that trained the teacher, where it was another; None: as the run says.
    Raises one `UserError` that names everything that is missing.
    """
    run_dir = Path(run_dir)
    lacks = []
    facts = _json_or_lack(run_dir / CONFIG_NAME, f"the settings ({CONFIG_NAME})", lacks)
    if teacher_dir is None and "teacher_file" in facts:
        teacher_dir = Path(facts["teacher_file"]).parent.parent
    teacher_dir = Path(teacher_dir or run_dir)
    teacher_facts = facts
    if teacher_dir != run_dir:
        lack = (
            f"the settings of the teacher's run ({teacher_dir / CONFIG_NAME}: name its folder with"
            " --teacher_dir)"
        )
        teacher_facts = _json_or_lack(teacher_dir / CONFIG_NAME, lack, lacks)
    config = _json_or_lack(run_dir / "model_config.json", "the student (model_config.json)", lacks)
    lacks += _lacking_facts(facts, teacher_facts)
    rows = _rows(teacher_dir, "teacher", "loss", lacks)
    rows += _rows(run_dir, "student", "images_per_second", lacks)
    settings = settings_from_json(facts) if facts else None
    teacher_settings = settings_from_json(teacher_facts) if teacher_facts else None
    alone = alone_steps(settings) if settings else 0
    total = settings.student.student_iterations if settings else 0
    teacher_total = teacher_settings.teacher.num_iterations if teacher_settings else 0
    # Of a short run the first quarter is early.
    taught = min(EARLY_STEP, teacher_total // 4)
    learnt = max(min(EARLY_STEP, total // 4), alone + min(LEARNT, total // 4))
    early = {
        "teacher": _early_sheet(teacher_dir, "teacher", taught, lacks),
        "student": _early_sheet(run_dir, "student", learnt, lacks),
    }
    finals, are_scored = _final_sheets(run_dir, lacks)
    scores = _scores(run_dir, config, lacks)
    if lacks:
        raise UserError(f"{run_dir}: the write-up lacks: {'; '.join(lacks)}")
    return Records(
        settings,
        teacher_settings,
        facts,
        teacher_facts,
        config,
        rows,
        scores,
        early,
        finals,
        are_scored,
    )


def _json_or_lack(path, name, lacks):
    if path.is_file():
        return read_json(path)
    lacks.append(name)
    return {}


def _lacking_facts(facts, teacher_facts):
    lacks = []
    if facts and not facts.get("finished"):
        lacks.append(f"the end of the training ({CONFIG_NAME}: the run is not finished)")
    for phase, content in (("teacher", teacher_facts), ("student", facts)):
        if content and f"{phase}_seconds" not in content:
            lacks.append(f"the training time of the {phase} ({CONFIG_NAME}: {phase}_seconds)")
        for key, name in (("device", "hardware"), ("torch", "version of torch")):
            if content and key not in content:
                lacks.append(f"the {name} of the {phase}'s run ({CONFIG_NAME}: {key})")
    return lacks


def _rows(folder, phase, key, lacks):
    rows = [row for row in read_rows(folder / "log.jsonl") if row.get("phase") == phase]
    rows = [row for row in rows if key in row]
    if not rows:
        lacks.append(f"the {phase}'s loss curves ({folder.name}/log.jsonl)")
    return rows


def _sheets(folder, phase):
    """[(step, path)] of a phase, by step."""
    paths = (folder / "samples").glob(f"{phase}_*.png")
    named = [(path.stem.rpartition("_")[2], path) for path in paths]
    return sorted((int(step), path) for step, path in named if step.isdigit())


def _early_sheet(folder, phase, step, lacks):
    """The first sheet from `step` on, else the one nearest to it."""
    sheets = _sheets(folder, phase)
    if not sheets:
        lacks.append(f"early samples of the {phase} (samples/{phase}_*.png)")
        return None
    late_enough = [sheet for sheet in sheets if sheet[0] >= step]
    found, path = late_enough[0] if late_enough else sheets[-1]
    return open_sheet(path, found)


def _final_sheets(run_dir, lacks):
    """({nfe: `Sheet`}, whether they are fewstep evaluate's)."""
    paths = {nfe: run_dir / "evaluation" / f"student_nfe={nfe}.png" for nfe in STUDENT_NFE}
    if all(path.is_file() for path in paths.values()):
        return {nfe: open_sheet(path) for nfe, path in paths.items()}, True
    sheets = _sheets(run_dir, "student")
    if not sheets:
        lacks.append(
            "final samples (evaluation/student_nfe=K.png: run python -m fewstep evaluate --run_dir"
            f" {run_dir})"
        )
        return {}, False
    step, path = sheets[-1]
    sheet = open_sheet(path, step)
    if sheet.height != len(STUDENT_NFE):
        raise UserError(f"{path}: {len(STUDENT_NFE)} rows of pictures are expected")
    parts = {nfe: sheet.rows(row, 1) for row, nfe in enumerate(STUDENT_NFE)}
    return {nfe: Sheet(image, sheet.cell, step) for nfe, image in parts.items()}, False


def open_sheet(path, step=None):
    """The sheet in a file. Raises `UserError` where it is not one of `picture_sheet`."""
    try:
        image = Image.open(path).convert("RGB")
    except OSError as error:
        raise UserError(f"{path}: not readable as a picture") from error
    for scale in (2, 1, 3, 4):
        cell = scale * IMAGE_SIZE + SHEET_GAP
        if all(side > SHEET_GAP and (side - SHEET_GAP) % cell == 0 for side in image.size):
            return Sheet(image, cell, step)
    raise UserError(f"{path}: not a sheet of {IMAGE_SIZE}×{IMAGE_SIZE} pictures")


def _scores(run_dir, config, lacks):
    path = run_dir / "evaluation" / "scores.json"
    remedy = f"run python -m fewstep evaluate --run_dir {run_dir} --teacher"
    if not path.is_file():
        lacks.append(f"scores (evaluation/scores.json: {remedy})")
        return {}
    scores = read_json(path)
    wanted = ("spaces", "rows", "seeds", "num_samples", "reference", "weights_sha256")
    rows = scores.get("rows")
    well_formed = isinstance(rows, list) and all(
        isinstance(row, dict) and {"images", "model", "nfe", "count", "scores"} <= set(row)
        for row in rows
    )
    if not well_formed or not all(key in scores for key in wanted):
        lacks.append(f"scores (evaluation/scores.json is of another form: {remedy})")
        return {}
    student = run_dir / "final_model.pt"
    if not student.is_file():
        lacks.append("the student (final_model.pt)")
    elif config and any(scores.get(key) != now for key, now in fingerprint(student).items()):
        lacks.append(f"this student's scores (there are of other weights or levels; {remedy})")
    scored = {row["nfe"] for row in scores["rows"] if row["model"] == "student"}
    absent = [str(nfe) for nfe in STUDENT_NFE if nfe not in scored]
    if absent:
        lacks.append(
            f"scores of the student at NFE {', '.join(absent)} (run fewstep evaluate anew)"
        )
    return scores
