"""How a run computes, as one object that everything which learns is given."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from fewstep.engine.attention import fuse_attention
from fewstep.engine.compiling import compile_networks
from fewstep.engine.precision import Choices, autocast_for, choices_of, lay_out
from fewstep.engine.processes import ALONE, Processes


class Execution(NamedTuple):
    """device: of this process. speed: the run's speed settings (`runs.settings.Speed`). choices:
    what those of them that may be "auto" mean here. processes: the job's. autocast: a factory of
    contexts of the run's precision. cache: folder of compiled code."""

    device: torch.device
    speed: object
    choices: Choices
    processes: Processes
    autocast: Callable
    cache: Path

    def run(self, network, *inputs):
        """`network(*inputs)` in the run's precision. Each call has a context of its own: autocast
        keeps the weights it has cast, which would go stale after an update."""
        with self.autocast():
            return network(*inputs)

    def prepare(self, model, checkpointing=None):
        """Let a model on the device compute as the speed settings say; not compiled yet."""
        speed = self.speed
        # Each block has one forward pass, so the two replace different blocks.
        if speed.attention == "fused":
            fuse_attention(model)
        if speed.checkpointing if checkpointing is None else checkpointing:
            # Imported here: torch's checkpointing loads sympy, a fifth of every command's start.
            from fewstep.engine.recompute import recompute_activations

            recompute_activations(model)
        return lay_out(model, self.choices.channels_last)

    def compile(self, networks):
        """Compile {name in messages: module} in place where --compile says so; the last step,
        after all copies are made."""
        compile_networks(networks, self.choices.compile, self.cache)

    def lay_out(self, images):
        """Images in the run's memory layout."""
        return lay_out(images, self.choices.channels_last)


def execution_of(settings, device, processes=ALONE):
    """The `Execution` of a run's `Settings` on a torch device."""
    choices = run_choices(settings, device)
    autocast = autocast_for(device, choices.precision)
    cache = Path(settings.data.cache_dir) / "compiled"
    return Execution(device, settings.speed, choices, processes, autocast, cache)


def run_choices(settings, device):
    """The `Choices` of a run's `Settings` on a torch device."""
    speed = settings.speed
    levers = speed.precision, speed.channels_last, speed.compile
    return choices_of(device, settings.network.network, *levers)
