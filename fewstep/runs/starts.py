"""Networks that a phase starts from, beside its teacher: `--student_ckpt`, `--disc_ckpt`, and with
`--phase teacher` `--teacher_ckpt`."""

from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from discriminator.widen import can_widen
from fewstep.methods.adversarial_settings import pairs_are_own
from fewstep.methods.edm import TeacherPhase, teacher_config
from fewstep.runs.building import check_teacher, load_weights
from fewstep.runs.discriminators import ARCHITECTURE, of_checkpoint, of_published
from fewstep.runs.settings import method_of
from src.model_config import NETWORKS
from src.published import is_published
from src.utils import UserError, state_digest

REMEDIES = {"few_step_sigmas": "give those of four evaluations as --sigmas, before any tuning"}
# {flag: the key of its weights' digest in the identity of a phase}
KEYS = {"teacher_ckpt": "start", "student_ckpt": "start", "disc_ckpt": "disc_start_weights"}


class Start(NamedTuple):
    """A network to start from. flag: that names it; path: its file; made_of: {key of a
    `model_config.json` or name of a flag: its value} by which it was built; weights: state dict."""

    flag: str
    path: Path
    made_of: dict
    weights: dict

    def check(self, settings, config):
        """Raise `UserError` where it was built otherwise than a phase of these settings and of the
        `model_config.json` `config`, of which only what it has is compared."""
        wanted = config
        if self.flag == "disc_ckpt":
            wanted = config | asdict(settings.discriminator)
        for key, value in self.made_of.items():
            if key in wanted and wanted[key] != value:
                remedy = REMEDIES.get(key, "name one of its kind")
                raise UserError(
                    f"--{self.flag} {self.path}: it has {key} = {value}, what is trained here"
                    f" {wanted[key]}; {remedy}"
                )

    def begin(self, phase):
        """Let a `Phase` begin with its weights."""
        learner = phase.adversary if self.flag == "disc_ckpt" else phase
        learner.start_from(self.weights)


def start_flags(settings, name):
    """Flags that name what the phase of that name starts from, given or not: of a teacher there is
    one only where it is trained alone."""
    if settings.run.phase == "teacher":
        return ["teacher_ckpt"]
    method = method_of(settings)
    if name != method.phase.name:
        return []
    return ["student_ckpt", "disc_ckpt"] if method.has_discriminator else ["student_ckpt"]


def given_flags(settings, name):
    """Those of them that are given."""
    return [flag for flag in start_flags(settings, name) if getattr(settings.run, flag)]


def load_starts(settings, name):
    """A `Start` for each. Raises `UserError` for what cannot be read, or is of another kind."""
    return [_load(settings, flag) for flag in given_flags(settings, name)]


def start_digests(settings, name, starts):
    """What these are in the identity of the phase of that name: a digest of each, None for what is
    not given, so that a run is not gone on with by another or without one."""
    digests = {KEYS[flag]: None for flag in start_flags(settings, name)}
    return digests | {KEYS[start.flag]: state_digest(start.weights) for start in starts}


def known_config(settings, name, config):
    """What is known of a phase's `model_config.json` before it is built. config: what
    `load_teacher` gives for it; None: there is no teacher yet. Raises `UserError` where the method
    refuses such a teacher."""
    method = method_of(settings)
    is_students = name == method.phase.name
    if config and is_students:
        return config
    if not method.needs_teacher or method.teacher is not TeacherPhase:
        # What no method changes.
        return {key: getattr(settings.network, key) for key in ("network", "norm_groups")}
    known = teacher_config(settings, sigma_data=None)
    known = method.config(known, settings) if is_students else known
    return {key: value for key, value in known.items() if key != "sigma_data"}


def _load(settings, flag):
    path = Path(getattr(settings.run, flag))
    if flag == "disc_ckpt":
        theirs = of_published(path) if is_published(path) else of_checkpoint(path)
        keys = ["network", "norm_groups"]
        if theirs.settings.disc_start != "random":  # it takes noise levels as its teacher does
            keys += ["preconditioning", "num_train_timesteps"]
        made_of = {key: getattr(theirs.settings, key) for key in ARCHITECTURE}
        if not made_of["disc_level"]:
            del made_of["disc_level"]  # it can be told from now on
        wanted, network = settings.discriminator, NETWORKS[theirs.config["network"]]
        channels = made_of["disc_channels"], wanted.disc_channels
        if can_widen(made_of["disc"], made_of["disc_spectral"], network, *channels):
            del made_of["disc_channels"]  # it is widened
        made_of |= {key: theirs.config[key] for key in keys}
        return Start(flag, path, made_of, theirs.state)
    model, theirs = load_weights(f"--{flag}", path)
    if flag == "teacher_ckpt":
        check_teacher(method_of(settings), path, theirs)
    names = ["model_type", "sampler", "preconditioning", *asdict(settings.network)]
    if flag == "student_ckpt" and pairs_are_own(settings.student):
        # It makes images as it is, and another begins where it does.
        names += ["few_step_sigmas", "sigma_data", "noise_offset"]
    made_of = {key: theirs.get(key) for key in names}
    return Start(flag, path, made_of, model.state_dict())
