"""Two ways of doing one thing, timed in turn: ratios with their spread.

    python -m fewstep bench train     training steps against the plain loop
    python -m fewstep bench sample    sampling against the bare network
    python -m fewstep bench data      the decoded cache against decoding

--help after each lists its flags. Nothing is needed beforehand: images are drawn, weights random.
Compiled code goes to a temporary folder, so that the first turn shows what compiling costs;
TORCHINDUCTOR_CACHE_DIR keeps it.
"""

import sys
import tempfile
from datetime import date
from functools import partial
from pathlib import Path

import torch

from fewstep.engine.hardware import hardware
from fewstep.studies.bench import data, sample, train
from src.arguments import (
    DEFAULT,
    LARGEST_BATCH,
    InRange,
    check_output_file,
    line,
    quoted,
    whole_number,
)
from src.utils import CommandParser, UserError, is_out_of_memory, pick_device, write_json

MEASUREMENTS = {"train": train, "sample": sample, "data": data}
MOST_ROUNDS = 10**6


def build_parser(name):
    """The parser of one measurement: its own flags and those of all."""
    measurement = MEASUREMENTS[name]
    parser = CommandParser(prog=f"-m fewstep bench {name}", description=measurement.__doc__)
    measurement.add_flags(parser)
    number = partial(parser.add_argument, type=whole_number, action=InRange)
    sizes = dict(low=measurement.LEAST, high=LARGEST_BATCH, nargs="+", default=[measurement.BATCH])
    number(
        "--batch_size",
        **sizes,
        help=f"images at once, one or several numbers (default: {measurement.BATCH})",
    )
    text = f"pairs of turns of a comparison, best an even number ({DEFAULT})"
    number("--rounds", low=1, high=MOST_ROUNDS, default=measurement.ROUNDS, help=text)
    parser.add_argument(
        "--device", type=line, default="cuda", help=f"cuda, cuda:N or cpu ({DEFAULT})"
    )
    parser.add_argument("--json", type=line, help="write all results to this file")
    return parser


def main(arguments=None):
    """Measure, print the ratios as they come, and write them as JSON where --json names a file."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if arguments else 2
    name, *flags = arguments
    if name not in MEASUREMENTS:
        raise UserError(f"bench {quoted(name)}: use one of {', '.join(MEASUREMENTS)}")
    args = build_parser(name).parse_args(flags)
    if args.json:
        check_output_file("--json", args.json)
    device = pick_device(args.device)
    machine, today = hardware(device), date.today().isoformat()
    print(f"{machine}, torch {torch.__version__}, {today}", flush=True)
    results = {"machine": machine, "torch": torch.__version__, "date": today, "flags": vars(args)}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            results |= MEASUREMENTS[name].measure(args, device, Path(folder))
        except Exception as error:
            if is_out_of_memory(error):
                raise UserError("out of memory; give a smaller --batch_size") from error
            raise
    if args.json:
        write_json(args.json, results)
        print(f"written to {args.json}")
    return 0
