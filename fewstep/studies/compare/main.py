"""Compare flags or methods: every cell of a grid with every seed, one table and one figure.

    python -m fewstep compare PLAN.yaml
    python -m fewstep compare --grid distill=add,dmd disc=resnet,patch --seeds 0 1 --minutes 5 \\
        --base preset=tiny data_root=DIR

Cells run one after another in SAVE_DIR/cells/; rerunning a command goes on where it stopped, and a
finished cell is not run again. Started several times, it trains as many cells at once. Cells that
need a teacher share one. docs/compare.md lists the keys of a plan in YAML; flags on the command
line replace them. Without --save_dir, PLAN.yaml is written to results/compare/PLAN, and a grid
without a plan to a folder named after the grid, the base and the length.
"""

import signal
import time
from functools import partial

import torch

from fewstep.engine.lock import LOOKS, InUse
from fewstep.engine.precision import prepare_backends
from fewstep.engine.stopping import catch_stops
from fewstep.runs.yaml_files import read_yaml
from fewstep.studies.compare.cells import default_folder, make_cells
from fewstep.studies.compare.laboratory import SCORE, Laboratory
from fewstep.studies.compare.plan import (
    NUMBERS,
    PLAN_DEFAULTS,
    complete_plan,
    parse_pairs,
)
from fewstep.studies.compare.report import summary, write_report
from src.arguments import (
    InRange,
    check_input_file,
    check_output_folder,
    line,
    real_number,
    whole_number,
)
from src.feedback import Progress
from src.formatting import terminal_width
from src.utils import CommandParser, UserError


def main(arguments=None):
    args, plan = parse(arguments)
    catch_stops(signal.default_int_handler)  # all as Ctrl-C
    laboratory = Laboratory(plan, args.save_dir)
    prepare_backends(laboratory.device, laboratory.settings.speed.tf32)
    if laboratory.settings.speed.threads:  # steps are timed here as they are trained
        torch.set_num_threads(laboratory.settings.speed.threads)
    if laboratory.needs_teacher and not laboratory.trains_teacher:
        check_input_file("base teacher_ckpt", laboratory.teacher)
    cells = make_cells(plan)
    refusals = check_all(laboratory, cells)
    if all(refusals.values()):
        raise UserError(f"no cell can run; the first: {next(iter(refusals.values()))}")
    laboratory.check_lengths([cell for cell in cells if not refusals[cell.folder]])
    if args.dry_run:
        list_cells(laboratory, cells, refusals)
        return 0
    laboratory.prepare()
    for results in run_all(laboratory, cells, refusals):
        families = write_report(laboratory, results)
    text = summary(families, laboratory.spaces, laboratory.baseline, terminal_width())
    print(
        f"\n{text}\n\nall of it is in {laboratory.folder}: compare.md, .csv, .png and samples.png"
    )
    return int(any(failure and not refusals[cell.folder] for cell, _, failure in results))


def run_all(laboratory, cells, refusals):
    """Train and score all cells; yields the results so far, (cell, its score or None, why it failed
    or None) each, whenever there is one more. Cells that other processes have come last."""
    outcomes, left, busy = {}, list(enumerate(cells, 1)), set()
    while left:
        others = []
        for number, cell in left:
            title = f"cell {number} of {len(cells)}: {cell.title} seed={cell.seed}"
            try:
                with laboratory.sole_use(cell):
                    print(title, flush=True)
                    failure = refusals[cell.folder]
                    outcome = (None, failure) if failure else attempt(laboratory.run, cell)
            except InUse as error:
                if number not in busy:
                    print(f"{title}: {error.who} is at it", flush=True)
                busy.add(number)
                others.append((number, cell))
                continue
            if outcome[1]:
                print(f"  failed: {outcome[1]}", flush=True)
            outcomes[number] = outcome
            yield list(results_so_far(laboratory, cells, outcomes))
        if len(others) == len(left):
            with Progress("waiting for the cells of other processes"):
                time.sleep(LOOKS)
        left = others


def results_so_far(laboratory, cells, outcomes):
    """Those of this process, and scores that others have left meanwhile."""
    for number, cell in enumerate(cells, 1):
        score, failure = outcomes.get(number, (None, None))
        score = score or attempt(laboratory.score_of, cell)[0]
        if score or failure:
            yield cell, score, None if score else failure


def check_all(laboratory, cells):
    """{folder of a cell: why its flags cannot be, or None}."""
    refusals = {}
    with Progress("checking the flags", len(cells), "cell") as report:
        for cell in cells:
            refusals[cell.folder] = attempt(laboratory.check, cell)[1]
            report.update()
    return refusals


def attempt(work, cell):
    """(what `work(cell)` returns, None) or (None, why it failed): one cell's failure ends no
    other's."""
    try:
        return work(cell), None
    except UserError as error:
        return None, str(error)
    except Exception as error:  # e.g. a device out of memory
        return None, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def list_cells(laboratory, cells, refusals):
    """What `--dry_run` prints; writes nothing."""
    total, estimates = 0.0, {}  # of seeds together
    for number, cell in enumerate(cells, 1):
        outcome = refusals[cell.folder]
        if not outcome and (laboratory.place(cell) / SCORE).exists():
            outcome = "has a score"  # perhaps under other settings
        if not outcome:
            if cell.family not in estimates:
                estimates[cell.family] = attempt(laboratory.estimate, cell)
            estimate, outcome = estimates[cell.family]
            if estimate:
                total += estimate[1]
                outcome = f"{estimate[0]:,} steps, about {estimate[1] / 60:.1f} min"
        print(f"{number:3d} {cell.title} seed={cell.seed}: {outcome}", flush=True)
    print(f"about {total / 60:.0f} min of training in all; the teacher and scoring come on top")
    print(f"dry run: nothing was trained or written; results would go to {laboratory.folder}")


def build_parser():
    parser = CommandParser(prog="-m fewstep compare", description=__doc__)
    add = partial(parser.add_argument, type=line)
    add("plan", nargs="?", help="YAML file of the plan; flags replace its keys")
    add("--base", nargs="+", metavar="FLAG=VALUE", help="flags of train.py that every cell has")
    add(
        "--grid",
        nargs="+",
        metavar="FLAG=A,B",
        help="flags of train.py to vary, each combination a cell; method=A,B too",
    )
    text = "folder for results (default: results/compare/ and the plan's file name, or the grid)"
    add("--save_dir", metavar="DIR", help=text)
    for key, (low, high, text) in NUMBERS.items():
        kind = real_number if key == "minutes" else whole_number
        limits = dict(type=kind, action=InRange, low=low, high=high)
        count = "+" if isinstance(PLAN_DEFAULTS[key], list) else None
        parser.add_argument(f"--{key}", nargs=count, **limits, help=text)
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="list cells, and times of steps that are tried here; write nothing",
    )
    return parser


def parse(arguments):
    """(namespace, with the folder that is written to; plan). Raises `UserError`."""
    args = build_parser().parse_args(arguments)
    plan = read_yaml(args.plan, "grid:") if args.plan else {}
    if args.base:
        base = plan.get("base") or {}
        if not isinstance(base, dict):
            raise UserError(f"{args.plan}: base should be a mapping of flags")
        plan["base"] = base | parse_pairs(args.base, "--base", split=False)
    if args.grid:
        plan["grid"] = parse_pairs(args.grid, "--grid", split=True)
    given = {key: getattr(args, key) for key in NUMBERS if getattr(args, key) is not None}
    plan = complete_plan(plan | given, args.plan or "compare")
    if not plan["grid"] and not plan["cells"]:
        raise UserError("nothing to compare: give a plan, or --grid FLAG=A,B")
    args.save_dir = args.save_dir or default_folder(args.plan, plan)
    check_output_folder("--save_dir", args.save_dir)
    return args, plan
