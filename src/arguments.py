"""Values on a command line: what a number, a text and a place must be like, checked before work.

Types are for argparse's `type`, `InRange` for its `action`; the limits are so wide that beyond them
lies a slip of the keyboard, or more than memory and a float hold.
"""

import argparse
import math
import os
import re
from decimal import Decimal
from pathlib import Path

from src.errors import UserError, file_error
from src.formatting import number_text

MOST_STEPS = 10**9  # of a phase, and of all that is counted in steps
MOST_IMAGES = 10**6  # generated, or held at once
LARGEST_BATCH = 2**16  # its images take 3 GiB as floats
MOST_EVALUATIONS = 1000  # of the network, for one image
LONGEST_TEXT = 1000
LONGEST_NAME = 255  # bytes, of a file or folder on the usual file systems
DEFAULT = "default: %(default)s"  # in the help of a flag
SHOWN = 60  # characters of a value in a message

YES, NO = ("true", "on", "yes", "y", "1"), ("false", "off", "no", "n", "0")
WHOLE = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40}(?=[eE]))?([eE]\+?[0-9]{1,2})?")
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,9})?")
NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)


def whole_number(text):
    """An argparse type: `int`, but plain digits alone (no 1_000, no digits of other scripts), with
    an exponent where the value is whole (1e5)."""
    if not WHOLE.fullmatch(text) or Decimal(text) != Decimal(text).to_integral_value():
        raise argparse.ArgumentTypeError(f"{quoted(text)}: a whole number is needed{_comma(text)}")
    return int(Decimal(text))


def real_number(text):
    """An argparse type: `float`, but plain digits alone. `InRange` refuses what is not finite."""
    if not (DECIMAL.fullmatch(text) or NOT_FINITE.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"{quoted(text)}: a number is needed{_comma(text)}")
    return float(text)


def _comma(text):
    return "; no commas: several numbers have blanks between them" if "," in text else ""


def switch(text):
    """An argparse type: whether a switch is on, in one of the words of `YES` and `NO`."""
    word = text.lower()
    if word not in YES + NO:
        raise argparse.ArgumentTypeError(f"{quoted(text)}: use one of {', '.join(YES + NO)}")
    return word in YES


def line(text):
    """An argparse type: text that fits on a line, and is there."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; give a value, or leave it out")
    return line_or_empty(text)


def line_or_empty(text):
    """An argparse type: text without control characters, of some length, that can be encoded.

    No path has the first; bytes that are no UTF-8 come as lone surrogates, which no record and no
    report could hold.
    """
    if len(text) > LONGEST_TEXT:
        raise argparse.ArgumentTypeError(f"{quoted(text)}: longer than {LONGEST_TEXT} characters")
    for character in text:
        if ord(character) < 32 or ord(character) == 127 or "\ud800" <= character <= "\udfff":
            raise argparse.ArgumentTypeError(
                f"{quoted(text)}: {character!r} cannot be part of it; rename it"
            )
    return text


def quoted(value):
    """A user's value as it stands in a message: quoted, escaped, not too long."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


class InRange(argparse.Action):
    """Stores numbers from `low` to `high`, both allowed; each number of a list is checked."""

    def __init__(self, option_strings, dest, low=None, high=None, **options):
        super().__init__(option_strings, dest, **options)
        self.low, self.high = low, high

    def __call__(self, parser, namespace, values, option_string=None):
        check_range(option_string, values, self.low, self.high)
        setattr(namespace, self.dest, values)


def check_range(flag, values, low, high):
    """Raise `UserError`, naming `flag`, unless a number (or each of a list) is finite and from
    `low` to `high`; None: no limit."""
    for value in values if isinstance(values, (list, tuple)) else [values]:
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{flag} {value}: a finite number is needed")
        if low is not None and value < low:
            raise UserError(f"{flag} {quoted(value)}: at least {number_text(low)} is needed")
        if high is not None and value > high:
            raise UserError(f"{flag} {quoted(value)}: at most {number_text(high)} is allowed")


def check_output_folder(flag, folder):
    """Raise `UserError`, naming `flag`, unless files can be written below `folder`, which need not
    be there. Nothing is made."""
    place = check_place(flag, folder)
    if not place.is_dir():
        raise UserError(f"{flag} {folder}: {place} is not a folder; name another place")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {folder}: {place} may not be written to; name another place")


def check_output_file(flag, path):
    """The same for a file, which may be there already."""
    if Path(path).is_dir() or str(path).endswith(("/", os.sep)):
        raise UserError(f"{flag} {path}: is a folder; name a file")
    path = Path(path)
    check_output_folder(flag, path.parent)
    check_place(flag, path)


def check_apart(flag, output, where, folder):
    """Raise `UserError`, naming `flag`, where the pictures written to `output` would become images
    of `folder`, which is read and which `where` named."""
    place, source = Path(output).resolve(), Path(folder).resolve()
    if place == source or source in place.parents:
        raise UserError(
            f"{flag} {output}: is in the folder of {where}, which is searched for images; name a"
            " place outside"
        )


def check_input_file(flag, path, remedy="name one that is there"):
    """Raise `UserError`, naming `flag`, unless `path` is a file that may be read."""
    if check_place(flag, path) == Path(path) and Path(path).is_dir():
        raise UserError(f"{flag} {path}: is a folder, not a file; {remedy}")
    _check_readable(flag, path, Path.is_file, "file", remedy)


def check_input_folder(flag, path, remedy="name one that is there"):
    """Raise `UserError`, naming `flag`, unless `path` is a folder that may be read."""
    if check_place(flag, path) == Path(path) and not Path(path).is_dir():
        raise UserError(f"{flag} {path}: is a file, not a folder; {remedy}")
    _check_readable(flag, path, Path.is_dir, "folder", remedy)


def _check_readable(flag, path, is_kind, kind, remedy):
    if not is_kind(Path(path)):
        raise UserError(f"{flag} {path}: no such {kind}; {remedy}")
    if not os.access(path, os.R_OK | (os.X_OK if kind == "folder" else 0)):
        raise UserError(f"{flag} {path}: may not be read; {remedy}")


def check_place(flag, path):
    """The path itself, or the nearest of the folders above it that is there. Raises `UserError`,
    naming `flag`, for a path that can be no file's."""
    path = Path(path)
    if any(len(os.fsencode(part)) > LONGEST_NAME for part in path.parts):
        raise UserError(f"{flag} {quoted(str(path))}: a name in it is too long; give a shorter one")
    for place in (path, *path.parents):
        try:
            os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UserError(f"{flag} {quoted(str(path))}: {file_error(error)}") from error
        return place
    return path  # not even the current folder is there any more
