"""One training at a time in a folder."""

import errno
import json
import os
import socket
import time
from contextlib import ExitStack, contextmanager

from src.feedback import Progress
from src.utils import UserError

try:
    import fcntl
except ImportError:  # Windows has none, and no lock that a dead process lets go of by itself
    fcntl = None

NAME = ".lock"
LOOKS = 1.0  # seconds between two looks at a lock that others have


class InUse(UserError):
    """A folder is held by another process: `who`."""

    def __init__(self, folder, who):
        super().__init__(
            f"{folder}: {who} is training there; wait for it, stop it, or give another --save_dir"
        )
        self.who = who


@contextmanager
def sole_use(folder):
    """Hold the run folder (made where it is not there) against other trainings.

    The system lets go of the lock when the process ends, however it ends. Raises `InUse`, a
    `UserError`, where another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        print(f"{folder}: this system has no locks; start no second training there")
        yield
        return
    path = folder / NAME
    with _locked(path, folder) as file:
        file.truncate(0)
        file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def use_after_others(folder):
    """`sole_use` as soon as no other process has it."""
    with ExitStack() as held:
        with Progress(f"waiting for {folder}"):
            while True:
                try:
                    held.enter_context(sole_use(folder))
                    break
                except InUse:
                    time.sleep(LOOKS)
        yield


def _locked(path, folder):
    """The file at `path`, open and locked."""
    while True:
        file = open(path, "a+")  # noqa: SIM115
        try:
            # Of the process, not of the open file: a child that outlives it would hold the latter.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                print(f"{folder}: its file system has no locks; start no second training there")
                return file
            who = _holder(file)
            file.close()
            raise InUse(folder, who) from error
        if _is_still(path, file):
            return file
        file.close()  # whoever held it has just finished and deleted it


def _holder(file):
    file.seek(0)
    try:
        owner = json.loads(file.read())
        return f"process {owner['process']} on {owner['host']}"
    except (ValueError, TypeError, KeyError):
        return "another process"


def _is_still(path, file):
    try:
        return os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
