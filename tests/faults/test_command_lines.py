"""Whatever is wrong with a command line: exit code 2, one line that says what, and no trace.

All command lines are made from the parsers' own flags, so that a new flag is tried as it comes.
What takes long is watched, not timed: no refused command line may reach it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewstep.runs.command_line import (
    make_settings,
    parse_settings,
    settings_from_json,
)
from fewstep.runs.parser import build_parser
from fewstep.runs.presets import DEFAULT_PRESET, DEFAULT_RECIPE, PRESETS, RECIPES
from fewstep.runs.settings import flat
from src.arguments import whole_number
from src.utils import UserError, read_json
from tests.faults.programs import PROGRAMS, Reached, start
from tests.faults.strategies import (
    QUIET,
    flags_of,
    has_right_tokens,
    nowhere,
    numbers_of,
    refused,
    right_tokens,
)
from tests.faults.watching import assert_refused, escaped, folder  # noqa: F401  a fixture

ROOT = Path(__file__).resolve().parents[2]
EVERY_PROGRAM = pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))


@EVERY_PROGRAM
def test_wrong_values_are_refused(program, folder):  # noqa: F811
    tried = set()

    @settings(max_examples=program.least + program.least // 4, **QUIET)
    @given(case=refused(program.build_parser()))
    def refuse(case):
        flag, tokens = case
        assert_refused(program, [*program.base.split(), *tokens], folder, flag, escaped(flag))
        tried.add(tuple(tokens))

    refuse()
    assert len(tried) >= program.least


def test_at_least_five_hundred_are_tried():
    assert sum(program.least for program in PROGRAMS.values()) >= 500


@EVERY_PROGRAM
def test_places_that_cannot_be_are_refused(program, folder):  # noqa: F811
    """An output below a file, an input that is not there, a name that no file can have."""

    @settings(max_examples=20, **QUIET)
    @given(case=nowhere(program.build_parser(), program.accepted))
    def refuse(case):
        flag, tokens = case
        file = "a_file"
        assert_refused(program, [*program.base.split(), *tokens], folder, flag, file)

    refuse()


@EVERY_PROGRAM
def test_what_is_watched_is_what_begins_the_work(program, folder):  # noqa: F811
    """With nothing wrong, each program comes to it: were it renamed, no test here would notice."""
    with pytest.raises(Reached):
        start(program, program.base.split())


@EVERY_PROGRAM
def test_every_number_has_both_limits_and_they_are_taken(program):
    parser = program.build_parser()
    required = [t for a in parser._actions if a.required for t in (a.option_strings[0], "x")]
    for action in numbers_of(parser):
        name = action.option_strings[0]
        assert action.low is not None and action.high is not None, f"{name} lacks a limit"
        count = action.nargs if isinstance(action.nargs, int) else 1
        for value in (action.low, action.high):
            tokens = [name, *[str(value)] * count]
            assert getattr(parser.parse_args([*required, *tokens]), action.dest) is not None


@EVERY_PROGRAM
def test_numbers_are_read_by_our_own_types(program):
    """`int` would take 1_000 and digits of any script, `float` nan."""
    for action in program.build_parser()._actions:
        assert action.type not in (int, float, str), action.dest
        assert action.type or action.nargs == 0 or action.choices, action.dest


# What makes any combination consistent: these have limits that depend on each other.
CONSISTENT = {
    "method": "adversarial",
    "phase": "all",
    "teacher_ckpt": "",
    "best_images": 8,
    "sigmas": [80.0, 4.0, 1.5, 0.54],
    "first_sigma": 0.0,
    "norm_groups": 32,
    "level_shares": [0.5, 0.125, 0.25, 0.125],
    "pair_weight": 0.0,
    "distill": "add",
    "disc_start": "random",
    "ada_target": 0.0,
    "disc_lead": 0.0,
    "student_start": "teacher",
    "warm_start": 0,
    "disc_warmup": 0,
}


@settings(max_examples=100, **QUIET)
@given(data=st.data())
def test_right_values_are_taken_and_survive_json(data):
    actions = [action for action in flags_of(build_parser()) if has_right_tokens(action)]
    chosen = data.draw(st.lists(st.sampled_from(actions), max_size=12, unique_by=id))
    tokens = [token for action in chosen for token in data.draw(right_tokens(action))]
    given_flags = vars(build_parser().parse_args(tokens))
    names = {action.dest for action in chosen} - {"preset", "recipe", "dry_run"}
    assert names <= set(given_flags)
    values = PRESETS[given_flags.get("preset", DEFAULT_PRESET)]
    values = values | RECIPES[given_flags.get("recipe", DEFAULT_RECIPE)]
    values |= {name: given_flags[name] for name in names}
    values |= CONSISTENT | {"data": "folder", "data_root": "."}
    chosen_settings = make_settings(values)
    record = chosen_settings.as_dict()
    assert {key: flat(record)[key] for key in values} == values
    assert settings_from_json({"settings": record}) == chosen_settings


WRONG_KINDS = [None, "fast", [], {}, [1, 2], True, float("nan"), 10**400, "\0", 1e999, -1]


@settings(max_examples=100, **QUIET)
@given(data=st.data())
def test_records_with_values_of_another_kind_are_refused_or_taken_never_a_crash(data):
    record = make_settings({**PRESETS["tiny"], "data": "synthetic"}).as_dict()
    group = data.draw(st.sampled_from(sorted(record)))
    key = data.draw(st.sampled_from(sorted(record[group])))
    wrong = data.draw(st.sampled_from(WRONG_KINDS))
    record[group][key] = wrong
    try:
        again = settings_from_json({"settings": record})
    except UserError as error:
        assert key in str(error)
    else:
        default = type(flat(make_settings({}).as_dict())[key])
        assert isinstance(flat(again.as_dict())[key], (default, int))


@pytest.mark.parametrize(
    "command",
    [
        ["train.py", "--lr", "fast"],
        ["sampling.py", "--nfe_list", "0"],
        ["measure_fid.py", "--generated_dir", "a\nb"],
        ["-m", "fewstep", "evaluate", "--num_samples", "1" * 30],
        ["-m", "fewstep", "submit", "--no_such\nflag"],
    ],
    ids=lambda command: command[0] if command[0] != "-m" else command[1],
)
def test_a_process_ends_as_the_function_does(command, tmp_path):
    program = command if command[0] == "-m" else [ROOT / command[0], *command[1:]]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [sys.executable, *program], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert ended.returncode == 2 and ended.stdout == ""
    assert ended.stderr.startswith("error: ") and len(ended.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_negative_number_may_have_an_exponent():
    """As argparse has it, `-1e-1` would be an unknown flag."""
    chosen, *_ = parse_settings(["--data", "synthetic", "--p_mean", "-1e-1", "--disc_mean", "-.5"])
    assert chosen.teacher.p_mean == -0.1 and chosen.discriminator.disc_mean == -0.5


def test_plain_digits_alone():
    assert [whole_number(text) for text in ("7", "-7", "+7", "007")] == [7, -7, 7, 7]
    assert [whole_number(text) for text in ("1e5", "1.5E+3", "-2e0")] == [100_000, 1500, -2]
    with pytest.raises(UserError, match="--seed 1_0|'1_0'"):
        parse_settings(["--seed", "1_0"])


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        ("--seed 3000000000", "at most 2147483647 is allowed"),
        ("--max_minutes 1e9", "at most 1000000 is allowed"),
        ("--sigmas 80,4,1.5,0.54", "expected 4 arguments, with blanks between"),
        ("--sigmas 80, 4, 1.5, 0.54", "'80,': a number is needed; no commas"),
    ],
)
def test_limits_are_plain_digits_and_commas_are_told(arguments, end):
    with pytest.raises(UserError) as refused:
        parse_settings(arguments.split())
    assert end in str(refused.value)


def test_a_record_with_a_key_twice_is_refused(tmp_path):
    path = tmp_path / "model_config.json"
    path.write_text('{"rho": 7, "few": {"1": [3], "1": [4]}}')
    with pytest.raises(UserError, match="model_config.json: .*'1' is there twice"):
        read_json(path)
