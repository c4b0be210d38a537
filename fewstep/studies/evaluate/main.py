"""Score a student at several NFE against held-out images, with the real images' own scores beside.

    python -m fewstep evaluate --run_dir results/NAME --teacher
    python -m fewstep evaluate --ckpt_path checkpoints/best_model.pt --data_root DIR

writes scores.json, scores.md, report.html and the pictures of it. `--tune` first chooses the
student's noise levels on training images and writes them to its model_config.json.
"""

import os
from datetime import date
from functools import partial
from pathlib import Path

from fewstep.engine.hardware import hardware
from fewstep.runs.command_line import add_flag
from fewstep.scores import random_feature_space
from fewstep.scores.comparison import Comparison
from fewstep.scores.inception import InceptionSpace, download_weights, weights_path
from fewstep.studies.evaluate.pictures import real_images, sample_images
from fewstep.studies.evaluate.publish import publish
from fewstep.studies.evaluate.series import Series, score_series
from fewstep.studies.evaluate.subjects import LEAST, data_fields, fingerprint, open_subjects
from fewstep.studies.evaluate.tables import markdown
from fewstep.studies.evaluate.tuning import tune_student
from src.arguments import (
    LARGEST_BATCH,
    MOST_EVALUATIONS,
    MOST_IMAGES,
    InRange,
    check_input_file,
    check_input_folder,
    check_output_file,
    check_output_folder,
    line,
    whole_number,
)
from src.utils import CommandParser, UserError, pick_device


def build_parser():
    parser = CommandParser(prog="-m fewstep evaluate", description=__doc__)
    add = partial(parser.add_argument, type=line)
    add("--run_dir", help="folder of a run of train.py: its student is scored")
    add(
        "--ckpt_path", help="or a student alone (./checkpoints/best_model.pt); name its images then"
    )
    add(
        "--teacher",
        nargs="?",
        const=True,
        metavar="FILE",
        help="score it too (the run's own)",
    )
    add(
        "--features",
        nargs="+",
        choices=["inception", "random"],
        help="the first one ranks (inception if its weights are there, else random)",
    )
    add("--fid_weights", help="Inception's weights, as in measure_fid.py")
    add("--device", default="cuda", help="cuda, cuda:N or cpu (%(default)s)")
    add("--output_dir", help="(RUN_DIR/evaluation, or ./results/evaluation)")
    add = partial(parser.add_argument, type=whole_number, action=InRange)
    evaluations = dict(nargs="+", low=1, high=MOST_EVALUATIONS)
    add("--nfe_list", default=[1, 2, 4], **evaluations, help="(1 2 4)")
    add("--teacher_nfe_list", **evaluations, help="(35 1)")
    images = dict(low=LEAST, high=MOST_IMAGES)
    add("--num_samples", default=1000, **images, help="(%(default)s)")
    add("--tune_samples", **images, help="images of each trial (500)")
    add("--batch_size", default=50, low=1, high=LARGEST_BATCH, help="(%(default)s)")
    seeds = dict(nargs="+", low=0, high=2**32 - 1)
    add("--seeds", default=[42, 43, 44], **seeds, help="(42 43 44)")
    parser.add_argument(
        "--download_weights", action="store_true", help="fetch them once if they are not there"
    )
    parser.add_argument("--no_auc", action="store_true", help="skip the classifier two-sample test")
    parser.add_argument(
        "--hide_real", action="store_true", help="keep real images out of the report, to share it"
    )
    parser.add_argument("--tune", action="store_true", help="choose the student's noise levels")
    section = parser.add_argument_group(
        "Which images, as in train.py; with --run_dir the run's own"
    )
    for item in data_fields():
        add_flag(section, item)
    return parser


def parse_arguments(argv=None):
    """The command line, checked as far as that is possible without loading anything."""
    args = build_parser().parse_args(argv)
    if args.run_dir and args.ckpt_path:
        raise UserError("--run_dir and --ckpt_path: give one of them")
    args.ckpt_path = args.ckpt_path or "./checkpoints/best_model.pt"
    if args.teacher_nfe_list and args.teacher is None:
        raise UserError("--teacher_nfe_list: give --teacher too")
    if args.tune_samples and not args.tune:
        raise UserError("--tune_samples: give --tune too")
    args.teacher = "" if args.teacher is True else args.teacher
    args.teacher_nfe_list = args.teacher_nfe_list or [35, 1]
    args.tune_samples = 500 if args.tune_samples is None else args.tune_samples
    if args.features == ["random"] and (args.fid_weights or args.download_weights):
        raise UserError("--fid_weights, --download_weights: --features random needs no weights")
    for flag in ("nfe_list", "teacher_nfe_list", "seeds"):
        setattr(args, flag, list(dict.fromkeys(getattr(args, flag))))
    check_places(args)
    return args


def check_places(args):
    """Raise `UserError` for files and folders that are not there, or cannot be made."""
    if args.download_weights:  # which takes long, so that what would be found later is found now
        if args.run_dir:
            check_input_folder("--run_dir", args.run_dir)
        else:
            check_input_file("--ckpt_path", args.ckpt_path, "train first, or name one")
        if args.fid_weights:
            check_output_file("--fid_weights", args.fid_weights)
    if args.teacher:
        check_input_file("--teacher", args.teacher)
    for flag in ("output_dir", "cache_dir"):
        if getattr(args, flag, None):
            check_output_folder(f"--{flag}", getattr(args, flag))
    if getattr(args, "data_root", None):
        check_input_folder("--data_root", args.data_root)
    for flag in ("train_split", "val_split"):
        if getattr(args, flag, None):
            check_input_file(f"--{flag}", getattr(args, flag))


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


def main(argv=None):
    args = parse_arguments(argv)
    device = pick_device(args.device)
    spaces = feature_spaces(args.features, args.fid_weights, args.download_weights)
    data_flags = {
        item.name: getattr(args, item.name) for item in data_fields() if item.name in args
    }
    subjects = open_subjects(args.run_dir, args.ckpt_path, args.teacher, data_flags, device)
    output = Path(args.output_dir or f"{args.run_dir or 'results'}/evaluation")
    output.mkdir(parents=True, exist_ok=True)  # now, not after the work
    data, images = subjects.settings.data, subjects.images
    comparison = Comparison(
        spaces,
        images.val.images,
        images.train.images,
        data.cache_dir,
        device,
        mirrored=data.x_flip,
        classify=not args.no_auc,
    )

    def sampler(model, nfe, title, levels=None):
        count, batch_size = args.num_samples, args.batch_size
        return lambda seed: sample_images(model, nfe, count, batch_size, seed, title, levels)

    def real(seed):
        return real_images(images.train, args.num_samples, seed)

    series = [Series("real training images", "real", None, real)]
    if subjects.teacher:
        for nfe in args.teacher_nfe_list:
            title = f"teacher, NFE {nfe}"
            series.append(Series(title, "teacher", nfe, sampler(subjects.teacher, nfe, title)))
    tuned = {}
    if args.tune:
        tuned = tune_student(subjects, comparison, args.nfe_list, args.tune_samples, output)
    for nfe in args.nfe_list:
        for when in ("before", "after") if nfe in tuned else ("",):
            title = f"student, NFE {nfe}" + ", before tuning" * (when == "before")
            kind = "untuned student" if when == "before" else "student"
            sample = sampler(subjects.student, nfe, title, tuned[nfe][when] if when else None)
            series.append(Series(title, kind, nfe, sample))

    rows, shown = score_series(series, comparison, args.seeds)
    content = {
        "name": subjects.name,
        "checkpoint": str(subjects.checkpoint),
        **fingerprint(subjects.checkpoint),
        "reference": images.description,
        "reference_count": len(images.val),
        "training_count": len(images.train),
        "num_samples": args.num_samples,
        "seeds": args.seeds,
        "date": date.today().isoformat(),
        "hardware": hardware(device),
        "spaces": [
            {"name": space.name, "sha256": space.digest, "is_fid": space.is_fid} for space in spaces
        ],
        "rows": rows,
    }
    publish(content, shown, comparison, subjects, output, args.hide_real)
    print(f"\n{markdown(content)}\nwritten to {output}: report.html, scores.md, scores.json")
    return 0
