"""The two abstract classes that every scheduler and every generative model here implements."""

from abc import ABC, abstractmethod

from torch import nn


class BaseScheduler(ABC, nn.Module):
    """The forward (noising) process and one step of the reverse process.

    Keeps `num_train_timesteps` and passes all other keyword arguments to `_setup`.
    """

    def __init__(self, num_train_timesteps=1000, **kwargs):
        super().__init__()
        self.num_train_timesteps = num_train_timesteps
        self._setup(**kwargs)

    def _setup(self, **kwargs):
        """Hook for subclasses: prepare schedules from the remaining keyword arguments."""

    @abstractmethod
    def sample_timesteps(self, batch_size, device):
        """Random times for training, shape `[batch_size]`, on `device`."""

    @abstractmethod
    def forward_process(self, data, noise, t):
        """Noisy images `[B, C, H, W]` at times `t` `[B]`, from clean images and Gaussian noise."""

    @abstractmethod
    def reverse_process_step(self, xt, pred, t, t_next):
        """The state `[B, C, H, W]` at `t_next`, from `xt` at `t` and the network's prediction."""

    @abstractmethod
    def get_target(self, data, noise, t):
        """What the network should predict at times `t`: shape `[B, C, H, W]`."""


class BaseGenerativeModel(ABC, nn.Module):
    """A network and a scheduler that together train and sample.

    Keeps `network` and `scheduler` and passes all other keyword arguments to `_setup`.
    """

    def __init__(self, network, scheduler, **kwargs):
        super().__init__()
        self.network = network
        self.scheduler = scheduler
        self._setup(**kwargs)

    def _setup(self, **kwargs):
        """Hook for subclasses: prepare what else they need from the keyword arguments."""

    @property
    def device(self):
        """The device of the network's first parameter."""
        return next(self.network.parameters()).device

    @abstractmethod
    def compute_loss(self, data, noise, **kwargs):
        """Scalar training loss for clean images and noise, both `[B, C, H, W]`."""

    @abstractmethod
    def predict(self, xt, t, **kwargs):
        """The network's prediction `[B, C, H, W]` for states `xt` at times `t` `[B]`."""

    @abstractmethod
    def sample(self, shape, num_inference_timesteps=20, return_traj=False, verbose=False, **kwargs):
        """Images of `shape` `[B, C, H, W]` in [-1, 1]; with `return_traj` the list of states."""
