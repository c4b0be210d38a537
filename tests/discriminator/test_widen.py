"""Widening: the same verdicts with more channels, which then learn apart."""

import pytest
import torch

from custom_model import NETWORKS
from discriminator.widen import can_widen, widened
from tests.discriminator.test_discriminator import build

RANDOM = torch.Generator().manual_seed(0)
IMAGES, SIGMA = torch.randn(8, 3, 64, 64, generator=RANDOM), torch.rand(8, generator=RANDOM)
LEVEL = torch.full((8,), 80.0)


def learnt(channels):
    """A discriminator all of whose weights are as if it had learnt: none is 0."""
    disc = build(channels=channels, from_level=True)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in disc.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return disc


@pytest.mark.parametrize("channels, wide", [(8, 16), (8, 24), (8, 64), (16, 64)])
def test_a_wider_discriminator_gives_the_same_logits(channels, wide):
    narrow, target = learnt(channels), build(channels=wide, from_level=True)
    target.load_state_dict(widened(narrow.state_dict(), target.state_dict()))
    with torch.no_grad():
        before, after = (disc(IMAGES, SIGMA, level=LEVEL) for disc in (narrow, target))
    assert before.std() > 0.1
    torch.testing.assert_close(after, before, atol=1e-4 * float(before.std()), rtol=1e-4)


def test_its_copies_learn_apart():
    target = build(channels=16, from_level=True)
    target.load_state_dict(widened(learnt(8).state_dict(), target.state_dict()))
    target(IMAGES, SIGMA, level=LEVEL).square().mean().backward()
    first, second = target.trunk.stem.weight.grad.chunk(2)
    assert (first - second).norm() > 0.1 * first.norm()


def test_widening_is_the_same_each_time_and_leaves_what_fits_as_it_is():
    weights, own = learnt(8).state_dict(), build(channels=16, from_level=True).state_dict()
    first, second = widened(weights, own), widened(weights, own)
    assert all(torch.equal(first[name], second[name]) for name in first)
    same = widened(weights, weights)
    assert all(same[name] is weights[name] for name in weights)


def test_what_can_be_widened():
    network = NETWORKS["small"]
    half = network["ch"] // 2  # what 0 stands for
    assert can_widen("resnet", "auto", network, 0, 2 * half)
    assert can_widen("resnet", "off", network, 8, 24)
    for name, spectral, narrow, wide in (
        ("patch", "off", 8, 16),
        ("unet", "off", 32, 64),
        ("resnet", "on", 8, 16),
        ("resnet", "auto", 8, 12),
        ("resnet", "auto", 24, 72),  # at low resolutions from 192 to the most, 512
        ("resnet", "auto", 16, 8),
        ("resnet", "auto", half, 0),
    ):
        assert not can_widen(name, spectral, network, narrow, wide)
