"""The one training loop, for any phase: batches in, steps, logs, pictures, checkpoints."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from fewstep.engine.checkpoints import (
    check_identity,
    checkpoint_path,
    load_newest,
    save_checkpoint,
    sweep_temporaries,
)
from fewstep.engine.curves import draw_curves
from fewstep.engine.fit import first_not_finite
from fewstep.engine.hardware import ProcessorShare
from fewstep.engine.log import append_row, drop_rows_after, read_rows, sync_log
from fewstep.engine.loggers import Reports, sheet_path
from fewstep.engine.microbatch import hashed_seed, split
from fewstep.engine.processes import ALONE, Processes
from fewstep.engine.schedules import is_picture_step
from fewstep.engine.stopping import Interrupted, StopRequests
from fewstep.engine.window import Window
from src.feedback import Progress, say
from src.sheets import picture_sheet
from src.utils import UserError, save_picture, seed_everything, to_uint8

SHEET_IMAGES = 8  # the write-up wants about eight
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
MOST_LOSSES = 2  # of a bar, which is to fit a line
END_SHARE = 0.05  # of a phase: with so many last updates dropped it has not succeeded


class Job(NamedTuple):
    """What all phases of a run share. options: seed, intervals and limits (`runs.settings.Run`).
    micro_batches: that a process takes of each batch. panels, healthy: of the curves, see
    `engine.curves`. reports: to a logger, or to none."""

    folder: Path
    options: object
    device: torch.device
    stop: StopRequests
    processes: Processes = ALONE
    micro_batches: int = 1
    panels: dict = {}
    healthy: dict = {}
    reports: Reports = Reports()


class Selection(NamedTuple):
    """score() -> a number of the present networks, smaller is better, or None; publish() is called
    when it was the best so far, after its checkpoint is saved. measure: what the number is of."""

    score: Callable
    publish: Callable
    measure: str


class Training:
    """A `Phase` in training, and how far it has come; all that a checkpoint holds."""

    def __init__(
        self,
        phase,
        job,
        identity,
        selection=None,
        publish=lambda: None,
        steps_flag=None,
        before=None,
    ):
        self.phase, self.job, self.identity, self.steps_flag = phase, job, identity, steps_flag
        self.before = before or {}
        self.selection, self.publish = selection, publish
        self.own_folder, self.log = job.folder / phase.name, job.folder / "log.jsonl"
        self.step, self.seconds, self.window, self.best = 0, 0.0, Window(), None
        self.lengths = [phase.total]  # as often as it was taken further
        self.concerns = set()  # those that the log has already
        self.saved_at = time.monotonic()

    def resume(self):
        """Go on from the newest checkpoint, if there is one."""
        phase, total = self.phase, self.phase.total
        self.own_folder.mkdir(parents=True, exist_ok=True)
        checkpoint = load_newest(self.own_folder)
        if checkpoint is None:
            return
        saved = checkpoint["identity"]
        check_identity(self.own_folder, self.before | saved, self.identity, self.steps_flag)
        self.identity = saved | self.identity  # what it began with, even where nobody asks now
        self.step, self.seconds = checkpoint["step"], checkpoint["seconds"]
        self.window, self.best = Window(**checkpoint["window"]), checkpoint.get("best")
        try:
            phase.load_state_dict(checkpoint["phase"])
        except ValueError as error:
            raise UserError(
                f"{checkpoint_path(self.own_folder, self.step)}: does not fit these settings"
                f" ({error}); give another --save_dir"
            ) from error
        self.lengths = checkpoint.get("lengths") or [saved.get(self.steps_flag, total)]
        phase.first_total = self.lengths[0]
        if self.lengths[-1] != total:
            print(self._taken_further())
            self.lengths.append(total)
        elif self.step < total:
            print(f"going on with the {phase.name} at step {self.step}")
        else:
            print(f"the {phase.name} has had its {total} steps")

    def _taken_further(self):
        phase, step = self.phase, self.step
        rates = "".join(f"; learning rate now {one.lr(step):.3g}" for one in phase.learners[:1])
        return (
            f"taking the {phase.name} from {self.lengths[-1]} to {phase.total} steps: from step"
            f" {step} on its schedules are those of {phase.total} steps{rates}"
        )

    def prepare_files(self):
        """Undo what a killed run left beyond its checkpoint, and do what it left undone."""
        folder, name = self.job.folder, self.phase.name
        for place in (folder, folder / name, folder / "samples"):
            sweep_temporaries(place)
        drop_rows_after(self.log, name, self.step)
        rows = [row for row in read_rows(self.log) if row["phase"] == name]
        self.concerns = {row["concern"] for row in rows if "concern" in row}
        self.job.reports.begin(name, rows)
        if self.step:
            self.publish_all()

    def publish_all(self):
        """What is written after each checkpoint."""
        self.publish()
        if self.selection and self.best and self.best["step"] == self.step:
            self.selection.publish()
        job, path = self.job, self.job.folder / "training_curves.png"
        draw_curves(read_rows(self.log), path, job.panels, job.healthy)

    def is_save_due(self):
        """Whether the last checkpoint is --save_minutes ago."""
        minutes = self.job.options.save_minutes
        return minutes > 0 and time.monotonic() - self.saved_at >= 60 * minutes

    def save(self):
        """Write a checkpoint of the present step."""
        options, step = self.job.options, self.step
        state = self.phase.state_dict()
        where = first_not_finite(state)
        if where:  # it would replace the last good one
            raise UserError(
                f"{self.phase.name}: not all numbers are finite at step {step} ({where});"
                f" the checkpoints in {self.own_folder} are kept: {self._remedy()}"
            )
        # Not where the time or a signal says when: the best depends on the step alone.
        if self.selection and (step % options.save_interval == 0 or step == self.phase.total):
            value, measure = self.selection.score(), self.selection.measure
            self.best = better(self.best, step, value, measure)
        sync_log(self.log)
        content = {"identity": self.identity, "seconds": self.seconds, "best": self.best}
        content |= {"window": self.window.state(), "phase": state, "lengths": self.lengths}
        best_step = self.best and self.best["step"]
        save_checkpoint(self.own_folder, step, content, options.keep_checkpoints, best_step)
        self.publish_all()

    def draw(self):
        """The sheet of samples of the present step."""
        name, step = self.phase.name, self.step
        pixels = to_uint8(self.phase.pictures(SHEET_IMAGES, 64))
        labels = [f"{name}, step {step:,}, NFE {nfe}" for nfe in self.phase.nfe_rows]
        sheet = picture_sheet(pixels, SHEET_IMAGES, labels=labels)
        save_picture(sheet, sheet_path(self.job.folder, name, step))

    def append(self, row):
        """Log a row; what it gives cause for concern is said and logged once a run."""
        self._write(row | {"seconds": round(self.seconds, 2)})
        place = {"phase": row["phase"], "step": row["step"]}
        for name, text in self.phase.concerns(row).items():
            if name not in self.concerns:
                self.concerns.add(name)
                line = f"warning: {row['phase']}, step {row['step']}: {text}"
                say(line, sys.stderr)
                self._write(place | {"concern": name, "text": text})

    def _write(self, row):
        append_row(self.log, row)
        self.job.reports.row(row)

    def check_dropped(self):
        """Raise `UserError` where a network's last updates were all dropped: --max_skips of them,
        or fewer at the end of a short phase, which is then not finished."""
        limit = self.job.options.max_skips
        if self.step == self.phase.total:
            limit = min(limit, math.ceil(END_SHARE * self.step))
        elif self.step % limit:
            return
        dropped = self.window.dropped_in_a_row(limit)
        if dropped:
            raise UserError(
                f"{self.phase.name}: gradients were not finite for the last"
                f" {max(dropped.values())} updates up to step {self.step} ({', '.join(dropped)});"
                f" the checkpoints in {self.own_folder} are kept: {self._remedy(dropped)}"
            )

    def _remedy(self, dropped=()):
        remedies = self.phase.remedies
        known = [remedies[name] for name in dropped if name in remedies] or list(remedies.values())
        return known[0] if known else "lower --lr"


def train(phase, job, batch_of, identity, heldout=None, **publishing):
    """Take `phase` to its last step, going on from the newest checkpoint in FOLDER/NAME.

    batch_of(step) -> images `[B, 3, H, W]` on the device, a function of the step alone: this
    process's. identity: plain dict that a checkpoint must share to be gone on from. heldout:
    images that the phase measures itself by at picture steps. publishing: `selection`, a
    `Selection` that says which checkpoint is the best, `publish()`, called after each,
    `steps_flag`, the key of the length in `identity`: a larger one takes the phase further, and
    `before`, what identities of earlier programs may lack.
    Returns the `Training`, which has `seconds`, in all, and `best`. Raises `Interrupted` after
    saving where the job is asked to stop, `UserError` where numbers are no longer finite.
    """
    options, processes, stop = job.options, job.processes, job.stop
    training = Training(phase, job, identity, **publishing)
    processes.first_then_all(training.resume)
    with stop:  # ends it at once, and not after a step: nothing is half done
        began = time.perf_counter()
        if training.step < phase.total:
            phase.draw_first(training.step, stop.check)
        training.seconds += time.perf_counter() - began
    total, window = phase.total, training.window
    first = processes.rank * job.micro_batches
    micro_batches = range(first, first + job.micro_batches)  # of the whole batch, this process's
    share = ProcessorShare(job.device, torch.get_num_threads())
    look = dict(initial=training.step, smoothing=0.05, bar_format=BAR)
    bar = Progress(phase.name, total, "step", stays=True, shown=processes.is_first, **look)
    with stop, stop.deferred(), bar:
        processes.first(training.prepare_files)
        for step in range(training.step, total):
            began = time.perf_counter()
            # Nothing random survives from one step to the next, so a resumed run draws the same.
            seed_everything(hashed_seed(options.seed, phase.name, step))
            seeds = [hashed_seed(options.seed, phase.name, step, one) for one in micro_batches]
            images = batch_of(step)
            metrics = phase.step(split(images, seeds), step)  # all turns of the step: it learns
            window.add(metrics, len(images) * processes.count, phase.drop_metrics)
            training.step = done = step + 1
            training.check_dropped()
            due = done % options.save_interval == 0 or done == total or training.is_save_due()
            stopping, due = agreed(processes, stop.exit_code, due)
            drawing = is_picture_step(done, options.sample_interval) or done == total
            logging = done % options.log_interval == 0 or drawing
            saving = due or stopping
            heldout_metrics = {}
            if logging or saving:
                window.settle()  # waits for the device, so that its time counts
            if drawing and processes.is_first:
                training.draw()
                heldout_metrics = measure_heldout(phase, heldout, options.seed)
            spent = time.perf_counter() - began
            training.seconds += spent
            window.seconds += spent
            if logging or saving:
                window.join(processes)
            if logging:
                row = {"phase": phase.name, "step": done} | window.close() | heldout_metrics
                bar.set_postfix_str(state_text(row), refresh=False)
                starved = share.warning()
                if processes.is_first:
                    training.append(row)
                    if starved:
                        say(f"warning: {starved}", sys.stderr)
            if saving:
                processes.agree_on(phase.ema, f"the {phase.name}'s average")
                processes.first(training.save)
                training.saved_at = time.monotonic()
            bar.update()
            if stopping:
                raise Interrupted(stopping, f"stopped at step {done} of {total} ({phase.name})")
        # During the last checkpoint. Not the time: it is the next phase's to stop, after a step, so
        # that each run with a limit gets further.
        stopping = processes.largest(stop.signal_code)
        if stopping:
            raise Interrupted(stopping, f"stopped at step {total} of {total} ({phase.name})")
    return training


def agreed(processes, exit_code, due):
    """(exit code, 0 to go on; whether a checkpoint is due) of all processes, the same in each: as
    one number, since every exchange waits for all of them."""
    return divmod(processes.largest(2 * exit_code + due), 2)


def state_text(row):
    """What a bar says of a row of the log: images a second, and the first losses of training."""
    losses = sorted(key for key in row if key.endswith("loss") and "heldout" not in key)
    texts = [f"{key} {row[key]:.3g}" for key in losses[:MOST_LOSSES]]
    return ", ".join([f"{row['images_per_second']:.0f} images/s", *texts])


def measure_heldout(phase, heldout, seed):
    """The phase's metrics of held-out images, with the same noise each time, so that they
    compare."""
    if heldout is None:
        return {}
    torch.manual_seed(seed)
    with torch.no_grad():
        return phase.heldout_metrics(heldout)


def better(best, step, value, measure):
    """The better of `best`, {"step": ..., "value": ..., "measure": name} or None, and `value` at
    `step`; a `value` that is None or not finite is never better. By another measure, `best` does
    not count; what an earlier version wrote names none, and does."""
    if value is None or not math.isfinite(value):
        return best
    if best and best.get("measure", measure) == measure and best["value"] <= value:
        return best
    return {"step": step, "value": value, "measure": measure}
