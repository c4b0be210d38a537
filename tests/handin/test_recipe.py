"""The command in model cards and write-ups: what a run has beside its preset, to be pasted."""

import shlex

import pytest

from fewstep.handin.published import origin
from fewstep.handin.recipe import recipe
from fewstep.runs.command_line import make_settings, parse_settings
from fewstep.runs.settings import method_of
from fewstep.runs.starts import given_flags

LINES = [
    "--preset tiny --data=synthetic --sigmas 6.0 2.0 1.0 0.5",
    "--preset small --data=synthetic --no-x_flip --disc_heads=8,16 --augment=cutout",
    "--preset tiny --method consistency --data=synthetic --ct_iterations=777",
    "--preset tiny --method shortcut --data=synthetic --shortcut_steps=32",
    "--preset full --phase teacher --data=synthetic --num_iterations=7777",
    "--preset tiny --phase add --teacher_ckpt FILE --data=synthetic",
    "--preset small --phase teacher --teacher_ckpt FILE --data=synthetic",
]


def record_of(line):
    settings, preset, _ = parse_settings(shlex.split(line))
    phases = {"teacher": ["teacher"], "add": [method_of(settings).phase.name]}
    identities = {name: {} for name in phases.get(settings.run.phase, [])}
    starts = {f"{name}_start": given_flags(settings, name) for name in identities}
    return {"settings": settings.as_dict(), "preset": preset, "identities": identities} | starts


def test_networks_that_a_run_started_from_are_in_its_command_and_beside_its_hours():
    record = record_of("--preset tiny --phase add --teacher_ckpt FILE --data=synthetic")
    for run, flags in (("student_ckpt", ["student_ckpt"]), ("disc_ckpt", ["disc_ckpt"])):
        record["settings"]["run"][run] = "elsewhere/of/this/machine"
        record["student_start"] = given_flags(make_settings(record["settings"]["run"]), "student")
        assert record["student_start"][-1:] == flags
    wanted = "--phase add --teacher_ckpt FILE --student_ckpt FILE --disc_ckpt FILE --data=synthetic"
    assert recipe(record) == f"python train.py --preset tiny {wanted}"
    assert origin(record).endswith("unknown hours, after those of what it started from")
    assert "--student_ckpt" not in recipe(record, is_teacher=True)
    assert "after" not in origin(record, of_teacher=True)


@pytest.mark.parametrize("line", LINES)
def test_a_recipe_is_what_was_asked_for_and_gives_the_same_settings(line):
    record = record_of(line)
    told = recipe(record).removeprefix("python train.py ")
    assert sorted(shlex.split(told)) == sorted(shlex.split(line))
    assert parse_settings(shlex.split(told))[0].as_dict() == record["settings"]


def test_no_setting_of_another_method_or_of_the_machine_is_told():
    record = record_of("--preset tiny --data=synthetic --threads=1 --cache_dir=elsewhere")
    record["settings"]["ld3"]["ld3_iterations"] = 77  # as of an earlier version's preset
    record["settings"]["progressive"]["progressive_start"] = 8
    assert recipe(record) == "python train.py --preset tiny --data=synthetic"
    record["settings"]["student"]["student_iterations"] = 5
    teachers = "python train.py --preset tiny --phase teacher --data=synthetic"
    assert recipe(record, is_teacher=True) == teachers
