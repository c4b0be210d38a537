"""Discriminators: shape of the logits, what they can see, and that every part learns."""

import pytest
import torch

from discriminator import REGISTRY, build_discriminator
from discriminator.resnet import minibatch_stddev


@pytest.fixture(params=sorted(REGISTRY))
def disc(request):
    torch.manual_seed(0)
    return build_discriminator(request.param, channels=8, sigma_data=0.5)


def test_logits_are_one_row_an_image_in_fp32(disc):
    logits = disc(torch.randn(4, 3, 64, 64), torch.tensor([0.0, 0.1, 1.0, 80.0]))
    assert logits.shape == (4, 16 * 16 // 4 + 16 + 256)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


def test_noise_level_changes_the_verdict(disc):
    x = torch.randn(4, 3, 64, 64)
    scaled = x * ((1.0 + 0.25) / (0.01 + 0.25)) ** 0.5  # the same input after normalisation
    same_level = disc(x, torch.full((4,), 0.1))
    other_level = disc(scaled, torch.full((4,), 1.0))
    assert not torch.allclose(same_level, other_level, atol=1e-4)


def test_every_parameter_gets_a_gradient(disc):
    disc(torch.randn(4, 3, 64, 64), torch.rand(4)).square().mean().backward()
    without = [n for n, p in disc.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_images_of_a_batch_meet_only_in_the_stddev_of_their_group(disc):
    torch.manual_seed(1)
    x, sigma = torch.randn(8, 3, 64, 64), torch.full((8,), 0.3)
    changed = x.clone()
    changed[0] += 1
    difference = (disc(x, sigma) - disc(changed, sigma)).abs().amax(dim=1)
    assert (difference[:4] > 0).all()
    assert (difference[4:] < 1e-5).all()


def test_minibatch_stddev_sees_equal_images():
    equal = torch.randn(1, 5, 4, 4).expand(4, -1, -1, -1)
    varied = torch.randn(4, 5, 4, 4)
    assert minibatch_stddev(equal)[:, -1].max() < 1e-3
    expected = varied.var(dim=0, unbiased=False).sqrt().mean()
    assert torch.allclose(minibatch_stddev(varied)[:, -1], expected.expand(4, 4, 4), atol=1e-4)
    assert minibatch_stddev(torch.randn(3, 5, 4, 4)).shape == (3, 6, 4, 4)


def test_it_learns_to_tell_noise_from_stripes(disc):
    torch.manual_seed(2)
    optimizer = torch.optim.Adam(disc.parameters(), lr=2e-3)
    stripes = torch.ones(64) * torch.arange(64).remainder(8).sub(3.5).sign()
    sigma = torch.full((4,), 0.1)
    for _ in range(40):
        real = stripes.expand(4, 3, 64, 64) * torch.rand(4, 1, 1, 1)
        fake = torch.randn(4, 3, 64, 64) * 0.5
        loss = (1 - disc(real, sigma)).relu().mean() + (1 + disc(fake, sigma)).relu().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1
