"""The graders' machine: its packages, and scripts in a child process that finds nothing else."""

import inspect
import json
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from src.feedback import Progress

HERE = Path(__file__).resolve().parent

# Distributions of the grading environment -> the name each is imported by.
GRADING = {
    **{name: name for name in "torch torchvision numpy scipy matplotlib lpips kagglehub".split()},
    **{name: name for name in "tqdm dotmap requests".split()},
    **{"pillow": "PIL", "clean-fid": "cleanfid", "PyYAML": "yaml"},
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def run_restricted(folder, script, *arguments):
    """Run a script in `folder` with nothing to import but the standard library, that folder and the
    grading environment's packages. Returns the finished process, output captured as text."""
    request = {
        "script": str(script),
        "arguments": [str(argument) for argument in arguments],
        "packages": sorted(grading_packages()),
    }
    # -I: no PYTHONPATH, no user packages, not this project; -B: no caches among the files
    command = [sys.executable, "-I", "-B", str(HERE / "restricted.py"), json.dumps(request)]
    with Progress(f"running {Path(script).name} as on the graders' machine"):
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")


def failure_of(process):
    """Why a process failed, in one line: its exit code and the last line on stderr."""
    lines = process.stderr.strip().splitlines() or ["nothing on stderr"]
    return f"exit code {process.returncode}, {lines[-1].strip()}"


def grading_packages():
    """Top-level names that can be imported in the grading environment beyond the standard library:
    its packages and all that these depend on, by the metadata of those installed here."""
    return set(GRADING.values()) | import_names(GRADING)


def required_distributions(requirements):
    """Names of the distributions in a requirements file."""
    lines = Path(requirements).read_text().splitlines()
    return [match.group() for match in map(NAME.match, lines) if match]


def import_names(distributions):
    """Top-level names of `distributions` and of those they require, as far as installed here; of
    one that is not, its own name."""
    names, seen, todo = set(), set(), list(distributions)
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()  # one spelling, PEP 503
        if name not in seen:
            seen.add(name)
            own, required = _installed(name)
            names |= own or {name.replace("-", "_")}
            todo += required
    return names


@cache
def _installed(name):
    """(top-level names of a distribution by its list of files, names of those it requires)."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return set(), []
    names, required = set(), []
    for file in distribution.files or []:
        top = file.parts[0]
        if len(file.parts) > 1 and top.isidentifier():
            names.add(top)
        elif len(file.parts) == 1 and (module := inspect.getmodulename(top)):
            names.add(module)
    for requirement in distribution.requires or []:
        package, _, marker = requirement.partition(";")
        if "extra" not in marker:
            required.append(NAME.match(package).group())
    return names, required
