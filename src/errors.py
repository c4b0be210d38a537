"""A user's mistake, and how it becomes one line."""

import difflib
import importlib


class UserError(Exception):
    """A user's mistake. The message is one line: what is wrong, where, and what to do."""


def package_for(purpose, name, to_install=None):
    """The module `name` of a package that not every command needs; `to_install`: pip's name of it.
    Raises `UserError` where it is absent."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        to_install = to_install or name.partition(".")[0]
        raise UserError(f"{purpose} needs a package: pip install {to_install}") from error


def did_you_mean(name, known):
    """The end of a message, `; did you mean NEAREST?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def reason_of(error):
    """The first line of an exception's message, or its kind where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def is_out_of_memory(error):
    """Whether memory ran out, on a device or on the host, wrapped by a compiler or not."""
    words = ("out of memory", "not enough memory", "can't allocate memory", "unable to allocate")
    return any(word in str(error).lower() for word in words)


def one_line(text):
    """`text` with everything that would break or garble a line written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def file_error(error):
    """What an `OSError` means to a user, with the file where it is known."""
    reason = error.strerror or reason_of(error)
    return f"{error.filename}: {reason}" if error.filename else reason
