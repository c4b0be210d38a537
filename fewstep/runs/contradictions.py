"""Settings that are each possible and cannot be together, and places that cannot serve."""

from pathlib import Path

from discriminator import check_name
from fewstep.runs.derived import alone_steps, head_resolutions, policy_names, student_sigmas
from src.arguments import (
    check_input_file,
    check_input_folder,
    check_output_folder,
    check_place,
)
from src.utils import UserError

FEWEST_BEST = 4  # images whose spread a distance can be of


def check_together(settings):
    """Raise `UserError`, naming the flags, for `Settings` that contradict themselves."""
    _check_data(settings)
    _check_levels(settings.student)
    if settings.run.phase == "teacher" and settings.student.teacher_ckpt:
        raise UserError("--phase teacher trains a teacher; leave out --teacher_ckpt")
    if 0 < settings.run.best_images < FEWEST_BEST:
        raise UserError(
            f"--best_images {settings.run.best_images}: a distance needs at least {FEWEST_BEST};"
            " 0 for none"
        )
    steps = settings.student.student_iterations
    warm, alone = settings.student.warm_start, alone_steps(settings)
    if warm + alone >= steps and settings.run.phase != "teacher":
        raise UserError(
            f"--warm_start {warm} and --disc_warmup {alone}: the student's {steps} steps would all"
            " be warm-up; give less, or more --student_iterations"
        )
    _check_learning(settings)
    _check_discriminator(settings)


def check_warmups(settings, given):
    """Raise `UserError` where a warm-up of the learning rate that is among the flags `given` takes
    a whole phase. A preset's own may: short trials shorten the phase alone."""
    student, teacher, phase = settings.student, settings.teacher, settings.run.phase
    for flag, warmup, steps, is_run in (
        ("warmup", teacher.warmup, teacher.num_iterations, phase != "add"),
        ("student_warmup", student.student_warmup, student.student_iterations, phase != "teacher"),
    ):
        if flag in given and is_run and warmup >= steps:
            raise UserError(f"--{flag} {warmup}: the phase has {steps} steps; give less")


def check_places(settings):
    """Raise `UserError` for files and folders that cannot be what they are named for. Touches
    nothing; a teacher that is not there yet may come."""
    run, data, student = settings.run, settings.data, settings.student
    check_output_folder("--cache_dir", data.cache_dir)
    if run.save_dir:
        check_output_folder("--save_dir", run.save_dir)
    if run.phase != "teacher":
        check_output_folder("--export_dir", run.export_dir)
    if data.data_root:
        check_input_folder("--data_root", data.data_root, "name a folder of images")
    for flag, path in (("--train_split", data.train_split), ("--val_split", data.val_split)):
        if path:
            check_input_file(flag, path, "name a file with one image id a line")
    if student.teacher_ckpt:
        check_place("--teacher_ckpt", student.teacher_ckpt)
        if Path(student.teacher_ckpt).is_dir():
            raise UserError(f"--teacher_ckpt {student.teacher_ckpt}: is a folder; name a model.pt")


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


def _check_levels(student):
    sigmas = student_sigmas(student)
    if any(a <= b for a, b in zip(sigmas, sigmas[1:])):
        raise UserError(
            f"--sigmas, --first_sigma: {sigmas} must be four levels from largest to smallest"
        )
    if sum(student.level_shares) <= 0:
        raise UserError("--level_shares: at least one share must be above 0")


def _check_learning(settings):
    disc, loss = settings.discriminator, settings.distillation
    if loss.distill == "none" and (disc.disc == "none" or not loss.adv_weight):
        flag = "--disc none" if disc.disc == "none" else "--adv_weight 0"
        raise UserError(f"--distill none and {flag}: the student has nothing to learn from")


def _check_discriminator(settings):
    disc = settings.discriminator
    head_resolutions(disc.disc_heads)
    policy = policy_names(disc.augment)
    if disc.ada_target and not policy:
        raise UserError("--ada_target steers augmentation; name some, e.g. --augment translation")
    if disc.disc == "none":
        return
    trunk, _ = check_name(disc.disc)
    if disc.ada_target and disc.gan_loss == "relativistic":
        raise UserError("--ada_target asks for the sign of logits, relativistic ones have no zero")
    if disc.disc_start == "teacher":
        if not hasattr(trunk, "start_from"):
            raise UserError(f"--disc_start teacher: --disc {disc.disc} cannot; use --disc unet")
        if settings.network.use_additional_condition:
            raise UserError("--disc_start teacher: not with --use_additional_condition")
        for flag in ("disc_channels", "disc_depth"):
            if getattr(disc, flag):
                raise UserError(f"--{flag} with --disc_start teacher: the teacher has its own size")
