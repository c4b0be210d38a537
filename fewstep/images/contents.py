"""What is remembered of image files from one run to the next: which bytes they hold, so that only
those that were touched are read again, and which contents turned out not to be images."""

import json
import os
import stat
import time
from functools import partial
from pathlib import Path

import PIL

from fewstep.images.cache import writing
from fewstep.images.decode import DECODE_VERSION, FORMATS
from fewstep.images.parallel import map_ordered
from src.utils import UserError, file_digest, read_json, whole_file, write_json

# A file written this recently could be written again within the clock's resolution, unnoticed.
SETTLED_NS = 2_000_000_000

# Even raw pixels of the largest image that is decoded need less; a sparse file may claim anything.
MAX_BYTES = 2**30

# Another decoder may be able to read what this one cannot.
DECODER = f"rules v{DECODE_VERSION} for {' '.join(FORMATS)}, Pillow {PIL.__version__}"


def content_hashes(root, names, manifest, label=None):
    """Hashes and failures of the files `names` (relative to `root`), in order: `{name: SHA-256}`
    (32 bytes each) of those that can be read, and `{name: reason}` of the others.

    `manifest` is the file that remembers, from one call to the next, size, times and hash of every
    file seen; only files that differ from it are read. Raises `UserError` when it cannot be
    written.
    """
    known = _read_manifest(manifest)
    results = map_ordered(partial(_look_up, Path(root), known), names, label)
    now = time.time_ns()
    hashes, failures, changed = {}, {}, False
    for name, result in zip(names, results, strict=True):
        if isinstance(result, str):
            failures[name] = result
            continue
        state, hashes[name] = result
        if known.get(name) != result and now - max(state[1:]) > SETTLED_NS:
            known[name] = result
            changed = True
    if changed:
        _write_manifest(manifest, known)
    return hashes, failures


def _look_up(root, known, name):
    """((size, mtime_ns, ctime_ns), hash) of a file, or why it cannot be used."""
    path = root / name
    try:
        status = os.stat(path)
        refusal = _refusal(status)
        if refusal:
            return refusal  # before it is opened: reading a pipe would wait for ever
        state = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        before = known.get(name)
        if before is not None and before[0] == state:
            return before
        return state, file_digest(path)
    except OSError as error:
        return error.strerror or str(error)


def _refusal(status):
    if stat.S_ISDIR(status.st_mode):
        return "a folder without images"
    if not stat.S_ISREG(status.st_mode):
        return "not a file"
    if status.st_size == 0:
        return "empty file"
    if status.st_size > MAX_BYTES:
        return f"{status.st_size} bytes, more than {MAX_BYTES}"
    return None


def _read_manifest(path):
    """`{name: ((size, mtime_ns, ctime_ns), hash)}`; a line that makes no sense is left out."""
    known = {}
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                name, *state, content = json.loads(line)
                if len(state) == 3 and len(content) == 64:
                    known[name] = (tuple(state), bytes.fromhex(content))
    except (OSError, ValueError, TypeError):
        pass  # costs a second reading of the files, nothing else
    return known


def _write_manifest(path, known):
    with writing(path), whole_file(path) as temporary, open(temporary, "w", encoding="ascii") as f:
        entries = ([name, *state, content.hex()] for name, (state, content) in known.items())
        f.writelines(json.dumps(entry) + "\n" for entry in entries)


def read_undecodable(path):
    """`{hash of a content: why it cannot be decoded}`, as remembered in `path`; nothing where that
    is absent, damaged or of another decoder."""
    try:
        note = read_json(path)
        if note["decoder"] != DECODER:
            return {}
        return {bytes.fromhex(content): str(why) for content, why in note["reasons"].items()}
    except (UserError, KeyError, AttributeError, TypeError, ValueError):
        return {}  # costs decoding them once more, nothing else


def write_undecodable(path, reasons):
    """Remember `{hash of a content: reason}` in `path`. Raises `UserError`."""
    texts = {content.hex(): why for content, why in reasons.items()}
    with writing(path):
        write_json(path, {"decoder": DECODER, "reasons": texts})
