"""Command line <-> `Settings`: flags are the fields, presets fill in, every value is checked."""

from dataclasses import fields, replace

from fewstep.images import is_own_folder
from fewstep.runs.checks import check_given, check_places, check_together, idle_note
from fewstep.runs.config_file import with_config
from fewstep.runs.help_page import GOING_ON, About, default_of
from fewstep.runs.parser import build_parser
from fewstep.runs.presets import DEFAULT_PRESET, DEFAULT_RECIPE
from fewstep.runs.settings import GROUPS, Run, Settings, recorded
from src.arguments import check_range, quoted
from src.utils import UserError, did_you_mean

# What other programs call the flag for it, with whatever follows (--resume_from FILE).
RESUMING = ("--resume", "--continue")

KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def parse_settings(arguments, prog="train.py", tell=lambda text: None):
    """Arguments -> (`Settings`, "PRESET" or "PRESET+RECIPE", dry_run: None, or the hours it is
    given, 0 where it has none). A flag that is given twice has its last value; those of `--config`
    stand before all others. With --help the program ends. `tell` is called with one line if some
    change nothing beside the others. Raises `UserError`, naming the flag."""
    parser = build_parser(prog)
    given, unknown = parser.parse_known_args(arguments)
    if "help" in given:
        build_parser(prog, _about(vars(given))).print_help()
        parser.exit()
    if unknown:
        flags = [action.option_strings[0] for action in parser._actions]
        name = unknown[0].partition("=")[0]
        if name.startswith(RESUMING):
            raise UserError(
                f"{quoted(name)}: no such flag, resuming is automatic: {GOING_ON}; leave it out,"
                " and give the same --save_dir if the run had one"
            )
        parser.error(f"unknown argument {quoted(name)}{did_you_mean(name, flags)}")
    given = vars(given)
    dry_run, path = given.pop("dry_run", None), given.pop("config", None)
    values, name, given = with_config(path, given)
    settings = make_settings(values)
    check_given(settings, given)
    check_places(settings)
    if note := idle_note(settings, given):
        tell(note)
    return settings, name, dry_run


def _about(given):
    """What the help is about beside the flags {name: value} of a command line; a file of `--config`
    is not read."""
    preset, recipe = given.get("preset", DEFAULT_PRESET), given.get("recipe", DEFAULT_RECIPE)
    return About(preset, recipe, given.get("method", Run().method))


def make_settings(values):
    """Flat {field: value} -> checked `Settings`, which name the images that are really used. Raises
    `UserError` for what cannot be."""
    known = {item.name for group in GROUPS.values() for item in fields(group)}
    for key in values:
        if key not in known:
            raise UserError(f"unknown setting {key!r}; python train.py --help lists them")
    groups = {}
    for name, group in GROUPS.items():
        known = {item.name: item for item in fields(group)}
        chosen = {key: values[key] for key in values if key in known}
        for key, value in chosen.items():
            _check(known[key], value)
        groups[name] = group(**chosen)
    data = groups["data"]
    if data.data == "simpsons" and is_own_folder(data.data_root):
        groups["data"] = replace(data, data="folder")
    settings = Settings(**groups)
    check_together(settings)
    return settings


def settings_from_json(content):
    """The `Settings` of a `training_config.json`. Raises `UserError` when it holds none."""
    groups = content.get("settings")
    # A run of an earlier version may lack a group.
    fit = isinstance(groups, dict) and groups and not set(groups) - set(GROUPS)
    if not fit or not all(isinstance(group, dict) for group in groups.values()):
        raise UserError("training_config.json: it does not hold the settings of a run")
    return make_settings(recorded(groups))


def _check(item, value):
    """One value, which may come from a file: its kind, choices and range."""
    default, choices, flag = default_of(item), item.metadata["choices"], f"--{item.name}"
    if not _is_alike(value, default):
        kind = f"{len(default)} numbers" if isinstance(default, list) else KINDS[type(default)]
        raise UserError(f"{flag} {quoted(value)}: {kind} expected")
    if choices and value not in choices:
        raise UserError(f"{flag} {quoted(value)}: use one of {', '.join(choices)}")
    if not isinstance(default, (bool, str)):
        check_range(flag, value, item.metadata["low"], item.metadata["high"])


def _is_alike(value, default):
    """Whether a value is of the kind of the default; a whole number may stand for any."""
    if isinstance(default, list):
        is_list = isinstance(value, (list, tuple)) and len(value) == len(default)
        return is_list and all(_is_alike(*pair) for pair in zip(value, default))
    kinds = (int, float) if isinstance(default, float) else type(default)
    return isinstance(value, kinds) and isinstance(value, bool) == isinstance(default, bool)
