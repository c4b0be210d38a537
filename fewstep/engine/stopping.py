"""Signals that ask to stop, and the end of the time: inside the training loop they wait for a
checkpoint."""

import signal
import time
from contextlib import contextmanager

HOW_TO_GO_ON = "run it again to go on"
TIME_IS_UP = 75  # exit code: EX_TEMPFAIL of sysexits.h, "try again later"

# Ctrl-C, `kill`, a lost terminal, the warnings of schedulers, the end of a limit of processor time;
# on Windows, which has none but the first two of these, Ctrl-Break or a window that is closed.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGBREAK")
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
STOPPED = tuple(128 + number for number in SIGNALS)  # exit codes after them, as a shell says it


def catch_stops(handler):
    """Let `handler` answer all of `SIGNALS`. Returns {signal: the handler before}.

    One that whoever started this process has ignored stays so (nohup ignores SIGHUP), but for
    SIGINT, which shells ignore in the background, and SIGTERM.
    """
    always, before = (signal.SIGINT, signal.SIGTERM), {}
    for number in SIGNALS:
        previous = signal.getsignal(number)
        # None: set by other than Python, and could not be put back.
        if number in always or previous not in (signal.SIG_IGN, None):
            before[number] = signal.signal(number, handler)
    return before


class Interrupted(BaseException):
    """The run was asked to stop; all that was to be saved is saved. Like `KeyboardInterrupt` it is
    no `Exception`: whoever takes an error for a bad file must not take this for one."""

    def __init__(self, exit_code, where="stopped"):
        super().__init__(f"{where}; {HOW_TO_GO_ON}")
        self.exit_code = exit_code


class StopRequests:
    """What asks a run to stop while this is in use: the first of `SIGNALS`, or that `minutes` are
    over (0: no limit).

    A signal raises `Interrupted` where it comes, but within `deferred()` it is only remembered:
    a loop acts on it between two steps, when what it has is consistent. Later signals change
    nothing. Where it is in use already, entering it again does nothing.
    """

    def __init__(self, minutes=0.0):
        self.number, self.is_deferred, self.previous = 0, False, {}
        self.depth = 0
        self.set_limit(minutes)

    def set_limit(self, minutes):
        """Ask for a stop in so many minutes from now; 0: never."""
        self.deadline = time.monotonic() + 60 * minutes if minutes else None

    @property
    def signal_code(self):
        """The exit code of the signal that has come, as a shell would say it; 0: none has."""
        return 128 + self.number if self.number else 0

    @property
    def exit_code(self):
        """With which the run is asked to end, by a signal or the time; 0: it is not."""
        if self.number:
            return self.signal_code
        is_over = self.deadline is not None and time.monotonic() >= self.deadline
        return TIME_IS_UP if is_over else 0

    def check(self):
        """Raise `Interrupted` where the run is asked to stop. For what is long and no loop of
        steps: a signal has raised it there, the end of the time has not."""
        if self.exit_code:
            raise Interrupted(self.exit_code)

    def __enter__(self):
        self.depth += 1
        if self.depth == 1:
            self.previous = catch_stops(self._take)
        return self

    def __exit__(self, *_):
        self.depth -= 1
        if not self.depth:
            for number, handler in self.previous.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self):
        """Within, signals are remembered; one that nobody has answered by the end is raised."""
        self.is_deferred = True
        try:
            yield
        finally:
            self.is_deferred = False
        if self.number:
            raise Interrupted(self.signal_code)

    def _take(self, number, _frame):
        is_first = not self.number
        self.number = self.number or number
        if is_first and not self.is_deferred:
            raise Interrupted(self.signal_code)
