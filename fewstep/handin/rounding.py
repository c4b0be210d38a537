"""A student's weights in fewer bits: how they are rounded, and what that changes."""

import numpy as np
import torch

from custom_model import create_custom_model
from fewstep.studies.evaluate.pictures import sample_images
from src.model_config import ODE_SAMPLERS
from src.published import decode

LARGEST = 127  # -128 is not used
SMALL = 4096  # values; smaller tensors stay as they are: the first and the last layer, that is
NFE_LIST, TEACHER_NFE = (1, 2, 4), 15
IMAGES = 4  # of each NFE, to show the change


def quantise(weight):
    """Finite weights `[O, ...]` -> (int8 of their shape, float32 scales `[O]`).

    Channel o is about scales[o] * values[o]: its largest magnitude is 127 (symmetric, Nagel et al.
    2021, arXiv:2106.08295, section 2). A channel of zeros has scale 0.
    """
    rows = weight.detach().double().flatten(1)  # [O, I]; exact for the smallest of float32
    scales = rows.abs().amax(dim=1) / LARGEST
    values = (rows / torch.where(scales > 0, scales, 1)[:, None]).round()
    return values.to(torch.int8).reshape(weight.shape), scales.float()


def encode(state, dtype):
    """A finite state dict -> {name: tensor} as it is stored.

    dtype: "int8" stores large tensors as `NAME` (int8) with `NAME.scale` (float32), "fp16" as
    float16. Biases, norms and other small tensors stay float32 in either.
    """
    tensors = {}
    for name, value in state.items():
        value = value.detach().float().cpu().contiguous()
        if value.ndim < 2 or value.numel() <= SMALL:
            tensors[name] = value
        elif dtype == "fp16":
            tensors[name] = value.half()
        else:
            tensors[name], tensors[f"{name}.scale"] = quantise(value)
    return tensors


def rounded(model, config, dtype):
    """A copy of a student of `config` with its weights as they will be unpacked."""
    copy = create_custom_model(**config)
    copy.load_state_dict(decode(encode(model.state_dict(), dtype)))
    return copy.eval().requires_grad_(False).to(model.device)


def weight_error(before, after):
    """The relative RMS change of all weights, of two state dicts with the same names."""
    change = sum(float((after[k].double() - before[k].double()).square().sum()) for k in before)
    return (change / sum(float(value.double().square().sum()) for value in before.values())) ** 0.5


def image_errors(before, after):
    """{NFE: RMS difference in grey levels of 255} of images of two models from the same noise."""
    errors, sampler = {}, getattr(before, "sampler", None)
    for nfe in [TEACHER_NFE] if sampler in ODE_SAMPLERS else NFE_LIST:
        a, b = (sample_images(m, nfe, IMAGES, IMAGES, 0, f"NFE {nfe}") for m in (before, after))
        errors[nfe] = float(np.sqrt(((a.astype(np.float32) - b) ** 2).mean()))
    return errors
