"""A run's folder: its `training_config.json`, and which settings may go on in it."""

import os
from dataclasses import asdict
from pathlib import Path

from fewstep.engine.checkpoints import check_identity, has_checkpoints, load_newest
from fewstep.methods import METHODS
from fewstep.runs.settings import (
    BEFORE,
    GROWING_FLAGS,
    NOT_IDENTITY,
    PHASES,
    STEPS_FLAGS,
    method_of,
)
from src.utils import UserError, read_json, write_json

CONFIG_NAME = "training_config.json"

# {phase that distils: the phase of its teacher}.
TEACHERS = {one.phase.name: one.teacher.name for one in METHODS.values() if one.needs_teacher}

# What it holds beside the settings: what is written down of a run, and sets nothing.
FACTS = {"identities", "started_in", "finished", "teacher_file", "preset", "exported"}
FACTS |= {"torch", "processes", "micro_batch_images", "device", "computes_in", "sigma_data"}
FACTS |= {"training_seconds"}
FACTS |= {f"{phase}_{what}" for phase in PHASES for what in ("seconds", "device", "torch")}
FACTS |= {f"{phase}_start" for phase in PHASES}  # flags of networks that it started from


def own_teacher(folder):
    """Where a run that trains its own teacher keeps it."""
    return Path(folder) / "teacher" / "model.pt"


def teacher_of(folder, content):
    """The teacher file of the run in `folder` whose `training_config.json` holds `content`."""
    return Path(content.get("teacher_file") or own_teacher(folder))


def places_of(content, text):
    """Where a path of a record may be: as it stands, and from where the run was started."""
    return [Path(text), Path(content.get("started_in", "")) / text]


def phase_identity(settings, phase, digests):
    """What a checkpoint must share with the present settings to be gone on from, flat and plain.

    phase: its name. digests: {what: hash} of what is not in the settings.
    """
    values = {"seed": settings.run.seed, **digests}
    for group in PHASES[phase].identity:
        for key, value in asdict(getattr(settings, group)).items():
            if key not in NOT_IDENTITY:
                values[key] = value
    return values


def begin_run(folder, settings, identities, teacher_path, **facts):
    """Write the run's `training_config.json`, or raise `UserError` and leave it as it was.

    identities: {phase: `phase_identity`} of the phases about to run; each must equal what the
    folder has for that phase already, if there is a checkpoint of it, but may have more steps.
    Settings of a phase that is not run now are kept. facts: see `FACTS`.
    """
    _check_facts(facts)
    before = _read_if_there(folder)
    recorded, now = before.get("identities", {}), settings.as_dict()
    for phase, identity in identities.items():
        if has_checkpoints(folder / phase) and phase in recorded:
            remedy = _elsewhere(folder, phase, method_of(settings), teacher_path)
            if _check_phase(folder, phase, recorded[phase], identity, remedy):
                _check_students(folder, phase, identities, teacher_path)
            identities = identities | {phase: recorded[phase] | identity}
    key, size = "micro_batch_images", facts.get("micro_batch_images")
    if before.get(key) not in (None, size):
        print(
            f"micro-batches of {size} images now, {before[key]} before: from here on other random"
            " numbers are drawn (see --micro_batch)"
        )
    key, computes = "computes_in", facts.get("computes_in")
    if before.get(key) not in (None, computes):
        print(
            f"computes in {computes} now, in {before[key]} before: from here on rounding differs"
            " (see --precision)"
        )
    used = {group for phase in identities for group in PHASES[phase].identity}
    used |= {"run", "speed"}
    groups = now | before.get("settings", {}) | {group: now[group] for group in used}
    teacher = {}
    if Path(teacher_path) != own_teacher(folder):
        teacher = {"teacher_file": str(Path(teacher_path).resolve())}
    elif not _students_of_another(folder, identities, before):
        before.pop("teacher_file", None)
    for phase in PHASES:  # of an earlier version, which had one machine for all
        if f"{phase}_seconds" in before:
            device, torch = machine_of(before, phase)
            kept = {f"{phase}_device": device, f"{phase}_torch": torch}
            before |= {key: value for key, value in kept.items() if value}
    both = {"settings": groups, "identities": recorded | identities}
    both |= {"started_in": os.getcwd(), "finished": False}
    write_json(folder / CONFIG_NAME, before | both | teacher | facts)


def add_facts(folder, **facts):
    """Add some of `FACTS` to the run's `training_config.json`."""
    _check_facts(facts)
    write_json(folder / CONFIG_NAME, _read_if_there(folder) | facts)


def add_training(folder, phase, seconds, **facts):
    """Add how long a phase has trained in all, and on what, to other `FACTS` of it: the machine of
    now, unless it has trained no further since that was said. A finished run may be repeated
    anywhere."""
    record, seconds = _read_if_there(folder), round(seconds, 1)
    facts |= {f"{phase}_seconds": seconds}
    if record.get(f"{phase}_seconds") != seconds:
        facts |= {f"{phase}_{key}": record[key] for key in ("device", "torch") if key in record}
    add_facts(folder, **facts)


def machine_of(record, phase):
    """(device, torch's version) that a phase was trained with; None where the record lacks it."""
    return tuple(record.get(f"{phase}_{key}", record.get(key)) for key in ("device", "torch"))


def _check_facts(facts):
    if unknown := facts.keys() - FACTS:
        raise KeyError(f"{unknown}: add to FACTS, so that --config knows it")


def _read_if_there(folder):
    path = Path(folder) / CONFIG_NAME
    return read_json(path) if path.exists() else {}


def _check_phase(folder, phase, recorded, identity, remedy):
    """Raise `UserError` where a phase that has checkpoints cannot go on with that identity.
    Returns whether it goes on to more steps than it had. remedy: the end of that message."""
    flag = STEPS_FLAGS[phase]
    if identity.get(flag) != recorded.get(flag) or identity.keys() - recorded.keys():
        # The record may say what was asked for and never trained, or be of an earlier version.
        recorded = load_newest(folder / phase)["identity"]
    try:
        check_identity(folder, BEFORE | recorded, identity, GROWING_FLAGS.get(phase))
    except UserError as error:
        raise UserError(f"{error}{remedy}") from error
    return identity.get(flag) != recorded.get(flag)


def _check_students(folder, teacher, running, teacher_path):
    """What comes of the students of a folder if its phase `teacher` is about to be trained further.
    Raises `UserError` where one of them is to be gone on with."""
    students = [name for name, theirs in TEACHERS.items() if theirs == teacher]
    for name in [name for name in students if has_checkpoints(folder / name)]:
        text = f"{folder}: its {name} comes from the teacher as it was and cannot be taken further"
        again = "--save_dir NEW --phase add --teacher_ckpt"
        if name in running:
            raise UserError(
                f"{text} with another: give --phase teacher, then distil the teacher into another"
                f" folder: {again} {teacher_path}"
            )
        print(f"{text} from here on; to distil anew: {again} {teacher_path}")


def _students_of_another(folder, running, before):
    """Whether a folder has students of a teacher that is not its own. Raises `UserError` where one
    of them is to be gone on with, and by a teacher of its own: that would be trained for nothing.
    before: the record."""
    file = before.get("teacher_file", own_teacher(folder))
    if Path(file).resolve() == own_teacher(folder).resolve():
        return False
    students = [name for name in TEACHERS if has_checkpoints(folder / name)]
    for name in students:
        if name in running:
            raise UserError(
                f"{folder}: its {name} comes from the teacher {file}; give --phase add to go on, or"
                " another --save_dir"
            )
    return bool(students)


def _elsewhere(folder, phase, method, teacher_path):
    """How a generator of other settings is trained, in brackets; nothing where `phase` is that of
    its teacher."""
    if phase != method.phase.name:
        return ""
    flags = "--save_dir NEW"
    if method.needs_teacher:
        flags += f" --phase add --teacher_ckpt {teacher_path}"
    if not method.phase.learns_levels:  # else the network stays as it is
        flags += f", and --student_ckpt {folder / 'final_model.pt'} to start from this generator"
    return f" (other settings: {flags})"
