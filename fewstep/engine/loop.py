"""The one training loop, for any stage: batches in, steps, logs, pictures, checkpoints."""

import sys
import time
from functools import partial

from tqdm import tqdm

from fewstep.engine.checkpoints import (
    check_identity,
    checkpoint_path,
    load_newest,
    save_checkpoint,
    sweep_temporaries,
)
from fewstep.engine.fit import first_not_finite
from fewstep.engine.log import append_row, draw_curves, drop_rows_after, read_rows, sync_log
from fewstep.engine.microbatch import hashed_seed, split
from fewstep.engine.processes import ALONE
from fewstep.engine.schedules import is_picture_step
from fewstep.engine.sentinels import REMEDIES
from fewstep.engine.stopping import Interrupted, StopSignals
from fewstep.engine.window import Window
from fewstep.runs.selection import NO_SELECTION, better
from src.utils import UserError, picture_sheet, save_picture, seed_everything, to_uint8

SHEET_IMAGES = 8  # the write-up wants about eight
SECONDS_BETWEEN_LINES = 30


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
    max_skips=50,
    selection=NO_SELECTION,
    concerns=lambda row: {},
    processes=ALONE,
    parts=1,
    stop=None,
):
    """Take `stage` to `total` steps, going on from the newest checkpoint in `folder`/NAME.

    batch_of(step) -> images `[B, 3, H, W]` on the device, a function of the step alone: this
    process's, which are taken in `parts`.
    identity: plain dict that a checkpoint must share to be gone on from.
    pictures() -> images in [-1, 1] of the stage's EMA; extra_metrics() -> dict; both at picture
    steps. on_save() is called after each checkpoint. selection: says which checkpoint is the best,
    which is kept. concerns(row) -> {name: line} is asked about each row of the log; a line is said
    and logged once a run. max_skips: updates in a row that are dropped for gradients that are not
    finite, after which training ends. processes: the job's; the first of them logs, draws and
    saves. stop: the `StopSignals` of the run.
    Returns the seconds trained in all. Raises `Interrupted` after saving on SIGINT or SIGTERM,
    `UserError` where numbers are no longer finite.
    """
    own_folder, log = folder / stage.name, folder / "log.jsonl"
    start, seconds, window, best = processes.first_then_all(
        lambda: _resume(stage, own_folder, identity, total)
    )
    said = processes.first(lambda: _prepare_log(log, stage.name, start))

    def publish(step):
        on_save()
        if best and best["step"] == step:
            selection.publish()
        draw_curves(read_rows(log), folder / "training_curves.png")

    def save(step):
        nonlocal best
        stored = stage.state_dict()
        _refuse_not_finite(stored, stage.name, step, own_folder)
        # Not where a signal has stopped it: the best does not depend on when a run was stopped.
        if step % save_interval == 0 or step == total:
            best = better(best, step, selection.score())
        state = {"identity": identity, "seconds": seconds, "window": window.state(), "best": best}
        sync_log(log)
        state["stage"] = stored
        save_checkpoint(own_folder, step, state, keep_checkpoints, best and best["step"])
        publish(step)

    own_parts = range(processes.rank * parts, (processes.rank + 1) * parts)
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
    with stop or StopSignals() as stop, stop.deferred(), bar:
        if start:
            processes.first(partial(publish, start))  # what a kill after the checkpoint left undone
        for step in range(start, total):
            began, done = time.perf_counter(), step + 1
            # Nothing random survives from one step to the next, so a resumed run draws the same.
            seed_everything(hashed_seed(seed, stage.name, step))
            seeds = [hashed_seed(seed, stage.name, step, part) for part in own_parts]
            images = batch_of(step)
            window.add(stage.step(split(images, seeds), step), len(images) * processes.count)
            if done % max_skips == 0 and window.skips >= max_skips:
                _give_up(window, stage.name, done, own_folder)
            signalled = processes.largest(stop.number)
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
                raise Interrupted(signalled, f"stopped at step {done} of {total} ({stage.name})")
        signalled = processes.largest(stop.number)  # during the last checkpoint
        if signalled:
            raise Interrupted(signalled, f"stopped at step {total} of {total} ({stage.name})")
    return seconds


def _resume(stage, folder, identity, total):
    """(step, seconds, window, best) of the newest checkpoint, its state loaded; or a fresh start.

    best: {"step": ..., "value": ...} of the best checkpoint so far, or None.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = load_newest(folder)
    if checkpoint is None:
        return 0, 0.0, Window(), None
    check_identity(folder, checkpoint["identity"], identity)
    step = checkpoint["step"]
    try:
        stage.load_state_dict(checkpoint["stage"])
    except ValueError as error:
        raise UserError(
            f"{checkpoint_path(folder, step)}: does not fit these settings ({error}); give another"
            " --save_dir"
        ) from error
    said = f"going on with the {stage.name} at step {step}"
    print(said if step < total else f"the {stage.name} has had its {total} steps")
    return step, checkpoint["seconds"], Window(**checkpoint["window"]), checkpoint.get("best")


def _refuse_not_finite(state, name, step, folder):
    """A state with numbers that are not finite would replace the last good one."""
    where = first_not_finite(state)
    if where:
        raise UserError(
            f"{name}: not all numbers are finite at step {step} ({where}); the checkpoints in"
            f" {folder} are kept: {REMEDIES['skipped']}"
        )


def _give_up(window, name, step, folder):
    window.settle()
    dropped = [key for key in REMEDIES if window.sums.get(key)] or ["skipped"]
    raise UserError(
        f"{name}: gradients were not finite for {int(window.skips)} steps up to {step}"
        f" ({', '.join(dropped)}); the checkpoints in {folder} are kept: {REMEDIES[dropped[0]]}"
    )


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
