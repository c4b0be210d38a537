"""Publish a student's weights in compact form, and expand them to a normal checkpoint.

    python -m fewstep publish unpack
    python -m fewstep publish pack --ckpt_path results/NAME/final_model.pt
    python -m fewstep publish compare --ckpt_path results/NAME/final_model.pt --data_root DIR

`unpack` writes checkpoints/best_model.pt and model_config.json from checkpoints/pretrained, `pack`
the other way round: 8-bit weights in a few files and a manifest (docs/pretrained.md). `compare`
measures what the rounding does to the scores, for `pack --notes`.
"""

import json
from pathlib import Path

from custom_model import create_custom_model
from fewstep.handin.packed.comparison import compare_scores, comparison_lines
from fewstep.handin.packed.folder import check_writable, read_folder, write_folder
from fewstep.handin.packed.student import check_student, compress, expand, levels_of, same_student
from fewstep.runs.command_line import add_flag
from fewstep.runs.identity import weights_digest
from fewstep.studies.evaluate.arguments import feature_spaces
from fewstep.studies.evaluate.subjects import LEAST, data_fields
from src.utils import (
    CommandParser,
    UserError,
    load_model,
    pick_device,
    read_json,
    save_model,
    write_json,
)

FOLDER = "checkpoints/pretrained"
MOST_PARTS = 99  # fewer than the tensors of any network
MOST_NOTES = 1 << 16  # bytes: the manifest stays small
WORST = 5  # tensors that are named
NOT_OF_COMPARE = ("x_flip",)  # matters to training alone


def parse_arguments(argv=None):
    """The command line, checked as far as that is possible without loading anything."""
    parser = CommandParser(prog="-m fewstep publish", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    pack = commands.add_parser("pack", help="a student's checkpoint -> compact form")
    pack.add_argument("--ckpt_path", required=True, help="the student")
    pack.add_argument("--config_path", help="(model_config.json beside the checkpoint)")
    pack.add_argument("--output_dir", default=FOLDER, help="(%(default)s)")
    pack.add_argument("--parts", type=int, default=4, help="files of weights (%(default)s)")
    pack.add_argument("--notes", help="JSON to keep in the manifest, such as that of compare")
    pack.add_argument(
        "--check_images",
        type=int,
        default=4,
        help="images that the change of the output is measured on; 0: none (%(default)s)",
    )
    pack.add_argument("--all_errors", action="store_true", help="list each tensor's error")

    unpack = commands.add_parser("unpack", help="compact form -> a normal checkpoint")
    unpack.add_argument("--input_dir", default=FOLDER, help="(%(default)s)")
    unpack.add_argument(
        "--ckpt_path",
        default="checkpoints/best_model.pt",
        help="with model_config.json beside it (%(default)s)",
    )
    unpack.add_argument("--force", action="store_true", help="replace another checkpoint there")

    compare = commands.add_parser("compare", help="scores before and after rounding")
    compare.add_argument("--ckpt_path", required=True, help="the student, its config beside it")
    compare.add_argument("--output", default="results/notes.json", help="(%(default)s)")
    compare.add_argument("--nfe_list", type=int, nargs="+", default=[1, 2, 4], help="(1 2 4)")
    compare.add_argument("--num_samples", type=int, default=1000, help="(%(default)s)")
    compare.add_argument("--seeds", type=int, nargs="+", default=[42, 43, 44], help="(42 43 44)")
    compare.add_argument("--features", choices=["random", "inception"], default="random")
    compare.add_argument("--fid_weights", help="Inception's weights, as in measure_fid.py")
    compare.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (%(default)s)")
    section = compare.add_argument_group("Which images, as in train.py")
    for item in data_fields():
        if item.name not in NOT_OF_COMPARE:
            add_flag(section, item)

    args = parser.parse_args(argv)
    if args.command == "pack":
        if not 1 <= args.parts <= MOST_PARTS:
            raise UserError(f"--parts {args.parts}: from 1 to {MOST_PARTS}")
        if args.check_images < 0:
            raise UserError(f"--check_images {args.check_images}: at least 0")
    if args.command == "compare":
        args.nfe_list, args.seeds = ([*dict.fromkeys(v)] for v in (args.nfe_list, args.seeds))
        if min(args.nfe_list) < 1:
            raise UserError(f"--nfe_list {min(args.nfe_list)}: at least 1")
        if args.num_samples < LEAST:
            raise UserError(f"--num_samples {args.num_samples}: at least {LEAST}")
        if not all(0 <= seed < 2**32 for seed in args.seeds):
            raise UserError("--seeds: from 0 to 2^32 - 1")
        if args.fid_weights and args.features != "inception":
            raise UserError("--fid_weights: give --features inception too")
    return args


def read_notes(path, model):
    """The JSON object at `path` ({} for None). Raises `UserError` for one that is large, or that
    was made for other weights or noise levels than those of `model`."""
    notes = read_json(path) if path else {}
    try:
        size = len(json.dumps(notes, allow_nan=False))
    except ValueError as error:
        raise UserError(f"--notes {path}: holds a number that is not finite") from error
    if size > MOST_NOTES:
        raise UserError(f"--notes {path}: {size:,} bytes; at most {MOST_NOTES:,} go in a manifest")
    now = {"original_sha256": weights_digest(model), "few_step_sigmas": levels_of(model)}
    if any(key in notes and notes[key] != value for key, value in now.items()):
        raise UserError(
            f"--notes {path}: are of other weights or noise levels; run compare on this checkpoint"
        )
    return notes


def pack(args):
    check_writable(args.output_dir)
    if args.notes:
        read_json(args.notes)  # a missing file is found before the work
    checkpoint = Path(args.ckpt_path)
    config_path = args.config_path or checkpoint.with_name("model_config.json")
    model = load_model(checkpoint, create_custom_model, config_path=config_path).eval()
    check_student(model, checkpoint)
    notes = read_notes(args.notes, model)
    manifest, contents, each = compress(
        model, read_json(config_path), args.parts, notes, args.check_images
    )
    write_folder(args.output_dir, manifest, contents)

    shown = sorted(each, key=lambda name: -each[name])
    for name in shown if args.all_errors else shown[:WORST]:
        print(f"  {name}: changed by {100 * each[name]:.3f} %")
    errors = manifest["errors"]
    print(f"weights: changed by {100 * errors['weights']:.3f} % (relative RMS)")
    for sigma, change in errors["outputs"].items():
        relative, grey = change["relative"], change["grey_levels"]
        print(f"denoised at sigma {sigma}: {100 * relative:.3f} %, {grey:.3f} grey levels (RMS)")
    sizes = [len(content) for content in contents]
    print(
        f"{args.output_dir}: {manifest['parameters']:,} parameters in {len(sizes)} parts,"
        f" {megabytes(sum(sizes))} in all, the largest {megabytes(max(sizes))}; expanded again and"
        " compared"
    )
    return 0


def unpack(args):
    target = Path(args.ckpt_path)
    if target.is_dir() or target.name == "model_config.json":
        raise UserError(f"--ckpt_path {target}: name a file for the weights, such as best_model.pt")
    manifest, contents = read_folder(args.input_dir)
    model, config = expand(manifest, contents, args.input_dir), manifest["model_config"]
    taken = [path for path in (target, target.with_name("model_config.json")) if path.exists()]
    if len(taken) == 2 and same_student(target, model, config):
        print(f"{target}: is there already, the same weights and settings")
        return 0
    if taken and not args.force:
        raise UserError(
            f"{taken[0]}: is another model's, or damaged; --force replaces it, --ckpt_path FILE"
            " writes elsewhere"
        )
    save_model(model, target, config)
    print(
        f"{target}: {manifest['parameters']:,} parameters, weights {weights_digest(model)[:8]};"
        f" python sampling.py --ckpt_path {target}"
    )
    return 0


def compare(args):
    device = pick_device(args.device)
    space = feature_spaces([args.features], args.fid_weights, download=False)[0]
    names = [item.name for item in data_fields()]
    data_flags = {name: getattr(args, name) for name in names if name in args}
    notes = compare_scores(
        args.ckpt_path, space, data_flags, args.nfe_list, args.num_samples, args.seeds, device
    )
    write_json(args.output, notes)
    print("\n".join(comparison_lines(notes)))
    print(f"written to {args.output}, for fewstep publish pack --notes {args.output}")
    return 0


def megabytes(size):
    return f"{size / 2**20:.2f} MiB"


def main(argv=None):
    args = parse_arguments(argv)
    return {"pack": pack, "unpack": unpack, "compare": compare}[args.command](args)
