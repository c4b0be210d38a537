"""`train.py --config FILE`: settings from a file of flags, or from the record of a run."""

from pathlib import Path
from typing import NamedTuple

from fewstep.methods import METHODS
from fewstep.runs.finding import PATHS
from fewstep.runs.flag_values import DEFAULTS, is_plain, parsed_value
from fewstep.runs.presets import DEFAULT_PRESET, DEFAULT_RECIPE, PRESETS, RECIPES
from fewstep.runs.run_folder import FACTS, places_of, teacher_of
from fewstep.runs.settings import GROUPS, recorded
from fewstep.runs.yaml_files import read_yaml
from src.arguments import check_input_file, quoted
from src.utils import UserError, did_you_mean, read_json

NAMED = ("preset", "recipe")  # flags that stand for several others


class Record(NamedTuple):
    """What a run's `training_config.json` says to repeat it: values of all settings, the name of
    its preset, and the teacher that it distilled or trained."""

    values: dict
    name: str
    teacher: str


def with_config(path, given):
    """The flags of a command line with those of the file at `path`, None where there is no file.

    Returns ({setting: value}, "PRESET" or "PRESET+RECIPE", {flag: value} of what was asked for).
    A record has a value for every setting, so nothing in it counts as asked for; where that run was
    written is left aside, a repetition being a run of its own. Raises `UserError`, naming the file.
    """
    content = _read(path) if path else {}
    if "settings" in content:
        return _repeated(path, _record_of(path, content), given)
    asked = _values(path, content, {*DEFAULTS, *NAMED}) | given
    preset, recipe = asked.get("preset", DEFAULT_PRESET), asked.get("recipe", DEFAULT_RECIPE)
    method = METHODS[asked.get("method", DEFAULTS["method"])]
    if recipe not in (DEFAULT_RECIPE, *method.recipes):
        raise UserError(
            f"--recipe {recipe}: --method {method.name} has no use for it; leave it out"
        )
    if recipe in method.recipes and method.recipes[recipe].preset not in ("", preset):
        raise UserError(
            f"--recipe {recipe}: --preset {preset} has its own form of it already; leave it out"
        )
    asked = {key: value for key, value in asked.items() if key not in NAMED}
    name = preset if recipe == DEFAULT_RECIPE else f"{preset}+{recipe}"
    return {**PRESETS[preset], **RECIPES[recipe], **asked}, name, asked


def _repeated(path, record, given):
    for flag in NAMED:
        if flag in given:
            raise UserError(f"--{flag}: {path} has a value for every setting; leave it out")
    values = record.values | given
    if values.get("phase") == "add" and not values.get("teacher_ckpt"):
        values["teacher_ckpt"] = record.teacher
    return values, record.name, given


def _read(path):
    check_input_file("--config", path, "name a YAML or JSON file")
    if Path(path).suffix.lower() == ".json":
        return read_json(path)
    return read_yaml(path, "batch_size: 64")


def _record_of(path, content):
    """The `Record` of a `training_config.json`, whose keys must be known, each setting or fact."""
    groups = content["settings"]
    _check_known(path, content, {"settings", *FACTS})
    if not isinstance(groups, dict) or not all(isinstance(one, dict) for one in groups.values()):
        raise UserError(f"{path}: its settings are not those of a run, groups of flags")
    _check_known(path, groups, GROUPS)
    values = _values(path, recorded(groups), DEFAULTS)
    values.pop("save_dir", None)
    for key in PATHS:
        if values.get(key):
            values[key] = _place(content, values[key])
    name, teacher = content.get("preset", DEFAULT_PRESET), teacher_of(Path(path).parent, content)
    return Record(values, str(name), str(teacher))


def _place(content, text):
    """A path of a record, as it is named from here."""
    here, there = places_of(content, text)
    is_other = there.exists() and not (here.exists() and here.samefile(there))
    return str(there) if is_other else text


def _values(path, flags, known):
    """{flag: value} of a file, each of the kind that train.py takes."""
    _check_known(path, flags, known)
    values = {}
    for key, value in flags.items():
        if not is_plain(value):
            raise UserError(f"{path}: {key} {quoted(value)}: texts and numbers are expected")
        try:
            values[key] = parsed_value(key, value)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    return values


def _check_known(path, keys, known):
    for key in keys:
        if key not in known:
            raise UserError(f"{path}: unknown key {quoted(key)}{did_you_mean(key, known)}")
