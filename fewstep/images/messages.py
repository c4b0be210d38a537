"""How names and reasons are put into messages: on one line, not too long, and not all of them."""

from contextlib import contextmanager

from src.utils import UserError, one_line

LONGEST = 100
MOST = 10


def shown(text):
    """`text` on one line: control characters escaped, the middle left out of a very long one."""
    text = one_line(text)
    return text if len(text) <= LONGEST else f"{text[:60]}...{text[-37:]}"


def some(names):
    """The first ten of `names`, and whether there are more."""
    return ", ".join(map(shown, names[:MOST])) + (", ..." if len(names) > MOST else "")


def listed(reasons, total):
    """`{name: reason}` -> "N of TOTAL images cannot be used: " and the first ten by name."""
    first = ", ".join(f"{shown(n)} ({shown(reasons[n])})" for n in sorted(reasons)[:MOST])
    more = ", ..." if len(reasons) > MOST else ""
    return f"{len(reasons)} of {total} images cannot be used: {first}{more}"


def unusable_error(root, reasons, total):
    """The one `UserError` for every image of a folder that cannot be used."""
    return UserError(
        f"{one_line(str(root))}: {listed(reasons, total)}; replace or remove them, or give"
        " --skip_bad_images to go on without them"
    )


@contextmanager
def writing(path):
    """Turn an `OSError` while writing `path`, a file below the cache folder, into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{one_line(str(path))}: cannot be written ({error.strerror or error}); free some disk"
            " space, or choose another --cache_dir"
        ) from error
