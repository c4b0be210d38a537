"""Compare choices of phase 2: a grid of flags x seeds from one teacher, one table and one figure.

    python -m fewstep compare PLAN.yaml
    python -m fewstep compare --grid distill=add,dmd disc=resnet,patch --seeds 0 1 --minutes 5 \\
        --base preset=tiny data_root=DIR

Cells run one after another in SAVE_DIR/cells/; rerunning a command goes on where it stopped, and a
finished cell is not run again. A plan in YAML has the keys base, grid, cells, seeds, minutes,
nfe_list and num_samples; flags on the command line replace its entries.
"""

import signal
from functools import partial

from fewstep.engine.precision import prepare_backends
from fewstep.studies.compare.laboratory import Laboratory
from fewstep.studies.compare.plan import (
    LARGEST_SEED,
    MOST_MINUTES,
    PLAN_DEFAULTS,
    complete_plan,
    make_cells,
    parse_pairs,
    read_plan,
)
from fewstep.studies.compare.report import write_report
from src.arguments import (
    MOST_EVALUATIONS,
    MOST_IMAGES,
    InRange,
    check_input_file,
    check_output_folder,
    line,
    real_number,
    whole_number,
)
from src.utils import CommandParser, UserError


def main(arguments=None):
    args, plan = parse(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops as Ctrl-C does
    laboratory = Laboratory(plan, args.save_dir)
    prepare_backends(laboratory.device, laboratory.settings.speed.tf32)
    if not laboratory.trains_teacher:
        check_input_file("base teacher_ckpt", laboratory.teacher)
    laboratory.check_folder()
    cells = make_cells(plan)
    refusals = {cell.folder: laboratory.refusal(cell) for cell in cells}
    if all(refusals.values()):
        raise UserError(f"no cell can run; the first: {next(iter(refusals.values()))}")
    if args.dry_run:
        list_cells(laboratory, cells, refusals)
        return 0
    laboratory.prepare()
    results = []
    for number, cell in enumerate(cells, 1):
        print(f"cell {number} of {len(cells)}: {cell.title} seed={cell.seed}", flush=True)
        score, failure = None, refusals[cell.folder]
        if not failure:
            score, failure = attempt(laboratory, cell)
        told = failure and f"failed: {failure}"
        print(f"  {told or distances_text(score)}", flush=True)
        results.append((cell, score, failure))
        table = write_report(laboratory, results)
    print(f"\n{table}\nwritten to {laboratory.folder}: ablation.md, .csv, .png and samples.png")
    return int(any(failure and not refusals[cell.folder] for cell, _, failure in results))


def distances_text(score):
    """E.g. `NFE 1: 39.76, NFE 2: 47.16`."""
    return ", ".join(f"NFE {nfe}: {value:.2f}" for nfe, value in score["distance"].items())


def attempt(laboratory, cell):
    """(score, None) of a cell, or (None, why it failed): one cell's failure ends no other's."""
    try:
        return laboratory.run(cell), None
    except UserError as error:
        return None, str(error)
    except Exception as error:  # e.g. a device out of memory
        return None, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def list_cells(laboratory, cells, refusals):
    """What `--dry_run` prints; writes nothing."""
    total = 0.0
    for number, cell in enumerate(cells, 1):
        told = refusals[cell.folder] or ("has a score" if laboratory.has_score(cell) else "")
        if not told:
            try:
                steps, seconds = laboratory.estimate(cell)
                total += seconds
                told = f"{steps:,} steps, about {seconds / 60:.1f} min"
            except UserError as error:
                told = str(error)
        print(f"{number:3d} {cell.title} seed={cell.seed}: {told}", flush=True)
    print(f"about {total / 60:.0f} min of training in all; the teacher and scoring come on top")
    print("dry run: nothing was trained or written")


def build_parser():
    parser = CommandParser(prog="-m fewstep compare", description=__doc__)
    add = partial(parser.add_argument, type=line)
    add("plan", nargs="?", help="YAML file")
    add("--base", nargs="+", metavar="FLAG=VALUE", help="flags of every cell")
    add("--grid", nargs="+", metavar="FLAG=A,B", help="flags to vary")
    add("--save_dir", default="results/ablation")
    add = partial(parser.add_argument, action=InRange)
    whole = dict(type=whole_number)
    add("--seeds", nargs="+", **whole, low=0, high=LARGEST_SEED)
    most = dict(type=real_number, low=0, high=MOST_MINUTES)
    add("--minutes", **most, help="training time a cell; 0: by steps")
    add("--nfe_list", nargs="+", **whole, low=1, high=MOST_EVALUATIONS)
    add("--num_samples", **whole, low=2, high=MOST_IMAGES)
    parser.add_argument("--dry_run", action="store_true", help="list cells and times, run nothing")
    return parser


def parse(arguments):
    """(namespace, plan). Raises `UserError`."""
    args = build_parser().parse_args(arguments)
    check_output_folder("--save_dir", args.save_dir)
    plan = read_plan(args.plan) if args.plan else dict(PLAN_DEFAULTS)
    if args.base:
        plan["base"] = plan["base"] | parse_pairs(args.base, "--base", split=False)
    if args.grid:
        plan["grid"] = parse_pairs(args.grid, "--grid", split=True)
    for key in ("seeds", "minutes", "nfe_list", "num_samples"):
        if getattr(args, key) is not None:
            plan[key] = getattr(args, key)
    plan = complete_plan(plan, args.plan or "compare")
    if not plan["grid"] and not plan["cells"]:
        raise UserError("nothing to compare: give a plan, or --grid FLAG=A,B")
    return args, plan
