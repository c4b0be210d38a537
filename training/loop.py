"""The one training loop, for any stage: batches in, steps, logs, pictures, checkpoints."""

import hashlib
import signal
import sys
import time

from tqdm import tqdm

from src.utils import UserError, picture_sheet, save_picture, seed_everything, to_uint8
from training.checkpoints import check_identity, load_newest, save_checkpoint, sweep_temporaries
from training.logbook import append_row, draw_curves, drop_rows_after, read_rows
from training.schedules import is_picture_step

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
):
    """Take `stage` to `total` steps, going on from the newest checkpoint in `folder`/NAME.

    batch_of(step) -> images `[B, 3, H, W]` on the device, a function of the step alone.
    identity: plain dict that a checkpoint must share to be gone on from.
    pictures() -> images in [-1, 1] of the stage's EMA; extra_metrics() -> dict; both at picture
    steps. on_save() is called after each checkpoint. concerns(row) -> {name: line} is asked about
    each row of the log; a line is said and logged once a run.
    Returns the seconds trained in all. Raises `Interrupted` after saving on SIGINT or SIGTERM.
    """
    own_folder, log = folder / stage.name, folder / "log.jsonl"
    own_folder.mkdir(parents=True, exist_ok=True)
    sweep_temporaries(own_folder)
    start, seconds, window = _resume(stage, own_folder, identity, total)
    drop_rows_after(log, stage.name, start)
    said = {
        row["concern"] for row in read_rows(log) if row["phase"] == stage.name and "concern" in row
    }

    def publish():
        on_save()
        draw_curves(read_rows(log), folder / "training_curves.png")

    if start == total:
        publish()  # a kill after the last checkpoint must not leave older files

    def save(step):
        state = {"identity": identity, "seconds": seconds, "window": window.state()}
        save_checkpoint(own_folder, step, state | {"stage": stage.state_dict()}, keep_checkpoints)
        publish()

    stop, skips = _StopFlag(), 0
    bar = tqdm(total=total, initial=start, desc=stage.name, unit="step", smoothing=0.05)
    if not sys.stderr.isatty():
        bar.mininterval = SECONDS_BETWEEN_LINES  # in a file, each refresh stays
    with stop, bar:
        for step in range(start, total):
            began = time.perf_counter()
            # Nothing random survives from one step to the next, so a resumed run draws the same.
            seed_everything(_step_seed(seed, stage.name, step))
            x0 = batch_of(step)
            metrics = stage.step(x0, step)
            window.add(metrics, len(x0))
            skips = skips + 1 if was_skipped(metrics) else 0
            if skips == MOST_SKIPS:
                raise UserError(
                    f"{stage.name}: gradients were not finite for {skips} steps up to {step + 1};"
                    f" the checkpoints in {own_folder} are kept; lower the learning rate"
                )
            done = step + 1
            extras, pictured = {}, is_picture_step(done, sample_interval) or done == total
            if pictured:
                sheet = picture_sheet(to_uint8(pictures()), columns=SHEET_IMAGES)
                save_picture(sheet, folder / "samples" / f"{stage.name}_{done:07d}.png")
                extras = extra_metrics()
            seconds += time.perf_counter() - began
            window.seconds += time.perf_counter() - began
            if done % log_interval == 0 or pictured:
                place = {"phase": stage.name, "step": done}
                row = place | window.close() | extras
                append_row(log, row | {"seconds": round(seconds, 2)})
                for name, line in concerns(row).items():
                    if name not in said:
                        said.add(name)
                        bar.write(f"warning: {stage.name}, step {done}: {line}", file=sys.stderr)
                        append_row(log, place | {"concern": name, "text": line})
                bar.set_postfix_str(f"{row['images_per_second']:.0f} images/s", refresh=False)
            if done % save_interval == 0 or done == total or stop.signal:
                save(done)
            bar.update()
            if stop.signal:
                raise Interrupted(stop.signal, stage.name, done, total)
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


def was_skipped(metrics):
    """Whether a network's update was dropped in this step."""
    return any(value for key, value in metrics.items() if "skipped" in key)


class _Window:
    """Means of the metrics since the last log row; sums stay on the device until a row is due."""

    def __init__(self, sums=None, counts=None, images=0, seconds=0.0):
        self.sums, self.counts = sums or {}, counts or {}
        self.images, self.seconds = images, seconds

    def add(self, metrics, images):
        self.images += images
        skipped = was_skipped(metrics)
        for key, value in metrics.items():
            if skipped and "skipped" not in key:
                continue  # one value that is not finite would hide the others of the window
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1

    def state(self):
        sums = {key: float(value) for key, value in self.sums.items()}
        return dict(sums=sums, counts=self.counts, images=self.images, seconds=self.seconds)

    def close(self):
        row = {key: float(value) / self.counts[key] for key, value in self.sums.items()}
        row["images_per_second"] = self.images / max(self.seconds, 1e-9)
        self.sums, self.counts, self.images, self.seconds = {}, {}, 0, 0.0
        return row


def _resume(stage, folder, identity, total):
    """(step, seconds, window) of the newest checkpoint, its state loaded; or a fresh start."""
    checkpoint = load_newest(folder)
    if checkpoint is None:
        return 0, 0.0, _Window()
    check_identity(folder, checkpoint["identity"], identity)
    stage.load_state_dict(checkpoint["stage"])
    step = checkpoint["step"]
    said = f"going on with the {stage.name} at step {step}"
    print(said if step < total else f"the {stage.name} has had its {total} steps")
    return checkpoint["step"], checkpoint["seconds"], _Window(**checkpoint["window"])


def _step_seed(seed, name, step):
    digest = hashlib.sha256(f"{seed} {name} {step}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
