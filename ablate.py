"""Compare choices of phase 2: a grid of flags x seeds from one teacher, one table and one figure.

    python ablate.py PLAN.yaml
    python ablate.py --grid distill=add,dmd disc=resnet,patch --seeds 0 1 --minutes 5 \\
        --base preset=tiny data_root=DIR

Cells run one after another in SAVE_DIR/cells/; rerunning a command goes on where it stopped, and a
finished cell is not run again. A plan in YAML has the keys base, grid, cells, seeds, minutes,
nfe_list and num_samples; flags on the command line replace its entries.
"""

import sys
from pathlib import Path

import numpy as np

from ablation.plan import (
    PLAN_DEFAULTS,
    as_arguments,
    complete_plan,
    make_cells,
    parse_pairs,
    read_plan,
)
from ablation.report import draw, markdown, summarise, write_csv
from ablation.running import cell_arguments, estimate, run_cell, run_teacher, sampled_distances
from custom_model import create_custom_model
from metrics import Scorer, random_feature_space
from src.utils import (
    CommandParser,
    UserError,
    load_model,
    pick_device,
    read_json,
    run_command,
    whole_file,
    write_json,
)
from training.building import open_images, prepare_backends, weights_digest
from training.command_line import parse_settings


def main():
    args, plan = parse(sys.argv[1:])
    cells = make_cells(plan)
    folder = Path(args.save_dir)
    settings = parse_settings(as_arguments(plan["base"]))[0]
    device = pick_device(settings.run.device)
    prepare_backends(device)
    own_teacher = "teacher_ckpt" not in plan["base"]
    teacher = folder / "teacher" / "teacher" / "model.pt"
    teacher = teacher if own_teacher else Path(plan["base"]["teacher_ckpt"])
    if not own_teacher and not teacher.exists():
        raise UserError(f"base teacher_ckpt {teacher}: no such file")
    refused = _refusals(plan, cells, teacher)
    if args.dry_run:
        _list(plan, cells, refused, teacher, device)
        return 0
    images = open_images(settings)
    if own_teacher:
        print("the shared teacher", flush=True)
        run_teacher(plan, folder / "teacher")
    scorer = Scorer(random_feature_space(), np.asarray(images.val.images))
    baseline = _baseline(plan, settings, images, teacher, scorer, device, folder)
    results = []
    for number, cell in enumerate(cells, 1):
        print(f"cell {number} of {len(cells)}: {cell.title} seed={cell.seed}", flush=True)
        score, failure = None, refused.get(cell.folder)
        if not failure:
            try:
                place = folder / "cells" / cell.folder
                score = run_cell(plan, cell, teacher, place, device, scorer)
            except UserError as error:
                failure = str(error)
        print(f"  failed: {failure}" if failure else f"  {score['distance']}", flush=True)
        results.append((cell, score, failure))
        table = _write(results, plan, baseline, scorer, len(images.val), folder)
    print(f"\n{table}\nwritten to {folder}: ablation.md, ablation.csv, ablation.png")
    return 0


def parse(arguments):
    """(namespace, plan). Raises `UserError`."""
    parser = CommandParser(prog="ablate.py", description=__doc__)
    parser.add_argument("plan", nargs="?", help="YAML file")
    parser.add_argument("--base", nargs="+", metavar="FLAG=VALUE", help="flags of every cell")
    parser.add_argument("--grid", nargs="+", metavar="FLAG=A,B", help="flags to vary")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--minutes", type=float, help="training time a cell; 0: by steps")
    parser.add_argument("--nfe_list", nargs="+", type=int)
    parser.add_argument("--num_samples", type=int)
    parser.add_argument("--save_dir", default="results/ablation")
    parser.add_argument("--dry_run", action="store_true", help="list cells and times, run nothing")
    args = parser.parse_args(arguments)
    plan = read_plan(args.plan) if args.plan else dict(PLAN_DEFAULTS)
    if args.base:
        plan["base"] = plan["base"] | parse_pairs(args.base, "--base", split=False)
    if args.grid:
        plan["grid"] = parse_pairs(args.grid, "--grid", split=True)
    for key in ("seeds", "minutes", "nfe_list", "num_samples"):
        if getattr(args, key) is not None:
            plan[key] = getattr(args, key)
    plan = complete_plan(plan, args.plan or "ablate.py")
    if not plan["grid"] and not plan["cells"]:
        raise UserError("nothing to compare: give a plan, or --grid FLAG=A,B")
    return args, plan


def _refusals(plan, cells, teacher):
    """{cell's folder: why} for cells whose flags cannot be. Raises `UserError` if that is all."""
    refused = {}
    for cell in cells:
        try:
            parse_settings(cell_arguments(plan, cell, teacher))
        except UserError as error:
            refused[cell.folder] = str(error)
    if len(refused) == len(cells):
        raise UserError(f"no cell can run; the first: {next(iter(refused.values()))}")
    return refused


def _list(plan, cells, refused, teacher, device):
    """What `--dry_run` prints."""
    total = 0.0
    for number, cell in enumerate(cells, 1):
        told = refused.get(cell.folder)
        if not told:
            try:
                steps, seconds = estimate(plan, cell, teacher, device)
                total += seconds
                told = f"{steps:,} steps, about {seconds / 60:.1f} min"
            except UserError as error:
                told = str(error)
        print(f"{number:3d} {cell.title} seed={cell.seed}: {told}", flush=True)
    print(f"about {total / 60:.0f} min of training in all; the teacher and scoring come on top")
    print("dry run: nothing was trained or written")


def _baseline(plan, settings, images, teacher, scorer, device, folder):
    """The floor and the teacher, as {title: {what: distance}}; measured once for a teacher."""
    model = load_model(teacher, create_custom_model, device)
    known = {"teacher": weights_digest(model), "num_samples": plan["num_samples"]}
    known["images"] = images.train.digest
    path = folder / "baseline.json"
    if path.exists() and (before := read_json(path)).get("identity") == known:
        return before["distance"]
    count = min(plan["num_samples"], len(images.train))
    picks = np.sort(np.random.default_rng(0).permutation(len(images.train))[:count])
    floor = scorer.distance(images.train.take(picks).numpy())
    nfes = dict.fromkeys([settings.teacher.teacher_steps, 1])
    taught = sampled_distances(model, plan, scorer, nfes, "teacher")
    distance = {
        "real training images (the floor)": {f"n={count}": floor},
        "teacher": {f"NFE {nfe}": value for nfe, value in taught.items()},
    }
    write_json(path, {"identity": known, "distance": distance})
    return distance


def _write(results, plan, baseline, scorer, reference_count, folder):
    """Write table and figure of what is known so far; returns the Markdown."""
    flags = list(dict.fromkeys(key for cell, _, _ in results for key in cell.flags))
    nfes, name = plan["nfe_list"], scorer.space.name
    rows = summarise(results, flags, nfes)
    table = markdown(rows, flags, nfes, baseline, name, reference_count)
    with whole_file(folder / "ablation.md") as temporary:
        temporary.write_text(table)
    write_csv(rows, flags, nfes, folder / "ablation.csv")
    draw(rows, nfes, baseline, name, folder / "ablation.png")
    return table


if __name__ == "__main__":
    run_command(main)
