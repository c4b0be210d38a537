"""When the student learns from what: the parts of phase 2, and the schedules that follow them."""

from typing import NamedTuple

from fewstep.engine.schedules import warmup_cosine
from fewstep.methods.score_distillation import NEEDS_FAKE_SCORE


class Timeline(NamedTuple):
    """The steps of phase 2, of which any but the last kind may be none:

    consistency: first it becomes a consistency model (`--student_start consistency`)
    warm: then it regresses on the teacher's ODE (`warm_start`)
    alone: then its critics learn without it (`disc_warmup`)
    learning: then they learn at each step, the student at every `an_update`-th (`disc_steps`),
        unless it waits for a discriminator that is behind (`disc_lead`)
    """

    consistency: int
    warm: int
    alone: int
    learning: int
    an_update: int

    @classmethod
    def of(cls, settings):
        """That of a run's settings; where all steps would be warm-up, `learning` is not above 0."""
        student, disc = settings.student, settings.discriminator
        consistency = student.consistency_steps if student.student_start == "consistency" else 0
        # Without critics nobody learns alone, and nothing learns more often than the student.
        alone, an_update = (disc.disc_warmup, disc.disc_steps) if has_critics(settings) else (0, 1)
        learning = student.student_iterations - consistency - student.warm_start - alone
        return cls(consistency, student.warm_start, alone, learning, an_update)

    @property
    def start(self):
        """Steps of the student's start, before anything judges it."""
        return self.consistency + self.warm

    def learnt(self, step):
        """How many of the steps in which it learns from its critics are over; below 0 before."""
        return step - self.start - self.alone

    def progress(self, step):
        """The same as a share of them, in [0, 1]."""
        return max(0, self.learnt(step)) / max(1, self.learning)

    def ramp(self, updates):
        """Steps of a weight that rises over `updates` of the student's: at most half of those in
        which it learns."""
        return min(updates * self.an_update, self.learning // 2)


def has_discriminator(settings):
    """Whether there is one, that the student learns from."""
    return settings.discriminator.disc != "none" and settings.distillation.adv_weight > 0


def has_critics(settings):
    """Whether the student learns from networks that learn beside it: a discriminator, a fake
    score."""
    return settings.distillation.distill in NEEDS_FAKE_SCORE or has_discriminator(settings)


def student_rate(settings):
    """The student's learning rate as a function of the step and of how many it has waited: a
    warm-up and half a cosine for its start, if it has one, and another for what follows, in which
    it rests while critics learn alone. No warm-up takes more than half of its part."""
    student, timeline = settings.student, Timeline.of(settings)
    begin, total = timeline.start, timeline.learning

    def rate(step, waited=0):
        if step < begin:
            peak = student.start_lr or student.student_lr
            return peak * warmup_cosine(step, begin, min(student.student_warmup, begin // 2))
        learnt, warmup = max(0, timeline.learnt(step)), timeline.ramp(student.student_warmup)
        return student.student_lr * warmup_cosine(learnt, total, warmup, missed=waited)

    return rate
