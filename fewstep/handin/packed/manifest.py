"""The manifest beside the parts: which they are, what they make, and a checksum of itself."""

import hashlib
import json
import re
from pathlib import Path

from src.utils import UserError, read_json

NAME = "manifest.json"
FORMAT, VERSION = "8-bit student weights", 1
# key -> kind of its value; a manifest has these and no others.
KEYS = {
    "format": str,
    "version": int,
    "parts": list,  # of {"file": name, "bytes": size, "sha256": hexadecimal}
    "parameters": int,
    "original_sha256": str,  # of the trained weights, see fewstep.runs.identity.weights_digest
    "expanded_sha256": str,  # of the weights that the parts expand to
    "model_config": dict,  # model_config.json
    "errors": dict,  # of the expanded weights, and of the images made with them
    "notes": dict,
    "sha256": str,  # of all other keys, see `content_digest`
}
PART_KEYS = {"file": str, "bytes": int, "sha256": str}
PART_NAME = re.compile(r"weights_\d{1,2}_[0-9a-f]{8}\.npz")


def part_name(index, digest):
    """File name of part `index` (from 0) with that SHA-256: other content has another name, so new
    parts never touch those that the present manifest names."""
    return f"weights_{index + 1}_{digest[:8]}.npz"


def content_digest(content):
    """SHA-256, hexadecimal, over all keys but "sha256", however the file is laid out."""
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def make_manifest(**values):
    """The content of a manifest with the given keys of `KEYS`."""
    content = {"format": FORMAT, "version": VERSION, **values}
    content = {key: content[key] for key in KEYS if key != "sha256"}
    return content | {"sha256": content_digest(content)}


def read_manifest(folder):
    """The manifest in `folder`, checked. Raises `UserError` for one that is absent, newer than this
    code, damaged, or not one."""
    path = Path(folder) / NAME
    if not path.exists():
        raise UserError(
            f"{folder}: there are no published weights (no {NAME}); train a student, or name"
            " another folder"
        )
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise UserError(f'{path}: not a manifest of weights ("format" is not "{FORMAT}")')
    version = content.get("version")
    if type(version) is int and version > VERSION:
        raise UserError(
            f"{path}: version {version}, and this code reads up to {VERSION}; update the project"
        )
    for keys, what in ((KEYS.keys() - content, "lacks"), (content.keys() - KEYS, "has unknown")):
        if keys:
            raise UserError(f"{path}: {what} {', '.join(sorted(keys))}; fetch the folder again")
    if content["sha256"] != content_digest(content):
        raise UserError(f"{path}: damaged (its checksum does not hold); fetch the folder again")
    problem = _problem(content)
    if problem:
        raise UserError(f"{path}: {problem}; fetch the folder again")
    return content


def _problem(content):
    """What is wrong with a manifest of the right keys, or None."""
    for key, kind in KEYS.items():
        if type(content[key]) is not kind:
            return f'"{key}" is no {kind.__name__}'
    if content["version"] != VERSION:
        return f'"version" {content["version"]} is none'
    names = [_part_name_of(part) for part in content["parts"]]
    if not names or None in names or len(set(names)) < len(names):
        return '"parts" does not list files of weights'
    return None


def _part_name_of(part):
    """The file name of an entry of "parts", None where it is no such entry."""
    if type(part) is not dict or {key: type(value) for key, value in part.items()} != PART_KEYS:
        return None
    return part["file"] if PART_NAME.fullmatch(part["file"]) else None
