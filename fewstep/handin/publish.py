"""Publish weights of a model in compact form; expand them to a normal checkpoint.

    python -m fewstep publish pack --ckpt_path results/NAME/final_model.pt
    python -m fewstep publish pack --discriminator --ckpt_path results/NAME
    python -m fewstep publish unpack

`pack` writes 8-bit weights in one file and a model card to checkpoints/pretrained
(docs/pretrained.md), `unpack` makes checkpoints/best_model.pt and model_config.json of them. With
`--discriminator` it takes the run's discriminator from a checkpoint of the student.
"""

from functools import partial
from pathlib import Path

from custom_model import create_custom_model
from fewstep.handin.discriminators import about, discriminator_card, rounding_lines
from fewstep.handin.published import distil_command, is_teacher, model_card, write_published
from fewstep.handin.rounding import encode, image_errors, rounded, weight_error
from fewstep.handin.writeup.records import read_scores
from fewstep.runs.discriminators import of_run
from fewstep.runs.loading import load_discriminator
from fewstep.runs.run_folder import CONFIG_NAME
from fewstep.runs.weights import same_weights
from fewstep.studies.average import RECORD_NAME as AVERAGE_NAME
from src.arguments import (
    DEFAULT,
    check_input_file,
    check_output_file,
    check_output_folder,
    line,
)
from src.errors import package_for
from src.feedback import Progress
from src.formatting import size_text
from src.published import CARD, DISCRIMINATOR, MODEL, PURPOSE, WEIGHTS, read_published
from src.utils import CommandParser, UserError, load_model, read_json, read_model_config, save_model

FOLDER = "checkpoints/pretrained"
BESIDE = f"{FOLDER}/discriminator"


def build_parser():
    parser = CommandParser(prog="-m fewstep publish", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    pack = commands.add_parser("pack", help="a checkpoint -> compact form")
    add = partial(pack.add_argument, type=line)
    add(
        "--ckpt_path",
        required=True,
        help="checkpoint of a student or a teacher, with its model_config.json beside it",
    )
    add("--output_dir", help=f"folder to write (default: {FOLDER}; of a discriminator {BESIDE})")
    add(
        "--dtype",
        choices=["int8", "fp16"],
        default="int8",
        help=f"number format of the weights ({DEFAULT})",
    )
    add("--scores", help="scores.json of fewstep evaluate for the model card")
    text = (
        "publish the discriminator; --ckpt_path is a run's folder or student/checkpoint_iter_N.pt"
    )
    pack.add_argument("--discriminator", action="store_true", help=text)
    pack.add_argument("--force", action="store_true", help="replace what is published there")

    unpack = commands.add_parser("unpack", help="compact form -> a normal checkpoint")
    add = partial(unpack.add_argument, type=line)
    add("--input_dir", default=FOLDER, help=f"folder of published weights ({DEFAULT})")
    text = f"checkpoint to write ({DEFAULT})"
    add("--ckpt_path", default="checkpoints/best_model.pt", help=text)
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
    folder = Path(args.output_dir or (BESIDE if args.discriminator else FOLDER))
    check_output_folder("--output_dir", folder)
    taken = [folder / name for name in (WEIGHTS, CARD) if (folder / name).exists()]
    if taken and not args.force:
        raise UserError(f"{taken[0]}: is there already; --force replaces it")
    if args.discriminator:
        parameters, lines = pack_discriminator(args, folder)
    else:
        parameters, lines = pack_model(args, folder)
    size = size_text((folder / WEIGHTS).stat().st_size, "MB")
    print("\n".join(lines))
    print(f"{folder / WEIGHTS}: {parameters:,} parameters, {size}; read again")
    return 0


def pack_model(args, folder):
    """Write a student or a teacher to `folder`. Returns (its parameters, lines on rounding)."""
    check_input_file("--ckpt_path", args.ckpt_path, "name a final_model.pt or a teacher's model.pt")
    model, config = load_finite(args.ckpt_path)
    scores = read_scores(args.scores, args.ckpt_path) if args.scores else None
    with Progress("rounding the weights"):
        copy = rounded(model, config, args.dtype)
        check_finite(copy.state_dict(), args.dtype)
        change = 100 * weight_error(model.state_dict(), copy.state_dict())
    lines = [f"- {args.dtype} weights: changed by {change:.3f} % (relative RMS)"]
    for nfe, grey in image_errors(model, copy).items():
        lines.append(f"- images at NFE {nfe}: changed by {grey:.3f} grey levels (RMS)")
    run = Path(args.ckpt_path).parent
    record = read_record(run, run.parent)  # the latter of a teacher
    if (mean := run / AVERAGE_NAME).exists():
        record = read_json(mean)
    parameters = sum(value.numel() for value in model.state_dict().values())
    card = model_card(config, parameters, record, lines, scores)
    content = {"dtype": args.dtype, "model_config": config}
    with Progress("writing and reading again"):
        write_published(folder, model.state_dict(), MODEL, content, card)
        read_published(folder, create_custom_model)
    return parameters, lines


def pack_discriminator(args, folder):
    """The same for the discriminator of a run."""
    if args.scores:
        raise UserError("--scores: are of a student; leave it out with --discriminator")
    trained = of_run(args.ckpt_path)
    student, _ = load_finite(trained.folder / "final_model.pt")
    tensors = encode(trained.state, args.dtype)
    check_finite(tensors, args.dtype)
    with Progress("rounding the weights"):
        lines, logits = rounding_lines(trained, student, tensors, args.dtype)
    card = discriminator_card(trained, logits, read_record(trained.folder), lines)
    content = about(trained, args.dtype)
    write_published(folder, trained.state, DISCRIMINATOR, content, card)
    load_discriminator(folder, "cpu")
    return sum(value.numel() for value in trained.state.values()), lines


def check_finite(tensors, dtype):
    """Raise `UserError` unless all that is stored is finite."""
    if not all(value.isfinite().all() for value in tensors.values()):
        raise UserError(f"--dtype {dtype}: a weight is too large for it; use --dtype int8")


def read_record(*folders):
    """The training_config.json of the first folder that has one, {} where none has."""
    places = [folder / CONFIG_NAME for folder in folders]
    return next((read_json(place) for place in places if place.exists()), {})


def unpack(args):
    target = Path(args.ckpt_path)
    check_output_file("--ckpt_path", args.ckpt_path)
    config_path = target.with_name("model_config.json")
    if target == config_path:
        raise UserError(f"--ckpt_path {target}: name a file for the weights, such as best_model.pt")
    with Progress("reading the weights"):
        model, config = read_published(args.input_dir, create_custom_model)
    there = [path for path in (target, config_path) if path.exists()]
    others = [] if target not in there or same_weights(target, model) else [target]
    others += [] if config_path not in there or read_json(config_path) == config else [config_path]
    if len(there) == 2 and not others:
        print(f"{target}: is there already, the same weights and settings")
        return 0
    if others and not args.force:
        raise UserError(
            f"{others[0]}: a file is there already that does not belong to these weights; --force"
            " replaces it, --ckpt_path FILE writes elsewhere"
        )
    save_model(model, target, config)
    use = f"python sampling.py --ckpt_path {target}"
    if is_teacher(config):
        use = distil_command(config, target)
    print(f"{target}: written; {use}")
    return 0


def main(argv=None):
    args = build_parser().parse_args(argv)
    return {"pack": pack, "unpack": unpack}[args.command](args)
