"""Samplers as free functions over any denoiser `D(x, sigma) -> x0`; each yields its states."""

import numpy as np
import torch
from tqdm import tqdm

from src.model_config import LEVEL_SAMPLERS
from src.utils import UserError, image_seeds, to_uint8

IMAGE_SHAPE = (3, 64, 64)


def few_step_states(denoise, sigmas, randn):
    """Denoise, re-noise to the next level, denoise, ...: one evaluation a level.

    The multi-step sampler of consistency models (Song et al. 2023, alg. 1) and of ADD (Sauer et al.
    2023). Yields the pure noise, each re-noised image, and last the denoised image.
    """
    x = sigmas[0] * randn()
    yield x
    for sigma, next_sigma in zip(sigmas, [*sigmas[1:], 0.0]):
        x = denoise(x, sigma, next_sigma)
        if next_sigma > 0:
            x = x + next_sigma * randn()
        yield x


def ddim_states(denoise, euler_step, sigmas, randn):
    """Euler steps of the probability-flow ODE between these levels, then to 0: one evaluation each.

    The deterministic sampler of DDIM (Song et al. 2020, arXiv:2010.02502, eq. 13) with noise levels
    as in EDM. The denoiser is told the next level. Yields states; levels may be numbers or tensors.
    """
    x = sigmas[0] * randn()
    yield x
    for sigma, next_sigma in zip(sigmas, [*sigmas[1:], 0.0]):
        x = euler_step(x, denoise(x, sigma, next_sigma), sigma, next_sigma)
        yield x


def ode_plan(nfe, heun):
    """Which steps of the ODE sampler are second order: booleans whose cost is `nfe` evaluations.

    A Heun step costs two evaluations, and the last step, to sigma = 0, can only be Euler. With an
    even budget the first step is Euler as well: the path is straightest where noise dominates.
    """
    if not heun:
        return [False] * nfe
    if nfe % 2:
        return [True] * ((nfe - 1) // 2) + [False]
    return [False] + [True] * ((nfe - 2) // 2) + [False]


def ode_states(denoise, euler_step, sigmas, plan, randn):
    """Integrate the probability-flow ODE from noise (EDM alg. 1 without churn); yields states."""
    x = sigmas[0] * randn()
    yield x
    for sigma, sigma_next, second_order in zip(sigmas, sigmas[1:], plan):
        denoised = denoise(x, sigma)
        x_next = euler_step(x, denoised, sigma, sigma_next)
        if second_order:
            slope = (x - denoised) / sigma
            slope_next = (x_next - denoise(x_next, sigma_next)) / sigma_next
            x_next = x + (sigma_next - sigma) * (slope + slope_next) / 2
        x = x_next
        yield x


def check_request(shape, nfe, network):
    """Raise `ValueError` unless `nfe` evaluations of a network can make images of this shape."""
    if int(nfe) < 1:
        raise ValueError(f"num_inference_timesteps {nfe}: at least 1")
    sides, smallest = tuple(shape)[2:], getattr(network, "smallest_side", 1)
    if len(sides) != 2 or any(side < 1 or side % smallest for side in sides):
        raise ValueError(f"shape {tuple(shape)}: (B, 3, H, W), sides multiples of {smallest}")


def last_state(states, total, return_traj, verbose):
    """The last of `total` states of images, cut to [-1, 1], or with `return_traj` the list of all;
    verbose: with a progress bar."""
    trajectory = []
    for state in tqdm(states, total=total, disable=not verbose, desc="sampling"):
        trajectory = [*trajectory, state] if return_traj else [state]
    trajectory[-1] = trajectory[-1].clamp(-1, 1)
    return trajectory if return_traj else trajectory[-1]


def spaced_levels(levels, count):
    """`count` falling levels, spaced evenly in ln sigma along others (from the largest)."""
    places = np.linspace(0, len(levels) - 1, count)
    return np.exp(np.interp(places, range(len(levels)), np.log(levels))).tolist()


def untrained_note(model, nfes):
    """A line on the numbers of evaluations among `nfes` that a student has no noise levels of its
    own for, "" where there are none."""
    if getattr(model, "sampler", None) not in LEVEL_SAMPLERS:
        return ""
    table = model.scheduler.few_step_table
    others = [str(nfe) for nfe in nfes if nfe not in table]
    if not others:
        return ""
    return (
        f"note: NFE {', '.join(others)} was not trained; its noise levels are interpolated"
        f" (trained: NFE {', '.join(map(str, table))})"
    )


def draw_levels(count, mean, std, device):
    """`(count,)` noise levels with ln sigma ~ N(mean, std^2) (EDM table 1)."""
    return (mean + std * torch.randn(count, device=device)).exp()


def on_device(value, x):
    """A number or tensor -> float32 tensor on the device of `x`; a number is filled in there, since
    a copy from here would wait for the device."""
    if isinstance(value, torch.Tensor):
        return value.to(x.device, torch.float32)
    return torch.full((), value, dtype=torch.float32, device=x.device)


def noise_source(draw_noise, shape, device, seeds=None):
    """A function that returns fresh noise of `shape` at each call, from `draw_noise(shape, ...)`.

    With `seeds` (in [0, 2^32): torch's CPU generator ignores higher bits) each image has a CPU
    generator of its own, so its noise depends neither on the rest of the batch nor on the device.
    """
    if seeds is None:
        return lambda: draw_noise(shape, device)
    if len(seeds) != shape[0]:
        raise ValueError(f"{len(seeds)} seeds for {shape[0]} images")
    if not all(0 <= seed < 2**32 for seed in seeds):
        raise ValueError("seeds must lie in [0, 2^32)")
    generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
    own = shape[1:]
    return lambda: torch.stack([draw_noise(own, generator=g) for g in generators]).to(device)


def image_batches(model, nfe, count, batch_size, seed=None, sigmas=None):
    """The images of `tensor_batches` as uint8 `[B, 64, 64, 3]` on the CPU."""
    for images in tensor_batches(model, nfe, count, batch_size, seed, sigmas):
        yield to_uint8(images).numpy()


def tensor_batches(model, nfe, count, batch_size, seed=None, sigmas=None):
    """Yield batches of images `[B, 3, 64, 64]` in [-1, 1] on the model's device, `count` in all.

    With `seed` the noise of image i depends on that seed and i alone, so batch sizes do not matter
    (up to rounding inside the network); without it, on torch's global state. `sigmas` replaces the
    model's own levels. Raises `UserError` when the model returns values that are not finite.
    """
    for start in range(0, count, batch_size):
        extra = {"verbose": False} | ({"sigmas": sigmas} if sigmas else {})
        size = min(batch_size, count - start)
        if seed is not None:
            extra["seeds"] = image_seeds(seed, start, size)
        images = model.sample((size, *IMAGE_SHAPE), num_inference_timesteps=nfe, **extra)
        if not torch.isfinite(images).all():
            raise UserError("the model generates values that are not finite; use another one")
        yield images
