"""The help of every command but train.py's: whole phrases, defaults called so, a usage to paste."""

import argparse
import re
import runpy
import sys
from importlib import import_module
from pathlib import Path

import pytest

import measure_fid
import sampling
from fewstep.__main__ import COMMANDS
from fewstep.studies.bench.main import MEASUREMENTS
from src.utils import CommandParser, UserError

ROOT = Path(__file__).resolve().parents[1]
LINES = {name: [name] for name in COMMANDS if name not in ("flags", "bench")}
LINES |= {f"bench {name}": ["bench", name] for name in MEASUREMENTS}
LINES |= {f"publish {name}": ["publish", name] for name in ("pack", "unpack")}
FRAGMENTS = {"or", "of", "that", "its", "and", "one"}  # first words that answer no "what is it?"


def parser_of(line, monkeypatch):
    """The parser that a command shows the help of."""
    shown = []
    monkeypatch.setattr(CommandParser, "print_help", lambda self, file=None: shown.append(self))
    if line in ("sampling", "measure_fid"):
        main, flags = {"sampling": sampling, "measure_fid": measure_fid}[line].main, []
    else:
        name, *flags = LINES[line]
        main = import_module(COMMANDS[name][0]).main
    with pytest.raises(SystemExit):
        main([*flags, "--help"])
    return shown[0]


@pytest.mark.parametrize("line", [*LINES, "sampling", "measure_fid"])
def test_help_is_in_phrases_and_names_defaults(line, monkeypatch):
    parser = parser_of(line, monkeypatch)
    if line in LINES:
        assert parser.prog == f"python -m fewstep {line}"
    for action in parser._actions:
        if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
            continue
        text = action.help
        assert text and re.match("[A-Za-z]", text) and text.split()[0] not in FRAGMENTS, text
        if action.default not in (None, False, "", [], argparse.SUPPRESS):
            assert "default: " in text, text
        for aside in re.findall(r"\(([^()]*)\)", text.replace("%(default)s", "DEFAULT")):
            assert aside not in ("DEFAULT", str(action.default)), text
            assert not re.fullmatch(r"[\d ]+", aside), text


def test_an_error_tells_the_command_that_lists_the_flags():
    with pytest.raises(UserError, match=r"\(python -m fewstep publish pack --help lists"):
        import_module(COMMANDS["publish"][0]).main(["pack"])


def test_the_data_module_says_what_to_run_instead(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dataset.py", "--help"])
    runpy.run_path(str(ROOT / "dataset.py"), run_name="__main__")
    out = capsys.readouterr().out
    assert "imported, not run" in out and "python train.py --help" in out
