"""Checkpoints of one phase in one folder: written whole, the newest good one loaded."""

from src.utils import UserError, torch_load, torch_save


def checkpoint_path(folder, step):
    return folder / f"checkpoint_iter_{step}.pt"


def list_checkpoints(folder):
    """Steps of the checkpoints in `folder`, falling."""
    steps = []
    for path in folder.glob("checkpoint_iter_*.pt"):
        number = path.stem.removeprefix("checkpoint_iter_")
        if number.isdecimal():
            steps.append(int(number))
    return sorted(steps, reverse=True)


def save_checkpoint(folder, step, content, keep):
    """Write `content` for `step`, then delete all but the newest `keep`."""
    torch_save({"step": step, **content}, checkpoint_path(folder, step))
    for old in list_checkpoints(folder)[keep:]:
        checkpoint_path(folder, old).unlink(missing_ok=True)


def load_newest(folder):
    """Content of the newest checkpoint that is undamaged, or None where there is none at all.

    A damaged one is passed over aloud. Raises `UserError` when all are damaged: starting anew in
    silence would throw a run away.
    """
    steps = list_checkpoints(folder)
    for step in steps:
        try:
            return torch_load(checkpoint_path(folder, step))
        except UserError as error:
            print(f"skipping a checkpoint: {error}")
    if steps:
        raise UserError(f"{folder}: no checkpoint there is readable; remove them to start anew")
    return None
