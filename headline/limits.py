"""Whether a results folder can travel: few files, none large, plain names, not deep."""

import re
from pathlib import Path

MOST_FILES = 8
MOST_BYTES, MOST_BYTES_IN_ALL = 16 * 2**20, 64 * 2**20
DEEPEST = 2  # folders below the results folder
NAME = re.compile(r"[A-Za-z0-9._-]+")


def broken_limits(folder):
    """A line for each limit that the files below `folder` break; [] where it may travel."""
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if not path.is_dir())
    sizes = {path.relative_to(folder): path.stat().st_size for path in files}
    total, found = sum(sizes.values()), []
    if len(sizes) > MOST_FILES:
        found.append(f"{len(sizes)} files, at most {MOST_FILES}")
    if total > MOST_BYTES_IN_ALL:
        found.append(f"{_mib(total)} in all, at most {_mib(MOST_BYTES_IN_ALL)}")
    for path, size in sizes.items():
        if size > MOST_BYTES:
            found.append(f"{path}: {_mib(size)}, at most {_mib(MOST_BYTES)}")
        if len(path.parts) - 1 > DEEPEST:
            found.append(f"{path}: more than {DEEPEST} folders deep")
        if not all(NAME.fullmatch(part) for part in path.parts):
            found.append(f"{path}: a name of other than letters, digits, '.', '_' and '-'")
    return found


def limits_line(folder):
    """What is said of the results folder at the end of a command."""
    files = [path for path in Path(folder).rglob("*") if not path.is_dir()]
    total = sum(path.stat().st_size for path in files)
    broken = broken_limits(folder)
    verdict = "within the limits" if not broken else "BEYOND THE LIMITS: " + "; ".join(broken)
    return f"{folder}: {len(files)} files, {_mib(total)}, {verdict}"


def _mib(count):
    return f"{count / 2**20:.1f} MiB"
