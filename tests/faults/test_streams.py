"""Nobody receives what is said: the work is done all the same, to the same bits."""

import io
import os
import sys
from functools import partial

import pytest

from src.streams import steady_streams
from src.utils import run_command
from tests.faults.comparing import assert_same_results
from tests.faults.jobs import finish

NAMES = ("stdin", "stdout", "stderr")


def lose(**kinds):
    """Let streams of this process lead to a pipe without a reader or a full disk, or be closed."""
    for name, kind in kinds.items():
        number = NAMES.index(name)
        if kind == "closed":
            os.close(number)
            setattr(sys, name, None)
            continue
        reader, target = os.pipe()
        os.close(reader)
        if kind == "full disk":
            target = os.open("/dev/full", os.O_WRONLY)
        os.dup2(target, number)
        setattr(sys, name, os.fdopen(number, "w", closefd=False))


@pytest.mark.parametrize(
    "kinds",
    [dict(stdout="pipe", stderr="full disk"), dict(stdout="closed", stderr="pipe")],
    ids=str,
)
def test_a_training_that_nobody_hears_ends_as_any_other(whole, tmp_path, kinds):
    code, text = finish(tmp_path, before=partial(lose, **kinds))
    assert code == 0 and not text
    assert_same_results(tmp_path, whole)


def test_the_other_stream_still_speaks(tmp_path):
    flag = ["--lr", "fast"]
    code, text = finish(tmp_path, *flag, before=partial(lose, stdin="closed", stdout="closed"))
    assert code == 2 and text.startswith("error: ") and len(text.splitlines()) == 1


class Failing(io.RawIOBase):
    """A file whose writes fail with these errors, one after the other, and then succeed."""

    def __init__(self, *errors):
        super().__init__()
        self.errors, self.taken = list(errors), b""

    def writable(self):
        return True

    def write(self, data):
        if self.errors:
            raise self.errors.pop(0)
        self.taken += bytes(data)
        return len(data)


def ended(monkeypatch, raw, main):
    """The exit code of a program whose stdout is that raw file."""
    stream = io.TextIOWrapper(io.BufferedWriter(raw, 64), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as caught:
        run_command(main)
    return caught.value.code


def test_a_reader_that_leaves_ends_no_program(monkeypatch, capsys):
    done = []

    def main():
        for line in range(100):
            print(f"line {line} of a long report", flush=line % 2)
        done.append("\u2713")
        print(*done)
        return 0

    raw = Failing(*[BrokenPipeError(32, "Broken pipe")] * 1000)
    assert ended(monkeypatch, raw, main) == 0 and done
    assert len(raw.errors) == 999, "nothing more is tried"
    assert capsys.readouterr().err == ""


def test_a_disk_that_was_full_takes_later_lines(monkeypatch):
    raw = Failing(OSError(28, "No space left on device"))

    def main():
        for line in range(9):
            print(f"line {line} {'.' * 60}", flush=True)

    assert not ended(monkeypatch, raw, main)
    assert b"line 8" in raw.taken


def test_help_into_a_closed_pipe_ends_silently(tmp_path):
    code, text = finish(tmp_path, "--help", before=partial(lose, stdout="pipe"))
    assert code == 0 and text == ""


def open_after_closing():
    """Exit with the number that a new file has where a shell had closed stdin and stdout."""
    lose(stdin="closed", stdout="closed")
    steady_streams()
    sys.exit(os.open(os.devnull, os.O_RDONLY))


def test_a_shell_that_closed_a_stream_gives_its_number_to_no_file(tmp_path):
    code, text = finish(tmp_path, before=open_after_closing)
    assert code > 2, text
