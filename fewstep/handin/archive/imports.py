"""What Python files import, read from their syntax trees; nothing is run."""

import ast

from src.utils import UserError

GRADERS_PYTHON = (3, 10)  # newer syntax is refused, as far as Python's parser can tell


def imported_packages(path):
    """Top-level names of all absolute imports in the file `path`, those inside functions included.

    Raises `UserError` when it is not Python.
    """
    try:
        tree = ast.parse(path.read_bytes(), feature_version=GRADERS_PYTHON)
    except SyntaxError as error:
        raise UserError(f"{path}: line {error.lineno} is not Python ({error.msg})") from error
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.partition(".")[0])
    return names


def module_files(package, root):
    """The files below `root` that `import package` needs, as posix names: a package's whole, since
    it may look its modules up by itself, or one file. Empty for what is not the project's."""
    files = (path.relative_to(root) for path in (root / package).rglob("*.py"))
    files = [path.as_posix() for path in files if not _hidden(path)]
    if not files and (root / f"{package}.py").is_file():
        files = [f"{package}.py"]
    return sorted(files)


def _hidden(path):
    """Whether an editor's or system's folder, such as `.ipynb_checkpoints`, holds `path`."""
    return any(part.startswith(".") for part in path.parts)


def reachable(entries, root, replaced=None):
    """Posix names of the project's files that running `entries` can need, themselves included.

    `replaced`: name -> path of a file that stands in for the one below `root`.
    """
    found, todo = set(), list(entries)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            for package in imported_packages((replaced or {}).get(name, root / name)):
                todo += module_files(package, root)
    return found
