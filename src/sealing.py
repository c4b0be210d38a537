"""A checksum of a whole saved file, inside the file.

torch saves zip archives. Their own checksums cover the records but not what lies between them, and
plain loading verifies none. The end of an archive may carry a comment, which every reader passes
over: it holds the SHA-256 of all that comes before.
"""

import hashlib
import os

MARK = b"sha256:"
COMMENT = len(MARK) + 64  # bytes
END_RECORD = b"PK\x05\x06"  # how the last record of an archive begins
RECORD = 22  # bytes of that record, whose last two are the length of the comment
BLOCK = 1 << 22


def seal(path):
    """Write the checksum of the archive at `path` into its comment, which must be empty.

    Raises `ValueError` for a file that does not end as an archive without a comment, `OSError` for
    one that cannot be written.
    """
    with open(path, "rb+") as file:
        if not _ends_bare(file):
            raise ValueError(f"{path}: not an archive without a comment")
        length = _size(file) - 2
        comment = MARK + _digest(file, length)
        file.seek(length)
        file.write(len(comment).to_bytes(2, "little") + comment)


def is_sealed(path):
    """Whether the file at `path` has a checksum that holds; False for an archive that never had
    one. Raises `ValueError` where it was changed or cut off since, or is no archive at all."""
    with open(path, "rb") as file:
        size = _size(file)
        tail = _read(file, max(0, size - RECORD - COMMENT), RECORD + COMMENT)
        record, comment = tail[:RECORD], tail[RECORD:]
        if not record.startswith(END_RECORD) and not comment.startswith(MARK):
            if not _ends_bare(file):
                raise ValueError("it is cut off, or no saved file")
            return False
        expected = COMMENT.to_bytes(2, "little") + MARK + _digest(file, size - COMMENT - 2)
        if record[-2:] + comment != expected:
            raise ValueError("its checksum does not hold")
        return True


def _size(file):
    return file.seek(0, os.SEEK_END)


def _read(file, start, count):
    file.seek(start)
    return file.read(count)


def _ends_bare(file):
    last = _read(file, max(0, _size(file) - RECORD), RECORD)
    return last.startswith(END_RECORD) and last.endswith(b"\0\0")


def _digest(file, length):
    """SHA-256 of the first `length` bytes, in hexadecimal letters."""
    digest = hashlib.sha256()
    file.seek(0)
    while length > 0:
        block = file.read(min(BLOCK, length))
        if not block:
            raise ValueError("it became shorter while it was read")
        digest.update(block)
        length -= len(block)
    return digest.hexdigest().encode()
