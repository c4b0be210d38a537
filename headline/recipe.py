"""The flags of each training of a real run: pure functions of its steps."""

from src.utils import UserError
from training.presets import PRESETS
from training.settings import Settings, flat

DEFAULTS = flat(Settings().as_dict())
# Of a run of minutes on a GPU; the preset `full` is made for hours (design: docs/real_run.md).
FULL_LR = 2e-4
FULL_BATCH = 64
LOG_ROWS, CHECKPOINTS = 50, 3  # of a training
LEAST_INTERVAL = 50  # steps between checkpoints: seconds, even of the tiny network


def preset_value(preset, name):
    """The value of a setting of train.py in a preset."""
    return PRESETS[preset].get(name, DEFAULTS[name])


def batch_size_of(preset):
    """Images a step where none are given. In minutes a discriminator needs updates more than large
    batches."""
    return PRESETS[preset].get("batch_size", FULL_BATCH)


def intervals(steps):
    """What every training shares: rows of the log, few checkpoints, pictures early and last."""
    return {
        "log_interval": max(1, steps // LOG_ROWS),
        "save_interval": max(LEAST_INTERVAL, -(-steps // CHECKPOINTS)),
        "sample_interval": steps,
        "keep_checkpoints": 1,
    }


def teacher_flags(preset, steps):
    """Of the teacher, and of the flow, which learns as the teacher does."""
    lr = {"lr": FULL_LR} if preset == "full" else {}
    warmup = min(preset_value(preset, "warmup"), steps // 10)
    return {"num_iterations": steps, "warmup": warmup} | lr | intervals(steps)


def student_flags(preset, steps, batch_size):
    """Of phase 2: warm-ups, ramp and average no longer than a share of the steps. No best
    checkpoint is looked for: the last one is scored, and the time goes to training."""
    average = min(preset_value(preset, "student_ema_images"), 0.1 * steps * batch_size)
    return {
        "student_iterations": steps,
        "student_warmup": min(preset_value(preset, "student_warmup"), steps // 20),
        "disc_warmup": min(preset_value(preset, "disc_warmup"), steps // 20),
        "adv_ramp": min(preset_value(preset, "adv_ramp"), steps // 10),
        "student_ema_images": average,
        "best_images": 0,
    } | intervals(steps)


def levels_from(first, preset):
    """The student's four noise levels for a first one: the preset's other three, where they lie
    below it; else evenly in ln sigma from the first to the preset's last. Raises `UserError`."""
    *_, second, third, last = preset_value(preset, "sigmas")
    if first > second:
        return [first, second, third, last]
    if first <= last:
        raise UserError(f"--screen_sigmas {first:g}: must be above {last:g}, the lowest level")
    ratio = (last / first) ** (1 / 3)
    return [first, *(round(first * ratio**place, 4) for place in (1, 2)), last]
