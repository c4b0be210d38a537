"""Which images of a folder are for training and which are held out."""

import hashlib
import os
from collections import Counter
from pathlib import Path, PurePosixPath

from fewstep.images.decode import SUFFIXES
from fewstep.images.messages import some, writing
from src.utils import UserError, one_line, whole_file

VALIDATION_SHARE = 0.1
MAX_VALIDATION = 1000


def unlistable(name):
    """Why a split file cannot name the image `name`, or None: it has one name a line."""
    return "a line break in its name, which no split file can list" if "\n" in name else None


def read_split(path, flag):
    """The ids of a split file, one a line, in order; blank lines are skipped.

    Raises `UserError` (naming `flag`) when the file is absent, not text or empty.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{flag} {one_line(str(path))}: cannot be read ({reason})") from error
    # Only line feeds end a line: Unicode's other line breaks may be part of a name.
    ids = [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
    if not ids:
        raise UserError(f"{flag} {one_line(str(path))}: no ids in it; one id a line is expected")
    return ids


def find_ids(ids, names, bad, root, path, flag):
    """Split ids -> image names: an id is a name as listed, or a name without its suffix.

    Where several files share a stem, `.png` is preferred. Ids that only an image among `bad` has
    are left out. Raises `UserError` when ids have no image at all (how many, the first ten) or when
    an image is listed twice.
    """
    usable, left_out = _by_id(names), _by_id(bad)
    found, missing = [], []
    for one in ids:
        name = _find_id(one, *usable)
        if name is not None:
            found.append(name)
        elif _find_id(one, *left_out) is None:
            missing.append(one)
    where = f"{flag} {one_line(str(path))}"
    if missing:
        raise UserError(
            f"{where}: {len(missing)} of {len(ids)} ids have no image in {one_line(str(root))}:"
            f" {some(missing)}; add these images, or give a {flag} file that lists only the"
            " images that are there"
        )
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise UserError(
            f"{where}: {len(twice)} images are listed more than once: {some(twice)};"
            " keep one line for each"
        )
    return found


def _by_id(names):
    by_stem = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        by_stem.setdefault(stem, {})[suffix.lower()] = name
    return set(names), by_stem


def _find_id(one, present, by_stem):
    for spelled in (one, one.strip()):  # blanks around an id are seldom meant, but may be
        spelled = str(PurePosixPath(spelled))
        if spelled in present:
            return spelled
        candidates = by_stem.get(spelled, {})
        for suffix in SUFFIXES:
            if suffix in candidates:
                return candidates[suffix]
    return None


def chosen_split(root, names, bad, train_split, val_split):
    """`(train names, validation names)` from split files; with only one, the rest is the other.

    names: the images to choose among; bad: those that cannot be used, which are left out where they
    are listed. Raises `UserError` for what `read_split` and `find_ids` refuse, for an image in both
    sets and for a file that leaves nothing for the other set.
    """
    sets = []
    for path, flag in ((train_split, "--train_split"), (val_split, "--val_split")):
        sets.append(
            find_ids(read_split(path, flag), names, bad, root, path, flag) if path else None
        )
    train, val = sets
    if train is None or val is None:
        used = set(train if val is None else val)
        rest = [name for name in names if name not in used]
        if not rest and not bad:
            only = one_line(str(train_split or val_split))
            raise UserError(
                f"{only}: lists every image of {one_line(str(root))}, none is left for the other"
                " set"
            )
        return (train, rest) if val is None else (rest, val)
    both = sorted(set(train) & set(val))
    if both:
        raise UserError(
            f"--train_split {one_line(str(train_split))} and --val_split"
            f" {one_line(str(val_split))}: {len(both)} images are in both: {some(both)}; an image"
            " is either for training or for validation"
        )
    return train, val


def hashed_split(root, names, seed):
    """`(train names, validation names)` by a hash of each name and `seed`, both in listing order.

    Held out are the images whose hash falls in the lowest tenth, at most the 1000 lowest, and at
    least two (of two or three images: one). So an image's set hardly depends on the others, and an
    image added later never turns a training image into a validation one, but for the first few
    images. Raises `UserError` for fewer than two images.
    """
    if len(names) < 2:
        raise UserError(
            f"{one_line(str(root))}: one image only; one to train on and one to hold out are needed"
        )

    def rank(name):
        text = f"{seed}/{name}".encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") / 2**64

    ranked = sorted((rank(name), name) for name in names)
    below = sum(value < VALIDATION_SHARE for value, _ in ranked)
    count = min(max(below, 2), MAX_VALIDATION, len(names) // 2)
    held_out = {name for _, name in ranked[:count]}
    train = [name for name in names if name not in held_out]
    return train, [name for name in names if name in held_out]


def write_split(path, names):
    """Write names one a line, as `read_split` reads them. Raises `UserError`."""
    text = "".join(f"{name}\n" for name in names)
    with writing(path), whole_file(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "surrogateescape"))
