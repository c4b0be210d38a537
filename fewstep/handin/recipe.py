"""The command that trains a network again, from the record of its run."""

import shlex
from dataclasses import asdict

from fewstep.methods import METHODS
from fewstep.methods.method import with_settings
from fewstep.runs.flag_values import as_arguments
from fewstep.runs.presets import PRESETS, RECIPES
from fewstep.runs.settings import GROUPS, NOT_IDENTITY, PHASES, Run, flat, recorded

USUAL = {name: asdict(group()) for name, group in GROUPS.items()}


def recipe(record, is_teacher=False):
    """`python train.py ...` with what a run's training_config.json has beside its preset: settings
    that its phases depend on, without those of this machine; paths are `DIR` and `FILE`.

    record: its content, with settings. is_teacher: of the teacher alone.
    """
    values = recorded(record["settings"])
    method = METHODS.get(values.get("method"), METHODS[Run().method])
    method = with_settings(method, values)
    phases = _phases(method, record, is_teacher)
    preset, _, own = record.get("preset", "").partition("+")
    words = [f"--preset {preset}"] if preset in PRESETS else []
    words += [f"--recipe {own}"] if own in RECIPES else []
    words += [] if method.name == Run().method or is_teacher else [f"--method {method.name}"]
    if phases == [method.teacher.name] and method.needs_teacher:
        words.append("--phase teacher")
    elif method.needs_teacher and method.teacher.name not in phases:
        words.append("--phase add --teacher_ckpt FILE")
    words += [f"--{flag} FILE" for name in phases for flag in record.get(f"{name}_start", [])]
    used = {group for name in phases for group in PHASES[name].identity}
    usual = flat({name: USUAL[name] for name in GROUPS if name in used})
    usual |= {
        key: value
        for table in (PRESETS.get(preset, {}), RECIPES.get(own, {}))
        for key, value in table.items()
        if key in usual
    }
    changed = {key: values[key] for key in usual if values.get(key, usual[key]) != usual[key]}
    changed = {key: value for key, value in changed.items() if key not in NOT_IDENTITY}
    if changed.get("data") == "folder":
        del changed["data"]
        words.append("--data_root DIR")
    return " ".join(["python train.py", *words, shlex.join(as_arguments(changed))]).strip()


def _phases(method, record, is_teacher):
    """Names of the phases that the record tells of, in their order."""
    if is_teacher:
        return [method.teacher.name]
    recorded = record.get("identities") or method.phases
    return [name for name in method.phases if name in recorded]
