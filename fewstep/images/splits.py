"""Which images of a folder are for training and which are held out."""

import hashlib
import os
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fewstep.images.cache import writing
from src.formatting import first_names
from src.suffixes import SUFFIXES
from src.utils import UserError, one_line, whole_file

VALIDATION_SHARE = 0.1
MAX_VALIDATION = 1000


class SplitFile(NamedTuple):
    """A list of image ids, and what messages call it: the flag and the file."""

    title: str
    ids: list


def read_split(path, flag):
    """The `SplitFile` of a text file with one id a line; blank lines are skipped.

    Raises `UserError` (naming `flag`) when the file is absent, not text or empty.
    """
    title = f"{flag} {one_line(str(path))}"
    try:
        text = Path(path).read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UserError(f"{title}: cannot be read ({error.strerror or error})") from error
    # Only line feeds end a line: Unicode's other line breaks may be part of a name.
    ids = [line.removesuffix("\r") for line in text.split("\n") if line.strip()]
    if not ids:
        raise UserError(f"{title}: no ids in it; one id a line is expected")
    return SplitFile(title, ids)


def names_by_id(names):
    """`{id: [names]}`, the preferred one first: an image's id is its name as listed, or without its
    suffix."""
    by_id = {}
    for name in sorted(names, key=_preference):
        by_id.setdefault(os.path.splitext(name)[0], []).append(name)
    for name in names:
        by_id[name] = [name, *by_id.get(name, [])]
    return by_id


def _preference(name):
    return SUFFIXES.index(os.path.splitext(name)[1].lower())


def meant_by(one, by_id):
    """The names that the id `one` of a split file may mean, the preferred one first."""
    # Blanks around an id are seldom meant, but may be.
    spellings = dict.fromkeys(str(PurePosixPath(text)) for text in (one, one.strip()))
    return [name for spelling in spellings for name in by_id.get(spelling, [])]


def divide(root, names, failures, split_files, seed):
    """(train names, validation names, left out) of the images `names` of a folder.

    failures: `{name: reason}` of those that cannot be used, and of subfolders. split_files: a
    `SplitFile` or None for each set; with one of them the other set is the rest, with none
    `hashed_split` decides. left out: the failures that matter, since without them other images
    would be in the sets. Raises `UserError` where the files do not fit the folder.
    """
    train_file, val_file = split_files
    usable = [name for name in names if name not in failures]
    if not train_file and not val_file:
        if len(usable) < 2 and failures:
            return usable, [], failures
        return *hashed_split(root, usable, seed), failures
    by_id = names_by_id(names)
    if not train_file or not val_file:
        file = train_file or val_file
        listed, _ = _listed(root, file, by_id, failures)
        # Another file of a listed id, as a.jpg beside a.png, may be the same picture.
        meant = {name for one in file.ids for name in meant_by(one, by_id)}
        rest = sorted(set(usable) - meant)
        if not rest and not failures:
            where = one_line(str(root))
            raise UserError(f"{file.title}: lists every image of {where}, none is left over")
        return (listed, rest, failures) if train_file else (rest, listed, failures)
    train, train_failures = _listed(root, train_file, by_id, failures)
    val, val_failures = _listed(root, val_file, by_id, failures)
    both = sorted(set(train) & set(val))
    if both:
        raise UserError(
            f"{train_file.title} and {val_file.title}: {len(both)} images are in both:"
            f" {first_names(both)}; an image is either for training or for validation"
        )
    closed = {name: reason for name, reason in failures.items() if name.endswith("/")}
    return train, val, closed | train_failures | val_failures


def _listed(root, file, by_id, failures):
    """(usable names in the file's order, `{name: reason}` of those passed over on the way)."""
    usable, passed_over, missing = [], {}, []
    for one in file.ids:
        names = meant_by(one, by_id)
        place = next((i for i, name in enumerate(names) if name not in failures), len(names))
        passed_over |= {name: failures[name] for name in names[:place]}
        usable += names[place : place + 1]
        if not names:
            missing.append(one)
    if missing:
        raise UserError(
            f"{file.title}: {len(missing)} of {len(file.ids)} ids have no image in"
            f" {one_line(str(root))}: {first_names(missing)}; add these images, or give a file"
            " that lists only the images that are there"
        )
    twice = [name for name, count in Counter(usable).items() if count > 1]
    if twice:
        raise UserError(
            f"{file.title}: {len(twice)} images are listed more than once: {first_names(twice)};"
            " keep one line for each"
        )
    return usable, passed_over


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
