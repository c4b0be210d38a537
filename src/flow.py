"""A rectified flow: a network that predicts a velocity, and its Euler sampler.

Liu et al. 2022, "Flow Straight and Fast" (arXiv:2209.03003). Data and noise are joined by straight
lines, x_t = (1 - t) x0 + t n, and the network learns the mean velocity dx/dt = n - x0 along them.
Here t runs from 0 (data) to 1 (noise); the network is told 1000 t, which its sinusoids resolve.

One that is built with the additional condition is also told how long the step will be. It then
answers with the mean velocity over that step, so that few steps can be exact: shortcut models
(Frans et al. 2024, arXiv:2410.12557), MeanFlow (Geng et al. 2025, arXiv:2505.13447).
"""

import torch
from torch.nn import functional as F

from src.base_model import BaseGenerativeModel, BaseScheduler
from src.samplers import check_request, last_state, noise_source, on_device


class FlowScheduler(BaseScheduler):
    """The straight lines between data (t = 0) and noise (t = 1)."""

    def sample_timesteps(self, batch_size, device):
        """Uniform times in [0, 1), `(batch_size,)`."""
        return torch.rand(batch_size, device=device)

    def draw_noise(self, shape, device="cpu", generator=None):
        """Standard normal noise `[..., C, H, W]`."""
        return torch.randn(shape, device=device, generator=generator)

    def noise_like(self, x):
        """Noise of the shape of images `x`, on their device and in their memory layout."""
        return torch.randn_like(x)

    def forward_process(self, data, noise, t):
        """x_t = (1 - t) data + t noise (eq. 1). Images `[B, C, H, W]`, `t` `(B,)` in [0, 1]."""
        t = t.reshape(-1, 1, 1, 1)
        return (1 - t) * data + t * noise

    def reverse_process_step(self, xt, pred, t, t_next):
        """One Euler step of dx/dt = v from `t` to `t_next`, numbers; `pred` is v(xt, t)."""
        return xt + (t_next - t) * pred

    def get_target(self, data, noise, t):
        """The velocity of the line: noise - data."""
        return noise - data


class RectifiedFlow(BaseGenerativeModel):
    """A velocity field over the plain U-Net, sampled with Euler steps."""

    def _setup(self, use_additional_condition=False):
        self.use_additional_condition = use_additional_condition

    def predict(self, xt, t, length=0.0, **kwargs):
        """The velocity at `xt` `[B, 3, H, W]`, the same shape, in fp32; `t` and `length` numbers or
        `(B,)`. A network built with the additional condition is told `length` and answers with the
        mean velocity from `t` to `t - length`; any other with the velocity at `t`."""
        t, length = (
            self.scheduler.num_train_timesteps * on_device(value, xt).expand(len(xt))
            for value in (t, length)
        )
        inputs = (xt, t, length) if self.use_additional_condition else (xt, t)
        return self.network(*inputs).float()

    def compute_loss(self, data, noise, t=None, **kwargs):
        """E ||v(x_t, t) - (n - x0)||^2 (eq. 1), a scalar: the mean over images and pixels. `t`
        `(B,)` is drawn when not given."""
        if t is None:
            t = self.scheduler.sample_timesteps(len(data), data.device)
        velocity = self.predict(self.scheduler.forward_process(data, noise, t), t)
        return F.mse_loss(velocity, self.scheduler.get_target(data, noise, t))

    @torch.no_grad()
    def sample(
        self, shape, num_inference_timesteps=20, return_traj=False, verbose=False, seeds=None
    ):
        """Generate images `[B, 3, H, W]` in [-1, 1] with `num_inference_timesteps` Euler steps of
        equal length, one network evaluation each.

        return_traj: give the list of states, noise first. seeds: one int per image; its noise then
        depends on nothing else. Raises `ValueError` for fewer than one step, and for sides that
        the network cannot halve often enough.
        """
        check_request(shape, num_inference_timesteps, self.network)
        nfe = int(num_inference_timesteps)
        noise = noise_source(self.scheduler.draw_noise, shape, self.device, seeds)()
        return last_state(self._states(noise, nfe), nfe + 1, return_traj, verbose)

    def _states(self, x, nfe):
        yield x
        for step in range(nfe):
            t, t_next = 1 - step / nfe, 1 - (step + 1) / nfe
            velocity = self.predict(x, t, 1 / nfe)
            x = self.scheduler.reverse_process_step(x, velocity, t, t_next)
            yield x
