"""The command line of `python -m headline`."""

import re
from pathlib import Path

from ablation.plan import as_arguments, parse_pairs
from discriminator import check_name
from headline.limits import MOST_FILES
from headline.publish import FEW
from headline.rates import holds_speed
from headline.recipe import batch_size_of, levels_from
from headline.score import add_score_flags
from src.arguments import (
    MOST_STEPS,
    InRange,
    check_input_file,
    check_input_folder,
    check_output_folder,
    line_or_empty,
    real_number,
    whole_number,
)
from src.utils import CommandParser, UserError, did_you_mean, read_json
from training.command_line import parse_settings
from training.presets import PRESETS

PARTS = ("speed", "teacher", "screening", "student", "flow", "halves", "score", "weights")
# What a folder of packed weights holds.
WITH_WEIGHTS = re.compile(r"manifest\.json|weights_.*\.npz|" + "|".join(map(re.escape, FEW)))
USAGE = """One real run within a budget of time, over as many commands as it takes.

    python -m headline --data_root DIR --work DIR --out DIR --minutes 24 --command_minutes 9.5

Trains the teacher, screens first noise levels and discriminators, distils the winner, trains a
rectified flow on as many images and the two halves of the method, scores them all, and writes a
small results folder. Rerun the same command to go on; exit code 75 says that there is more to do.
"""


def parse_arguments(argv=None):
    """The namespace of the flags, checked as far as that is possible without images."""
    parser = CommandParser(prog="python -m headline", description=USAGE)
    parser.add_argument("--data_root", required=True, help="folder of images")
    parser.add_argument("--train_split", default="", help="file with one image id a line")
    parser.add_argument("--val_split", default="", help="likewise for the held-out images")
    parser.add_argument("--work", default="results/real_run/work", help="large files (%(default)s)")
    parser.add_argument("--out", default="results/real_run/out", help="results (%(default)s)")
    times = dict(type=real_number, action=InRange, low=0.01, high=10**4)
    parser.add_argument("--minutes", default=24.0, help="of all commands together (24)", **times)
    parser.add_argument(
        "--command_minutes", default=9.5, help="this one ends by then (9.5)", **times
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="full", help="(%(default)s)")
    parser.add_argument("--device", default="cuda", help="(%(default)s)")
    parser.add_argument(
        "--batch_size", type=whole_number, action=InRange, low=2, high=2**16, help="(64; tiny: 8)"
    )
    parser.add_argument("--screen_minutes", default=3.0, help="of each cell (3)", **times)
    levels = dict(type=real_number, action=InRange, low=0.01, high=10**4, nargs="+")
    parser.add_argument("--screen_sigmas", default=[80.0, 10.0, 2.5], help="(80 10 2.5)", **levels)
    parser.add_argument("--screen_discs", nargs="+", default=["resnet", "unet"], help="(both)")
    parser.add_argument(
        "--teacher_share",
        type=real_number,
        action=InRange,
        low=0.05,
        high=0.95,
        default=0.5,
        help="of the time of teacher and student together (0.5)",
    )
    parser.add_argument(
        "--base", nargs="+", default=[], metavar="FLAG=VALUE", help="of train.py, for all trainings"
    )
    parser.add_argument(
        "--student",
        nargs="+",
        default=[],
        metavar="FLAG=VALUE",
        help="of train.py, for the long student and both halves, in place of the screening's",
    )
    steps = dict(type=whole_number, action=InRange, low=4, high=MOST_STEPS)
    parser.add_argument(
        "--max_steps", default=MOST_STEPS, help="of a training, for a short trial", **steps
    )
    parser.add_argument(
        "--measured",
        help="results.json of an earlier run on such a machine: speed is taken from it",
    )
    parser.add_argument("--parts", default=",".join(PARTS[:-1]), help="of the run (%(default)s)")
    parser.add_argument("--note", default="", type=line_or_empty, help="a sentence for the results")
    parser.add_argument("--dry_run", action="store_true", help="print the plan, touch nothing")
    add_score_flags(parser)
    args = parser.parse_args(argv)
    for name in ("data_root", "train_split", "val_split", "work", "out"):
        if getattr(args, name):  # programs run in the project's folder
            setattr(args, name, str(Path(getattr(args, name)).resolve()))
    args.parts = parts_of_text(args.parts)
    args.base = parse_pairs(args.base, "--base", split=False)
    args.student = parse_pairs(args.student, "--student", split=False)
    args.batch_size = args.batch_size or batch_size_of(args.preset)
    for name in ("seeds", "teacher_nfe_list", "screen_sigmas", "screen_discs"):
        setattr(args, name, list(dict.fromkeys(getattr(args, name))))
    check(args)
    return args


def parts_of_text(text):
    """A list with commas -> the parts in the order of work. Raises `UserError`."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in PARTS:
            raise UserError(
                f"--parts {name}: use some of {','.join(PARTS)}{did_you_mean(name, PARTS)}"
            )
    if not names:
        raise UserError(f"--parts: name some of {','.join(PARTS)}")
    if "weights" in names and len(set(names)) > 1:
        raise UserError("--parts weights: in a command of its own, with an empty --out")
    return [name for name in PARTS if name in names]


def check(args):
    """Raise `UserError`, naming the flag, for what cannot be."""
    check_input_folder("--data_root", args.data_root, "name a folder of images")
    for flag in ("train_split", "val_split"):
        if getattr(args, flag):
            check_input_file(f"--{flag}", getattr(args, flag))
    if args.measured and not holds_speed(read_json(args.measured)):
        raise UserError(
            f"--measured {args.measured}: holds no speed; name the results.json of a run"
        )
    check_output_folder("--work", args.work)
    check_output_folder("--out", args.out)
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", args.device):
        raise UserError(f"--device {args.device}: use cuda, cuda:N or cpu")
    own = ("data", "data_root", "train_split", "val_split", "cache_dir", "device", "batch_size")
    for flag, values in (("--base", args.base), ("--student", args.student)):
        for key in values:
            if key in (*own, "preset", "phase", "save_dir", "export_dir", "teacher_ckpt", "seed"):
                raise UserError(f"{flag} {key}: is set by the run itself")
    for disc in args.screen_discs:
        check_name(disc)
    for first in args.screen_sigmas:
        levels_from(first, args.preset)
    given = {"preset": args.preset, "data_root": args.data_root, "batch_size": args.batch_size}
    parse_settings(as_arguments(given | args.base | args.student))  # knows names and ranges
    if args.parts == ["weights"] and Path(args.out).is_dir():
        other = [p.name for p in Path(args.out).iterdir() if not WITH_WEIGHTS.fullmatch(p.name)]
        if other:
            raise UserError(
                f"--out {args.out}: holds {min(other)}; the weights need most of the {MOST_FILES}"
                " files that travel, so give them a folder of their own"
            )
