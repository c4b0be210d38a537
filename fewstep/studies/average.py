"""One model of several: the mean of their weights (a model soup, arXiv:2203.05482).

    python -m fewstep average --ckpt_path results/A results/B --output_dir results/mean

It costs no training. Models that began with the same weights and did not part far, such as two
rounds from one student, can be better together than each alone; others make a mean that is worse
than either. So score it: python -m fewstep evaluate --ckpt_path results/mean.
"""

from pathlib import Path

from fewstep.runs.loading import load
from fewstep.runs.run_folder import CONFIG_NAME
from src.arguments import InRange, check_output_folder, line, real_number
from src.feedback import Progress
from src.published import is_published
from src.utils import (
    CommandParser,
    UserError,
    file_digest,
    read_json,
    save_model,
    weights_digest,
    write_json,
)

MODEL_NAME, RECORD_NAME = "final_model.pt", "average.json"


def build_parser():
    parser = CommandParser(prog="-m fewstep average", description=__doc__)
    text = "two models or more: checkpoints, folders of runs, published folders"
    parser.add_argument("--ckpt_path", nargs="+", type=line, required=True, help=text)
    limits = dict(type=real_number, action=InRange, low=0, high=1e6)
    text = "share of each in the mean, in proportion (default: all the same)"
    parser.add_argument("--shares", nargs="+", **limits, help=text)
    text = f"folder that gets {MODEL_NAME}, model_config.json and {RECORD_NAME}"
    parser.add_argument("--output_dir", type=line, required=True, help=text)
    parser.add_argument("--force", action="store_true", help="replace the model that is there")
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    shares, target = shares_of(args), Path(args.output_dir) / MODEL_NAME
    check_output_folder("--output_dir", args.output_dir)
    if target.exists() and not args.force:
        raise UserError(f"{target}: is there already; --force replaces it")
    with Progress("reading the models"):
        models = [load(path, "cpu") for path in args.ckpt_path]
    check_alike(models)
    parts = [part for share, one in zip(shares, models) for part in parts_of(share, one)]
    states = [one.model.state_dict() for one in models]
    made = models[0].model
    made.load_state_dict(mean_of(states, shares))
    save_model(made, target, models[0].config)
    write_json(target.with_name(RECORD_NAME), {"models": parts})
    print(f"{target}: the mean of {len(models)} models; python sampling.py --ckpt_path {target}")
    return 0


def shares_of(args):
    """The shares, which sum to 1. Raises `UserError`."""
    count, shares = len(args.ckpt_path), args.shares or [1.0] * len(args.ckpt_path)
    if count < 2:
        raise UserError(f"--ckpt_path {args.ckpt_path[0]}: one model; name two or more")
    if len(shares) != count or not sum(shares):
        raise UserError(f"--shares: {count} numbers are needed, one a model, not all of them 0")
    return [share / sum(shares) for share in shares]


def check_alike(models):
    """Raise `UserError` unless these `Generator`s are of one kind, with finite weights."""
    first = models[0]
    for one in models:
        for key in sorted(first.config | one.config, key=lambda key: (key != "sampler", key)):
            own, other = one.config.get(key), first.config.get(key)
            if own != other:
                raise UserError(
                    f"--ckpt_path {one.path}: its {key} is {own}, that of {first.path} {other};"
                    " only models of one kind have a mean"
                )
        for name, value in one.model.state_dict().items():
            if not value.isfinite().all():
                raise UserError(f"--ckpt_path {one.path}: {name} is not finite; name another")


def mean_of(states, shares):
    """The weighted mean of state dicts of the same names and shapes; shares sum to 1."""
    return {
        name: sum(share * state[name].double() for share, state in zip(shares, states)).to(value)
        for name, value in states[0].items()
    }


def parts_of(share, one):
    """[what a mean keeps of a `Generator` that has this share: its digest, that of its file if it
    is published, and the training_config.json beside it, {} where there is none]; of a mean, of
    each that it is of."""
    mean, run = (Path(one.path).with_name(name) for name in (RECORD_NAME, CONFIG_NAME))
    if mean.exists():
        return [part | {"share": share * part["share"]} for part in read_json(mean)["models"]]
    record = read_json(run) if run.exists() else {}
    published = file_digest(one.path).hex() if is_published(one.path) else ""
    facts = {"digest": weights_digest(one.model), "published": published, "record": record}
    return [{"share": share} | facts]
