"""Published weights, read: one safetensors file, and a model card that knows its SHA-256.

No code in such a file is run: the format holds numbers and text alone. `fewstep publish` writes it.
"""

import json
import re
from contextlib import contextmanager
from pathlib import Path

import torch

from src.errors import UserError, package_for, reason_of
from src.files import file_digest, naming
from src.model_config import with_later_keys

WEIGHTS, CARD = "model.safetensors", "README.md"
HASH = re.compile(r"^SHA-256 of model\.safetensors: `([0-9a-f]{64})`$", re.MULTILINE)
PURPOSE = "a file of published weights"
FETCH = "fetch the folder again"
# What may be published, as keys of the file's metadata, and how it is read.
MODEL, DISCRIMINATOR = "model", "discriminator"
READERS = {MODEL: "fewstep.load", DISCRIMINATOR: "fewstep.load_discriminator"}
# Of a file with other content.
NOT_OURS = (RuntimeError, TypeError, KeyError, ValueError, AttributeError)


def is_published(path):
    """Whether `path` names published weights: a folder that has them, or their file."""
    path = Path(path)
    return path.suffix == Path(WEIGHTS).suffix or (path / WEIGHTS).is_file()


def weights_file(path):
    """The file of the published weights that `path`, a folder or that file, names."""
    path = Path(path)
    return path if path.suffix == Path(WEIGHTS).suffix else path / WEIGHTS


def named_file(path):
    """The file that a path of weights names: of published ones theirs, else the path as it is."""
    return weights_file(path) if path and is_published(path) else path


def read_published(path, create_model_fn, device="cpu"):
    """(model in evaluation mode, its model_config) of a folder or its file, the checksum verified.

    create_model_fn: as for `src.utils.load_model`. Raises `UserError` for what is missing, damaged,
    or does not fit the network.
    """
    about, state = read_tensors(path, MODEL)
    with fitting(weights_file(path)):
        config = with_later_keys(about["model_config"])
        model = create_model_fn(device=device, **config)
        model.load_state_dict(state)
    return model.eval().requires_grad_(False), config


def read_tensors(path, kind):
    """(what the file says about itself, its state dict in float32) of a folder or its file.

    kind: `MODEL` or `DISCRIMINATOR`. Raises `UserError` for what is missing, damaged, or not that.
    """
    package = package_for(PURPOSE, "safetensors")
    weights = weights_file(path)
    check_digest(weights)
    try:
        with fitting(weights), package.safe_open(weights, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except package.SafetensorError as error:
        raise UserError(f"{weights}: not a model of ours ({reason_of(error)})") from error
    for other in READERS.keys() - {kind}:
        if other in metadata:
            raise UserError(f"{weights}: holds a {other}, not a {kind}; {READERS[other]} reads it")
    with fitting(weights):
        return json.loads(metadata[kind]), decode(tensors)


def check_digest(weights):
    """Raise `UserError` unless the file is there and the card beside it has its checksum."""
    card = weights.with_name(CARD)
    if not weights.exists():
        raise UserError(
            f"{weights.parent}: there are no published weights (no {weights.name}); train a"
            " student, or name another folder"
        )
    if not card.exists():
        raise UserError(f"{card}: missing, and with it the checksum of {weights.name}; {FETCH}")
    with naming(card):
        digests = HASH.findall(card.read_text(encoding="utf-8", errors="replace"))
    if not digests:
        raise UserError(f"{card}: damaged (it has no SHA-256 of {WEIGHTS}); {FETCH}")
    with naming(weights):
        digest = file_digest(weights).hex()
    if digest != digests[-1]:
        raise UserError(f"{weights}: damaged (its checksum is not that of {CARD}); {FETCH}")


@contextmanager
def fitting(weights):
    """Let what goes wrong with other content than ours be one line that names the file."""
    try:
        yield
    except NOT_OURS as error:
        reason = f"not a model of ours, or its tensors do not fit its network ({reason_of(error)})"
        raise UserError(f"{weights}: {reason}") from error


def dequantise(values, scales):
    """int8 `[O, ...]` and float32 scales `[O]` -> float32 `[O, ...]`, the same on every machine:
    each weight is one product, rounded once."""
    return values.float() * scales.reshape(-1, *[1] * (values.ndim - 1))


def decode(tensors):
    """Stored tensors, see docs/pretrained.md, -> state dict in float32. Raises `ValueError`, naming
    the tensor."""
    state = {}
    for name, value in tensors.items():
        owner = tensors.get(name.removesuffix(".scale")) if name.endswith(".scale") else None
        if owner is not None and owner.dtype == torch.int8:
            continue
        if value.dtype == torch.int8:
            scales = tensors.get(f"{name}.scale")
            if value.ndim < 2 or scales is None or scales.shape != value.shape[:1]:
                raise ValueError(f"{name}: there is not one scale a channel")
            value = dequantise(value, scales)
        if value.dtype not in (torch.float32, torch.float16):
            raise ValueError(f"{name}: its type is {value.dtype}, not int8, float16 or float32")
        state[name] = value.float()
    return state
