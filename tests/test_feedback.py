"""The reports on long work: in a file by time, nested ones, and on a terminal."""

import io
import re
import threading
import time

import pytest

from src import feedback
from src.feedback import Progress, say

PATIENCE = 30.0  # seconds for a thread to do what it does at once


class Terminal(io.StringIO):
    def isatty(self):
        return True


def use(monkeypatch, stream):
    """Let it be stderr, where every look of the ticking thread finds a line due. To be called in a
    test itself: pytest puts its own stderr back between a fixture and the test."""
    monkeypatch.setattr(feedback.sys, "stderr", stream)
    monkeypatch.setattr(feedback, "SECONDS", 0.02)
    monkeypatch.setattr(feedback, "QUICK", 0.02)
    return stream


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "nothing was said"
        time.sleep(0.005)


def test_work_that_nothing_counts_is_reported_by_time(monkeypatch):
    stream = use(monkeypatch, io.StringIO())
    with Progress("timing a step"):
        wait_for(lambda: stream.getvalue().count("\n") >= 2)
    lines = stream.getvalue().splitlines()
    assert all(re.fullmatch(r"timing a step: \d\d:\d\d", line) for line in lines)


def test_counted_work_is_reported_where_no_update_comes(monkeypatch):
    stream = use(monkeypatch, io.StringIO())
    with Progress("reading", 40) as bar:
        bar.update(10)
        wait_for(stream.getvalue)
    first = stream.getvalue().splitlines()[0]
    assert first.startswith("reading:  25%|") and "10/40" in first and "\r" not in first


def test_quick_work_says_nothing_but_what_stays(monkeypatch):
    stream = use(monkeypatch, io.StringIO())
    monkeypatch.setattr(feedback, "SECONDS", 1000.0)
    monkeypatch.setattr(feedback, "QUICK", 1000.0)
    with Progress("reading", 3) as bar:
        bar.update(3)
    assert stream.getvalue() == ""
    with Progress("training", 3, stays=True) as bar:
        bar.update(3)
        assert stream.getvalue() == ""
    assert stream.getvalue().startswith("training: 100%") and stream.getvalue().count("\n") == 1
    with Progress("hidden", 3, stays=True, shown=False) as bar:
        bar.update(3)
    assert "hidden" not in stream.getvalue()


def test_the_innermost_speaks(monkeypatch):
    stream = use(monkeypatch, io.StringIO())
    with Progress("outer"):
        wait_for(lambda: "outer" in stream.getvalue())
        with Progress("inner", 5):
            wait_for(lambda: "inner" in stream.getvalue())
            before = stream.getvalue().count("outer")
            seen = stream.getvalue().count("inner")
            wait_for(lambda: stream.getvalue().count("inner") >= seen + 3)
            assert stream.getvalue().count("outer") <= before + 1  # one may have been on its way
        after = stream.getvalue().count("outer")
        wait_for(lambda: stream.getvalue().count("outer") > after)


def test_many_short_pieces_of_one_work_are_not_silent(monkeypatch):
    """Each ends before a line of its own is due: what counts is when anything was said last."""
    stream = use(monkeypatch, io.StringIO())
    monkeypatch.setattr(feedback, "SECONDS", 0.4)
    monkeypatch.setattr(feedback, "QUICK", 0.001)
    with Progress("all"):
        for number in range(200):
            with Progress(f"piece {number}"):
                time.sleep(0.01)
            if stream.getvalue():
                return
    pytest.fail("two seconds without a word")


def test_threads_end_with_the_work(monkeypatch):
    use(monkeypatch, io.StringIO())
    before = threading.active_count()
    for _ in range(20):
        with Progress("reading", 3):
            pass
    wait_for(lambda: threading.active_count() <= before)
    assert Progress.opened == []


def test_an_error_ends_the_report_too(monkeypatch):
    use(monkeypatch, io.StringIO())
    with pytest.raises(KeyError), Progress("reading", 3):
        raise KeyError
    assert Progress.opened == []


def test_on_a_terminal_the_time_moves_and_the_line_is_cleared(monkeypatch):
    stream = use(monkeypatch, Terminal())
    with Progress("timing a step"):
        wait_for(lambda: stream.getvalue().count("timing a step: 0") >= 2)
    assert stream.getvalue().endswith("\r") and "\n" not in stream.getvalue()


def test_a_line_stands_above_the_bar_of_a_terminal(monkeypatch, capsys):
    stream = use(monkeypatch, Terminal())
    monkeypatch.setattr(feedback.sys, "stdout", stream)
    with Progress("reading", 3, stays=True):
        say("a result")
    before, _, after = stream.getvalue().partition("a result\n")
    assert before.endswith("\r") and "reading" in after
