"""What every benchmark prints first and may write last."""

from datetime import date
from pathlib import Path

import torch

from src.utils import UserError, write_json
from training.hardware import hardware


def begin(device):
    """Print what the numbers hold for; the same as a dict, to which results are added."""
    facts = {
        "device": hardware(device),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }
    print(f"{facts['device']}, torch {facts['torch']}, {facts['date']}", flush=True)
    return facts


def add_common_flags(parser, rounds):
    """The flags that all benchmarks have."""
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (%(default)s)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=rounds,
        help="pairs of turns of a comparison, best an even number (%(default)s)",
    )
    parser.add_argument("--json", help="write all results to this file")


def check_at_least(args, **least):
    """Raise `UserError` for a flag below its least value; lists are checked number by number."""
    for name, low in least.items():
        values = getattr(args, name)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and value < low:
                raise UserError(f"--{name} {value}: at least {low}")
    if args.json and Path(args.json).is_dir():
        raise UserError(f"--json {args.json}: is a folder; name a file")


def finish(path, results):
    """Write the results as JSON where a path was given."""
    if path:
        write_json(path, results)
        print(f"written to {path}")


def memory_text(count):
    """Bytes in words, or "-" for what was not measured."""
    if count is None:
        return "-"
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
