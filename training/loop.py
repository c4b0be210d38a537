"""The one training loop, for any stage: batches in, steps, logs, pictures, checkpoints."""

import signal
import sys
import time
from functools import partial

from tqdm import tqdm

from src.utils import UserError, picture_sheet, save_picture, seed_everything, to_uint8
from training.checkpoints import check_identity, load_newest, save_checkpoint, sweep_temporaries
from training.logbook import append_row, draw_curves, drop_rows_after, read_rows
from training.parts import hashed_seed, split
from training.processes import ALONE
from training.schedules import is_picture_step
from training.window import Window

SHEET_IMAGES = 8  # the write-up wants about eight
SECONDS_BETWEEN_LINES = 30
MOST_SKIPS = 50  # updates in a row that are dropped for gradients that are not finite


def train(
    stage,
    batch_of,
    total,
    folder,
    identity,
    seed,
    pictures,
    extra_metrics,
    log_interval,
    save_interval,
    sample_interval,
    keep_checkpoints,
    on_save,
    concerns=lambda row: {},
    processes=ALONE,
    parts=1,
):
    """Take `stage` to `total` steps, going on from the newest checkpoint in `folder`/NAME.

    batch_of(step) -> images `[B, 3, H, W]` on the device, a function of the step alone: this
    process's, which are taken in `parts`.
    identity: plain dict that a checkpoint must share to be gone on from.
    pictures() -> images in [-1, 1] of the stage's EMA; extra_metrics() -> dict; both at picture
    steps. on_save() is called after each checkpoint. concerns(row) -> {name: line} is asked about
    each row of the log; a line is said and logged once a run. processes: the job's; the first of
    them logs, draws and saves.
    Returns the seconds trained in all. Raises `Interrupted` after saving on SIGINT or SIGTERM.
    """
    own_folder, log = folder / stage.name, folder / "log.jsonl"
    start, seconds, window = processes.first_then_all(
        lambda: _resume(stage, own_folder, identity, total)
    )
    said = processes.first(lambda: _prepare_log(log, stage.name, start))

    def publish():
        on_save()
        draw_curves(read_rows(log), folder / "training_curves.png")

    def save(step):
        state = {"identity": identity, "seconds": seconds, "window": window.state()}
        save_checkpoint(own_folder, step, state | {"stage": stage.state_dict()}, keep_checkpoints)
        publish()

    if start == total:
        processes.first(publish)  # a kill after the last checkpoint must not leave older files

    own_parts = range(processes.rank * parts, (processes.rank + 1) * parts)
    stop = _StopFlag()
    bar = tqdm(
        total=total,
        initial=start,
        desc=stage.name,
        unit="step",
        smoothing=0.05,
        disable=not processes.is_first,
    )
    if not sys.stderr.isatty():
        bar.mininterval = SECONDS_BETWEEN_LINES  # in a file, each refresh stays
    with stop, bar:
        for step in range(start, total):
            began, done = time.perf_counter(), step + 1
            # Nothing random survives from one step to the next, so a resumed run draws the same.
            seed_everything(hashed_seed(seed, stage.name, step))
            seeds = [hashed_seed(seed, stage.name, step, part) for part in own_parts]
            images = batch_of(step)
            window.add(stage.step(split(images, seeds), step), len(images) * processes.count)
            if done % MOST_SKIPS == 0 and window.skips >= MOST_SKIPS:
                raise UserError(
                    f"{stage.name}: gradients were not finite for {int(window.skips)} steps up to"
                    f" {done}; the checkpoints in {own_folder} are kept; lower the learning rate"
                )
            signalled = processes.largest(stop.signal)
            pictured = is_picture_step(done, sample_interval) or done == total
            row_due = done % log_interval == 0 or pictured
            save_due = done % save_interval == 0 or done == total or signalled
            extras = {}
            if row_due or save_due:
                window.settle()  # waits for the device, so that its time counts
            if pictured and processes.is_first:
                sheet = picture_sheet(to_uint8(pictures()), columns=SHEET_IMAGES)
                save_picture(sheet, folder / "samples" / f"{stage.name}_{done:07d}.png")
                extras = extra_metrics()
            seconds += time.perf_counter() - began
            window.seconds += time.perf_counter() - began
            if row_due or save_due:
                window.join(processes)
            if row_due:
                row = {"phase": stage.name, "step": done} | window.close() | extras
                bar.set_postfix_str(f"{row['images_per_second']:.0f} images/s", refresh=False)
                if processes.is_first:
                    append_row(log, row | {"seconds": round(seconds, 2)})
                    _say_concerns(concerns(row), row, said, log, bar)
            if save_due:
                processes.agree_on(stage.ema, f"the {stage.name}'s average")
                processes.first(partial(save, done))
            bar.update()
            if signalled:
                raise Interrupted(signalled, stage.name, done, total)
    return seconds


class Interrupted(Exception):
    """A signal ended training after a checkpoint was saved."""

    def __init__(self, signal_number, phase, step, total):
        super().__init__(f"stopped at step {step} of {total} ({phase}); run it again to go on")
        self.exit_code = 128 + signal_number


class _StopFlag:
    """Remembers SIGINT and SIGTERM while in use; the loop acts between steps."""

    signal = 0

    def __enter__(self):
        self.previous = {s: signal.signal(s, self._set) for s in (signal.SIGINT, signal.SIGTERM)}

    def __exit__(self, *_):
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _set(self, number, _frame):
        self.signal = number


def _resume(stage, folder, identity, total):
    """(step, seconds, window) of the newest checkpoint, its state loaded; or a fresh start."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = load_newest(folder)
    if checkpoint is None:
        return 0, 0.0, Window()
    check_identity(folder, checkpoint["identity"], identity)
    stage.load_state_dict(checkpoint["stage"])
    step = checkpoint["step"]
    said = f"going on with the {stage.name} at step {step}"
    print(said if step < total else f"the {stage.name} has had its {total} steps")
    return checkpoint["step"], checkpoint["seconds"], Window(**checkpoint["window"])


def _prepare_log(log, name, start):
    """Undo what a killed run left beyond its checkpoint. Returns the concerns already said."""
    for folder in (log.parent, log.parent / name, log.parent / "samples"):
        sweep_temporaries(folder)
    drop_rows_after(log, name, start)
    rows = [row for row in read_rows(log) if row["phase"] == name]
    return {row["concern"] for row in rows if "concern" in row}


def _say_concerns(found, row, said, log, bar):
    """Say and log each of {name: line} that has not been said; adds it to `said`."""
    place = {"phase": row["phase"], "step": row["step"]}
    for name, line in found.items():
        if name not in said:
            said.add(name)
            bar.write(f"warning: {row['phase']}, step {row['step']}: {line}", file=sys.stderr)
            append_row(log, place | {"concern": name, "text": line})
