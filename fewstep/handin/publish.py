"""Publish a student's weights in compact form, and expand them to a normal checkpoint.

    python -m fewstep publish unpack
    python -m fewstep publish pack --ckpt_path results/NAME/final_model.pt
    python -m fewstep publish compare --ckpt_path results/NAME/final_model.pt --data_root DIR

`unpack` writes checkpoints/best_model.pt and model_config.json from checkpoints/pretrained, `pack`
the other way round: 8-bit weights in one file and a model card (docs/pretrained.md). `compare`
measures what the rounding does to the scores, for `pack --notes`.
"""

from functools import partial
from pathlib import Path

import numpy as np

from custom_model import create_custom_model
from fewstep.handin.published import (
    CARD,
    WEIGHTS,
    import_safetensors,
    model_card,
    read_published,
    write_published,
)
from fewstep.handin.rounding import (
    compare_scores,
    comparison_lines,
    image_errors,
    rounded,
    weight_errors,
)
from fewstep.runs.command_line import add_flag
from fewstep.runs.run_folder import CONFIG_NAME
from fewstep.runs.weights import same_weights
from fewstep.scores.comparison import Comparison
from fewstep.scores.frechet import distance_name
from fewstep.studies.evaluate.subjects import (
    LEAST,
    data_fields,
    feature_spaces,
    fingerprint,
    open_subjects,
)
from src.arguments import (
    MOST_EVALUATIONS,
    MOST_IMAGES,
    InRange,
    check_output_file,
    check_output_folder,
    line,
    whole_number,
)
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
WORST = 5  # tensors that are named


def build_parser():
    parser = CommandParser(prog="-m fewstep publish", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    pack = commands.add_parser("pack", help="a student's checkpoint -> compact form")
    add = partial(pack.add_argument, type=line)
    add("--ckpt_path", required=True, help="the student, model_config.json beside it")
    add("--output_dir", default=FOLDER, help="(%(default)s)")
    add("--dtype", choices=["int8", "fp16"], default="int8", help="of the weights (%(default)s)")
    add("--notes", help="JSON for the model card, such as that of compare")
    number = partial(pack.add_argument, type=whole_number, action=InRange)
    number("--check_images", low=0, high=1000, default=4, help="that show the change (%(default)s)")
    pack.add_argument("--all_errors", action="store_true", help="list each tensor's error")
    pack.add_argument("--force", action="store_true", help="replace what is published there")

    unpack = commands.add_parser("unpack", help="compact form -> a normal checkpoint")
    add = partial(unpack.add_argument, type=line)
    add("--input_dir", default=FOLDER, help="(%(default)s)")
    add("--ckpt_path", default="checkpoints/best_model.pt", help="(%(default)s)")
    unpack.add_argument("--force", action="store_true", help="replace another checkpoint there")

    compare = commands.add_parser("compare", help="scores before and after rounding")
    add = partial(compare.add_argument, type=line)
    add("--ckpt_path", required=True, help="the student, its config beside it")
    add("--dtype", choices=["int8", "fp16"], default="int8", help="(%(default)s)")
    add("--output", default="results/notes.json", help="(%(default)s)")
    add("--features", choices=["random", "inception"], default="random", help="(%(default)s)")
    add("--fid_weights", help="Inception's weights, as in measure_fid.py")
    add("--device", default="cuda", help="cuda, cuda:N or cpu (%(default)s)")
    number = partial(compare.add_argument, type=whole_number, action=InRange)
    number("--nfe_list", nargs="+", low=1, high=MOST_EVALUATIONS, default=[1, 2, 4])
    number("--num_samples", low=LEAST, high=MOST_IMAGES, default=1000, help="(%(default)s)")
    number("--seeds", nargs="+", low=0, high=2**32 - 1, default=[42, 43, 44])
    section = compare.add_argument_group("Which images, as in train.py")
    for item in data_fields():
        if item.name != "x_flip":  # matters to training alone
            add_flag(section, item)
    return parser


def load_student(path, device="cpu"):
    """(model, model_config) of a student. Raises `UserError` for a teacher, and for weights that
    are not finite."""
    path = Path(path)
    model = load_model(path, create_custom_model, device).eval()
    sampler = getattr(model, "sampler", "few_step")  # of our denoisers alone
    if sampler != "few_step":
        raise UserError(
            f"{path}: its sampler is {sampler}, so it is a teacher; name a student"
            " (final_model.pt of a run, or best_model.pt)"
        )
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise UserError(f"{path}: {name} is not finite; use an earlier checkpoint")
    return model, read_json(path.with_name("model_config.json"))


def pack(args):
    import_safetensors()
    folder = Path(args.output_dir)
    check_output_folder("--output_dir", folder)
    notes = read_json(args.notes) if args.notes else {}
    taken = [folder / name for name in (WEIGHTS, CARD) if (folder / name).exists()]
    if taken and not args.force:
        raise UserError(f"{taken[0]}: is there already; --force replaces it")
    model, config = load_student(args.ckpt_path)
    if any(notes.get(key, value) != value for key, value in fingerprint(args.ckpt_path).items()):
        raise UserError(
            f"--notes {args.notes}: of other weights or noise levels; run compare on this student"
        )
    copy = rounded(model, config, args.dtype)
    each, overall = weight_errors(model.state_dict(), copy.state_dict())
    if not all(value.isfinite().all() for value in copy.state_dict().values()):
        raise UserError(f"--dtype {args.dtype}: a weight is too large for it; use --dtype int8")
    worst = sorted(each, key=lambda name: -each[name])
    for name in worst if args.all_errors else worst[:WORST]:
        print(f"  {name}: changed by {100 * each[name]:.3f} %")
    lines = [f"- {args.dtype} weights: changed by {100 * overall:.3f} % (relative RMS)"]
    if args.check_images:
        for nfe, grey in image_errors(model, copy, args.check_images).items():
            lines.append(f"- images at NFE {nfe}: changed by {grey:.3f} grey levels (RMS)")
    record = Path(args.ckpt_path).with_name(CONFIG_NAME)
    record = read_json(record) if record.exists() else {}
    parameters = sum(value.numel() for value in model.state_dict().values())
    card = model_card(config, parameters, record, lines, notes)
    write_published(folder, model.state_dict(), config, args.dtype, card)
    read_published(folder)
    size = (folder / WEIGHTS).stat().st_size
    print("\n".join(lines))
    print(f"{folder / WEIGHTS}: {parameters:,} parameters, {size / 1e6:.2f} MB; read again")
    return 0


def unpack(args):
    target = Path(args.ckpt_path)
    check_output_file("--ckpt_path", target)
    config_path = target.with_name("model_config.json")
    if target == config_path:
        raise UserError(f"--ckpt_path {target}: name a file for the weights, such as best_model.pt")
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
    print(f"{target}: written; python sampling.py --ckpt_path {target}")
    return 0


def compare(args):
    if args.fid_weights and args.features != "inception":
        raise UserError("--fid_weights: give --features inception too")
    check_output_file("--output", args.output)
    device = pick_device(args.device)
    space = feature_spaces([args.features], args.fid_weights, download=False)[0]
    student, config = load_student(args.ckpt_path, device)
    flags = {item.name: getattr(args, item.name) for item in data_fields() if item.name in args}
    images = open_subjects(None, args.ckpt_path, None, flags, device).images
    nfe_list, seeds = ([*dict.fromkeys(values)] for values in (args.nfe_list, args.seeds))
    copy = rounded(student, config, args.dtype)
    scorer = Comparison([space], np.asarray(images.val.images), device=device)
    notes = {
        **fingerprint(args.ckpt_path),
        "what": distance_name(space.name, space.is_fid),
        "reference_sha256": images.val.digest,
        "num_samples": args.num_samples,
        "seeds": seeds,
        "dtype": args.dtype,
        "nfe": compare_scores(student, copy, scorer, nfe_list, args.num_samples, seeds),
    }
    write_json(args.output, notes)
    print("\n".join(comparison_lines(notes)))
    print(f"written to {args.output}, for fewstep publish pack --notes {args.output}")
    return 0


def main(argv=None):
    args = build_parser().parse_args(argv)
    return {"pack": pack, "unpack": unpack, "compare": compare}[args.command](args)
