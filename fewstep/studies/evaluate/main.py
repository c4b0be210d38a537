"""Score a model at several NFE against held-out images, with the real images' own scores beside.

    python -m fewstep evaluate --run_dir results/NAME --teacher
    python -m fewstep evaluate --ckpt_path checkpoints/best_model.pt --data_root DIR

writes scores.json, scores.md, report.html and the pictures of it. `--tune` first chooses the
student's noise levels on training images, as `python -m fewstep tune` does.
"""

from datetime import date
from functools import partial

from fewstep.engine.hardware import hardware
from fewstep.studies.evaluate.arguments import (
    add_evaluations,
    check_subject,
    open_evaluation,
    subject_parser,
)
from fewstep.studies.evaluate.publish import publish
from fewstep.studies.evaluate.series import model_series, real_series, score_series
from fewstep.studies.evaluate.subjects import LEAST, fingerprint, has_levels
from fewstep.studies.evaluate.tables import markdown
from fewstep.studies.evaluate.tune import TUNE_SAMPLES, tune
from src.arguments import (
    LARGEST_BATCH,
    MOST_IMAGES,
    InRange,
    check_input_file,
    line,
    whole_number,
)
from src.utils import UserError

TEACHER_NFE = [35, 1]


def build_parser():
    parser = subject_parser("evaluate", __doc__)
    text = "score it too (the run's own)"
    parser.add_argument("--teacher", type=line, nargs="?", const=True, metavar="FILE", help=text)
    add_evaluations(parser, "--teacher_nfe_list", None, "(35 1)")
    add = partial(parser.add_argument, type=whole_number, action=InRange)
    images = dict(low=LEAST, high=MOST_IMAGES)
    add("--num_samples", default=1000, **images, help="(%(default)s)")
    add("--tune_samples", **images, help=f"images of each trial ({TUNE_SAMPLES})")
    add("--batch_size", default=50, low=1, high=LARGEST_BATCH, help="(%(default)s)")
    seeds = dict(nargs="+", low=0, high=2**32 - 1)
    add("--seeds", default=[42, 43, 44], **seeds, help="(42 43 44)")
    parser.add_argument("--no_auc", action="store_true", help="skip the classifier two-sample test")
    text = "keep real images out of the report, to share it"
    parser.add_argument("--hide_real", action="store_true", help=text)
    parser.add_argument("--tune", action="store_true", help="choose the student's noise levels")
    return parser


def parse_arguments(argv=None):
    """The command line, checked as far as that is possible without loading anything."""
    args = build_parser().parse_args(argv)
    check_subject(args)
    if args.teacher_nfe_list and args.teacher is None:
        raise UserError("--teacher_nfe_list: give --teacher too")
    if args.tune_samples and not args.tune:
        raise UserError("--tune_samples: give --tune too")
    args.teacher = "" if args.teacher is True else args.teacher
    if args.teacher:
        check_input_file("--teacher", args.teacher)
    args.teacher_nfe_list = list(dict.fromkeys(args.teacher_nfe_list or TEACHER_NFE))
    args.tune_samples = args.tune_samples or TUNE_SAMPLES
    args.seeds = list(dict.fromkeys(args.seeds))
    return args


def main(argv=None):
    args = parse_arguments(argv)
    subjects, comparison, output = open_evaluation(args, args.teacher, not args.no_auc)
    tuned = {}
    if args.tune:
        tuned = tune(subjects, comparison, args.nfe_list, args.tune_samples, output)
    series = list_series(args, subjects, tuned)
    rows, first_images = score_series(series, comparison, args.seeds)
    images = subjects.images
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
        "hardware": hardware(comparison.device),
        "spaces": [
            {"name": space.name, "sha256": space.digest, "is_fid": space.is_fid}
            for space in comparison.spaces
        ],
        "rows": rows,
    }
    publish(content, first_images, comparison, subjects, output, args.hide_real)
    print(f"\n{markdown(content)}\nwritten to {output}: report.html, scores.md, scores.json")
    return 0


def list_series(args, subjects, tuned):
    """Every `Series` of an evaluation: the floor, the teacher, the model at each NFE. `tuned`, as
    of `tune`, adds the levels before."""
    teacher, model = subjects.teacher, subjects.student
    rows = []
    for nfe in args.teacher_nfe_list if teacher else []:
        rows.append((f"teacher, NFE {nfe}", "teacher", nfe, teacher, None))
    for nfe in args.nfe_list:
        title = f"{'student' if has_levels(model) else 'model'}, NFE {nfe}"
        levels = tuned.get(nfe, {})
        if levels:
            before = (f"{title}, before tuning", "untuned student", nfe, model, levels["before"])
            rows.append(before)
        rows.append((title, "student", nfe, model, levels.get("after")))
    generated = [model_series(*row, args.num_samples, args.batch_size) for row in rows]
    return [real_series(subjects.images.train, args.num_samples), *generated]
