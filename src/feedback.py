"""What a command says while it works: none is silent for more than ten seconds.

On a terminal a bar moves; in a file each report is a line of its own.
"""

import sys
import threading
import time

from tqdm import tqdm

SECONDS = 9.0  # of silence in a file, after which the next look, a second later, ends it
QUICK = 1.0  # seconds of work that need no bar of their own, unless that stays
OF_TIME = "{desc}: {elapsed}"  # of work that nothing counts


class Progress(tqdm):
    """A report on stderr on the work inside a `with` block, whether or not `update` is called.

    doing: what the work is, in words. total: how many `unit`s it has (None: nothing is counted, the
    time that has passed is shown). stays: whether its end is left on the screen. shown: False says
    nothing. options: further ones of `tqdm`. Of nested reports the innermost one speaks.
    """

    monitor_interval = 0  # tqdm's own thread, whose work is done here
    opened = []  # those at work, innermost last
    spoke_at = 0.0  # when any of them has written a line into a file

    def __init__(self, doing, total=None, unit="image", stays=False, shown=True, **options):
        self.is_terminal, self.closing = sys.stderr.isatty(), threading.Event()
        if total is None:
            options.setdefault("bar_format", OF_TIME)
        options |= dict(leave=stays, delay=0 if stays else QUICK, disable=not shown)
        super().__init__(desc=doing, total=total, unit=unit, **options)
        if not shown:
            return
        with self.get_lock():
            if not Progress.opened:  # a moment of rest, so that quick work says nothing
                rest = time.monotonic() - SECONDS + min(QUICK, SECONDS)
                Progress.spoke_at = max(Progress.spoke_at, rest)
            Progress.opened.append(self)
        threading.Thread(target=self._tick, daemon=True).start()

    def refresh(self, *arguments, **options):
        """As tqdm's; in a file it does nothing: its lines come by time alone."""
        if self.is_terminal:
            super().refresh(*arguments, **options)

    def __str__(self):
        text = super().__str__()
        # A longer line would go on in the next row, where nothing clears it.
        return text[: self.ncols - 1] if self.is_terminal and self.ncols else text

    def clear(self, *arguments, **options):
        """As tqdm's; in a file there is nothing to clear."""
        if self.is_terminal:
            super().clear(*arguments, **options)

    def close(self):
        """End the report; a second call does nothing."""
        if self.disable:
            return
        with self.get_lock():
            self.closing.set()
            # Not by `remove`: tqdm calls bars equal that stand in the same row.
            Progress.opened[:] = [one for one in Progress.opened if one is not self]
            if self.is_terminal:
                super().close()
                return
            if self.leave:
                self._write_line()
            self._decr_instances(self)
            self.disable = True

    def _tick(self):
        pause = min(QUICK, SECONDS / 4)
        while not self.closing.wait(pause):
            with self.get_lock():
                if not self.closing.is_set() and Progress.opened[-1] is self:
                    self._speak()

    def _speak(self):
        if self.is_terminal:
            self.delay = 0  # else tqdm takes it for one that was never seen
            self.refresh(nolock=True)
        elif time.monotonic() - Progress.spoke_at >= SECONDS:
            self._write_line()

    def _write_line(self):
        Progress.spoke_at = time.monotonic()
        self.fp.write(f"{self}\n")
        self.fp.flush()


def say(text, file=None):
    """Print a line on stdout, or on `file`, above any report that stands on the terminal."""
    file = file or sys.stdout
    with Progress.external_write_mode(file):
        print(text, file=file, flush=True)
