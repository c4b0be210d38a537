"""How long a cell trains: steps, images or minutes become the setting that is its length."""

from typing import NamedTuple

from fewstep.runs.estimate import fitting_steps, phase_seconds, student_seconds
from fewstep.runs.settings import flat

LENGTHS = ("steps", "images", "minutes")  # keys of a plan, at most one of them above 0


class Method(NamedTuple):
    """What a grid knows of a way to train: the setting that is its length, and whether it starts
    from a teacher."""

    steps_flag: str
    needs_teacher: bool


METHODS = {
    "adversarial": Method("student_iterations", True),
    "rectified_flow": Method("num_iterations", False),
}


def cell_steps(plan, settings, method, device, teacher_seconds=0.0):
    """Steps of a cell of these settings. Minutes become steps by steps that are timed here;
    `teacher_seconds` come on top of them."""
    if plan["images"]:
        return max(1, plan["images"] // settings.data.batch_size)
    if plan["minutes"]:
        return steps_that_fit(settings, 60 * plan["minutes"] + teacher_seconds, device)
    return plan["steps"] or flat(settings.as_dict())[method.steps_flag]


def steps_that_fit(settings, seconds, device):
    """How many steps of training fit into `seconds`, from steps that are timed on this device."""
    return fitting_steps(settings, student_seconds(settings, device), seconds)


def training_seconds(settings, device):
    """Seconds of all steps of the settings, from steps that are timed on this device."""
    return phase_seconds(settings, student_seconds(settings, device))
