"""Publish weights of a student or a teacher in compact form; expand them to a normal checkpoint.

    python -m fewstep publish pack --ckpt_path results/NAME/final_model.pt
    python -m fewstep publish unpack

`pack` writes 8-bit weights in one file and a model card to checkpoints/pretrained
(docs/pretrained.md), `unpack` makes checkpoints/best_model.pt and model_config.json of them.
"""

from functools import partial
from pathlib import Path

from custom_model import create_custom_model
from fewstep.handin.published import (
    CARD,
    PURPOSE,
    WEIGHTS,
    is_teacher,
    model_card,
    read_published,
    write_published,
)
from fewstep.handin.rounding import image_errors, rounded, weight_error
from fewstep.handin.writeup.records import read_scores
from fewstep.runs.run_folder import CONFIG_NAME
from fewstep.runs.weights import same_weights
from src.arguments import check_output_file, check_output_folder, line
from src.errors import package_for
from src.feedback import Progress
from src.formatting import size_text
from src.utils import CommandParser, UserError, load_model, read_json, read_model_config, save_model

FOLDER = "checkpoints/pretrained"


def build_parser():
    parser = CommandParser(prog="-m fewstep publish", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    pack = commands.add_parser("pack", help="a checkpoint -> compact form")
    add = partial(pack.add_argument, type=line)
    add("--ckpt_path", required=True, help="student or teacher, model_config.json beside it")
    add("--output_dir", default=FOLDER, help="(%(default)s)")
    add("--dtype", choices=["int8", "fp16"], default="int8", help="of the weights (%(default)s)")
    add("--scores", help="its scores.json of fewstep evaluate, for the model card")
    pack.add_argument("--force", action="store_true", help="replace what is published there")

    unpack = commands.add_parser("unpack", help="compact form -> a normal checkpoint")
    add = partial(unpack.add_argument, type=line)
    add("--input_dir", default=FOLDER, help="(%(default)s)")
    add("--ckpt_path", default="checkpoints/best_model.pt", help="(%(default)s)")
    unpack.add_argument("--force", action="store_true", help="replace another checkpoint there")
    return parser


def load_finite(path):
    """(model, model_config), on the CPU. Raises `UserError` for weights that are not finite."""
    path = Path(path)
    model = load_model(path, create_custom_model).eval()
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise UserError(f"{path}: {name} is not finite; use an earlier checkpoint")
    return model, read_model_config(path.with_name("model_config.json"))


def pack(args):
    package_for(PURPOSE, "safetensors")
    folder = Path(args.output_dir)
    check_output_folder("--output_dir", folder)
    taken = [folder / name for name in (WEIGHTS, CARD) if (folder / name).exists()]
    if taken and not args.force:
        raise UserError(f"{taken[0]}: is there already; --force replaces it")
    model, config = load_finite(args.ckpt_path)
    scores = read_scores(args.scores, args.ckpt_path) if args.scores else None
    with Progress("rounding the weights"):
        copy = rounded(model, config, args.dtype)
        change = 100 * weight_error(model.state_dict(), copy.state_dict())
    if not all(value.isfinite().all() for value in copy.state_dict().values()):
        raise UserError(f"--dtype {args.dtype}: a weight is too large for it; use --dtype int8")
    lines = [f"- {args.dtype} weights: changed by {change:.3f} % (relative RMS)"]
    for nfe, grey in image_errors(model, copy).items():
        lines.append(f"- images at NFE {nfe}: changed by {grey:.3f} grey levels (RMS)")
    run = Path(args.ckpt_path).parent
    places = (run / CONFIG_NAME, run.parent / CONFIG_NAME)  # the latter of a teacher
    record = next((read_json(place) for place in places if place.exists()), {})
    parameters = sum(value.numel() for value in model.state_dict().values())
    card = model_card(config, parameters, record, lines, scores)
    with Progress("writing and reading again"):
        write_published(folder, model.state_dict(), config, args.dtype, card)
        read_published(folder)
    size = size_text((folder / WEIGHTS).stat().st_size, "MB")
    print("\n".join(lines))
    print(f"{folder / WEIGHTS}: {parameters:,} parameters, {size}; read again")
    return 0


def unpack(args):
    target = Path(args.ckpt_path)
    check_output_file("--ckpt_path", target)
    config_path = target.with_name("model_config.json")
    if target == config_path:
        raise UserError(f"--ckpt_path {target}: name a file for the weights, such as best_model.pt")
    with Progress("reading the weights"):
        model, config = read_published(args.input_dir)
    taken = [path for path in (target, config_path) if path.exists()]
    if len(taken) == 2 and read_json(config_path) == config and same_weights(target, model):
        print(f"{target}: is there already, the same weights and settings")
        return 0
    if taken and not args.force:
        raise UserError(
            f"{taken[0]}: is another model's, or damaged; --force replaces it, --ckpt_path FILE"
            " writes elsewhere"
        )
    save_model(model, target, config)
    use = "train.py --phase add --teacher_ckpt" if is_teacher(config) else "sampling.py --ckpt_path"
    print(f"{target}: written; python {use} {target}")
    return 0


def main(argv=None):
    args = build_parser().parse_args(argv)
    return {"pack": pack, "unpack": unpack}[args.command](args)
