"""Discriminators that have learnt: of a run's checkpoints, or published."""

from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from fewstep.engine.checkpoints import checkpoint_path, list_checkpoints, read_checkpoint
from fewstep.methods.adversarial import StudentPhase
from fewstep.methods.adversary import CONFIG_KEYS, DISC, bare_discriminator
from fewstep.methods.adversary_settings import Discriminator
from fewstep.runs.command_line import make_settings
from fewstep.runs.settings import BEFORE
from src.model_config import LATER
from src.published import DISCRIMINATOR, NOT_OURS, fitting, read_tensors, weights_file
from src.utils import UserError, read_model_config

ARCHITECTURE = ("disc", "disc_channels", "disc_depth", "disc_heads", "disc_stddev")
ARCHITECTURE += ("disc_condition", "disc_level", "disc_spectral", "disc_start")

FLAGS = [item.name for item in fields(Discriminator)]
LACKED = {name: BEFORE[name] for name in FLAGS if name in BEFORE}  # by those of earlier versions


class Trained(NamedTuple):
    """A discriminator that has learnt. folder: of its run, or the published one; settings: the
    flags that it was built and taught with; config: `CONFIG_KEYS` of its student; state: its
    weights."""

    folder: Path
    step: int
    settings: Discriminator
    config: dict
    state: dict


def of_run(path):
    """The `Trained` of a run's folder, which has it in the newest checkpoint of its student, or of
    such a checkpoint. Raises `UserError` where there is none."""
    path = Path(path)
    if path.is_dir():
        steps = list_checkpoints(path / StudentPhase.name)
        if not steps:
            raise UserError(f"{path}: has no {StudentPhase.name}/checkpoint_iter_N.pt; name a run")
        path = checkpoint_path(path / StudentPhase.name, steps[0])
    return of_checkpoint(path)


def of_checkpoint(path):
    """The `Trained` of a student's checkpoint_iter_N.pt. Raises `UserError` where there is none."""
    content = read_checkpoint(path)
    folder = Path(path).resolve().parent.parent
    try:
        identity, state = content["identity"], content["phase"].get(DISC)
        if state is None:
            raise UserError(f"{path}: has no discriminator; name a checkpoint of a student's")
        for name, value in state.items():
            if not value.isfinite().all():
                raise UserError(f"{path}: {name} is not finite; use an earlier checkpoint")
        flags = LACKED | {name: identity[name] for name in FLAGS if name in identity}
        settings = Discriminator(**flags)
        config = LATER | read_model_config(folder / "model_config.json")
        config = {key: config[key] for key in CONFIG_KEYS}
        trained = Trained(folder, content["step"], settings, config, state)
        built(trained)
    except NOT_OURS as error:
        raise UserError(f"{path}: its discriminator is not of this version's networks") from error
    return trained


def of_published(path):
    """The same of a published folder or its file."""
    about, state = read_tensors(path, DISCRIMINATOR)
    with fitting(weights_file(path)):
        config = about["model_config"]
        without = {"augment": "", "ada_target": 0.0, "disc_warmup": 0, "disc_lead": 0.0}
        flags = LACKED | about["flags"] | without
        settings = make_settings({"network": config["network"], **flags}).discriminator
        folder = weights_file(path).parent
        trained = Trained(folder, about["step"], settings, LATER | config, state)
        built(trained)
    return trained


def built(trained, state=None):
    """The discriminator in evaluation mode with its weights, or those of `state`, without
    augmentation."""
    disc = bare_discriminator(trained.settings, trained.config)
    disc.load_state_dict(trained.state if state is None else state)
    disc.augment.policy = []
    return disc.eval().requires_grad_(False)
