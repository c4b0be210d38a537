"""The packages of the grading environment, by the metadata of those installed here."""

import inspect
import re
from importlib import metadata
from pathlib import Path

# Distribution -> the name it is imported by.
GRADING = {
    "torch": "torch",
    "torchvision": "torchvision",
    "numpy": "numpy",
    "scipy": "scipy",
    "pillow": "PIL",
    "matplotlib": "matplotlib",
    "clean-fid": "cleanfid",
    "lpips": "lpips",
    "kagglehub": "kagglehub",
    "tqdm": "tqdm",
    "PyYAML": "yaml",
    "dotmap": "dotmap",
    "requests": "requests",
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def grading_packages():
    """Top-level names that can be imported in the grading environment beyond the standard library:
    its packages and all that these depend on."""
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
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            names.add(name.replace("-", "_"))
            continue
        names |= _top_level(distribution) or {name.replace("-", "_")}
        for requirement in distribution.requires or []:
            package, _, marker = requirement.partition(";")
            if "extra" not in marker:
                todo.append(NAME.match(package).group())
    return names


def _top_level(distribution):
    """Names of the modules and packages that a distribution's own list of files shows."""
    names = set()
    for file in distribution.files or []:
        top = file.parts[0]
        if len(file.parts) > 1 and top.isidentifier():
            names.add(top)
        elif len(file.parts) == 1 and (module := inspect.getmodulename(top)):
            names.add(module)
    return names
