"""What is evaluated: the model and the teacher of a run or of a checkpoint, and the images."""

from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from custom_model import create_custom_model
from fewstep.engine.checkpoints import check_identity
from fewstep.runs.building import open_images
from fewstep.runs.command_line import make_settings, settings_from_json
from fewstep.runs.run_folder import CONFIG_NAME, teacher_of
from fewstep.runs.settings import Data, Settings, flat
from src.utils import UserError, file_digest, load_model, read_json

FEW_IMAGES = 100  # fewer held-out ones than features: their covariance is not even of full rank
LEAST = 4  # of each kind: what the classifier needs to train on some and be tested on others


class Subjects(NamedTuple):
    """Models (`student`: the one that is scored; `teacher` None: not asked for), image sets,
    settings (with the data flags), and the record of the run ({} for a bare checkpoint)."""

    name: str
    checkpoint: Path
    student: Any
    teacher: Any
    images: Any
    settings: Settings
    record: dict


def open_subjects(run_dir, ckpt_path, teacher, data_flags, device):
    """The `Subjects` of a run folder, or of a checkpoint where `run_dir` is None.

    teacher: None for none, "" for the run's own, else its file. data_flags: {flag: value given}
    replaces what the run has, e.g. where its images lie now. Raises `UserError`.
    """
    record = read_json(Path(run_dir) / CONFIG_NAME) if run_dir else {}
    settings = settings_from_json(record) if run_dir else Settings()
    if not run_dir:
        source = {"data": "folder"} if "data_root" in data_flags else {}
        data_flags = source | data_flags | {"batch_size": 2}  # nothing is trained
    settings = make_settings(flat(settings.as_dict()) | data_flags)
    checkpoint = Path(run_dir) / "final_model.pt" if run_dir else Path(ckpt_path)
    if run_dir and not checkpoint.is_file():
        raise UserError(f"{run_dir}: it has no student yet; let train.py go on with it")
    teacher = _teacher_file(teacher, run_dir, record)
    student = load_model(checkpoint, create_custom_model, device)
    teacher_model = load_model(teacher, create_custom_model, device) if teacher else None
    images = _opened_images(settings)
    for identity in record.get("identities", {}).values():
        check_identity(run_dir, identity, {"images": images.train.digest})
    if run_dir and not record.get("finished"):
        print(f"{run_dir}: the run is not finished; its newest networks are scored")
    name = Path(run_dir).name if run_dir else str(checkpoint)
    return Subjects(name, checkpoint, student, teacher_model, images, settings, record)


def has_levels(model):
    """Whether a model samples along few-step noise levels of its own, which can be tuned."""
    return getattr(model, "sampler", None) == "few_step"


def fingerprint(checkpoint):
    """Which model scores belong to: {"weights_sha256": ..., "few_step_sigmas": levels, or None of
    a model that has none}."""
    config = read_json(Path(checkpoint).with_name("model_config.json"))
    digest = file_digest(checkpoint).hex()
    return {"weights_sha256": digest, "few_step_sigmas": config.get("few_step_sigmas")}


def data_fields():
    """The fields of the settings that say which images there are."""
    return [item for item in fields(Data) if item.name != "batch_size"]


def _teacher_file(teacher, run_dir, record):
    if teacher != "":
        return teacher
    if not run_dir:
        raise UserError("--teacher: a bare checkpoint does not know its teacher; --teacher FILE")
    path = teacher_of(run_dir, record)
    if not path.is_file():
        raise UserError(f"--teacher: {run_dir} has none ({path}); leave it out, or --teacher FILE")
    return path


def _opened_images(settings):
    images = open_images(settings)
    if min(len(images.val), len(images.train)) < LEAST:
        raise UserError(
            f"scores need at least {LEAST} training and {LEAST} held-out images, not"
            f" {len(images.train)} and {len(images.val)}; name more with --val_split FILE"
        )
    if len(images.val) < FEW_IMAGES:
        print(f"only {len(images.val)} images are held out: distances to them mean little")
    return images
