"""What `train.py --help` shows: the right flags in the right order, with defaults that are true."""

import re
import shlex
from dataclasses import fields

import pytest

from fewstep.methods import METHODS
from fewstep.runs.command_line import parse_settings
from fewstep.runs.help_page import default_of, limits_text, value_text, values_page
from fewstep.runs.presets import PRESET_TEXTS, PRESETS, RECIPE_TEXTS, RECIPES
from fewstep.runs.sections import sections
from fewstep.runs.settings import GROUPS, PHASES, STEPS_FLAGS, Settings, flat, phases_of
from src.utils import UserError

FIELDS = {item.name: item for group in GROUPS.values() for item in fields(group)}
OF_ALL = {"preset", "config", "dry_run", "help"}


@pytest.fixture
def page(capsys, monkeypatch):
    """page(*arguments): what they print before the program ends, on lines that are long enough."""
    monkeypatch.setenv("COLUMNS", "10000")

    def print_page(*arguments):
        with pytest.raises(SystemExit) as ended:
            parse_settings(arguments)
        assert ended.value.code == 0
        return capsys.readouterr().out

    return print_page


def meanings_in(text):
    """{flag: its help}, whether that stands beside the flag or below it."""
    flags = text.partition("\nWhere to start")[2]
    found = re.findall(r"^  (?:-h, )?--(\w+)(?:.*\n {24}|.*?  +)(\S.*)", flags, re.MULTILINE)
    return dict(found)


def stands_for(text, flag):
    """The arguments that a preset or a recipe is said to stand for."""
    return shlex.split(text.partition(f"{flag} stands for\n")[2].partition("\n")[0])


def test_every_setting_stands_in_one_section_and_tasks_come_in_their_order():
    names = [item.name for items in sections().values() for item in items]
    assert sorted(names) == sorted(FIELDS)
    wanted = ["method", "data_root", "num_iterations", "network", "disc", "precision", "save_dir"]
    assert [name for name in names if name in wanted] == wanted
    lengths = {item.name for item in sections()["How long to train"]}
    assert set(STEPS_FLAGS.values()) <= lengths


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_a_method_is_shown_the_flags_that_it_takes(page, method):
    text = page("--method", method.name, "--help")
    shown = meanings_in(text).keys()
    assert f"the flags of --method {method.name}, with the defaults of --preset full" in text
    assert OF_ALL <= shown and method.steps_flag in shown
    assert ("recipe" in shown) == bool(method.recipes)
    assert (f"recipes: none of --method {method.name}\n" in text) != bool(method.recipes)
    for name in shown - OF_ALL - {"recipe", "method"}:
        self_made = arguments_for(FIELDS[name])
        assert parse_refusal(method, self_made) is None, f"{name} is shown and refused"
    for name in FIELDS.keys() - shown:
        refusal = parse_refusal(method, arguments_for(FIELDS[name]))
        assert refusal, f"{name} is not shown and accepted"


def arguments_for(item):
    """Arguments that give a setting: its default, or what is not empty, as far as that matters."""
    value, flag = default_of(item), f"--{item.name}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{item.name}"]
    if item.name == "phase":
        return [flag, "add"]
    if item.name in ("teacher_ckpt", "student_ckpt", "disc_ckpt"):
        return [flag, __file__]
    if isinstance(value, list):
        return [flag, *map(str, value)]
    return [f"{flag}={value}"]


def parse_refusal(method, arguments):
    """How a flag is refused because of the method, or None."""
    try:
        parse_settings(["--method", method.name, *arguments])
    except UserError as error:
        return str(error) if f"--method {method.name}" in str(error) else None
    return None


@pytest.mark.parametrize("preset", PRESETS)
def test_a_presets_own_defaults_are_shown_and_listed(page, preset):
    text = page("--preset", preset, "--help")
    meanings, usual = meanings_in(text), flat(Settings().as_dict())
    changed = {key: PRESETS[preset][key] for key in PRESETS[preset] if key in meanings}
    for name in meanings.keys() & usual.keys():
        new, old = value_text(changed.get(name, usual[name])), value_text(usual[name])
        wanted = f"(--preset {preset}: {new}, else {old}" if new != old else f"(default: {old}"
        assert wanted in meanings[name], name
    meant = flat(parse_settings(stands_for(text, f"--preset {preset}"))[0].as_dict())
    assert {key: meant[key] for key in changed} == changed
    assert changed or preset == "full"


def test_a_recipe_is_shown_over_the_preset(page):
    text = page("--preset", "tiny", "--recipe", "dmd2", "--help")
    assert "(--recipe dmd2: unet, else resnet)" in text
    meant = flat(parse_settings(stands_for(text, "--recipe dmd2"))[0].as_dict())
    assert {key: meant[key] for key in RECIPES["dmd2"]} == RECIPES["dmd2"]
    assert "(default: add)" in page("--recipe", "low_compute", "--help"), "it changes nothing there"
    assert "dmd2" not in page("--method", "reflow", "--help"), "it has none of that method's flags"


def test_help_waits_for_what_stands_behind_it(page):
    text = page("--help", "--preset", "tiny", "--method", "ld3")
    assert text == page("--preset", "tiny", "--method", "ld3", "-h")
    assert text == page("--preset", "tiny", "--method", "ld3", "-h", "--no_such_flag")
    assert "--preset tiny stands for" in text and "--ld3_ball" in text


def test_the_first_section_says_what_a_config_file_is(page):
    text = page("--help")
    first = text.partition("\nWhere to start")[2].partition("\n\n")[0]
    line = re.search(r"^  --config FILE +(.*)$", first, re.MULTILINE)[1]
    assert all(word in line for word in ("YAML", "JSON", "training_config.json", "repeated"))


def test_help_tells_the_defaults_that_hold_without_a_flag(page):
    text = page("--help")
    assert text == page("--preset", "full", "--recipe", "default", "--help")
    assert meanings_in(text)["preset"].endswith("(default: full)")
    assert meanings_in(text)["recipe"].endswith("(default: default)")


def test_names_that_can_be_chosen_are_explained(page):
    text = page("--help")
    assert PRESET_TEXTS.keys() == PRESETS.keys() and RECIPE_TEXTS.keys() == RECIPES.keys()
    for name, meaning in {**PRESET_TEXTS, **RECIPE_TEXTS}.items():
        assert re.search(rf"^  {name} +{re.escape(meaning)}$", text, re.MULTILINE), name
    for method in METHODS.values():
        assert re.search(rf"^  {method.name} +{re.escape(method.summary)}$", text, re.MULTILINE)


@pytest.mark.parametrize("phase", ["teacher", "all"])
@pytest.mark.parametrize("method", METHODS)
def test_the_values_of_a_run_are_those_of_its_phases_and_can_be_pasted(method, phase, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    line = ["--preset", "tiny", "--method", method]
    line += ["--augment="] if method == "adversarial" else []
    line += ["--phase", phase] if METHODS[method].needs_teacher else []
    settings, _, _ = parse_settings(line)
    text = values_page(settings)
    titles = [one for one in text.splitlines() if not one.startswith(" ")]
    assert len(titles) < len(text.splitlines()) < 60
    assert {one.removesuffix(":") for one in titles} <= sections().keys()
    flags = shlex.split(" ".join(one for one in text.splitlines() if one not in titles))
    again = parse_settings(flags)[0]
    for group in {"run", *(name for one in phases_of(settings) for name in PHASES[one].identity)}:
        assert getattr(again, group) == getattr(settings, group)
    assert ("--student_iterations" in flags) == (method == "adversarial" and phase == "all")


def test_numbers_are_written_as_people_write_them(page):
    assert not re.search(r"\de\+|\d{8}", "".join(page("--method", name, "-h") for name in METHODS))
    assert limits_text(0, 2**31 - 1) == "; at least 0" and limits_text(1, 64) == "; 1 to 64"
    assert limits_text(None, None) == ""
    values = [value_text(value) for value in (True, "", 22000.0, [80.0, 0.54], "add")]
    assert values == ["on", "empty", "22000", "80 0.54", "add"]


def test_whole_numbers_may_have_an_exponent():
    settings, _, _ = parse_settings(["--num_iterations", "1e5", "--student_iterations=2.5e3"])
    assert settings.scratch.num_iterations == 100_000
    assert settings.student.student_iterations == 2500
