"""What is evaluated: the flags that `evaluate` and `tune` share, and the models, images and feature
spaces that they name."""

from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fewstep.engine.checkpoints import check_identity
from fewstep.images import evenly
from fewstep.runs.building import open_images
from fewstep.runs.command_line import make_settings, settings_from_json
from fewstep.runs.loading import load
from fewstep.runs.parser import add_flag
from fewstep.runs.run_folder import CONFIG_NAME, places_of, teacher_of
from fewstep.runs.settings import Data, Settings, flat
from fewstep.scores.comparison import Comparison
from fewstep.scores.folders import say_if_few
from fewstep.scores.spaces import FEATURES, HELP, check_features, feature_spaces
from src.arguments import (
    DEFAULT,
    MOST_EVALUATIONS,
    InRange,
    check_apart,
    check_input_file,
    check_input_folder,
    check_output_file,
    check_output_folder,
    line,
    whole_number,
)
from src.model_config import LEVEL_SAMPLERS
from src.published import named_file
from src.utils import (
    CommandParser,
    UserError,
    pick_device,
    read_json,
    weights_digest,
)

CHECKPOINT = "./checkpoints/best_model.pt"
CHANNELS, MOST_LOOKED_AT = ("red", "green", "blue"), 1000
LEAST = 4  # of each kind: what the classifier needs to train on some and be tested on others


class Subjects(NamedTuple):
    """Models (`student`: the one that is scored, None where folders are scored alone; `teacher`
    None: not asked for), image sets, settings (with the data flags), the record of the run ({} for
    a bare checkpoint), and the student's `model_config.json` ({} where there is none)."""

    name: str
    checkpoint: Path | None
    student: Any
    teacher: Any
    images: Any
    settings: Settings
    record: dict
    config: dict


def subject_parser(command, description, features=None):
    """A parser with the flags that say what is scored and in which feature spaces. features: those
    where none are named; None: all that are there."""
    parser = CommandParser(prog=f"-m fewstep {command}", description=description)
    add = partial(parser.add_argument, type=line)
    add("--run_dir", help="folder of a run of train.py, whose model and images are taken")
    add(
        "--ckpt_path",
        help="a checkpoint, or a folder of published weights, in place of a run, with flags for its"
        f" images (default: {CHECKPOINT})",
    )
    default = " ".join(features) if features else "all that are there"
    text = f"feature spaces, the first one ranks (default: {default}). {HELP}"
    add("--features", nargs="+", choices=FEATURES, default=features, help=text)
    add("--fid_weights", help="file of Inception's weights, as in measure_fid.py")
    text = "download Inception's weights once if they are not there"
    parser.add_argument("--download_weights", action="store_true", help=text)
    add("--device", default="cuda", help=f"cuda, cuda:N or cpu ({DEFAULT})")
    text = "folder for results (default: RUN_DIR/evaluation, else results/evaluation)"
    add("--output_dir", help=text)
    text = "network evaluations per image (default: 1 2 4)"
    add_evaluations(parser, "--nfe_list", [1, 2, 4], text)
    section = parser.add_argument_group("Which images, as in train.py; with --run_dir the run's")
    for item in data_fields():
        add_flag(section, item)
    return parser


def add_evaluations(parser, flag, default, text):
    """A flag of several numbers of network evaluations."""
    limits = dict(type=whole_number, action=InRange, low=1, high=MOST_EVALUATIONS)
    parser.add_argument(flag, nargs="+", default=default, **limits, help=text)


def check_subject(args):
    """Fill in and check the flags of `subject_parser` as far as that is possible without loading
    anything. Raises `UserError`."""
    if args.run_dir and args.ckpt_path:
        raise UserError("--run_dir and --ckpt_path: give one of them")
    args.ckpt_path = named_file(args.ckpt_path)
    if args.run_dir:
        check_input_folder("--run_dir", args.run_dir, "name a folder that train.py wrote")
        check_input_file("--run_dir", Path(args.run_dir) / CONFIG_NAME, "train.py writes it")
    if not getattr(args, "folder", None):  # which can be scored alone
        args.ckpt_path = args.ckpt_path or CHECKPOINT
    args.nfe_list = list(dict.fromkeys(args.nfe_list))
    check_features(args.features, args.fid_weights, args.download_weights)
    checks = {"output_dir": check_output_folder, "cache_dir": check_output_folder}
    checks |= {"data_root": check_input_folder}
    checks |= {"train_split": check_input_file, "val_split": check_input_file}
    if args.download_weights:  # which takes long, so the mistakes of later steps are looked for now
        model = {} if args.run_dir else {"ckpt_path": check_input_file}
        checks |= model | {"fid_weights": check_output_file}
    for flag, check in checks.items():
        if getattr(args, flag, None):
            check(f"--{flag}", getattr(args, flag))
    if getattr(args, "data_root", None):
        check_apart("--output_dir", output_folder(args), "--data_root", args.data_root)


def output_folder(args):
    """Where an evaluation writes to."""
    return Path(args.output_dir or f"{args.run_dir or 'results'}/evaluation")


def data_flags_of(args):
    """{flag: value} of those that say which images there are."""
    return {item.name: getattr(args, item.name) for item in data_fields() if item.name in args}


def open_evaluation(args, teacher=None, classify=False):
    """(`Subjects`, `Comparison`, output folder) of flags that were checked.

    teacher: as of `open_subjects`. classify: with the classifier two-sample test. Raises
    `UserError`.
    """
    device = pick_device(args.device)
    spaces = feature_spaces(args.features, args.fid_weights, args.download_weights)
    subjects = open_subjects(args.run_dir, args.ckpt_path, teacher, data_flags_of(args), device)
    output = output_folder(args)
    output.mkdir(parents=True, exist_ok=True)  # now, not after the work
    data, images = subjects.settings.data, subjects.images
    sets = (images.val.images, images.train.images)
    comparison = Comparison(spaces, *sets, data.cache_dir, device, data.x_flip, classify)
    return subjects, comparison, output


def open_subjects(run_dir, ckpt_path, teacher, data_flags, device):
    """The `Subjects` of a run folder, of a checkpoint, or of neither where both are None.

    teacher: None for none, "" for the run's own, else its file. data_flags: {flag: value given}
    replaces what the run has, e.g. where its images lie now. Raises `UserError`.
    """
    record = read_json(Path(run_dir) / CONFIG_NAME) if run_dir else {}
    settings = settings_from_json(record) if run_dir else Settings()
    if run_dir:
        data_flags = recorded_places(run_dir, record, settings.data, data_flags) | data_flags
    else:
        source = {"data": "folder"} if "data_root" in data_flags else {}
        data_flags = source | data_flags | {"batch_size": 2}  # nothing is trained
    settings = make_settings(flat(settings.as_dict()) | data_flags)
    checkpoint = Path(run_dir) / "final_model.pt" if run_dir else ckpt_path and Path(ckpt_path)
    if run_dir and not checkpoint.is_file():
        raise UserError(f"{run_dir}: it has no student yet; let train.py go on with it")
    teacher = _teacher_file(teacher, run_dir, record)
    if checkpoint:
        check_input_file("--ckpt_path", checkpoint, "train first, or name another")
    student = load(checkpoint, device) if checkpoint else None
    teacher_model = load(teacher, device).model if teacher else None
    images = _opened_images(settings)
    for identity in record.get("identities", {}).values():
        check_identity(run_dir, identity, {"images": images.train.digest})
    if run_dir and not record.get("finished"):
        print(f"{run_dir}: the run is not finished; its newest networks are scored")
    name = Path(run_dir).name if run_dir else "folders of images"
    if checkpoint and not run_dir:
        name = "/".join(checkpoint.parts[-2:])
    model, config = (student.model, student.config) if student else (None, {})
    return Subjects(name, checkpoint, model, teacher_model, images, settings, record, config)


def recorded_places(run_dir, record, data, flags):
    """{flag: path} of what a run read, unless `flags` name it. Raises `UserError`, saying whose
    path it is, where one is not there."""
    places_now = {}
    for flag in ("data_root", "train_split", "val_split"):
        text = getattr(data, flag)
        if not text or flag in flags:
            continue
        places = [str(place) for place in places_of(record, text) if place.exists()]
        if not places:
            where = record.get("started_in", "the folder that train.py was started in")
            begin = "" if Path(text).is_absolute() else f", seen from {where},"
            raise UserError(
                f"{Path(run_dir) / CONFIG_NAME}: its {flag} {text}{begin} is not there; say where"
                f" it is now: --{flag}"
            )
        places_now[flag] = places[0]
    return places_now


def has_levels(model):
    """Whether a model samples along few-step noise levels of its own, which can be tuned."""
    return getattr(model, "sampler", None) in LEVEL_SAMPLERS


def fingerprint(model, config):
    """Which model scores belong to: {"weights_sha256": ..., "few_step_sigmas": levels, or None of
    a model that has none}; {} where there is no model. Of its weights, not of a file: a run that
    goes on writes its files again. config: its `model_config.json`."""
    if model is None:
        return {}
    levels = config.get("few_step_sigmas")
    return {"weights_sha256": weights_digest(model), "few_step_sigmas": levels}


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
    say_if_few(len(images.val), "images are held out")
    some = np.asarray(images.val.images[evenly(len(images.val), MOST_LOOKED_AT)])
    plain = [name for name, channel in zip(CHANNELS, some.T) if channel.min() == channel.max()]
    if plain:
        raise UserError(
            f"{images.description}: the held-out images have one value throughout in"
            f" {' and '.join(plain)}, so there is no contrast to compare with; measure_fid.py can"
            " score them"
        )
    return images


def what_scores_depend_on(comparison, subjects):
    """Plain values beside the scored images themselves and the seed."""
    images = subjects.images
    return {
        "spaces": [[space.name, space.digest] for space in comparison.spaces],
        "auc": comparison.classify,
        "heldout": images.val.digest,
        "training": images.train.digest,
        "mirrored": subjects.settings.data.x_flip,
        "device": comparison.device.type,
    }
