"""Whether a stored state belongs to the networks that are to go on with it.

Loading would not tell: optimisers take moments of any shape without a word.
"""

import torch
from torch.optim import Optimizer


def first_misfit(kept, stored):
    """The first difference between {name: module or optimiser} and a stored state, as text; None
    where all of it can be loaded."""
    if not isinstance(stored, dict) or set(stored) != set(kept):
        names = sorted(stored) if isinstance(stored, dict) else type(stored).__name__
        return f"it holds {names}, not {sorted(kept)}"
    for name, part in kept.items():
        compare = _optimizer_misfit if isinstance(part, Optimizer) else _state_misfit
        difference = compare(part, stored[name])
        if difference:
            return f"{name}: {difference}"
    return None


def first_not_finite(state, name=""):
    """Where in a nested state the first number lies that is not finite; None where none does."""
    if isinstance(state, torch.Tensor):
        is_finite = not state.is_floating_point() or bool(torch.isfinite(state).all())
        return None if is_finite else name
    if isinstance(state, dict):
        for key, value in state.items():
            place = first_not_finite(value, f"{name}.{key}" if name else str(key))
            if place:
                return place
    return None


def _state_misfit(module, stored):
    return _tensors_misfit(module.state_dict(), stored)


def _tensors_misfit(own, stored):
    if not isinstance(stored, dict):
        return f"{type(stored).__name__} instead of tensors"
    if own.keys() != stored.keys():
        other = sorted(set(own) ^ set(stored))
        return f"{len(other)} tensors are on one side only, {other[0]} first"
    for key, tensor in own.items():
        if _text(stored[key]) != _text(tensor):
            return f"{key} is {_text(stored[key])}, not {_text(tensor)}"
    return None


def _text(value):
    """What must agree of two tensors."""
    if not isinstance(value, torch.Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"


def _optimizer_misfit(optimizer, stored):
    if not isinstance(stored, dict) or set(stored) != {"state", "param_groups"}:
        return "no state of an optimiser"
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    try:
        places = [place for group in stored["param_groups"] for place in group["params"]]
        states = stored["state"].items()
    except (TypeError, KeyError, AttributeError):
        return "no state of an optimiser"
    if places != list(range(len(own))):
        return f"it is of {len(places)} parameters, not {len(own)}"
    for place, moments in states:
        if place not in range(len(own)) or not isinstance(moments, dict):
            return f"it has a parameter {place!r}"
        for key, value in moments.items():
            if isinstance(value, torch.Tensor) and value.ndim and value.shape != own[place].shape:
                return f"{key} of parameter {place} is {_text(value)}, not {_text(own[place])}"
    return None
