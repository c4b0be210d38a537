"""SIGINT and SIGTERM: inside the training loop they wait for a checkpoint, outside they act."""

import signal
from contextlib import contextmanager

HOW_TO_GO_ON = "run it again to go on"


class Interrupted(BaseException):
    """A signal has ended the run; all that was to be saved is saved. Like `KeyboardInterrupt` it is
    no `Exception`: whoever takes an error for a bad file must not take this for one."""

    def __init__(self, number, where="stopped"):
        super().__init__(f"{where}; {HOW_TO_GO_ON}")
        self.exit_code = 128 + number


class StopSignals:
    """The first SIGINT or SIGTERM (`number`, else 0) that has come while this was in use.

    A signal raises `Interrupted` where it comes, but within `deferred()` it is only remembered:
    a loop acts on it between two steps, when what it has is consistent. Later signals change
    nothing. Where it is in use already, entering it again does nothing.
    """

    def __init__(self):
        self.number, self.is_deferred, self.previous = 0, False, {}
        self.depth = 0

    def __enter__(self):
        self.depth += 1
        if self.depth == 1:
            numbers = (signal.SIGINT, signal.SIGTERM)
            self.previous = {number: signal.signal(number, self._take) for number in numbers}
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
            raise Interrupted(self.number)

    def _take(self, number, _frame):
        is_first = not self.number
        self.number = self.number or number
        if is_first and not self.is_deferred:
            raise Interrupted(number)
