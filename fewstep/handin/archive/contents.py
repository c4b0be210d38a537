"""Which files a submission holds, by what its Python files import; nothing is run."""

import ast
from functools import cache
from pathlib import Path

from src.utils import UserError

CHECKPOINT, CONFIG = "checkpoints/best_model.pt", "checkpoints/model_config.json"
REQUIREMENTS, WRITEUP = "requirements.txt", "writeup.pdf"

# Handed out by the challenge; a submission may not change them.
PROVIDED = (
    *("src/base_model.py", "src/network.py", "src/module.py"),
    *("dataset.py", "sampling.py", "measure_fid.py"),
)
SPLITS = ("data/train_split.txt", "data/val_split.txt")  # provided as well

# What someone runs; all that these import goes along.
ENTRIES = ("custom_model.py", "train.py", "dataset.py", "sampling.py", "measure_fid.py")

# The project's modules that a grader's sampler has no use for.
TRAINING_SIDE = {"fewstep", "discriminator", "train", "dataset", "measure_fid"}

GRADERS_PYTHON = (3, 10)  # newer syntax is refused, as far as Python's parser can tell


def collect(root, checkpoint, config, official=None):
    """The archive, save the write-up, as {posix name: path of the file}.

    root: the project. official: a checkout of the challenge, whose provided files are taken in
    place of ours. Raises `UserError` when a file is missing, naming all that are.
    """
    root = Path(root)
    replaced = official_files(official) if official else {}
    ours = [name for name in (*ENTRIES, REQUIREMENTS, *PROVIDED) if name not in replaced]
    missing = [name for name in dict.fromkeys(ours) if not (root / name).is_file()]
    if missing:
        raise UserError(f"{root}: lacks {', '.join(missing)}; run this in a whole checkout")
    names = reachable(ENTRIES, root, replaced) | {*module_files("src", root), REQUIREMENTS}
    names |= {name for name in SPLITS if (root / name).is_file()}
    files = {name: root / name for name in names} | replaced
    return files | {CHECKPOINT: Path(checkpoint), CONFIG: Path(config)}


def official_files(official):
    """{posix name: path} of the provided files in a checkout of the challenge."""
    official = Path(official)
    missing = [name for name in PROVIDED if not (official / name).is_file()]
    if missing:
        raise UserError(
            f"--official {official}: lacks {', '.join(missing)}; name a checkout of the challenge's"
            " repository"
        )
    splits = [name for name in SPLITS if (official / name).is_file()]
    return {name: official / name for name in (*PROVIDED, *splits)}


def sampler_names(folder):
    """Posix names of what a grader's sampler needs of the submission in `folder`."""
    code = reachable(["custom_model.py", "sampling.py"], folder) | {*module_files("src", folder)}
    code = {name for name in code if Path(name).parts[0].removesuffix(".py") not in TRAINING_SIDE}
    return code | {CHECKPOINT, CONFIG}


def reachable(entries, root, replaced=None):
    """Posix names of the project's files that running `entries` can need, themselves included.

    `replaced`: name -> path of a file that stands in for the one below `root`.
    """
    names, todo = set(), list(entries)
    while todo:
        name = todo.pop()
        if name not in names:
            names.add(name)
            for package in imported_packages((replaced or {}).get(name, root / name)):
                todo += module_files(package, root)
    return names


def imported_packages(path, lazily=True):
    """Top-level names of all absolute imports in the file `path`; lazily: those inside functions
    included. Raises `UserError` when it is not Python."""
    try:
        return _imported(path.read_bytes(), lazily)
    except SyntaxError as error:
        raise UserError(f"{path}: line {error.lineno} is not Python ({error.msg})") from error


@cache  # a submission is looked through several times
def _imported(source, lazily):
    names, todo = set(), [ast.parse(source, feature_version=GRADERS_PYTHON)]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.partition(".")[0])
        if lazily or not isinstance(node, ast.FunctionDef):
            todo += ast.iter_child_nodes(node)
    return frozenset(names)


def module_files(package, root):
    """The files below `root` that `import package` needs, as posix names: a package's whole, since
    it may look its modules up by itself, or one file. Empty for what is not the project's."""
    paths = [path.relative_to(root) for path in (root / package).rglob("*.py")]
    # Not those of an editor's or system's folder, such as `.ipynb_checkpoints`.
    files = [p.as_posix() for p in paths if not any(part.startswith(".") for part in p.parts)]
    if not files and (root / f"{package}.py").is_file():
        files = [f"{package}.py"]
    return sorted(files)
