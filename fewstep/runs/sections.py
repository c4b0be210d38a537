"""All settings in the order in which a user meets them: by task, not by the groups of `Settings`,
which say what belongs together in a record."""

from dataclasses import fields

from fewstep.runs.settings import GROUPS, STEPS_FLAGS

WHAT = ("method", "phase", "teacher_ckpt", "student_ckpt", "disc_ckpt", "seed")
# A method's own length is found here without being listed.
LENGTHS = ("batch_size", *dict.fromkeys(STEPS_FLAGS.values()), "max_minutes")
PLACED = {*WHAT, *LENGTHS, "device"}


def sections():
    """{title: fields of settings}; each field stands in one of them."""
    known = {item.name: item for group in GROUPS.values() for item in fields(group)}
    rest = {
        name: [item for item in fields(group) if item.name not in PLACED]
        for name, group in GROUPS.items()
    }
    first = {
        "What to train": [known[name] for name in WHAT],
        title_of("data"): rest.pop("data"),
        "How long to train": [known[name] for name in LENGTHS],
    }
    run, speed = rest.pop("run"), rest.pop("speed")
    last = {
        title_of("speed"): [known["device"], *speed],
        "The run's folder: what is written, how often, which generator is kept": run,
    }
    return first | {title_of(name): rest[name] for name in rest} | last


def title_of(name):
    """The title of a group: its docstring."""
    return GROUPS[name].__doc__.rstrip(".")
