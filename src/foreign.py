"""Weights as other programs, and checkpoints of a run, keep them: where they lie in a file, what
their names begin with."""

import torch

from src.errors import UserError
from src.model_config import NETWORKS

# Where a file may keep a state dict: averaged weights before those they were averaged from.
PLACES = ("state_dict", "ema", "model_ema", "ema_model", "model", "model_state_dict", "net")
WRAPPERS = ("module", "_orig_mod")  # of DDP and averages, of torch.compile: no part of ours
RESUME = {"version", "step", "identity", "phase"}  # of a checkpoint that train.py goes on from
AVERAGE = "_average"  # ends the name of the one network there that would be saved


def state_dicts(content, path):
    """{place in the file: state dict} of what `torch_load` gave of `path`; of a checkpoint that a
    run goes on from, which holds several networks, the average that a run would save at that step.
    Raises `UserError` where there is none."""
    if isinstance(content, dict) and RESUME <= set(content):
        phase = content["phase"]
        if averages := {name: phase[name] for name in phase if name.endswith(AVERAGE)}:
            return averages
        run = path.parent.parent
        models = [
            one for one in (run / "final_model.pt", path.with_name("model.pt")) if one.exists()
        ]
        named = (
            " or ".join(map(str, models)) or "final_model.pt of the run, or its teacher/model.pt"
        )
        raise UserError(f"{path}: what train.py goes on from, not a saved model; name {named}")
    if not (tables := dict(_tables(content))):
        raise UserError(f'{path}: no "state_dict" in it; not a saved model')
    return tables


def fitting_state(tables, own):
    """(state dict with the names of `own`, [what had to be done for that]) out of `state_dicts`.

    own: the model's state dict. Names lose what wrappers put into them. Raises `ValueError` where
    none has all names and shapes of `own`.
    """
    for place, table in tables.items():
        state, said = _renamed(table, own)
        if difference(state, own) is None:
            others = [name for name in tables if name != place]
            if place != "state_dict":
                beside = f" (beside it: {', '.join(others)})" if others else ""
                said.insert(0, f"taken from {place or 'the file itself'}{beside}")
            return state, said
    state, _ = _renamed(next(iter(tables.values())), own)
    raise ValueError(difference(state, own) + _hint(state))


def difference(state, own):
    """The first way in which the names and shapes of a state dict differ from those of `own`."""
    extra = next((f"; it has {name}" for name in state if name not in own), "")
    for name, value in own.items():
        if name not in state:
            return f"{name} is missing{extra}"
        if state[name].shape != value.shape:
            shapes = [list(one.shape) for one in (state[name], value)]
            return f"{name} is {shapes[0]}, in the model {shapes[1]}"
    return f"the model has no {extra.removeprefix('; it has ')}" if extra else None


def _tables(content, place=""):
    """(place, state dict) for each in `content`, those deeper down after a dot."""
    if not isinstance(content, dict) or place.count(".") > 1:
        return
    if content and all(isinstance(value, torch.Tensor) for value in content.values()):
        yield place, content
        return
    for name in PLACES:
        yield from _tables(content.get(name), f"{place}.{name}" if place else name)


def _renamed(table, own):
    """(`table` by the names of `own` as far as wrappers are the difference, what was changed)."""
    if set(table) == set(own):
        return table, []
    names, said = {str(name): str(name) for name in table}, []
    for wrapper in WRAPPERS:
        bare = {old: _without(new, wrapper) for old, new in names.items()}
        if bare != names:
            names = bare
            said.append(f"names without {wrapper}.")
    if all(name.startswith("model.") or name == "n_averaged" for name in names.values()):
        names = {old: new.removeprefix("model.") for old, new in names.items()}
        said.append("names without model.")
    ours = all(name.startswith("network.") for name in own)
    if ours and not any(name.startswith("network.") for name in names.values()):
        names = {old: f"network.{new}" for old, new in names.items()}
        said.append("names with network. before them")
    state = {new: table[old] for old, new in names.items()}
    count = next((name for name in state if name.endswith("n_averaged")), None)
    if count and count not in own:
        del state[count]  # of torch's AveragedModel: how often
        said.append("n_averaged left out")
    return state, said


def _without(name, wrapper):
    return ".".join(part for part in name.split(".") if part != wrapper)


def _hint(state):
    """What the weights seem to be, where that can be told from them."""
    head = state.get("network.head.weight")
    blocks = {name.split(".")[2] for name in state if name.startswith("network.downblocks.")}
    for name, network in NETWORKS.items():
        levels = len(network["ch_mult"])
        count = levels * network["num_res_blocks"] + levels - 1
        if head is not None and head.shape[0] == network["ch"] and len(blocks) == count:
            with_condition = any(key.startswith("network.condition_") for key in state)
            more = ", with use_additional_condition" if with_condition else ""
            return f"; they seem to be of network {name}{more}"
    return ""
