"""Command-line values that must be refused, and such that must not, made from a parser's flags.

A new flag is covered as it is: whatever its type, choices and range say is what is tried.
"""

import argparse
import math

from hypothesis import HealthCheck
from hypothesis import strategies as st

from src.arguments import LONGEST_TEXT, line, line_or_empty, real_number, whole_number

QUIET = dict(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

NEVER_NUMBERS = ["fast", "", " ", "0x10", "１２", "1_000", "1,5", "1 2", "--5", "+-1", "1e", "None"]
NEVER_NUMBERS += ["²", "٣", "1\n2", "1\0", "\udc80", "9" * 5000, "½", "True", "[1]"]
NEVER_FINITE = ["nan", "inf", "-inf", "1e999", "-1e999", "NaN", "Infinity", "1" * 400]
NEVER_WHOLE = [*NEVER_FINITE, "1.5", "1.5e0", "1e-1", "1e999", "1.", ".5", str(10**45)]
NEVER_LINES = ["a\0b", "a\nb", "a\r\nb", "\t", "\x7f", "\x1b[31m", "caf\udce9", "\ud800"]
NEVER_LINES += ["x" * (LONGEST_TEXT + 1), "a/" * 5000]
INSIDE_A_FILE = "a_file/inside"  # no file and no folder can be there


def flags_of(parser):
    """Its optional flags, help left out."""
    actions = [action for action in parser._actions if action.option_strings]
    return [action for action in actions if "--help" not in action.option_strings]


def numbers_of(parser):
    return [action for action in flags_of(parser) if action.type in (whole_number, real_number)]


def _is_switch(action):
    return action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction)


def _spelled(action, value):
    """One value as tokens, joined where it begins with a dash and might pass for a flag."""
    flag = action.option_strings[0]
    joined, apart = [f"{flag}={value}"], [flag, value]
    return st.just(joined) if value.startswith("-") else st.sampled_from([joined, apart])


@st.composite
def wrong_number(draw, action):
    """The text of a value that a number flag must refuse."""
    low = -math.inf if action.low is None else action.low
    high = math.inf if action.high is None else action.high
    if action.type is whole_number:
        outside = [st.sampled_from(NEVER_WHOLE)]
        if low > -math.inf:
            outside += [st.integers(max_value=low - 1), st.sampled_from([low - 1, -(10**30)])]
        if high < math.inf:
            outside += [st.integers(min_value=high + 1), st.sampled_from([high + 1, 10**30])]
    else:
        below, above = math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
        finite = dict(allow_nan=False, allow_infinity=False)
        outside = [st.sampled_from(NEVER_FINITE), st.just(below), st.just(above)]
        outside += [st.floats(max_value=below, **finite), st.floats(min_value=above, **finite)]
    return str(draw(st.one_of(st.sampled_from(NEVER_NUMBERS), *outside)))


@st.composite
def right_number(draw, action):
    """The text of a value that it must take."""
    if action.type is whole_number:
        return str(draw(st.integers(action.low, action.high)))
    return repr(draw(st.floats(action.low, action.high)))


@st.composite
def wrong_choice(draw, choices):
    """Something near one of the choices that is none."""
    choices = list(choices)
    word = draw(st.sampled_from(choices))
    near = [
        word.upper(),
        word[:-1],
        f"{word}s",
        f" {word}",
        f"{word}\n",
        f"{word}\0",
        "",
        word * 99,
    ]
    return draw(st.sampled_from([text for text in near if text not in choices]))


@st.composite
def right_tokens(draw, action):
    """Tokens of a value that the parser must take."""
    flag = action.option_strings[0]
    if _is_switch(action):
        return [draw(st.sampled_from(action.option_strings))]
    if action.choices:
        return [f"{flag}={draw(st.sampled_from(sorted(action.choices)))}"]
    if action.nargs is None:
        return draw(_spelled(action, draw(right_number(action))))
    count = action.nargs if isinstance(action.nargs, int) else 1
    return [flag, *(draw(right_number(action)) for _ in range(count))]


def has_right_tokens(action):
    """Whether what it takes can be told from the parser alone, unlike names of files."""
    is_number = action.type in (whole_number, real_number)
    return _is_switch(action) or action.choices or is_number


@st.composite
def wrong_tokens(draw, action):
    """Tokens of one flag that the parser itself must refuse."""
    flag = action.option_strings[0]
    if _is_switch(action):
        return [f"{flag}={draw(st.sampled_from(['', '1', 'on', 'false']))}"]
    if action.type in (whole_number, real_number):
        wrong = wrong_number(action)
    elif action.choices:
        wrong = wrong_choice(action.choices)
    else:
        wrong = st.sampled_from(NEVER_LINES + [""] * (action.type is line))
    if action.nargs in (None, "?"):
        if action.nargs is None and draw(st.integers(0, 9)) == 0:
            return [flag, "--no_such_flag"]  # its value is missing
        return draw(_spelled(action, draw(wrong)))
    values = ["x=1"] * 3
    if action.type in (whole_number, real_number):
        values = [draw(right_number(action)) for _ in range(3)]
    if isinstance(action.nargs, int):
        if draw(st.booleans()):  # too few
            return [flag, *values[: draw(st.integers(0, action.nargs - 1))]]
        values = [draw(right_number(action)) for _ in range(action.nargs)]
    values[draw(st.integers(0, len(values) - 1))] = draw(wrong)
    return [flag, *values]


@st.composite
def unknown_flag(draw, parser):
    """A flag that is none, but near one that is, and a value."""
    known = {text for action in parser._actions for text in action.option_strings}
    flag = draw(st.sampled_from(sorted(known - {"-h"})))
    near = [flag[:-1], f"{flag}s", flag.upper(), flag.replace("_", "-"), f"{flag}\n", f"{flag} "]
    near += [f"{flag}\0", flag[:3] + flag[2:], f"--{flag}", f"{flag}_{'x' * 3000}"]
    chosen = draw(st.sampled_from([text for text in near if text not in known and len(text) > 2]))
    return draw(st.sampled_from([[chosen], [f"{chosen}=1"], [chosen, "1"]]))


@st.composite
def refused(draw, parser):
    """(the flag that is wrong, a whole command line): anything else in it is right."""
    actions = flags_of(parser)
    safe = [action for action in actions if has_right_tokens(action)]
    more = st.lists(st.sampled_from(safe), max_size=3)
    before = [token for action in draw(more) for token in draw(right_tokens(action))]
    after = [token for action in draw(more) for token in draw(right_tokens(action))]
    kind = draw(st.integers(0, 9))
    if kind == 0:
        wrong = draw(unknown_flag(parser))
        return wrong[0].partition("=")[0], [*before, *wrong, *after]
    action = draw(st.sampled_from(actions))
    wrong = draw(wrong_tokens(action))
    if kind == 1 and has_right_tokens(action):  # twice, once wrong: no value goes unchecked
        twice = [draw(right_tokens(action)), wrong]
        wrong = [token for tokens in draw(st.permutations(twice)) for token in tokens]
    return action.option_strings[0], [*before, *wrong, *after]


@st.composite
def nowhere(draw, parser, without=()):
    """(flag, tokens) that name a place where nothing can be."""
    texts = [a for a in flags_of(parser) if a.type in (line, line_or_empty) and not a.choices]
    names = [a for a in texts if a.dest not in without]
    action = draw(st.sampled_from(names))
    flag = action.option_strings[0]
    place = draw(st.sampled_from([INSIDE_A_FILE, f"{INSIDE_A_FILE}/deeper", f"new/{'n' * 256}"]))
    return flag, [flag, place]
