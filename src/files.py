"""Files that are whole or not there, and that say so themselves when they are damaged."""

import hashlib
import json
import os
import socket
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn import Parameter

from src.errors import UserError, reason_of
from src.sealing import is_sealed, seal

IS_WINDOWS = os.name == "nt"
HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]  # of this process
PATIENCE = (0.01, 0.1, 1, 2)  # seconds between tries to move a file that another program reads

# How torch's files began that were no zip archives: a pickled magic number.
OLD_FORMAT = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


@contextmanager
def naming(path):
    """Let an `OSError` within say that it is about `path`: a failed write does not know."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


@contextmanager
def whole_file(path):
    """Yield a temporary path beside `path`; on success it is synced to disk and moved into place.

    A reader sees the old file or the new one, never a part. The temporary name keeps the suffix,
    because writers choose the format by it. On an exception nothing is left behind, and an
    `OSError` knows the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not NamedTemporaryFile: its mode 0600 would stay on the final file.
    temporary = temporary_name(path, os.getpid())
    try:
        with naming(path):
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            move_into_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(path, process, host=HOST):
    """The path of what this process of a host writes until it is moved to `path`."""
    return path.with_name(f".{path.stem}.{host}-{process}.tmp{path.suffix}")


def move_into_place(source, path):
    """Move a file on its disk to `path`, over what is there. Windows refuses that while another
    program, a virus scanner for instance, has either file open: there it is tried again for a few
    seconds before the `PermissionError` is raised."""
    for seconds in PATIENCE if IS_WINDOWS else ():
        try:
            os.replace(source, path)
            return
        except PermissionError:
            time.sleep(seconds)
    os.replace(source, path)


def sweep_dead(folder):
    """Delete what `whole_file` of this host's killed processes has left in a folder that others may
    write to: each is as large as the file that was to be. Those of another host cannot be asked."""
    for leftover in Path(folder).glob(f".*.{HOST}-*.tmp.*"):
        process = leftover.name.partition(".tmp.")[0].rpartition("-")[2]
        if process.isdecimal() and not _is_alive(int(process)):
            leftover.unlink(missing_ok=True)


def _is_alive(process):
    if IS_WINDOWS:
        return True  # it cannot be asked there: its signal 0 is Ctrl-C
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no process at all
        return True
    return True


def file_digest(path):
    """SHA-256 of a file's content, 32 bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


def write_json(path, content):
    """Write `content` as indented JSON, whole or not at all."""
    with whole_file(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


def read_json(path):
    """Read a JSON object; `UserError` when the file is absent or not a JSON object."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = json.loads(text, object_pairs_hook=_without_twins)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({reason_of(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a JSON object was expected")
    return content


def _without_twins(pairs):
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twin!r} is there twice")
    return content


def torch_save(content, path):
    """`torch.save`, whole or not at all, with a checksum of the whole file inside.

    Raises `UserError` when it cannot be written, `TypeError` for content that `torch_load` would
    refuse.
    """
    _check_plain(content, "content")
    path = Path(path)
    try:
        with whole_file(path) as temporary:
            torch.save(content, temporary)
            seal(temporary)
        _sync_folder(path.parent)
    except (OSError, RuntimeError, ValueError) as error:
        # torch raises RuntimeError for a write that failed, whatever the reason.
        reason = getattr(error, "strerror", None) or "is the disk full?"
        raise UserError(
            f"{path}: cannot be written ({reason}); earlier files are as they were: make room, and"
            " run it again"
        ) from error


def _check_plain(content, name):
    """Raise `TypeError` for what loading without running code would refuse: found now, it costs
    nothing; found at the next start, it would cost the run."""
    if isinstance(content, dict):
        for key, value in content.items():
            _check_plain(key, f"a key of {name}")
            _check_plain(value, f"{name}[{key!r}]")
    elif isinstance(content, (list, tuple)):
        for place, value in enumerate(content):
            _check_plain(value, f"{name}[{place}]")
    elif type(content) not in (str, int, float, bool, bytes, type(None), torch.Tensor, Parameter):
        raise TypeError(f"{name} is {type(content).__name__}: tensors and plain values are saved")


def _sync_folder(folder):
    """Let the folder's entries reach the disk: older files are deleted only after a newer one."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def torch_load(path, device="cpu"):
    """Load a file of tensors and plain values; code in it is never run.

    Raises `UserError` when the file is absent, damaged (its checksum is verified, or that of every
    record in a file of another program, which plain loading does not do) or holds anything else
    than tensors and plain values.
    """
    try:
        if _is_old_format(path):
            print(f"{path}: in torch's old format, in which damage cannot be seen")
        elif not is_sealed(path):
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"checksum of {damaged!r}")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; train first, or name a checkpoint") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # zipfile raises a dozen kinds for a dozen kinds of damage
        raise UserError(
            f"{path}: damaged, or not a checkpoint ({reason_of(error)}); use another one"
        ) from error
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # any foreign format ends in this one line
        reason = _refusal(error)
        raise UserError(f"{path}: not a checkpoint that can be loaded ({reason})") from error


def _is_old_format(path):
    """Whether `torch.save` wrote it with `_use_new_zipfile_serialization=False`, as until 1.5."""
    with open(path, "rb") as file:
        return file.read(len(OLD_FORMAT)) == OLD_FORMAT


def _refusal(error):
    """The reason of torch's refusal, without its advice to load the file all the same."""
    if "weights_only" in str(error):
        return (
            "it holds more than tensors and plain values, which is not loaded: save the state dict"
        )
    return reason_of(error)
