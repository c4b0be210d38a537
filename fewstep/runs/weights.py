"""Saved weights of a run: which they are, and the student's tuned levels that stay with them."""

import torch

from src.utils import UserError, read_json, save_model, torch_load


def same_weights(path, model):
    """Whether the saved model at `path` has exactly the weights of `model`; False where it cannot
    be read."""
    try:
        content = torch_load(path)
    except UserError:
        return False
    stored = content.get("state_dict") if isinstance(content, dict) else None
    own = model.state_dict()
    same_names = isinstance(stored, dict) and stored.keys() == own.keys()
    return same_names and all(torch.equal(stored[key], own[key].cpu()) for key in own)


def save_generator(model, path, config, learns_levels=False):
    """Save a model; few-step levels that were tuned for these very weights stay, unless levels are
    what was learnt."""
    key, beside = "few_step_sigmas", path.with_name("model_config.json")
    if key in config and not learns_levels and path.exists() and beside.exists():
        levels = read_json(beside).get(key, config[key])
        # Weights are read and compared only where there are other levels to keep.
        if levels != config[key] and same_weights(path, model):
            config = config | {key: levels}
    save_model(model, path, config)
