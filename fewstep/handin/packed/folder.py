"""Parts and manifest on the disk: written whole or not at all, read with every checksum."""

import hashlib
import re
from pathlib import Path

from fewstep.handin.packed.manifest import NAME, PART_NAME, part_name, read_manifest
from src.utils import UserError, reason_of, whole_file, write_json

# A part, or what a killed program left of one.
OUR_FILES = re.compile(rf"{PART_NAME.pattern}|\.weights_\d+_[0-9a-f]+\.\d+\.tmp\.npz")


def describe_parts(contents):
    """The entries of a manifest's "parts" for the contents (bytes) of the files."""
    entries = []
    for index, content in enumerate(contents):
        digest = hashlib.sha256(content).hexdigest()
        name = part_name(index, digest)
        entries.append({"file": name, "bytes": len(content), "sha256": digest})
    return entries


def check_writable(folder):
    """Raise `UserError`, before long work, where `folder` cannot hold parts."""
    if Path(folder).exists() and not Path(folder).is_dir():
        raise UserError(f"{folder}: is a file; name a folder")


def write_folder(folder, manifest, contents):
    """Write parts, then the manifest that names them, then remove parts that it does not name.

    At every moment the folder's manifest, old or new, has all its parts. Where writing fails the
    folder is as it was, and `UserError` says why.
    """
    folder, written = Path(folder), []
    was_there = folder.exists()
    try:
        for entry, content in zip(manifest["parts"], contents):
            path = folder / entry["file"]
            is_new = not path.exists()
            with whole_file(path) as temporary:
                temporary.write_bytes(content)
            written += [path] * is_new
        write_json(folder / NAME, manifest)
    except BaseException as error:
        if _present(folder) != manifest:  # a signal may come between the last move and here
            for path in written:
                path.unlink(missing_ok=True)
        if not was_there and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        if isinstance(error, OSError):
            reason = error.strerror or reason_of(error)
            raise UserError(f"{folder}: cannot be written ({reason}); make room there") from error
        raise
    named = {entry["file"] for entry in manifest["parts"]}
    for path in sorted(folder.iterdir()):
        if OUR_FILES.fullmatch(path.name) and path.name not in named:
            path.unlink()


def read_folder(folder):
    """(manifest, contents of its parts as bytes), every size and checksum verified.

    Raises `UserError` for what is missing, damaged or newer than this code.
    """
    manifest, contents = read_manifest(folder), []
    for entry in manifest["parts"]:
        path = Path(folder) / entry["file"]
        try:
            size = path.stat().st_size
            content = path.read_bytes() if size == entry["bytes"] else b""
        except FileNotFoundError as error:
            raise UserError(f"{path}: missing; fetch the folder again") from error
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        if size != entry["bytes"]:
            raise UserError(
                f"{path}: damaged ({size:,} bytes of {entry['bytes']:,}); fetch the folder again"
            )
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            raise UserError(f"{path}: damaged (its checksum does not hold); fetch the folder again")
        contents.append(content)
    return manifest, contents


def _present(folder):
    """The manifest in `folder`, None where there is none that can be read."""
    try:
        return read_manifest(folder)
    except UserError:
        return None
