"""What a run has settled and done so far, in one JSON file that is written whole."""

import copy
from datetime import datetime
from pathlib import Path

from src.utils import UserError, read_json, write_json

NAME = "state.json"
EMPTY = {"spent": 0.0, "steps": {}, "student": None, "done": {}, "failed": {}, "commands": []}


class State:
    """The content of `folder`/state.json; every change is written at once.

    identity: {flag: value} that a run keeps from its first command on. Raises `UserError`, naming
    the first that differs.
    """

    def __init__(self, folder, identity):
        self.path = Path(folder) / NAME
        fresh = copy.deepcopy(EMPTY) | {"identity": identity}
        before = read_json(self.path) if self.path.exists() else fresh
        for key, value in identity.items():
            if before["identity"].get(key) != value:
                raise UserError(
                    f"--{key}: the run in {folder} has {before['identity'].get(key)}, not {value};"
                    " give the same, or another --work"
                )
        self.content = before
        self.spent_before = before["spent"]

    @property
    def steps(self):
        """{training: steps} that are settled."""
        return self.content["steps"]

    @property
    def student(self):
        """Flags of the long student that are settled, or None."""
        return self.content["student"]

    def is_done(self, part):
        return part in self.content["done"]

    def has_failed(self, part):
        return part in self.content["failed"]

    def settle_student(self, flags):
        self.content["student"] = flags
        self._write()

    def settle(self, training, steps):
        """From here on the training has so many steps."""
        self.content["steps"][training] = steps
        self._write()

    def finish(self, key, names, **facts):
        """Note under `key` that something is done, with facts about it; failures that were noted
        under `names` are over."""
        self.content["done"][key] = facts
        for name in names:
            self.content["failed"].pop(name, None)
        self._write()

    def fail(self, part, reason):
        self.content["failed"][part] = reason
        self._write()

    def begin_command(self, arguments):
        """Note a command of these arguments; its seconds are added by `spend`."""
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        self.content["commands"].append({"began": now, "arguments": arguments, "seconds": 0.0})
        self._write()

    def spend(self, seconds):
        """The present command has taken so many seconds up to now."""
        self.content["commands"][-1]["seconds"] = round(seconds, 1)
        self.content["spent"] = round(self.spent_before + seconds, 1)
        self._write()

    def _write(self):
        write_json(self.path, self.content)
