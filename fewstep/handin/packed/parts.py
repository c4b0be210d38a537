"""A state dict as named arrays, divided over files that hold numbers and nothing else."""

import io
import math

import numpy as np
import torch

from fewstep.handin.packed.errors import relative_error
from fewstep.handin.packed.quantise import dequantise, quantise
from src.utils import reason_of

# The last word of an array's name is its kind; all before it is the tensor's name.
KINDS = {"int8": np.int8, "scale": np.float32, "float32": np.float32}
SMALL = 4096  # values; smaller tensors stay as they are: the first and the last layer, that is
LARGEST_ERROR = 0.02  # relative; a tensor that 8 bits hold worse than this stays as it is


def encode(state):
    """A finite state dict -> {tensor's name: {array's name: array}}.

    Biases, norms, and what `SMALL` and `LARGEST_ERROR` name stay float32; other tensors are int8
    with a scale for each output channel.
    """
    return {name: _encode_tensor(name, value) for name, value in state.items()}


def _encode_tensor(name, value):
    value = value.detach().float().cpu()
    if value.ndim > 1 and value.numel() > SMALL:
        values, scales = quantise(value)
        if relative_error(value, dequantise(values, scales)) <= LARGEST_ERROR:
            return {f"{name}.int8": values.numpy(), f"{name}.scale": scales.numpy()}
    return {f"{name}.float32": value.numpy()}


def decode(arrays):
    """{array's name: array} of `encode`, of one part or all -> state dict in float32.

    Raises `ValueError`, naming the array, for what `encode` does not make.
    """
    state = {}
    for key, array in arrays.items():
        name, _, kind = key.rpartition(".")
        if kind not in KINDS or not isinstance(array, np.ndarray) or array.dtype != KINDS[kind]:
            raise ValueError(f"{key}: not an array of weights")
        if kind == "float32":
            state[name] = torch.from_numpy(array)
        if kind == "scale" and f"{name}.int8" not in arrays:
            raise ValueError(f"{key}: its integers are missing")
        if kind == "int8":
            scales = arrays.get(f"{name}.scale")
            if array.ndim < 2 or scales is None or scales.shape != array.shape[:1]:
                raise ValueError(f"{key}: there is not one scale a channel")
            state[name] = dequantise(torch.from_numpy(array), torch.from_numpy(scales))
    return state


def divide(encoded, count):
    """{tensor's name: arrays} -> `count` dicts of arrays of nearly the same size, each tensor whole
    in one of them: the largest first, each to the part that has the least so far.

    Raises `ValueError` for more parts than tensors.
    """
    if not 1 <= count <= len(encoded):
        raise ValueError(f"{len(encoded)} tensors do not fill {count} parts")
    sizes = {name: sum(a.nbytes for a in arrays.values()) for name, arrays in encoded.items()}
    filled, parts = [0] * count, [{} for _ in range(count)]
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        lightest = filled.index(min(filled))
        filled[lightest] += sizes[name]
        parts[lightest] |= encoded[name]
    return parts


def to_bytes(arrays):
    """{name: array} -> the content of an .npz file; the same bytes for the same arrays."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def from_bytes(content):
    """The content of an .npz file -> {name: array}. Numbers only: no code in it is run.

    Raises `ValueError` for anything else.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # zipfile and NumPy have a dozen kinds for what is not theirs
        raise ValueError(f"not arrays of numbers ({reason_of(error)})") from error


def count_values(state):
    """How many numbers a state dict holds."""
    return sum(math.prod(value.shape) for value in state.values())
