"""What every benchmark prints first and may write last."""

from datetime import date

import torch

from fewstep.engine.hardware import hardware
from src.arguments import InRange, check_output_file, check_range, line, whole_number
from src.utils import write_json


def begin(device):
    """Print what the numbers hold for; the same as a dict, to which results are added."""
    facts = {
        "device": hardware(device),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }
    print(f"{facts['device']}, torch {facts['torch']}, {facts['date']}", flush=True)
    return facts


def whole(low, high):
    """What makes a flag of a parser take whole numbers from `low` to `high`."""
    return dict(type=whole_number, action=InRange, low=low, high=high)


def add_common_flags(parser, rounds):
    """The flags that all benchmarks have."""
    device = "cuda, cuda:N or cpu (%(default)s)"
    parser.add_argument("--device", type=line, default="cuda", help=device)
    parser.add_argument(
        "--rounds",
        **whole(1, 10**6),
        default=rounds,
        help="pairs of turns of a comparison, best an even number (%(default)s)",
    )
    parser.add_argument("--json", type=line, help="write all results to this file")


def check_at_least(args, **least):
    """Raise `UserError` for a flag below its least value; lists are checked number by number."""
    for name, low in least.items():
        if getattr(args, name) is not None:
            check_range(f"--{name}", getattr(args, name), low, None)
    if args.json:
        check_output_file("--json", args.json)


def parsed(parser, argv):
    """The arguments of a parser with the common flags. Raises `UserError`, also where the results
    could not be written."""
    args = parser.parse_args(argv)
    if args.json:
        check_output_file("--json", args.json)
    return args


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
