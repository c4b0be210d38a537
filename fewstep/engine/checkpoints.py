"""Checkpoints of one phase in one folder: written whole, the newest good one loaded."""

from src.utils import UserError, move_into_place, torch_load, torch_save

VERSION = 2  # goes up when a checkpoint holds what an earlier program would misread

# Parts of an identity that are hashes, which would say nothing to a reader.
DIGESTS = {"images": "images", "teacher": "weights of the teacher"}
DIGESTS |= {"start": "weights to start from"}
DIGESTS |= {"disc_start_weights": "weights of the discriminator to start from"}


def check_identity(folder, saved, wanted, steps_flag=None):
    """Raise `UserError`, naming the first difference, unless `saved` has all of `wanted`.

    steps_flag: the key of the length, which may be larger than it was.
    """
    for key, value in wanted.items():
        old, more = saved.get(key), ""
        if key == steps_flag and old is not None:
            if value >= old:
                continue
            more = " or more"
        if old != value and key in DIGESTS:
            raise UserError(
                f"{folder}: was trained with other {DIGESTS[key]} than are there now; bring those"
                " back, or give another --save_dir"
            )
        if old != value:
            raise UserError(
                f"{folder}: was trained with {key} = {old}, not {value}; give the same{more}, or"
                " another --save_dir"
            )


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


def has_checkpoints(folder):
    """Whether something was trained in `folder`; a damaged checkpoint says so too."""
    return bool(list_checkpoints(folder) or _damaged(folder))


def save_checkpoint(folder, step, content, keep, best=None):
    """Write `content` for `step`, then delete all but the newest `keep` up to that step and that
    of the step `best`."""
    torch_save({"version": VERSION, "step": step, **content}, checkpoint_path(folder, step))
    past = [old for old in list_checkpoints(folder) if old <= step]
    for old in past[keep:]:
        if old != best:
            checkpoint_path(folder, old).unlink(missing_ok=True)


def sweep_temporaries(folder):
    """Delete what a killed writer left behind in a folder that nobody else writes to: each is as
    large as a checkpoint."""
    for leftover in folder.glob(".*.tmp.*"):
        leftover.unlink(missing_ok=True)


class OtherVersion(UserError):
    """A checkpoint of a program that is newer than this one, or too old for it; it is not
    damaged."""


def read_checkpoint(path):
    """The content of the checkpoint at `path`. Raises `UserError` for one that is missing, damaged
    or none of ours, `OtherVersion` for one of another version."""
    content = torch_load(path)
    if not isinstance(content, dict) or not isinstance(content.get("version", 0), int):
        raise UserError(f"{path}: not a checkpoint of this program; use another one")
    if content.get("version", 0) > VERSION:
        raise OtherVersion(
            f"{path}: written by a newer version of this program; update it, or give another"
            " --save_dir"
        )
    if content.get("version", VERSION) < VERSION:
        raise OtherVersion(
            f"{path}: written by an earlier version of this program, which cannot be gone on with;"
            " give another --save_dir (its models can still be sampled and distilled)"
        )
    if not {"step", "identity", "seconds", "window", "phase"} <= set(content):
        raise UserError(f"{path}: not a checkpoint of a run; use another one")
    return content


def _damaged(folder):
    return list(folder.glob("checkpoint_iter_*.damaged"))


def load_newest(folder):
    """Content of the newest checkpoint that is undamaged, or None where there is none at all.

    A damaged one is passed over aloud and renamed to `*.damaged`. Raises `UserError` when all are
    damaged: starting anew in silence would throw a run away; or for one of another version.
    """
    steps = list_checkpoints(folder)
    damaged = _damaged(folder)
    for step in steps:
        try:
            return read_checkpoint(checkpoint_path(folder, step))
        except OtherVersion:
            raise
        except UserError as error:
            print(f"skipping a checkpoint: {error}")
            path = checkpoint_path(folder, step)
            # A new one of that step may have been damaged before.
            move_into_place(path, path.with_suffix(".damaged"))
    if steps or damaged:
        raise UserError(
            f"{folder}: no checkpoint there is readable; delete *.damaged to start anew"
        )
    return None
