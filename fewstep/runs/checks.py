"""Settings that are each possible and cannot be together, and places that cannot serve."""

from pathlib import Path

from fewstep.engine.loggers import NONE, package_of
from fewstep.runs.settings import (
    STARTS,
    flat,
    method_of,
    settings_of_other_phases,
    unused_settings,
)
from fewstep.scores.spaces import feature_space
from src.arguments import (
    check_apart,
    check_input_file,
    check_input_folder,
    check_output_folder,
    check_place,
)
from src.model_config import NORM_GROUPS
from src.published import is_published
from src.utils import UserError

FEWEST_BEST = 4  # images whose spread a distance can be of


def check_together(settings):
    """Raise `UserError`, naming the flags, for `Settings` that contradict themselves."""
    run = settings.run
    _check_data(settings)
    for flag in STARTS:
        if run.phase == "teacher" and getattr(run, flag):
            raise UserError(f"--phase teacher trains no student; leave out --{flag}")
    if run.student_ckpt and method_of(settings).phase.learns_levels:
        raise UserError(
            f"--student_ckpt: --method {run.method} learns noise levels alone; leave it out"
        )
    if not method_of(settings).needs_teacher and (run.phase != "all" or run.teacher_ckpt):
        flag = f"--phase {run.phase}" if run.phase != "all" else "--teacher_ckpt"
        raise UserError(f"{flag}: --method {run.method} has no teacher; leave it out")
    if 0 < run.best_images < FEWEST_BEST:
        raise UserError(
            f"--best_images {run.best_images}: a distance needs at least {FEWEST_BEST}; 0 for none"
        )
    if run.export == "best" and not (run.best_images or method_of(settings).phase.best_by):
        raise UserError("--export best: --best_images 0 tells none; give some, or --export last")
    if (groups := settings.network.norm_groups) not in NORM_GROUPS:
        raise UserError(f"--norm_groups {groups}: a power of two is needed, 1 to {NORM_GROUPS[0]}")
    method_of(settings).check(settings)


def check_given(settings, given):
    """Raise `UserError` for flags among `given` that change nothing, or whose warm-up of the
    learning rate takes a whole phase. A preset's own may: short trials shorten the phase alone."""
    values, method = flat(settings.as_dict()), method_of(settings)
    unused = unused_settings(method)
    for flag in given:
        if flag in unused:
            raise UserError(f"--{flag}: --method {method.name} has no use for it; leave it out")
    own_only = settings.run.phase == "add"
    warmups = () if own_only else (("warmup", "num_iterations"),)
    warmups += () if settings.run.phase == "teacher" else method.warmups
    for flag, phase_steps in warmups:
        if flag in given and values[flag] >= values[phase_steps]:
            raise UserError(
                f"--{flag} {values[flag]}: the phase has {values[phase_steps]} steps; give less"
            )


def idle_note(settings, given):
    """One line about the flags among `given` that change nothing as the others are; "" if all
    do. They are no mistake: a grid has some, and so has a line of all flags of a run."""
    method, phase = method_of(settings), settings.run.phase
    idle = {} if phase == "teacher" else method.idle(settings)
    parts = [f"--{flag} (without {idle[flag]})" for flag in given if flag in idle]
    elsewhere = settings_of_other_phases(settings)
    parts += [f"--{flag} (with --phase {phase})" for flag in given if flag in elsewhere]
    return f"no effect here: {', '.join(parts)}" if parts else ""


def check_places(settings):
    """Raise `UserError` for files and folders that cannot be what they are named for, and for a
    feature space or a logger that is not installed. Touches nothing; a teacher that is not there
    yet may come."""
    run, data = settings.run, settings.data
    check_output_folder("--cache_dir", data.cache_dir)
    if run.save_dir:
        check_output_folder("--save_dir", run.save_dir)
    if run.phase != "teacher":
        check_output_folder("--export_dir", run.export_dir)
    if data.data_root:
        check_input_folder("--data_root", data.data_root, "name a folder of images")
        check_apart("--save_dir", run.save_dir or "results", "--data_root", data.data_root)
    for flag, path in (("--train_split", data.train_split), ("--val_split", data.val_split)):
        if path:
            check_input_file(flag, path, "name a file with one image id a line")
    try:
        feature_space(run.best_features)
    except UserError as error:
        raise UserError(f"--best_features {run.best_features}: {error}") from error
    if run.logger != NONE:
        package_of(run.logger)
    if run.teacher_ckpt:
        check_place("--teacher_ckpt", run.teacher_ckpt)
        if Path(run.teacher_ckpt).is_dir() and not is_published(run.teacher_ckpt):
            raise UserError(
                f"--teacher_ckpt {run.teacher_ckpt}: is a folder, not a published one; name a"
                " model.pt"
            )
    if run.student_ckpt:
        check_place("--student_ckpt", run.student_ckpt)
        if not is_published(run.student_ckpt):
            remedy = "name a run's final_model.pt, or a published folder"
            check_input_file("--student_ckpt", run.student_ckpt, remedy)
    if run.disc_ckpt:
        check_place("--disc_ckpt", run.disc_ckpt)
        if not is_published(run.disc_ckpt):
            remedy = "name a student/checkpoint_iter_N.pt, or a published folder"
            check_input_file("--disc_ckpt", run.disc_ckpt, remedy)


def _check_data(settings):
    data = settings.data
    if data.data == "folder" and not data.data_root:
        raise UserError("--data folder: name the folder with --data_root DIR")
    if data.data != "synthetic":
        return
    for flag in ("data_root", "train_split", "val_split"):
        if getattr(data, flag):
            raise UserError(f"--data synthetic draws its images; leave out --{flag}")
    if data.batch_size > data.synthetic_count:
        raise UserError(
            f"--batch_size {data.batch_size}: there are {data.synthetic_count} images; give less,"
            " or more --synthetic_count"
        )
