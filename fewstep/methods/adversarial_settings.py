"""Settings of adversarial diffusion distillation: the student's, presets, recipes, and which of
them cannot be together."""

from dataclasses import dataclass, fields

from fewstep.engine.fields import HIGHEST_SIGMA, levels, setting, steps, weight
from fewstep.methods.adversary_settings import Discriminator, check_discriminator
from fewstep.methods.consistency import Consistency
from fewstep.methods.method import Recipe, loses
from fewstep.methods.score_distillation import NEEDS_FAKE_SCORE, Distillation
from fewstep.methods.student_inputs import check_falling, nfe_table
from fewstep.methods.timeline import Timeline, has_discriminator
from src.arguments import MOST_EVALUATIONS
from src.utils import UserError


@dataclass(frozen=True)
class Student:
    """Phase 2: the few-step student."""

    student_iterations: int = steps(20000, "steps of the student (--method adversarial)")
    student_lr: float = setting(5e-5, "peak learning rate of the student", low=0, high=1)
    start_lr: float = setting(
        1e-4,
        "peak learning rate of its start (--warm_start, --student_start consistency); 0: as"
        " --student_lr",
        low=0,
        high=1,
    )
    student_warmup: int = steps(
        100, "first updates of the student, in which its learning rate rises to its peak", low=0
    )
    student_dropout: float = setting(0.0, "dropout of the student in training", low=0, high=0.9)
    student_ema_images: float = setting(
        22000.0,
        "half-life of the average of the student's weights (EMA), which is what is saved, in"
        " images; 0: no average",
        low=0,
        high=1e12,
    )
    freeze_convs: bool = setting(
        False, "keep the inner 3x3 convolutions as they are in the teacher"
    )
    sigmas: list = levels([80.0, 4.0, 1.5, 0.54])
    first_sigma: float = setting(
        0.0,
        "level of the pure noise that images are made from, the most important of --sigmas: give it"
        " here to change it alone; 0: as --sigmas say",
        low=0,
        high=HIGHEST_SIGMA,
    )
    level_shares: list = setting(
        [0.5, 0.125, 0.25, 0.125],
        "how often each of the four levels is trained, in proportion; the first one's share of a"
        " batch is rounded to whole images",
        low=0,
        high=1e6,
    )
    self_input_share: float = setting(
        0.5,
        "below the first level the student is trained on noised images: this share of them are its"
        " own, as in sampling, the others are real",
        low=0,
        high=1,
    )
    student_start: str = setting(
        "teacher",
        "the student starts with the teacher's weights; consistency: and learns first to be a"
        " consistency model",
        ["teacher", "consistency"],
    )
    consistency_steps: int = steps(2000, "steps of --student_start consistency")
    identity_weight: float = weight(
        0.0,
        "weight at the start of the distance between an image and the pure noise that it was made"
        " from; it falls during training; 0: off",
    )
    denoise_weight: float = weight(
        0.0,
        "weight of the plain denoising loss of the real images among the inputs, which keeps what"
        " later evaluations must not change, such as colours; 0: off",
    )
    colour_weight: float = weight(
        0.0,
        "weight of the squared distance between the mean colour of an image of a later evaluation"
        " and that of its noised input, which a discriminator lets drift from one evaluation to the"
        " next; 0: off",
    )
    pair_weight: float = weight(
        0.0,
        "half of the pure noise comes from --warm_pairs, and this, which falls as the weight of"
        " --distill does, is the weight of the squared error to the image that the pair has of it,"
        " which keeps images as different as those; 0: off",
    )
    pairs_of: str = setting(
        "teacher",
        "whose image of its noise a pair has: the teacher's, or that of --student_ckpt in several"
        " evaluations, which one evaluation learns from where it is the better",
        ["teacher", "student"],
    )
    pairs_nfe: int = setting(
        0,
        "evaluations of that student for an image: 2 or 4; 0: the most that it has levels for",
        low=0,
        high=4,
    )
    warm_start: int = steps(
        2000, "first steps, in which the student copies images that the teacher makes", low=0
    )
    warm_nfe: int = setting(
        15,
        "network evaluations of the teacher for each of those images",
        low=1,
        high=MOST_EVALUATIONS,
    )
    warm_pairs: int = setting(
        8192,
        "make so many of those images once, with their noise, and keep the pairs in --cache_dir; 0:"
        " new ones in each step",
        low=0,
        high=500_000,  # a file of them is open each
    )


def student_sigmas(student):
    """The four levels, `first_sigma` considered."""
    return [student.first_sigma or student.sigmas[0], *student.sigmas[1:]]


def student_config(teacher_config, settings):
    """The student's `model_config.json`: its teacher's, with the few-step sampler and levels."""
    levels = nfe_table(student_sigmas(settings.student))
    if settings.student.colour_weight and teacher_config["noise_offset"]:
        raise UserError(
            f"--colour_weight {settings.student.colour_weight}: the teacher has --noise_offset"
            f" {teacher_config['noise_offset']}, which hides the mean colour of a noised image;"
            " give 0"
        )
    return teacher_config | {"sampler": "few_step", "few_step_sigmas": levels}


def uses_pairs(student):
    """Whether anything learns from noise and an image of it."""
    return bool(student.warm_start or student.pair_weight)


def pairs_are_own(student):
    """Whether pairs are used, and have images of the student that one begins with."""
    return student.pairs_of == "student" and uses_pairs(student)


def check(settings):
    """Raise `UserError`, naming the flags, for settings of phase 2 that contradict themselves."""
    student, loss, disc = settings.student, settings.distillation, settings.discriminator
    check_falling("--sigmas, --first_sigma", student_sigmas(student))
    if sum(student.level_shares) <= 0:
        raise UserError("--level_shares: at least one share must be above 0")
    for flag in ("warm_start", "pair_weight", "identity_weight"):
        if getattr(student, flag) and not student.level_shares[0]:
            raise UserError(
                f"--{flag} {getattr(student, flag)}: the first of --level_shares is 0, so the"
                " student would learn nothing there"
            )
    if student.denoise_weight and student.self_input_share == 1:
        raise UserError(
            f"--denoise_weight {student.denoise_weight}: with --self_input_share 1 no real image is"
            " among the inputs; give less of the latter"
        )
    for flag in ("denoise_weight", "colour_weight"):
        if getattr(student, flag) and not sum(student.level_shares[1:]):
            raise UserError(
                f"--{flag} {getattr(student, flag)}: only the first of --level_shares is above 0,"
                " so no image is among the inputs"
            )
    if student.pair_weight and not student.warm_pairs:
        raise UserError(
            f"--pair_weight {student.pair_weight}: there are no pairs; give --warm_pairs, e.g. 2048"
        )
    if pairs_are_own(student):
        if student.pairs_nfe not in (0, 2, 4):
            raise UserError(f"--pairs_nfe {student.pairs_nfe}: use 2 or 4, or 0 for the most")
        if not settings.run.student_ckpt and settings.run.phase != "teacher":
            raise UserError(
                "--pairs_of student, as --recipe another_round has it, needs a student: name it"
                " with --student_ckpt and its discriminator with --disc_ckpt, or give --pairs_of"
                " teacher"
            )
        if not student.warm_pairs:
            raise UserError(
                "--pairs_of student: its images are kept; give --warm_pairs, e.g. 2048, not 0"
            )
    if student.student_start == "consistency" and settings.network.use_additional_condition:
        raise UserError(
            "--student_start consistency: not with --use_additional_condition, whose input it would"
            " not learn"
        )
    timeline = Timeline.of(settings)
    if timeline.learning <= 0 and settings.run.phase != "teacher":
        before = f"--consistency_steps {timeline.consistency}, " if timeline.consistency else ""
        raise UserError(
            f"{before}--warm_start {timeline.warm} and --disc_warmup {timeline.alone}: the"
            f" student's {student.student_iterations} steps would all be warm-up; give less, or"
            " more --student_iterations"
        )
    if not has_discriminator(settings):
        flag = "--disc none" if disc.disc == "none" else "--adv_weight 0"
        if loss.distill == "none":
            raise UserError(f"--distill none and {flag}: the student has nothing to learn from")
        if settings.run.disc_ckpt:
            raise UserError(f"--disc_ckpt with {flag}: no discriminator would begin with it")
    is_judged = has_discriminator(settings) and loss.balance == "constant"
    own_alone = not student.level_shares[0] and student.self_input_share == 1
    if own_alone and not loss.distill_self and loss.distill != "none" and not is_judged:
        raise UserError(
            "--distill_self 0: by --level_shares and --self_input_share all images are made from"
            " the student's own, so it would learn nothing (with a discriminator --balance constant"
            " lets it); give more"
        )
    check_discriminator(disc, settings.network)


def idle(settings):
    """{setting that changes nothing as the others are: the flag that would let it}."""
    student, loss, disc = settings.student, settings.distillation, settings.discriminator
    has_fake_score, has_disc = loss.distill in NEEDS_FAKE_SCORE, disc.disc != "none"
    has_penalty = disc.penalty != "none"
    is_tuned = student.student_start == "consistency"
    of_critics = {"disc_warmup", "disc_steps"} if has_fake_score else set()
    of_disc = _names(Discriminator) - {"disc"} - of_critics
    of_adversary = {"adv_weight", "adv_ramp"}
    of_loss = _names(Distillation) - {"distill"} - of_adversary
    if student.pair_weight:  # falls by them
        of_loss -= {"distill_final", "distill_decay_from"}
    rules = [
        (not disc.ada_target, "--ada_target", {"ada_images"}),
        (not disc.augment, "--augment", {"augment_p"}),
        (not disc.disc_noise, "--disc_noise", {"disc_mean", "disc_std"}),
        (not disc.penalty_weight, "--penalty_weight", {"penalty_sigma", "penalty_interval"}),
        (not has_penalty, "--penalty", {"penalty_weight", "penalty_sigma", "penalty_interval"}),
        (loss.distill != "sid", "--distill sid", {"sid_alpha"}),
        (not has_fake_score, "--distill dmd or sid", {"fake_lr", "fake_steps"}),
        (
            not uses_pairs(student),
            "--warm_start or --pair_weight",
            {"warm_nfe", "warm_pairs", "pairs_of", "pairs_nfe"},
        ),
        (student.pairs_of != "student", "--pairs_of student", {"pairs_nfe"}),
        (student.pairs_of == "student", "--pairs_of teacher", {"warm_nfe"}),
        (not Timeline.of(settings).start, "--warm_start", {"start_lr"}),
        (not is_tuned, "--student_start consistency", {"consistency_steps", *_names(Consistency)}),
        (loss.distill == "none", "--distill", of_loss),
        (not student.self_input_share, "--self_input_share", {"distill_self"}),
        (not has_disc, "--disc", of_disc | of_adversary | {"balance"}),
        (not loss.adv_weight, "--adv_weight", of_disc | {"disc", "adv_ramp", "balance"}),
    ]
    return {name: flag for is_idle, flag, names in rules if is_idle for name in names}


def _names(group):
    return {item.name for item in fields(group)}


def check_size(settings, size):
    """Raise `UserError` where micro-batches of `size` images would lose a kind of the student's
    inputs to rounding: shares are of each of them."""
    if settings.run.phase == "teacher":
        return
    student = settings.student
    share = student.level_shares[0] / sum(student.level_shares)
    lower = size - round(size * share)
    if loses(share, size) or (lower and loses(student.self_input_share, lower)):
        raise UserError(
            f"--batch_size, --micro_batch: {size} images at once are too few for the student's"
            " --level_shares and --self_input_share; give more"
        )


NO_WAITING = dict(disc_lead=0.0, disc_lead_most=1.0)

PRESETS = {
    # A start on kept pairs, then a GAN whose student waits for its discriminator and whose
    # discriminator slows down for its student: docs/results/small.md.
    "small": dict(
        student_iterations=6400,
        student_lr=2.5e-4,
        start_lr=5e-4,
        warm_start=1000,
        warm_pairs=2048,
        pair_weight=0.1,
        student_warmup=50,
        student_ema_images=3000.0,
        sigmas=[80.0, 2.0, 0.9, 0.5],
        level_shares=[0.55, 0.15, 0.15, 0.15],
        self_input_share=0.8,
        # Little noise for the teacher and the discriminator, exact R1: what should be flat is. Then
        # the discriminator may pull ever harder, up to adv_weight / distill_final times as hard.
        distill_mean=-2.5,
        distill_std=1.0,
        distill_decay_from=0.0,
        distill_final=0.2,
        distill_self=0.2,
        adv_weight=2.5,
        adv_ramp=50,
        disc_lr=1e-3,
        disc_lr_final=0.5,
        disc_warmup=50,
        disc_lead_most=0.85,
        disc_mean=-4.0,
        disc_std=2.5,
        penalty="r1",
        penalty_interval=4,
        augment="translation",
        augment_p=0.8,
    ),
    "tiny": dict(
        student_iterations=1000,
        student_lr=5e-4,
        start_lr=2e-3,  # of --recipe pairs
        student_warmup=20,
        student_ema_images=550.0,
        consistency_steps=100,
        sigmas=[5.0, 2.0, 1.0, 0.5],
        # Neither pairs nor waiting: --recipe pairs has both.
        warm_start=0,
        warm_nfe=9,
        warm_pairs=0,
        **NO_WAITING,
        fake_lr=1e-3,
        disc="patch",  # docs/results/ablation.md
        disc_level=False,
        disc_lr=2e-3,
        disc_warmup=30,
        adv_ramp=100,
        penalty_weight=50.0,
        ada_images=2000.0,
    ),
}

RECIPES = {
    "low_data": Recipe(
        "some hundred to some thousand images, which the discriminator must not learn by heart",
        dict(
            augment="translation,color",
            augment_p=0.0,
            ada_target=0.6,
            student_dropout=0.1,
            disc_std=1.2,
        ),
    ),
    "pairs": Recipe(
        "for --preset tiny: a start on noise and the images that the teacher makes of it, from"
        " noise that hides all; then the student waits for its discriminator",
        dict(
            sigmas=[80.0, 4.0, 1.5, 0.54],
            warm_start=400,
            warm_pairs=512,
            disc_lead=0.3,
        ),
        preset="tiny",
    ),
    "low_compute": Recipe(
        "few steps: a start on the teacher's images, then cheap steps",
        dict(
            distill="add",
            disc="patch",
            warm_start=100,
            warm_nfe=9,
            warm_pairs=0,
            pair_weight=0.0,
            **NO_WAITING,
            penalty_interval=4,
            self_input_share=0.0,
        ),
    ),
    "another_round": Recipe(
        "from a student and its discriminator (--student_ckpt, --disc_ckpt), which pulls hard: one"
        " evaluation learns from that student's own four, later ones keep mean colours",
        dict(
            level_shares=[0.4, 0.2, 0.2, 0.2],
            self_input_share=0.8,
            warm_start=0,
            warm_pairs=2048,
            pairs_of="student",
            pair_weight=0.1,
            colour_weight=1.0,
            distill_mean=-2.5,
            distill_std=1.0,
            distill_decay_from=0.0,
            distill_final=0.6,
            distill_self=0.2,
            adv_weight=11.0,
            disc_mean=-4.0,
            disc_std=2.5,
            penalty="r1",
            penalty_weight=1.0,
            penalty_interval=4,
            augment="translation,cutout",
            augment_p=0.8,
        ),
    ),
    "dmd2": Recipe(
        "distribution matching as in DMD2 (arXiv:2405.14867)",
        dict(
            distill="dmd",
            disc="unet",
            fake_steps=5,
            self_input_share=1.0,
            # At all levels and of all images, whatever a preset has for ADD.
            distill_mean=-0.4,
            distill_std=1.2,
            distill_self=1.0,
            distill_final=1.0,
            warm_start=0,
            pair_weight=0.0,
            **NO_WAITING,
        ),
    ),
}
