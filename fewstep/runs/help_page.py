"""What `train.py --help` says: flags by task, with the defaults of a preset and a recipe, of the
method that is chosen; and the same with their values, for `--dry_run`."""

import shutil
import textwrap
from dataclasses import MISSING, fields
from shlex import quote
from typing import NamedTuple

from fewstep.methods import METHODS
from fewstep.runs.presets import (
    DEFAULT_PRESET,
    DEFAULT_RECIPE,
    PRESET_TEXTS,
    PRESETS,
    RECIPE_TEXTS,
    RECIPES,
)
from fewstep.runs.sections import sections
from fewstep.runs.settings import GROUPS, PHASES, flat, phases_of, unused_settings
from src.formatting import number_text

GOING_ON = "the same command goes on where its run stopped"

WIDE = 10**6  # from here on an upper limit catches slips of the keyboard; nobody needs to read it
USAGE = "%(prog)s [--preset NAME] [--method NAME] [--dry_run [HOURS]] [flags]"
INTRO = """\
Train a generator of 64x64 images that needs few network evaluations. The same command again goes
on with its run.

  python train.py --dry_run                                     say what it would do, and how long
  python train.py --dry_run 8                                   and which lengths take 8 hours here
  python train.py --preset tiny --data synthetic --device cpu   a first look, minutes on a CPU
  python train.py --data_root DIR                               learn your own images
"""
WORDS = """\
sigma: a noise level, the standard deviation of the noise that is added to images in [-1, 1]; ln is
the natural logarithm. Step: one batch of images. Evaluation: one pass through the network; an image
takes one, two or four. Several numbers are written with blanks between: --sigmas 80 4 1.5 0.54"""


class About(NamedTuple):
    """What a page of help is about; with method "" it has the flags of all methods."""

    preset: str = DEFAULT_PRESET
    recipe: str = DEFAULT_RECIPE
    method: str = ""


EVERYTHING = About()


def default_of(item):
    """The default of a field of settings, whatever the preset."""
    return item.default_factory() if item.default is MISSING else item.default


def shown_sections(about):
    """`sections`, without flags that the method does not take and without empty sections."""
    hidden = _refused(METHODS[about.method]) if about.method else set()
    shown = {
        title: [item for item in items if item.name not in hidden]
        for title, items in sections().items()
    }
    return {title: items for title, items in shown.items() if items}


def recipes_of(about):
    """Names of the recipes that set anything of the method."""
    own = METHODS[about.method].recipes if about.method else RECIPES
    return [DEFAULT_RECIPE, *(name for name in RECIPES if name in own and name != DEFAULT_RECIPE)]


def help_of(item, about):
    """Meaning, default and range of a field, as one text."""
    usual = value_text(default_of(item))
    default = f"default: {usual}"
    for flag, name, table in _sources(about):
        if item.name in table:
            value = value_text(table[item.name])
            default = f"{flag} {name}: {value}, else {usual}" if value != usual else default
    limits = limits_text(item.metadata["low"], item.metadata["high"])
    return f"{item.metadata['text']} ({default}{limits})"


def value_text(value):
    """A value as it is given on a command line, but for switches and what is empty."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return " ".join(map(number_text, value))
    return (value or "empty") if isinstance(value, str) else number_text(value)


def limits_text(low, high):
    """`; 0 to 1`, or nothing where there are none; of an upper limit that is out of reach nothing
    is said."""
    if low is None or high is None:
        return ""
    upper = f"{number_text(low)} to {number_text(high)}"
    return f"; {upper}" if high < WIDE else f"; at least {number_text(low)}"


def introduction(about):
    """What stands before the flags."""
    method = f"the flags of --method {about.method}" if about.method else "all flags"
    parts = [
        INTRO,
        f"Here are {method}, with the defaults of --preset {about.preset}. For others:\n",
    ]
    parts.append("  python train.py --method NAME --help   the flags of another method")
    parts.append("  python train.py --preset NAME --help   what a preset sets, and its defaults")
    parts.append("  docs/flags.md                          all flags and presets on one page\n")
    names = {item.name for items in shown_sections(about).values() for item in items}
    for flag, name, table in _sources(about):
        words = [_as_flag(key, value) for key, value in table.items() if key in names]
        if words:
            parts.append(f"{flag} {name} stands for\n{_wrapped(words)}\n")
    return "\n".join([*parts, WORDS])


def ending(about):
    """What stands behind the flags: the names that can be chosen, and what they mean."""
    methods = {name: method.summary for name, method in METHODS.items()}
    recipes = {name: RECIPE_TEXTS[name] for name in recipes_of(about)}
    tables = {"methods": methods, "presets": PRESET_TEXTS}
    if len(recipes) > 1:
        tables["recipes"] = recipes
    parts = [f"{title}:\n{_listed(table)}" for title, table in tables.items()]
    if len(recipes) == 1:
        parts.append(f"recipes: none of --method {about.method}")
    return "\n\n".join([*parts, f"There is no --resume: {GOING_ON}."])


def values_page(settings):
    """The flags that these settings' phases use with their values, several a line, by task."""
    groups = {"run", "speed"} | {
        name for one in phases_of(settings) for name in PHASES[one].identity
    }
    names = {item.name for name in groups for item in fields(GROUPS[name])}
    values = flat(settings.as_dict())
    parts = []
    for title, items in shown_sections(About(method=settings.run.method)).items():
        # A text that is empty by default says nothing.
        said = [item for item in items if values[item.name] != "" or default_of(item) != ""]
        words = [_as_flag(one.name, values[one.name]) for one in said if one.name in names]
        if words:
            parts.append(f"{title}:\n{_wrapped(words)}")
    return "\n".join(parts)


def _refused(method):
    """Names of the settings that are refused with a method."""
    names = set(unused_settings(method))
    if not method.needs_teacher:
        names |= {"phase", "teacher_ckpt"}
    return names | ({"student_ckpt"} if method.phase.learns_levels else set())


def _sources(about):
    """(flag, name, {setting: value}) of what fills in defaults, the stronger ones last."""
    recipe = RECIPES[about.recipe] if about.recipe in recipes_of(about) else {}
    return [("--preset", about.preset, PRESETS[about.preset]), ("--recipe", about.recipe, recipe)]


def _as_flag(name, value):
    if isinstance(value, bool):
        return f"--{name}" if value else f"--no-{name}"
    return f"--{name} {quote(value)}" if isinstance(value, str) else f"--{name} {value_text(value)}"


def _wrapped(words):
    """Words of which none is broken, on as many lines as the terminal needs."""
    kept = " ".join(word.replace(" ", "\0") for word in words)
    options = dict(break_on_hyphens=False, break_long_words=False)
    lines = textwrap.wrap(kept, _width(), initial_indent="  ", subsequent_indent="  ", **options)
    return "\n".join(lines).replace("\0", " ")


def _listed(table):
    """`NAME  meaning` lines, the meanings below each other."""
    indent = max(map(len, table)) + 4
    return "\n".join(
        textwrap.fill(
            text, _width(), initial_indent=f"  {name}".ljust(indent), subsequent_indent=" " * indent
        )
        for name, text in table.items()
    )


def _width():
    return shutil.get_terminal_size().columns - 2  # as argparse does
