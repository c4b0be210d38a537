"""What `evaluate` and `tune` share: flags, their checks, and opening what they name."""

import os
from functools import partial
from pathlib import Path

from fewstep.runs.command_line import add_flag
from fewstep.scores import random_feature_space
from fewstep.scores.comparison import Comparison
from fewstep.scores.inception import InceptionSpace, download_weights, weights_path
from fewstep.studies.evaluate.subjects import data_fields, open_subjects
from src.arguments import (
    MOST_EVALUATIONS,
    InRange,
    check_input_file,
    check_input_folder,
    check_output_file,
    check_output_folder,
    line,
    whole_number,
)
from src.utils import CommandParser, UserError, pick_device

CHECKPOINT = "./checkpoints/best_model.pt"


def subject_parser(command, description):
    """A parser with the flags that say what is scored and in which feature spaces."""
    parser = CommandParser(prog=f"-m fewstep {command}", description=description)
    add = partial(parser.add_argument, type=line)
    add("--run_dir", help="folder of a run of train.py: its model is taken")
    add("--ckpt_path", help=f"or a model alone ({CHECKPOINT}); name its images then")
    text = "the first one ranks (inception if its weights are there, else random)"
    add("--features", nargs="+", choices=["inception", "random"], help=text)
    add("--fid_weights", help="Inception's weights, as in measure_fid.py")
    text = "fetch them once if they are not there"
    parser.add_argument("--download_weights", action="store_true", help=text)
    add("--device", default="cuda", help="cuda, cuda:N or cpu (%(default)s)")
    add("--output_dir", help="(RUN_DIR/evaluation, or ./results/evaluation)")
    add_evaluations(parser, "--nfe_list", [1, 2, 4], "(1 2 4)")
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
    args.ckpt_path = args.ckpt_path or CHECKPOINT
    args.nfe_list = list(dict.fromkeys(args.nfe_list))
    if args.features == ["random"] and (args.fid_weights or args.download_weights):
        raise UserError("--fid_weights, --download_weights: --features random needs no weights")
    if args.download_weights:  # which takes long, so the mistakes of later steps are looked for now
        if args.run_dir:
            check_input_folder("--run_dir", args.run_dir)
        else:
            check_input_file("--ckpt_path", args.ckpt_path, "train first, or name one")
        if args.fid_weights:
            check_output_file("--fid_weights", args.fid_weights)
    checks = {"output_dir": check_output_folder, "cache_dir": check_output_folder}
    checks |= {"data_root": check_input_folder}
    checks |= {"train_split": check_input_file, "val_split": check_input_file}
    for flag, check in checks.items():
        if getattr(args, flag, None):
            check(f"--{flag}", getattr(args, flag))


def feature_spaces(names, weights, download):
    """The feature spaces asked for; without a wish FID's where its weights are, else the random.

    Weights that were named, or are to be fetched, are wished for.
    """
    if download:
        download_weights(weights_path(weights))
    if names is None:
        wished = weights or download or os.environ.get("FID_WEIGHTS")
        names = ["inception"] if wished or weights_path().is_file() else ["random"]
        if names == ["random"]:
            space = random_feature_space()
            print(f"no Inception weights here: distances are in {space.name}, which is not FID")
    make = {"inception": lambda: InceptionSpace(weights), "random": random_feature_space}
    return [make[name]() for name in dict.fromkeys(names)]


def open_evaluation(args, teacher=None, classify=False):
    """(`Subjects`, `Comparison`, output folder) of flags that were checked.

    teacher: as of `open_subjects`. classify: with the classifier two-sample test. Raises
    `UserError`.
    """
    device = pick_device(args.device)
    spaces = feature_spaces(args.features, args.fid_weights, args.download_weights)
    names = [item.name for item in data_fields() if item.name in args]
    data_flags = {name: getattr(args, name) for name in names}
    subjects = open_subjects(args.run_dir, args.ckpt_path, teacher, data_flags, device)
    output = Path(args.output_dir or f"{args.run_dir or 'results'}/evaluation")
    output.mkdir(parents=True, exist_ok=True)  # now, not after the work
    data, images = subjects.settings.data, subjects.images
    sets = (images.val.images, images.train.images)
    how = dict(mirrored=data.x_flip, classify=classify)
    return subjects, Comparison(spaces, *sets, data.cache_dir, device, **how), output
