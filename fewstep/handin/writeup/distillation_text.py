"""The score distillation's part of the write-up's technical details."""

from fewstep.handin.writeup.wording import normal, number, percent, plural
from fewstep.methods.score_losses import NEEDS_FAKE_SCORE, OWN_WEIGHTING


def distillation_sentences(settings, cite):
    """What the student is pulled to and at which weight, and the fake score where there is one."""
    loss = settings.distillation
    if loss.distill == "none":
        return ["No score distillation is used: the student learns from a discriminator alone."]
    place = f"x re-noised to ln\u00a0s\u00a0~\u00a0{normal(loss.distill_mean, loss.distill_std)}"
    teacher = f"the frozen teacher's denoising P of {place}"
    fake = f"P and F, the denoisings of {place} by the frozen teacher and by a fake score"
    if loss.distill == "dmd":
        text = f"Distribution matching{cite('dmd')} moves its output x against F − P, with {fake}"
    elif loss.distill == "sid":
        text = (
            f"Score identity distillation{cite('sid')} minimises (P − F)·((P − x) − α(P − F)) for"
            f" its output x, with α\u00a0=\u00a0{number(loss.sid_alpha)} and {fake}"
        )
    else:
        text = (
            f"Score distillation{cite('add')} minimises the squared distance of its output x from"
            f" {teacher}"
        )
    sentences = [f"{text}, {_weight(loss, cite)}{_decay(loss)}."]
    if loss.distill in NEEDS_FAKE_SCORE:
        sentences.append(
            "The fake score starts as the teacher and learns to denoise the student's outputs,"
            f" {plural(loss.fake_steps, 'update')} a step{cite('dmd2')}."
        )
    return sentences


def _weight(loss, cite):
    """c(s) of `training/distillation.py` in words."""
    name = loss.distill_weighting
    name = OWN_WEIGHTING[loss.distill] if name == "auto" else name
    if name == "exponential":
        return f"weighted by 1/√(1\u00a0+\u00a0s²){cite('add')}"
    if name == "sds":
        return f"weighted by s/(2\u00a0+\u00a02s²){cite('add', 'dreamfusion')}"
    if name == "normalised":
        source = "sid" if loss.distill == "sid" else "dmd"
        return f"divided by the mean of |x\u00a0−\u00a0P|{cite(source)}"
    return "with equal weight at all levels"


def _decay(loss):
    if loss.distill_final == 1:
        return ""
    return (
        f"; its weight falls linearly to {number(loss.distill_final)} from"
        f" {percent(loss.distill_decay_from)} of the steps on"
    )
