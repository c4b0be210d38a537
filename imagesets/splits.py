"""Which images of a folder are for training and which are held out."""

import hashlib
import os
from collections import Counter
from pathlib import Path, PurePosixPath

from imagesets.decode import SUFFIXES
from src.utils import UserError, whole_file

VALIDATION_SHARE = 0.1
MAX_VALIDATION = 1000


def list_images(root):
    """All image files under `root` as sorted relative paths with `/`, by their suffix.

    Hidden files and folders are left out; links to folders are followed, each folder once.
    Raises `UserError` when `root` is not a folder, cannot be listed or holds no image.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"--data_root {root}: no such folder; name a folder of images")

    def fail(error):
        raise UserError(f"{error.filename}: cannot be listed ({error.strerror})") from error

    names, seen = [], set()
    for folder, subfolders, files in os.walk(root, onerror=fail, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        relative = Path(folder).relative_to(root)
        names += [
            (relative / name).as_posix()
            for name in files
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    if not names:
        raise UserError(f"--data_root {root}: no images in it (looked for {', '.join(SUFFIXES)})")
    return sorted(names)


def read_split(path, flag):
    """The ids of a split file, one a line, in order; blank lines are skipped.

    Raises `UserError` (naming `flag`) when the file is absent, not text or empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"{flag} {path}: cannot be read ({reason})") from error
    ids = [line.strip() for line in text.splitlines() if line.strip()]
    if not ids:
        raise UserError(f"{flag} {path}: no ids in it; one id a line is expected")
    return ids


def find_ids(ids, names, root, path, flag):
    """Split ids -> image names: an id is a name as listed, or a name without its suffix.

    Where several files share a stem, `.png` is preferred. Raises `UserError` when ids have no image
    (how many, the first ten) or when an image is listed twice.
    """
    present = set(names)
    by_stem = {}
    for name in names:
        stem, suffix = os.path.splitext(name)
        by_stem.setdefault(stem, {})[suffix.lower()] = name
    found, missing = [], []
    for one in ids:
        name = _find_id(str(PurePosixPath(one)), present, by_stem)
        if name is None:
            missing.append(one)
        else:
            found.append(name)
    if missing:
        raise UserError(
            f"{flag} {path}: {len(missing)} of {len(ids)} ids have no image in {root}:"
            f" {_some(missing)}; add these images, or give a {flag} file that lists only the"
            " images that are there"
        )
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise UserError(
            f"{flag} {path}: {len(twice)} images are listed more than once: {_some(twice)};"
            " keep one line for each"
        )
    return found


def _find_id(one, present, by_stem):
    if one in present:
        return one
    candidates = by_stem.get(one, {})
    return next((candidates[suffix] for suffix in SUFFIXES if suffix in candidates), None)


def chosen_split(root, names, train_split, val_split):
    """`(train names, validation names)` from split files; with only one, the rest is the other.

    Raises `UserError` for what `read_split` and `find_ids` refuse, for an image in both sets and
    for a file that leaves nothing for the other set.
    """
    sets = []
    for path, flag in ((train_split, "--train_split"), (val_split, "--val_split")):
        sets.append(path and find_ids(read_split(path, flag), names, root, path, flag))
    train, val = sets
    if train is None or val is None:
        used = set(train or val)
        rest = [name for name in names if name not in used]
        if not rest:
            only = train_split or val_split
            raise UserError(f"{only}: lists every image of {root}, none is left for the other set")
        return (train, rest) if val is None else (rest, val)
    both = sorted(set(train) & set(val))
    if both:
        raise UserError(
            f"--train_split {train_split} and --val_split {val_split}: {len(both)} images are in"
            f" both: {_some(both)}; an image is either for training or for validation"
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
        raise UserError(f"{root}: one image only; one to train on and one to hold out are needed")

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
    try:
        with whole_file(path) as temporary:
            temporary.write_bytes(text.encode("utf-8", "surrogateescape"))
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{path}: cannot be written ({reason}); choose another --cache_dir"
        ) from error


def _some(names):
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
