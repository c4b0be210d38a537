"""The model of a submission: preconditioning around the plain U-Net, and its samplers.

Throughout, the challenge's time `t` *is* the noise level sigma: x_t = x0 + t * noise.

Every network here is a denoiser D(x, sigma) -> x0 (Karras et al. 2022, "Elucidating the Design
Space of Diffusion-Based Generative Models", arXiv:2206.00364, in short EDM); one that predicts a
velocity is in `src/flow.py`. Sampling needs this file and `src/` alone.
"""

import math

import torch

from src.base_model import BaseGenerativeModel, BaseScheduler
from src.flow import FlowScheduler, RectifiedFlow
from src.model_config import (
    LEVEL_SAMPLERS,
    MODEL_DEFAULTS,
    NETWORKS,
    SAMPLERS,
    checked_levels,
    whole_config,
)
from src.network import UNet
from src.samplers import (
    check_request,
    ddim_states,
    draw_levels,
    few_step_states,
    last_state,
    noise_source,
    ode_plan,
    ode_states,
    on_device,
    spaced_levels,
)


class CustomScheduler(BaseScheduler):
    """Noise levels: how they are drawn, applied, spaced, and shown to the network."""

    def _setup(
        self,
        sigma_data=MODEL_DEFAULTS["sigma_data"],
        sigma_min=MODEL_DEFAULTS["sigma_min"],
        sigma_max=MODEL_DEFAULTS["sigma_max"],
        rho=MODEL_DEFAULTS["rho"],
        p_mean=MODEL_DEFAULTS["p_mean"],
        p_std=MODEL_DEFAULTS["p_std"],
        noise_offset=MODEL_DEFAULTS["noise_offset"],
        few_step_sigmas=None,
        preconditioning=MODEL_DEFAULTS["preconditioning"],
    ):
        if not 0 < sigma_min < sigma_max:
            raise ValueError(f"sigma_min {sigma_min} must lie between 0 and sigma_max {sigma_max}")
        self.sigma_data, self.sigma_min, self.sigma_max = sigma_data, sigma_min, sigma_max
        self.rho, self.p_mean, self.p_std, self.noise_offset = rho, p_mean, p_std, noise_offset
        self.is_flow = preconditioning == "flow"
        given = MODEL_DEFAULTS["few_step_sigmas"] if few_step_sigmas is None else few_step_sigmas
        self.few_step_table = checked_levels(given)

    def sample_timesteps(self, batch_size, device):
        """Training levels, ln sigma ~ N(p_mean, p_std^2) (EDM table 1). Returns `(batch_size,)`."""
        return draw_levels(batch_size, self.p_mean, self.p_std, device)

    def draw_noise(self, shape, device="cpu", generator=None):
        """Noise `[..., C, H, W]`: standard normal, plus `noise_offset` times one number a channel.

        The shared part (Guttenberg 2023, "Diffusion with Offset Noise") lets the noise carry a
        picture's overall colours, which the mean of H x W independent values hardly does. The
        sampling ODE stays (x - D) / sigma: its derivation needs x = x0 + sigma n, not white n.
        """
        noise = torch.randn(shape, device=device, generator=generator)
        if self.noise_offset:
            shared = (*shape[:-2], 1, 1)
            shared = torch.randn(shared, device=device, generator=generator)
            noise = noise + self.noise_offset * shared
        return noise

    def noise_like(self, x):
        """Noise of the shape of images `x`, on their device and in their memory layout."""
        noise = self.draw_noise(x.shape, x.device)
        return noise if noise.stride() == x.stride() else torch.empty_like(x).copy_(noise)

    def forward_process(self, data, noise, t):
        """x_t = data + t * noise. Images `[B, C, H, W]`, `t` a number or `(B,)`."""
        return data + _per_image(t, data) * noise

    def reverse_process_step(self, xt, pred, t, t_next):
        """One Euler step of dx/dt = (x - D(x, t)) / t from `t` to `t_next` (EDM alg. 1).

        `pred` is the denoised image D(xt, t); at `t_next` = 0 the result is `pred` itself.
        """
        ratio = _per_image(t_next, xt) / _per_image(t, xt)
        return pred + ratio * (xt - pred)

    def get_target(self, data, noise, t):
        """What the denoiser should return for `forward_process(data, noise, t)`: the data."""
        return data

    def scales(self, sigma):
        """(c_in, c_skip, c_out) of D(x, sigma) = c_skip x + c_out U(c_in x, tau(sigma)) (EDM eq.
        7), each as `sigma`, a tensor.

        "edm": table 1, input and target have unit variance at each level. "flow": a rectified
        flow's (Liu et al. 2022, arXiv:2209.03003). With t = sigma / (1 + sigma) the network sees
        (1 - t) x0 + t n and predicts n - x0, the same mixture at each level; D = c_in x - t U.
        """
        if self.is_flow:
            share = 1 / (1 + sigma)
            return share, share, -sigma * share
        data = self.sigma_data
        spread = (sigma**2 + data**2).sqrt()
        return 1 / spread, data**2 / spread**2, sigma * data / spread

    def loss_weight(self, sigma):
        """lambda(sigma) = 1 / c_out^2: (sigma^2 + sigma_data^2) / (sigma * sigma_data)^2 for EDM
        (table 1), ((1 + sigma) / sigma)^2 for a flow, whose loss is that of the velocity."""
        return 1 / self.scales(sigma)[-1] ** 2

    def tau(self, sigma):
        """Level -> time input of the network, in [0, num_train_timesteps).

        The U-Net's sinusoids resolve numbers up to about 1000, so sigma is squashed: by an arctan,
        or to a flow's t.
        """
        if self.is_flow:
            return self.num_train_timesteps * sigma / (1 + sigma)
        return self.num_train_timesteps * (2 / math.pi) * torch.atan(sigma / self.sigma_data)

    def ode_sigmas(self, num_steps, sigma_max=None):
        """`num_steps` falling levels of the ODE sampler, then 0 (EDM eq. 5), from `sigma_max` or
        the scheduler's own. Returns floats."""
        sigma_max = sigma_max or self.sigma_max
        if num_steps == 1:
            return [sigma_max, 0.0]
        high, low = sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        ramp = [high + i / (num_steps - 1) * (low - high) for i in range(num_steps)]
        return [level**self.rho for level in ramp] + [0.0]

    def few_step_sigmas(self, nfe):
        """The student's `nfe` falling levels: from the table, else spaced evenly in ln sigma along
        the table's longest row."""
        if nfe in self.few_step_table:
            return self.few_step_table[nfe]
        return spaced_levels(self.few_step_table[max(self.few_step_table)], nfe)


class CustomGenerativeModel(BaseGenerativeModel):
    """A denoiser over the plain U-Net; the same class serves teacher and student."""

    def _setup(self, sampler=MODEL_DEFAULTS["sampler"], use_additional_condition=False):
        if sampler not in SAMPLERS:
            raise ValueError(f"sampler {sampler!r}: use one of {', '.join(SAMPLERS)}")
        self.sampler, self.use_additional_condition = sampler, use_additional_condition

    def denoise(self, x, sigma, next_sigma=0.0):
        """D(x, sigma) = c_skip x + c_out U(c_in x, tau(sigma)) (EDM eq. 7), see
        `CustomScheduler.scales`.

        `x` `[B, 3, H, W]`; `sigma` and `next_sigma` numbers or `(B,)`. A network built with the
        additional condition is told `next_sigma`, the level its output will be re-noised to
        (0: it is final). Preconditioning stays in fp32 whatever precision the network runs in.
        """
        sigma = _per_batch(sigma, x)
        c_in, c_skip, c_out = (_per_image(scale, x) for scale in self.scheduler.scales(sigma))
        condition = None
        if self.use_additional_condition:
            condition = self.scheduler.tau(_per_batch(next_sigma, x))
        output = self.network(x * c_in, self.scheduler.tau(sigma), condition)
        return c_skip * x + c_out * output.float()

    def predict(self, xt, t, **kwargs):
        """The denoised image; see `denoise`."""
        return self.denoise(xt, t, **kwargs)

    def compute_loss(self, data, noise, sigma=None, **kwargs):
        """EDM's denoising loss E[lambda(sigma) ||D(x0 + sigma n, sigma) - x0||^2], eq. 2, a scalar:
        the mean over images and pixels. `sigma` `(B,)` is drawn when not given."""
        if sigma is None:
            sigma = self.scheduler.sample_timesteps(len(data), data.device)
        denoised = self.denoise(self.scheduler.forward_process(data, noise, sigma), sigma, **kwargs)
        error = (denoised - self.scheduler.get_target(data, noise, sigma)) ** 2
        return (self.scheduler.loss_weight(sigma) * error.mean(dim=(1, 2, 3))).mean()

    @torch.no_grad()
    def sample(
        self,
        shape,
        num_inference_timesteps=20,
        return_traj=False,
        verbose=False,
        seeds=None,
        sampler=None,
        sigmas=None,
    ):
        """Generate images with exactly `num_inference_timesteps` network evaluations.

        shape: `(B, 3, H, W)`. return_traj: give the list of states, noise first and images last.
        verbose: progress bar. seeds: one int per image; its noise then depends on nothing else.
        sampler: use another one than the model's own. sigmas: levels for "few_step" or "ddim",
        largest first.
        Returns images in [-1, 1] `[B, 3, H, W]`, or the list of states. Raises `ValueError` for
        fewer than one evaluation, and for sides that the network cannot halve often enough.
        """
        check_request(shape, num_inference_timesteps, self.network)
        nfe = int(num_inference_timesteps)
        sampler = sampler or self.sampler
        randn = noise_source(self.scheduler.draw_noise, shape, self.device, seeds)
        step = self.scheduler.reverse_process_step
        if sampler in LEVEL_SAMPLERS:
            given = checked_levels({nfe: sigmas})[nfe] if sigmas else None
            levels, total = given or self.scheduler.few_step_sigmas(nfe), nfe + 1
            if sampler == "few_step":
                states = few_step_states(self.denoise, levels, randn)
            else:
                states = ddim_states(self.denoise, step, levels, randn)
        else:
            if sigmas:
                raise ValueError(f"sigmas belong to the few_step sampler, not to {sampler}")
            plan = ode_plan(nfe, heun=sampler == "heun")
            levels, total = self.scheduler.ode_sigmas(len(plan)), len(plan) + 1
            states = ode_states(self.denoise, step, levels, plan, randn)
        return last_state(states, total, return_traj, verbose)


def create_custom_model(device="cpu", **config):
    """Build the model that `config` (the content of `model_config.json`) describes.

    Keys left out have the values of `model_config.DEFAULTS`; but a `config` that names its
    `model_type`, as each saved one does, must be whole: weights mean nothing with another's levels.
    Raises `ValueError` for an unknown or missing key or a value that cannot be, naming it.
    """
    config = whole_config(config)
    condition = config["use_additional_condition"]
    shape = dict(NETWORKS[config["network"]], use_additional_condition=condition)
    if config["norm_groups"] != MODEL_DEFAULTS["norm_groups"]:
        shape["norm_groups"] = config["norm_groups"]  # the challenge's own U-Net has no such choice
    network = UNet(**shape)
    if config["model_type"] == "rectified_flow":
        scheduler = FlowScheduler(num_train_timesteps=config["num_train_timesteps"])
        flow = RectifiedFlow(network, scheduler, use_additional_condition=condition)
        return flow.to(device)
    levels = ("sigma_data", "sigma_min", "sigma_max", "rho", "p_mean", "p_std")
    levels += ("noise_offset", "few_step_sigmas", "num_train_timesteps", "preconditioning")
    scheduler = CustomScheduler(**{key: config[key] for key in levels})
    model = CustomGenerativeModel(
        network, scheduler, sampler=config["sampler"], use_additional_condition=condition
    )
    return model.to(device)


def _per_batch(value, x):
    """A number or `(B,)` -> float32 `(B,)` on the device of `x`."""
    return on_device(value, x).expand(len(x))


def _per_image(value, x):
    """A number or `(B,)` -> shape that multiplies images `[B, C, H, W]`."""
    value = on_device(value, x)
    return value.reshape(-1, 1, 1, 1) if value.ndim else value
