"""Where else a run is watched: TensorBoard, Weights & Biases, Trackio. Each is asked for by name.

`log.jsonl` stays the truth. At the start of each phase a logger is given all its rows anew, after
those that a killed run had written beyond its checkpoint were dropped; so nothing is seen twice or
out of order, whatever the logger has kept of an earlier start.
"""

import json
import math
import os
import sys
import time
from importlib import import_module
from pathlib import Path

import numpy as np
from PIL import Image

from src.errors import file_error, package_for, reason_of
from src.feedback import say
from src.files import naming

PROJECT = "fewstep"  # the name that runs stand under
OWN_KEYS = ("phase", "step")  # of a row: where it belongs, not what it says
FINISH_SECONDS = "60"  # patience with what Weights & Biases has still to send


def sheet_path(folder, phase, step):
    """Where the sheet of samples of a step is, or would be."""
    return Path(folder) / "samples" / f"{phase}_{step:07d}.png"


class TensorBoard:
    """Event files in FOLDER/tensorboard/PHASE: a phase counts its steps from 0, so each is a run of
    its own there. Written here and not by torch's `SummaryWriter`, whose thread prints a traceback
    when the disk is full."""

    def __init__(self, folder, settings):
        self.folder, self.settings, self.path = folder / "tensorboard", settings, None
        self.summaries = package_of("tensorboard").summary
        self.proto = import_module("tensorboard.compat.proto.event_pb2")
        self.records = import_module("tensorboard.summary.writer.record_writer").RecordWriter

    def begin(self, phase):
        """Forget what was shown of that phase, and begin it again."""
        place = self.folder / phase
        place.mkdir(parents=True, exist_ok=True)
        for old in place.glob("events.out.tfevents.*"):
            os.truncate(old, 0)  # a TensorBoard that has it open would miss what follows it
        # Files are read in the order of their names.
        self.path = place / f"events.out.tfevents.{int(time.time()):010d}.{os.getpid()}"
        started = self.proto.SessionLog(status=self.proto.SessionLog.START)
        text = "".join(f"    {line}\n" for line in json.dumps(self.settings, indent=2).splitlines())
        self._write(
            self.proto.Event(file_version="brain.Event:2"),
            self.proto.Event(session_log=started),  # drops what was read, from step 0 on
            self.proto.Event(summary=self.summaries.text("settings", text)),
        )

    def add(self, phase, step, values, sheet):
        """Show {key: number or text} of a step, and the sheet of samples in a file or None."""
        make, shown = self.summaries, []
        for key, value in values.items():
            kind = make.text if isinstance(value, str) else make.scalar
            shown.append(kind(f"{phase}/{key}", value))
        if sheet:
            pixels = np.asarray(Image.open(sheet).convert("RGB"))
            shown.append(make.image(f"{phase}/samples", pixels, dataformats="HWC"))
        self._write(*(self.proto.Event(summary=one, step=step) for one in shown))

    def _write(self, *events):
        with naming(self.path), open(self.path, "ab") as file:
            writer = self.records(file)
            for event in events:
                event.wall_time = time.time()
                writer.write(event.SerializeToString())

    def close(self):
        """Nothing is left to be written."""


class WandB:
    """A run for each start, of which the newest has all rows: a run of theirs takes none back. All
    are in one group, named as the folder, and kept in FOLDER/wandb until they are sent."""

    def __init__(self, folder, settings):
        os.environ.setdefault("WANDB_FINISH_TIMEOUT", FINISH_SECONDS)
        self.wandb, name = package_of("wandb"), folder.resolve().name
        self.run = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=name,
            group=name,
            dir=str(folder),
            config=settings,
            settings={"console": "off"},  # the streams are ours, see src/streams.py
        )

    def begin(self, phase):
        """Let the curves of a phase be drawn over its own steps."""
        self.run.define_metric(f"{phase}/step")
        self.run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")

    def add(self, phase, step, values, sheet):
        """As `TensorBoard.add`."""
        images = {"samples": self.wandb.Image(str(sheet))} if sheet else {}
        self.run.log(_named(phase, {"step": step} | values | images))

    def close(self):
        """Send what is left, where there is a network."""
        self.run.finish()


class Trackio:
    """A run for each start, as of `WandB`, in Trackio's own folder on this machine."""

    def __init__(self, folder, settings):
        self.trackio, name = package_of("trackio"), folder.resolve().name
        self.run = self.trackio.init(project=PROJECT, name=name, group=name, config=settings)

    def begin(self, phase):
        """Nothing is to be said: each row has its step."""

    def add(self, phase, step, values, sheet):
        """As `TensorBoard.add`."""
        images = {"samples": self.trackio.Image(str(sheet))} if sheet else {}
        self.run.log(_named(phase, values | images), step=step)

    def close(self):
        """Write what is left."""
        self.run.finish()


def _named(phase, values):
    return {f"{phase}/{key}": value for key, value in values.items()}


LOGGERS = {"tensorboard": TensorBoard, "wandb": WandB, "trackio": Trackio}
NONE = "none"
MODULES = {"tensorboard": "torch.utils.tensorboard"}  # where it is not the package's own name


def package_of(name):
    """The module behind `--logger NAME`. Raises `UserError` where its package is absent."""
    return package_for(f"--logger {name}", MODULES.get(name, name), name)


class Reports:
    """What the loop tells a logger; made by all processes, and used by the first alone.

    The logger begins with the first phase. Whatever fails in it, a full disk or no network, is one
    warning, after which nothing more is told: no report may end a training.

    name: of `--logger`. folder: of the run. settings: plain values, shown once.
    """

    def __init__(self, name=NONE, folder=None, settings=None):
        self.name, self.folder, self.settings = name, folder, settings
        self.logger, self.is_on = None, name != NONE

    def begin(self, phase, rows):
        """Show all rows of the log that a phase has behind it, from its first one on."""
        self._try(self._begin, phase)
        for row in rows:
            self.row(row)

    def row(self, row):
        """Show a row of the log, and the sheet of samples of its step."""
        self._try(self._row, row)

    def close(self):
        """Call this when all is told."""
        if self.logger:
            self._try(self.logger.close)
        self.is_on = False

    def _begin(self, phase):
        if self.logger is None:
            self.logger = LOGGERS[self.name](Path(self.folder), self.settings)
        self.logger.begin(phase)

    def _row(self, row):
        phase, step = (row[key] for key in OWN_KEYS)
        values = {key: row[key] for key in row if key not in OWN_KEYS and _can_be_shown(row[key])}
        sheet = sheet_path(self.folder, phase, step)
        # What a sentinel says is a row of its own, at a step that has been shown.
        is_shown = "concern" in row or not sheet.exists()
        self.logger.add(phase, step, values, None if is_shown else sheet)

    def _try(self, action, *arguments):
        if not self.is_on:
            return
        try:
            action(*arguments)
        except Exception as error:  # of another program: there is no list of what may fail there
            self.is_on = False
            reason = file_error(error) if isinstance(error, OSError) else reason_of(error)
            say(
                f"warning: --logger {self.name}: {reason}; training goes on without it, and"
                " log.jsonl has all rows",
                sys.stderr,
            )


def _can_be_shown(value):
    return isinstance(value, str) or (value is not None and math.isfinite(value))
