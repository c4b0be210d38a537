"""What follows from settings: levels by NFE, warm-up steps, lists given as text."""

from discriminator.augment import POLICIES
from fewstep.methods.score_losses import NEEDS_FAKE_SCORE
from src.utils import UserError


def nfe_table(sigmas):
    """The levels of each number of evaluations, from the four: {"1": [s0], "2": [s0, s2], ...}."""
    return {"1": [sigmas[0]], "2": [sigmas[0], sigmas[2]], "4": list(sigmas)}


def alone_steps(settings):
    """Steps in which the critics learn without the student: none where there are no critics."""
    has_fake_score = settings.distillation.distill in NEEDS_FAKE_SCORE
    has_critics = has_fake_score or settings.discriminator.disc != "none"
    return settings.discriminator.disc_warmup if has_critics else 0


def student_sigmas(student):
    """The four levels, `first_sigma` considered."""
    return [student.first_sigma or student.sigmas[0], *student.sigmas[1:]]


def check_part_size(settings, size):
    """Raise `UserError` where parts of `size` images would lose a kind of the student's inputs to
    rounding: shares are of each part."""
    student = settings.student
    share = student.level_shares[0] / sum(student.level_shares)
    first = round(size * share)
    own = round((size - first) * student.self_input_share)
    lost = (share and not first) or (student.self_input_share and first < size and not own)
    if lost and settings.run.phase != "teacher":
        raise UserError(
            f"--batch_size, --micro_batch: parts of {size} images are too small for the student's"
            " --level_shares and --self_input_share; give larger ones"
        )


def head_resolutions(text):
    """`--disc_heads "16,8"` -> [16, 8]. Raises `UserError`."""
    parts = _parts(text)
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise UserError(f"--disc_heads {text}: give resolutions, e.g. 16,8,4")
    return [int(part) for part in parts]


def _parts(text):
    """At commas or plus signs: where commas part other things, as in a grid, the latter serve."""
    return [part.strip() for part in text.replace("+", ",").split(",") if part.strip()]


def policy_names(text):
    """`--augment "translation,color"` -> the names. Raises `UserError` for an unknown one
    and for one that is there twice."""
    names = _parts(text)
    for name in names:
        if name not in POLICIES:
            raise UserError(f"--augment {name}: use some of {','.join(POLICIES)}")
        if names.count(name) > 1:
            raise UserError(f"--augment {text}: {name} is there twice")
    return names
