"""`python -m fewstep COMMAND ...`: everything beside training, sampling and FID."""

import os
import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    # Python puts first the folder that it was started in, or this one where it was named by its
    # path: modules of other people in the former would be taken for ours or for our libraries'.
    if sys.path[0] in ("", os.getcwd(), str(HERE)):
        del sys.path[0]
    sys.path.insert(0, str(HERE.parent))

from src.utils import UserError, run_command  # noqa: E402

# name: (module, what it does); a module's `main(arguments)` is given the rest of the line.
COMMANDS = {
    "evaluate": ("fewstep.studies.evaluate.main", "all scores of a model, and a report"),
    "tune": ("fewstep.studies.evaluate.tune", "better noise levels for a student"),
    "average": ("fewstep.studies.average", "one model of several, the mean of their weights"),
    "compare": ("fewstep.studies.compare.main", "a grid of flags or methods: table and figure"),
    "bench": ("fewstep.studies.bench.main", "how fast training, sampling and reading images are"),
    "flags": ("fewstep.runs.flags_page", "all flags of train.py as a page"),
    "ladder": ("fewstep.scores.ladder", "what a feature space sees of spoilt images"),
    "submit": ("fewstep.handin.submit", "the challenge's archive, checked as graders would"),
    "export": ("fewstep.handin.page.main", "a page that draws images in the browser"),
    "publish": ("fewstep.handin.publish", "a student's weights, small enough for a repository"),
}


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    usage = "\n".join(f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items())
    usage = f"python -m fewstep COMMAND ...\n\n{usage}\n\n--help after a command lists its flags"
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage)
        return 0 if arguments else 2
    name, *rest = arguments
    if name not in COMMANDS:
        raise UserError(f"{name!r}: no command; use one of {', '.join(COMMANDS)}")
    return import_module(COMMANDS[name][0]).main(rest)


if __name__ == "__main__":
    run_command(main)
