"""What makes a phase and its weights the ones they are, to compare with what is on the disk."""

import hashlib
from dataclasses import asdict

import torch

from fewstep.runs.settings import NOT_IDENTITY, PHASE_GROUPS
from src.utils import UserError, torch_load


def phase_identity(settings, stage_name, digests):
    """What a checkpoint must share with the present settings to be gone on from, flat and plain."""
    values = {"seed": settings.run.seed, **digests}
    for group in PHASE_GROUPS[stage_name]:
        for key, value in asdict(getattr(settings, group)).items():
            if key not in NOT_IDENTITY:
                values[key] = value
    return values


def same_weights(path, model):
    """Whether the saved model at `path` has exactly the weights of `model`; False where it cannot
    be read."""
    try:
        stored = torch_load(path).get("state_dict", {})
    except UserError:
        return False
    own = model.state_dict()
    same_names = stored.keys() == own.keys()
    return same_names and all(torch.equal(stored[key], own[key].cpu()) for key in own)


def weights_digest(model):
    """SHA-256 over names and values of a model's weights, hexadecimal."""
    digest = hashlib.sha256()
    for key, value in model.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
