"""What a method declares of itself, so that nothing else lists methods."""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import NamedTuple

from fewstep.methods.edm import TeacherPhase
from src.utils import UserError


class Recipe(NamedTuple):
    """Named settings of a method, {setting: value}, and what they are for, a text for the help.
    preset: the only one that they are for; "": for all."""

    text: str
    settings: dict
    preset: str = ""


class Method(NamedTuple):
    """One way to a few-step generator; its file has it as `METHOD`.

    name: of `--method`. summary: for the help. phase: the `Phase` that makes the generator, with
    `build(settings, execution, teacher, config)` where it needs a teacher, else
    `build(settings, execution, sigma_data)`. groups: {name of a group in `Settings`: its
    dataclass}; with data and network, what its weights depend on. steps_flag: the setting that is
    its length. teacher: the phase that makes what it distils, used where `needs_teacher`.
    config(teacher's `model_config.json`, settings): that of its generator.
    check(settings), check_size(settings, images of a micro-batch): raise `UserError` for what
    contradicts itself; idle(settings): {setting that changes nothing as the others are: the flag
    that would let it}; try_to_build(settings): for what could not be built when its turn comes, at
    some cost. no_teacher: the setting and its value with which it needs none after all, and its
    phase is built as of a method without one. warmups: pairs of settings, a warm-up and the
    steps of its phase. start: settings that say how many of its steps come before what the method
    is for. presets: {name: {setting: value}}; recipes: {name: `Recipe`}.
    """

    name: str
    summary: str
    phase: type
    groups: dict
    steps_flag: str
    needs_teacher: bool = False
    teacher: type = TeacherPhase
    no_teacher: tuple = ("", None)
    config: Callable = None
    check: Callable = lambda settings: None
    check_size: Callable = lambda settings, size: None
    idle: Callable = lambda settings: {}
    try_to_build: Callable = lambda settings: None
    warmups: tuple = ()
    start: tuple = ()
    presets: dict = {}
    recipes: dict = {}

    @property
    def phases(self):
        """Names of the phases of a whole run."""
        own = self.phase.name
        return (self.teacher.name, own) if self.needs_teacher else (own,)

    @property
    def has_discriminator(self):
        return "discriminator" in self.groups


def loses(share, size):
    """Whether rounding to whole images would lose a share of `size` images, or all the rest."""
    count = round(size * share)
    return (share > 0 and not count) or (share < 1 and count == size)


def check_share(flag, share, size):
    """Raise `UserError`, naming the flag, where so few images `lose` a share."""
    if loses(share, size):
        raise UserError(
            f"--batch_size, --micro_batch: {size} images at once are too few for --{flag} {share};"
            " give more"
        )


def with_settings(method, values):
    """The `Method` as it is with settings {name: value}, of which some may be left out: without a
    teacher where they ask for that."""
    name, value = method.no_teacher
    asks = name in values and values[name] == value
    return method._replace(needs_teacher=False) if asks else method


def find_methods(package, path):
    """{name: `Method`} of all modules of a package that have a METHOD."""
    modules = [import_module(f"{package}.{item.name}") for item in iter_modules(path)]
    methods = [module.METHOD for module in modules if hasattr(module, "METHOD")]
    return {method.name: method for method in methods}
