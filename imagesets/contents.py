"""Which bytes a folder's files hold, without reading again those that have not been touched."""

import json
import os
import stat
import time
from functools import partial
from pathlib import Path

from imagesets.parallel import map_ordered, reported
from src.utils import UserError, file_digest, whole_file

# A file written this recently could be written again within the clock's resolution, unnoticed.
SETTLED_NS = 2_000_000_000


def content_hashes(root, names, manifest, label=None):
    """SHA-256 (32 bytes each) of the files `names` (relative to `root`), in order.

    `manifest` is the file that remembers, from one call to the next, size, times and hash of every
    file seen; only files that differ from it are read. Raises `UserError` naming up to ten files
    that cannot be read, or when `manifest` cannot be written.
    """
    known = _read_manifest(manifest)
    look = partial(_look_up, Path(root), known)
    results = reported(map_ordered(look, names), len(names), label)
    now = time.time_ns()
    hashes, failures, changed = [], [], False
    for name, result in zip(names, results, strict=True):
        if isinstance(result, OSError):
            failures.append((name, result.strerror or str(result)))
            continue
        state, content = result
        hashes.append(content)
        if known.get(name) != (state, content) and now - max(state[1:]) > SETTLED_NS:
            known[name] = (state, content)
            changed = True
    if failures:
        raise unreadable_error(root, failures, len(names))
    if changed:
        _write_manifest(manifest, known)
    return hashes


def unreadable_error(root, failures, total):
    """One `UserError` for many `(name, reason)`: how many of `total`, and the first ten of them."""
    listed = ", ".join(f"{name} ({reason})" for name, reason in failures[:10])
    more = ", ..." if len(failures) > 10 else ""
    return UserError(
        f"{root}: {len(failures)} of {total} images cannot be used: {listed}{more};"
        " replace them, or remove them from the folder and its split files"
    )


def _look_up(root, known, name):
    path = root / name
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return OSError(0, "not a file")
        state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        before = known.get(name)
        if before is not None and before[0] == state:
            return before
        return state, file_digest(path)
    except OSError as error:
        return error


def _read_manifest(path):
    """`{name: ((size, mtime_ns, ctime_ns), hash)}`; a line that makes no sense is left out."""
    known = {}
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                name, *state, content = json.loads(line)
                if len(state) == 3 and len(content) == 64:
                    known[name] = (tuple(state), bytes.fromhex(content))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError):
        return known  # costs a second reading of the files, nothing else
    return known


def _write_manifest(path, known):
    try:
        with whole_file(path) as temporary, open(temporary, "w", encoding="ascii") as file:
            entries = ([name, *state, content.hex()] for name, (state, content) in known.items())
            file.writelines(json.dumps(entry) + "\n" for entry in entries)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{path}: cannot be written ({reason}); free some disk space, or choose another"
            " --cache_dir"
        ) from error
