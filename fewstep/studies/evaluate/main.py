"""Score a model at several NFE against held-out images, with the real images' own scores beside,
and any folders of images in the same table.

    python -m fewstep evaluate --run_dir results/NAME --teacher
    python -m fewstep evaluate --ckpt_path checkpoints/best_model.pt --data_root DIR
    python -m fewstep evaluate --folder mine=DIR1 theirs=DIR2 --data_root DIR

writes scores.json, scores.md, report.html and the pictures of it. Better noise levels of a student
are chosen before, by `python -m fewstep tune`.
"""

import os
from datetime import date
from functools import partial
from pathlib import Path

from fewstep.engine.hardware import hardware
from fewstep.scores.folders import common_count, image_files, say_if_few
from fewstep.studies.evaluate.headline import headline
from fewstep.studies.evaluate.kept import Kept
from fewstep.studies.evaluate.report import publish
from fewstep.studies.evaluate.series import folder_series, model_series, real_series, score_series
from fewstep.studies.evaluate.subjects import (
    LEAST,
    add_evaluations,
    check_subject,
    data_flags_of,
    fingerprint,
    has_levels,
    open_evaluation,
    output_folder,
    subject_parser,
    what_scores_depend_on,
)
from fewstep.studies.evaluate.tables import (
    distance_title,
    narrow_table,
    order_sentence,
    space_record,
)
from fewstep.studies.evaluate.trainings import check_seed_runs, over_trainings, seed_series
from src.arguments import (
    DEFAULT,
    LARGEST_BATCH,
    MOST_IMAGES,
    InRange,
    check_apart,
    check_input_file,
    line,
    whole_number,
)
from src.feedback import Progress
from src.formatting import paragraphs, terminal_width
from src.published import named_file
from src.samplers import untrained_note
from src.utils import UserError, one_line

TEACHER_NFE = [35, 1]


def build_parser():
    parser = subject_parser("evaluate", __doc__)
    text = "score the teacher too: that of the run, or of this file or published folder"
    parser.add_argument("--teacher", type=line, nargs="?", const=True, metavar="FILE", help=text)
    text = "network evaluations at which the teacher is scored (default: 35 1)"
    add_evaluations(parser, "--teacher_nfe_list", None, text)
    text = "score folders of images too, such as another program's; without a model, these alone"
    parser.add_argument("--folder", type=line, nargs="+", metavar="NAME=DIR", help=text)
    add = partial(parser.add_argument, type=whole_number, action=InRange)
    images = dict(low=LEAST, high=MOST_IMAGES)
    text = f"images of each that are scored ({DEFAULT})"
    add("--num_samples", default=1000, **images, help=text)
    text = f"images generated at once ({DEFAULT})"
    add("--batch_size", default=50, low=1, high=LARGEST_BATCH, help=text)
    seeds = dict(nargs="+", low=0, high=2**32 - 1)
    text = "seeds of sampling; several tell the noise of a score (default: 42 43 44)"
    add("--seeds", default=[42, 43, 44], **seeds, help=text)
    parser.add_argument(
        "--no_auc", action="store_true", help="skip the classifier's AUC, which takes longest"
    )
    text = "runs of the same flags with other seeds, for the spread over trainings"
    parser.add_argument("--seed_runs", type=line, nargs="+", default=[], metavar="DIR", help=text)
    text = "keep real images out of the report, to share it"
    parser.add_argument("--hide_real", action="store_true", help=text)
    return parser


def parse_arguments(argv=None):
    """The command line, checked as far as that is possible without loading anything."""
    args = build_parser().parse_args(argv)
    check_subject(args)
    if args.teacher_nfe_list and args.teacher is None:
        raise UserError("--teacher_nfe_list: give --teacher too")
    args.teacher = "" if args.teacher is True else args.teacher
    if args.teacher:
        args.teacher = named_file(args.teacher)
        check_input_file("--teacher", args.teacher)
    args.teacher_nfe_list = list(dict.fromkeys(args.teacher_nfe_list or TEACHER_NFE))
    args.seeds = list(dict.fromkeys(args.seeds))
    for word in args.folder or []:
        name, folder = named_folder(word)
        if folder:  # else what is wrong with the word is said next
            check_apart("--output_dir", output_folder(args), f"--folder {name}", folder)
    args.folder = named_folders(args.folder or [])
    check_seed_runs(args.run_dir, args.seed_runs)
    return args


def named_folder(word):
    """(name, folder) of NAME=DIR, each of which may have the sign too, or of a DIR that is there,
    which has its own name; the folder "" where there is none."""
    if os.path.isdir(word):
        return word, word
    parts = word.split("=")
    pairs = [("=".join(parts[:i]), "=".join(parts[i:])) for i in range(1, len(parts))]
    return next((pair for pair in pairs if os.path.isdir(pair[1])), (pairs or [(word, "")])[0])


def named_folders(words):
    """["NAME=DIR" or "DIR", ...] -> {NAME: image files}. Raises `UserError`."""
    folders = {}
    for word in words:
        name, folder = named_folder(word)
        if not name or not folder:
            raise UserError(f"--folder {word}: no such folder; name one, or NAME=DIR")
        if name in folders:
            raise UserError(f"--folder {word}: {name} names another folder already")
        flag = "--folder" if name == folder else f"--folder {name}"
        folders[name] = image_files(folder, flag)
        if len(folders[name]) < LEAST:
            raise UserError(f"--folder {word}: {len(folders[name])} images; {LEAST} are needed")
    return folders


def main(argv=None):
    args = parse_arguments(argv)
    subjects, comparison, output = open_evaluation(args, args.teacher, not args.no_auc)
    args.num_samples = common_count(args.num_samples, args.folder, len(subjects.images.train))
    say_if_few(args.num_samples, "images of each are scored")
    if note := untrained_note(subjects.student, args.nfe_list):
        print(note)
    series, images = list_series(args, subjects), subjects.images
    size = (args.num_samples, args.batch_size)
    series += seed_series(
        args.seed_runs, args.nfe_list, *size, comparison.device, data_flags_of(args)
    )
    kept = Kept(output / "kept", what_scores_depend_on(comparison, subjects))
    with Progress("looking for what is scored already"):
        there = kept.describe(series, args.seeds)
    if there:
        print(there)
    spaces, score = comparison.spaces, comparison.scores
    rows, first_images = score_series(series, spaces, score, args.seeds, kept)
    rows += over_trainings(rows)
    content = {
        "name": subjects.name,
        "checkpoint": subjects.checkpoint and str(subjects.checkpoint),
        **fingerprint(subjects.student, subjects.config),
        "reference": shown_source(images.description, subjects.settings.data.data_root),
        "reference_count": len(images.val),
        "training_count": len(images.train),
        "num_samples": args.num_samples,
        "seeds": args.seeds,
        "date": date.today().isoformat(),
        "hardware": hardware(comparison.device),
        "spaces": [space_record(space) for space in comparison.spaces],
        "rows": rows,
    }
    with Progress("writing the report"):
        publish(content, first_images, comparison, subjects, output, args.hide_real)
    kept.forget_others()
    print(f"\n{summary(content, terminal_width())}")
    print(f"\nall scores are in {output}: report.html, scores.md, scores.json")
    return 0


def summary(content, width):
    """What is printed of `scores.json`, in lines of at most `width` characters."""
    names = " and ".join(distance_title(space) for space in content["spaces"])
    count, heldout = content["num_samples"], content["reference_count"]
    notes = [
        f"{names}: of {count} images to {heldout} held-out ones",
        headline(content)["verdict"],
        order_sentence(content),
    ]
    return f"{narrow_table(content, width)}\n\n{paragraphs(notes, width)}"


def list_series(args, subjects):
    """Every `Series` of an evaluation: the floor, the teacher, the model at each NFE."""
    size = (args.num_samples, args.batch_size)
    series = [real_series(subjects.images.train, args.num_samples)]
    for nfe in args.teacher_nfe_list if subjects.teacher else []:
        series.append(model_series("teacher", "teacher", nfe, subjects.teacher, *size))
    name = "student" if has_levels(subjects.student) else "model"
    for nfe in args.nfe_list if subjects.student else []:
        series.append(model_series(name, "student", nfe, subjects.student, *size))
    for name, files in args.folder.items():
        series.append(folder_series(name, files, args.num_samples))
    return series


def shown_source(description, data_root):
    """Which images there are, without the folders in which theirs lies: reports are shared."""
    return description.replace(one_line(str(data_root)), Path(data_root).name)
