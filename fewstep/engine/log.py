"""Rows of `log.jsonl`: what a run says of itself, step by step, and the truth about it."""

import json
import math
import os

from src.utils import naming, whole_file


def read_rows(path):
    """Rows of a JSONL log; a last line cut off by a kill is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def append_row(path, row):
    """Add one row to the log, whole or not at all; a number that is not finite becomes null."""
    finite = {key: None if _is_lost(value) else value for key, value in row.items()}
    before = path.stat().st_size if path.exists() else 0
    try:
        with naming(path), open(path, "a") as file:
            file.write(json.dumps(finite) + "\n")
    except OSError:
        if path.exists():
            os.truncate(path, before)
        raise


def _is_lost(value):
    return isinstance(value, float) and not math.isfinite(value)


def sync_log(path):
    """Let all rows reach the disk, before a checkpoint says that they are there."""
    if path.exists():
        with open(path, "rb+") as file, naming(path):
            os.fsync(file.fileno())


def drop_rows_after(path, phase, step):
    """Forget rows of `phase` beyond `step`: the steps after a checkpoint are about to be redone."""
    rows = read_rows(path)
    kept = [row for row in rows if row["phase"] != phase or row["step"] <= step]
    if len(kept) < len(rows) or (path.exists() and not path.read_bytes().endswith(b"\n")):
        with whole_file(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in kept))
