"""Settings of adversarial diffusion distillation: the student's, presets, recipes, and which of
them cannot be together."""

from dataclasses import dataclass

from fewstep.engine.fields import HIGHEST_SIGMA, setting, steps, weight
from fewstep.engine.schedules import warmup_cosine
from fewstep.methods.adversary import check_discriminator
from fewstep.methods.score_distillation import NEEDS_FAKE_SCORE
from fewstep.methods.student_inputs import check_falling, nfe_table
from src.arguments import MOST_EVALUATIONS
from src.utils import UserError


@dataclass(frozen=True)
class Student:
    """Phase 2: the few-step student."""

    student_iterations: int = steps(20000, "steps of the student")
    student_lr: float = setting(5e-5, "peak learning rate of the student", low=0, high=1)
    start_lr: float = setting(
        0.0,
        "peak learning rate in the steps of --warm_start and --student_start consistency; 0: as"
        " --student_lr",
        low=0,
        high=1,
    )
    student_warmup: int = steps(100, "steps of linear warm-up of the student", low=0)
    student_dropout: float = setting(0.0, "dropout of the student", low=0, high=0.9)
    student_ema_images: float = setting(
        22000.0, "half-life of the student's EMA, in images; 0: no averaging", low=0, high=1e12
    )
    freeze_convs: bool = setting(False, "keep the teacher's inner 3x3 convolutions")
    sigmas: list = setting(
        [80.0, 4.0, 1.5, 0.54],
        "the four noise levels: NFE 1 uses the first, NFE 2 first and third, NFE 4 all",
        low=1e-4,
        high=HIGHEST_SIGMA,
    )
    first_sigma: float = setting(
        0.0, "replaces the first of --sigmas; 0: does not", low=0, high=HIGHEST_SIGMA
    )
    level_shares: list = setting(
        [0.5, 0.125, 0.25, 0.125],
        "how often each level is trained, in any unit; the first rounded to whole images",
        low=0,
        high=1e6,
    )
    self_input_share: float = setting(
        0.5, "share of self-generated inputs at the lower levels (rest: real)", low=0, high=1
    )
    student_start: str = setting(
        "teacher",
        "consistency: it starts as the teacher, too, and first becomes a consistency model",
        ["teacher", "consistency"],
    )
    consistency_steps: int = steps(2000, "first steps of --student_start consistency")
    identity_weight: float = weight(
        0.0, "weight of the distance between what comes of pure noise and that noise, at the start"
    )
    warm_start: int = steps(0, "first steps that regress on the teacher's ODE samples", low=0)
    warm_nfe: int = setting(
        9, "network evaluations of each of those samples", low=1, high=MOST_EVALUATIONS
    )
    warm_pairs: int = setting(
        0,
        "number of those samples, drawn once and kept in --cache_dir; 0: new ones at each step",
        low=0,
        high=10**7,
    )


def student_sigmas(student):
    """The four levels, `first_sigma` considered."""
    return [student.first_sigma or student.sigmas[0], *student.sigmas[1:]]


def student_config(teacher_config, settings):
    """The student's `model_config.json`: its teacher's, with the few-step sampler and levels."""
    levels = nfe_table(student_sigmas(settings.student))
    return teacher_config | {"sampler": "few_step", "few_step_sigmas": levels}


def start_steps(student):
    """(steps of the consistency start, steps of the regression on the teacher's ODE after it)."""
    consistency = student.consistency_steps if student.student_start == "consistency" else 0
    return consistency, student.warm_start


def alone_steps(settings):
    """Steps in which the critics learn without the student: none where there are no critics."""
    has_fake_score = settings.distillation.distill in NEEDS_FAKE_SCORE
    has_critics = has_fake_score or settings.discriminator.disc != "none"
    return settings.discriminator.disc_warmup if has_critics else 0


def student_rate(settings):
    """The student's learning rate as a function of the step: a warm-up and half a cosine for its
    start, if it has one, and another for what follows, in which it rests while critics learn alone.
    """
    student, alone = settings.student, alone_steps(settings)
    total, begin = student.student_iterations, sum(start_steps(student))

    def rate(step):
        if step < begin:
            peak = student.start_lr or student.student_lr
            return peak * warmup_cosine(step, begin, min(student.student_warmup, begin // 2))
        learnt = max(0, step - begin - alone)
        return student.student_lr * warmup_cosine(
            learnt, total - begin - alone, student.student_warmup
        )

    return rate


def check(settings):
    """Raise `UserError`, naming the flags, for settings of phase 2 that contradict themselves."""
    student, loss, disc = settings.student, settings.distillation, settings.discriminator
    check_falling("--sigmas, --first_sigma", student_sigmas(student))
    if sum(student.level_shares) <= 0:
        raise UserError("--level_shares: at least one share must be above 0")
    if student.warm_start and not student.level_shares[0]:
        raise UserError(
            f"--warm_start {student.warm_start}: the first of --level_shares is 0, so the student"
            " would learn nothing there"
        )
    total, alone = student.student_iterations, alone_steps(settings)
    consistency, warm = start_steps(student)
    if consistency + warm + alone >= total and settings.run.phase != "teacher":
        before = f"--consistency_steps {consistency}, " if consistency else ""
        raise UserError(
            f"{before}--warm_start {warm} and --disc_warmup {alone}: the student's {total} steps"
            " would all be warm-up; give less, or more --student_iterations"
        )
    if loss.distill == "none" and (disc.disc == "none" or not loss.adv_weight):
        flag = "--disc none" if disc.disc == "none" else "--adv_weight 0"
        raise UserError(f"--distill none and {flag}: the student has nothing to learn from")
    check_discriminator(disc, settings.network)


def check_size(settings, size):
    """Raise `UserError` where micro-batches of `size` images would lose a kind of the student's
    inputs to rounding: shares are of each of them."""
    student = settings.student
    share = student.level_shares[0] / sum(student.level_shares)
    first = round(size * share)
    own = round((size - first) * student.self_input_share)
    lost = (share and not first) or (student.self_input_share and first < size and not own)
    if lost and settings.run.phase != "teacher":
        raise UserError(
            f"--batch_size, --micro_batch: {size} images at once are too few for the student's"
            " --level_shares and --self_input_share; give more"
        )


PRESETS = {
    # A start on kept pairs, then a GAN whose student moves slowly enough for its discriminator to
    # follow: docs/results/small.md.
    "small": dict(
        student_iterations=4000,
        student_lr=5e-5,
        start_lr=5e-4,
        warm_start=1200,
        warm_nfe=15,
        warm_pairs=2048,
        student_warmup=50,
        student_ema_images=3000.0,
        level_shares=[0.7, 0.1, 0.1, 0.1],
        adv_weight=4.0,
        adv_ramp=50,
        disc_lr=1e-3,
        disc_warmup=60,
        disc_noise=False,
        penalty="approx_r1r2",
        penalty_weight=0.5,
        augment="translation",
        augment_p=0.5,
    ),
    "tiny": dict(
        student_iterations=600,
        student_lr=5e-4,
        student_warmup=20,
        student_ema_images=550.0,
        consistency_steps=100,
        sigmas=[5.0, 2.0, 1.0, 0.5],
        fake_lr=1e-3,
        disc="patch",  # docs/results/ablation.md
        disc_lr=2e-3,
        disc_warmup=30,
        adv_ramp=100,
        penalty_weight=50.0,
        ada_images=2000.0,
    ),
}

RECIPES = {
    # A few hundred to a few thousand images: the discriminator must not learn them by heart.
    "low_data": dict(
        augment="translation,color",
        augment_p=0.0,
        ada_target=0.6,
        student_dropout=0.1,
        disc_std=1.2,
    ),
    # Few updates: a start on the teacher's samples, then cheap steps (small discriminator, rare
    # penalty, no self-generated inputs).
    "low_compute": dict(
        distill="add", disc="patch", warm_start=100, penalty_interval=4, self_input_share=0.0
    ),
    # Distribution matching as in DMD2 (arXiv:2405.14867): a fake score at a ratio of 5.
    "dmd2": dict(distill="dmd", disc="unet", fake_steps=5, self_input_share=1.0, distill_final=1.0),
}
