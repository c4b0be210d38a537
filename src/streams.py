"""stdout and stderr that never end the work: a report that nobody can receive is dropped.

A reader may leave (`| head -1`, a lost terminal), a shell may start a program without a stream
(`>&-`), the disk of its log may be full. None of that is a fault of the work.
"""

import errno
import os
import sys
from contextlib import suppress

# What may pass: this text is lost, the next one is tried again.
PASSING = (errno.EAGAIN, errno.ENOSPC, errno.EDQUOT)
NAMES = ("stdout", "stderr")


class SteadyStream:
    """A text stream over another one (None: there is none) whose failures are no exceptions.

    What cannot be written is dropped. Unless the reason may pass, nothing more is tried: the
    file descriptor then leads nowhere, for what was kept back in buffers.
    """

    def __init__(self, stream):
        self.stream = stream or _nowhere()

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        self._try(self.stream.write, text)
        return len(text)

    def writelines(self, lines):
        for line in lines:
            self.write(line)

    def flush(self):
        self._try(self.stream.flush)

    def close(self):
        """The last flush; whatever still cannot be written is lost now."""
        if not self._try(self.stream.flush):
            self._give_up()

    def _try(self, action, *arguments):
        try:
            action(*arguments)
        except (OSError, ValueError) as error:  # ValueError: it was closed
            if getattr(error, "errno", None) not in PASSING:
                self._give_up()
            return False
        return True

    def _give_up(self):
        nowhere = _nowhere()
        with suppress(OSError, ValueError):  # a stream without a descriptor, or a closed one
            os.dup2(nowhere.fileno(), self.stream.fileno())
        self.stream = nowhere


def steady_streams():
    """Put `SteadyStream`s in the places of stdout and stderr; a second call changes nothing.

    Their encoding may lack a letter or a check mark, which is then replaced.
    """
    _fill_descriptors()
    for name in NAMES:
        stream = getattr(sys, name)
        if isinstance(stream, SteadyStream):
            continue
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
        setattr(sys, name, SteadyStream(stream))


def close_streams():
    """The last flush of both: after it the interpreter's own cannot fail."""
    for name in NAMES:
        stream = getattr(sys, name)
        if isinstance(stream, SteadyStream):
            stream.close()


def _fill_descriptors():
    """Open what a shell has closed: else the next file would get the number of stdout, and what C
    libraries print would go into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)


def _nowhere():
    return open(os.devnull, "w", encoding="utf-8")
