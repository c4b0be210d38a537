"""A user's mistake, and how it becomes one line."""

import difflib


class UserError(Exception):
    """A user's mistake. The message is one line: what is wrong, where, and what to do."""


def did_you_mean(name, known):
    """The end of a message, `; did you mean NEAREST?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def reason_of(error):
    """The first line of an exception's message, or its kind where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def one_line(text):
    """`text` with everything that would break or garble a line written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def file_error(error):
    """What an `OSError` means to a user, with the file where it is known."""
    reason = error.strerror or reason_of(error)
    return f"{error.filename}: {reason}" if error.filename else reason
