"""How long a cell trains: steps, images or minutes become the setting that is its length."""

from fewstep.runs.estimate import steps_that_fit
from fewstep.runs.settings import flat

LENGTHS = ("steps", "images", "minutes")  # keys of a plan, at most one of them above 0


def cell_steps(plan, settings, method, device, teacher_seconds=0.0):
    """Steps of a cell of these settings. Minutes become steps by steps that are timed here;
    `teacher_seconds` come on top of them."""
    if plan["images"]:
        return max(1, plan["images"] // settings.data.batch_size)
    if plan["minutes"]:
        return steps_that_fit(settings, 60 * plan["minutes"] + teacher_seconds, device)
    return plan["steps"] or flat(settings.as_dict())[method.steps_flag]
