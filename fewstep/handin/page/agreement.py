"""Whether an ONNX file draws what PyTorch draws, from the same noise."""

import numpy as np
import torch

from fewstep.handin.page.noise import draw_noise
from fewstep.handin.page.onnx_model import PURPOSE
from fewstep.handin.page.plan import NFE_LIST, input_names, plan_of, run_plan
from src.errors import package_for
from src.samplers import IMAGE_SHAPE
from src.utils import UserError, to_uint8

IMAGES, SEED = 4, 0  # that are compared at each NFE
LEAST_SHARE = 0.999  # of all values that must lie within one grey level of 255


def noises_of(model, image, seed=SEED):
    """All noise that an image can need, `[draws, 3, 64, 64]` float32: draw 0, and one a step."""
    offset = getattr(model.scheduler, "noise_offset", 0.0)
    draws = range(max(NFE_LIST))
    return np.stack([draw_noise(seed, image, draw, IMAGE_SHAPE, offset) for draw in draws])


def images_from(model, nfe, noises):
    """Images of PyTorch's own sampler as uint8 `[B, 64, 64, 3]`, from these noises.

    noises: `[B, draws, 3, 64, 64]`, see `noises_of`.
    """
    draws = iter(torch.as_tensor(np.stack(noises)).unbind(1))
    model.scheduler.draw_noise = lambda *_, **__: next(draws)
    try:
        images = model.sample((len(noises), *IMAGE_SHAPE), num_inference_timesteps=nfe)
    finally:
        del model.scheduler.draw_noise  # the method of its class is there again
    if not torch.isfinite(images).all():
        raise UserError("the model generates values that are not finite; use another one")
    return to_uint8(images).numpy()


def references(model):
    """{NFE: images of PyTorch, uint8 `[IMAGES, 64, 64, 3]`}."""
    noises = [noises_of(model, image) for image in range(IMAGES)]
    return {nfe: images_from(model, nfe, noises) for nfe in NFE_LIST}


def shares_within(content, model, expected):
    """{NFE: share of values within one grey level of `expected`} of an ONNX file, up to the first
    NFE with less than `LEAST_SHARE`.

    content: the file's bytes. expected: of `references`. What onnxruntime raises for a file that it
    cannot run is not caught: no user has a hand in it.
    """
    session, names = open_session(content), input_names(model)

    def evaluate(x, levels):
        values = [x[None], *(np.float32([level]) for level in levels)]
        return session.run(None, dict(zip(names, values)))[0][0]

    noises = [noises_of(model, image) for image in range(IMAGES)]
    shares = {}
    for nfe, images in expected.items():
        plan = plan_of(model, nfe)
        drawn = torch.stack([torch.tensor(run_plan(plan, evaluate, one)) for one in noises])
        shares[nfe] = share_within(to_uint8(drawn.nan_to_num(-1)).numpy(), images)
        if shares[nfe] < LEAST_SHARE:
            break
    return shares


def share_within(images, expected):
    """The share of values of two sets of uint8 images that lie within one grey level."""
    return float((np.abs(images.astype(int) - expected) <= 1).mean())


def open_session(content):
    """An `onnxruntime.InferenceSession` on as many threads as torch uses."""
    runtime = package_for(PURPOSE, "onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
