"""A Gaussian mixture in the plane, whose denoiser is known exactly: the oracle of several tests.

Points are images of two channels and one pixel, `[B, 2, 1, 1]`, so that the project's own code runs
on them unchanged.
"""

import torch
from torch import nn

from custom_model import CustomGenerativeModel, CustomScheduler

MEANS = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
STD = 0.25
LEVELS = {1: [5.0], 2: [5.0, 0.8], 4: [5.0, 2.0, 0.8, 0.4]}


def draw(count, means=MEANS, std=STD):
    """Points of the mixture, equally often from each mode."""
    picks = means[torch.arange(count) % len(means)]
    return (picks + std * torch.randn(count, 2)).reshape(count, 2, 1, 1)


def log_density(x, sigma, means=MEANS, std=STD):
    """log p_sigma of points `[B, 2]`, sigma `(B,)`, normalised."""
    variance = (std**2 + sigma**2)[:, None]
    squared = ((x[:, None] - means) ** 2).sum(dim=2)
    logs = -squared / (2 * variance) - torch.log(2 * torch.pi * variance)
    return torch.logsumexp(logs, dim=1) - torch.log(torch.tensor(float(len(means))))


def denoise(x, sigma, next_sigma=0.0, means=MEANS, std=STD):
    """E[x0 | x0 + sigma n = x] in closed form (EDM, arXiv:2206.00364, app. B.3 for mixtures)."""
    sigma = torch.as_tensor(sigma, dtype=x.dtype).expand(len(x))
    flat = x.flatten(1)
    variance = (std**2 + sigma**2)[:, None]
    squared = ((flat[:, None] - means) ** 2).sum(dim=2)
    posterior = torch.softmax(-squared / (2 * variance), dim=1)
    mean = posterior @ means
    return ((std**2 * flat + sigma[:, None] ** 2 * mean) / variance).reshape(x.shape)


class ExactTeacher(nn.Module):
    """The oracle with the face of a model."""

    def __init__(self):
        super().__init__()
        self.scheduler = scheduler()

    def denoise(self, x, sigma, next_sigma=0.0):
        return denoise(x, sigma)


class PointNetwork(nn.Module):
    """An MLP in the place of the U-Net: (points, time) -> points."""

    def __init__(self, width=128):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 + 4, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 2),
        )

    def forward(self, x, time, condition=None):
        angle = time[:, None] / 1000 * torch.pi / 2
        features = [angle.cos(), angle.sin(), (2 * angle).cos(), (4 * angle).sin()]
        return self.layers(torch.cat([x.flatten(1), *features], dim=1)).reshape(x.shape)


class PointDiscriminator(nn.Module):
    """disc(x, sigma, draws, level, sets) -> one logit a point, whatever the level."""

    class NoAugmentation(nn.Module):
        def draw(self, count):
            return torch.zeros(count, 0)

    def __init__(self, width=128):
        super().__init__()
        self.augment = self.NoAugmentation()
        self.layers = nn.Sequential(
            nn.Linear(3, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width),
            nn.LeakyReLU(0.2),
            nn.Linear(width, 1),
        )

    def forward(self, x, sigma, draws=None, level=None, sets=1):
        return self.layers(torch.cat([x.flatten(1), sigma[:, None]], dim=1))


def scheduler():
    return CustomScheduler(sigma_data=1.0, few_step_sigmas=LEVELS)


def point_model():
    """An untrained denoiser of points: at the first level it answers nearly the origin."""
    return CustomGenerativeModel(PointNetwork(), scheduler(), sampler="few_step")


def wrong_generator():
    """A one-step generator of one broad Gaussian that is off centre: it has no mode."""
    model = point_model()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(200):
        noise = torch.randn(256, 2, 1, 1)
        wanted = 2 * noise + torch.tensor([0.3, 0.2]).reshape(2, 1, 1)
        sigma = LEVELS[1][0]
        loss = (model.denoise(sigma * noise, sigma) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def generate(model, count=1000):
    """One-step samples, which `model.sample` would clip to the range of images."""
    torch.manual_seed(1)
    sigma = LEVELS[1][0]
    with torch.no_grad():
        return model.denoise(sigma * torch.randn(count, 2, 1, 1), sigma)


def coverage(points):
    """(share of points within 3 standard deviations of a mode, smallest share of a mode)."""
    distance = torch.cdist(points.flatten(1), MEANS)
    nearest, which = distance.min(dim=1)
    close = nearest < 3 * STD
    shares = [((which == mode) & close).float().mean().item() for mode in range(len(MEANS))]
    return close.float().mean().item(), min(shares)
