"""The start at half the side: what the inner network does, and that the whole one goes on there."""

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from fewstep.engine.microbatch import split
from fewstep.engine.processes import ALONE
from fewstep.methods.growing import begin_as_shortcut, coarse_pass, halve, inner_pass
from fewstep.runs.building import build_scratch
from src.model_config import NETWORKS
from src.network import UNet
from tests.students import build_teacher, tiny_settings


@pytest.fixture(params=["tiny", "small", "wide"])
def network(request):
    """Fresh, in double precision, its outermost level as the start has it. "wide": the way out is
    narrower than the level below, as in the full network."""
    wide = dict(ch=32, ch_mult=[1, 2, 2], attn=[1], num_res_blocks=2, dropout=0.0)
    torch.manual_seed(0)
    network = UNet(**NETWORKS.get(request.param, wide)).double()
    begin_as_shortcut(network)
    torch.nn.init.xavier_uniform_(network.tail[2].weight)
    return network


def test_the_whole_network_goes_on_where_the_inner_one_stopped(network):
    for layer in (
        network.head,
        network.tail[2],
    ):  # what sees neighbours sees others at half the side
        centre = layer.weight[:, :, 1:2, 1:2].clone()
        torch.nn.init.zeros_(layer.weight)
        with torch.no_grad():
            layer.weight[:, :, 1:2, 1:2] = centre
    small, t = torch.randn(2, 3, 16, 16).double(), torch.tensor([10.0, 700.0])
    images = F.interpolate(small, scale_factor=2)
    inner = F.interpolate(inner_pass(network, small, t), scale_factor=2)
    assert inner.std() > 0.1
    # Residual branches begin at 1e-5 of a usual gain, not at 0.
    assert (network(images, t) - inner).abs().max() < 1e-3 * inner.std()
    assert torch.equal(coarse_pass(network, images, t), inner)


def test_in_the_start_all_but_the_outermost_level_learns(network):
    inner_pass(network, torch.randn(2, 3, 16, 16).double(), torch.rand(2)).square().sum().backward()
    without = {name for name, p in network.named_parameters() if p.grad is None}
    network.zero_grad()
    network(torch.randn(2, 3, 16, 16).double(), torch.rand(2)).square().sum().backward()
    assert not any(p.grad is None for p in network.parameters())
    levels = len(network.upblocks)
    assert without, "Down- and UpSample of the outermost level are left out"
    for name in without:
        part, place = name.split(".")[:2]
        is_outer = {"downblocks": int(place) < levels / 2, "upblocks": int(place) > levels / 2}
        assert part in is_outer and is_outer[part] and "shortcut" not in name


def test_what_the_inner_network_sees_is_the_whole_image_pooled():
    torch.manual_seed(0)
    settings = tiny_settings(dict(start_share=0.5, num_iterations=10, warmup=1))
    phase = build_teacher(settings)
    calls = []
    compute_loss = phase.model.compute_loss

    def record(images, noise, sigma):
        calls.append((images, noise, sigma))
        return compute_loss(images, noise, sigma)

    phase.model.compute_loss = record
    images = torch.rand(4, 3, 64, 64) * 2 - 1
    before, after = (phase.step(split(images, [7]), step) for step in (4, 5))
    assert "start_loss" in before and "loss" in after
    (small, small_noise, small_sigma), (whole, noise, sigma) = calls
    assert torch.equal(small, halve(images)) and torch.equal(whole, images)
    assert torch.equal(small_noise, halve(noise))  # the same noise, pooled: half as strong
    assert torch.allclose(small_sigma, 2 * sigma)


def test_levels_fall_with_the_steps():
    settings = tiny_settings(dict(p_mean_rise=2.0, p_mean=-1.0, p_std=0.0))
    phase = build_teacher(settings)
    logs = [phase.levels(3, progress)[0].log() for progress in (0.0, 0.25, 1.0)]
    for level, expected in zip(logs, (1.0, 0.5, -1.0)):
        assert torch.allclose(level, torch.full((3,), expected))
    phase.is_start = True
    assert torch.allclose(phase.levels(1, 1.0)[0].log(), torch.tensor(-1.0 + math.log(2)))


def test_pictures_of_the_start_are_of_half_the_side():
    settings = tiny_settings(dict(start_share=0.5, num_iterations=4, warmup=1, teacher_steps=2))
    phase = build_teacher(settings)
    images = torch.rand(4, 3, 64, 64) * 2 - 1
    for step, is_coarse in ((1, True), (2, False)):
        phase.step(split(images, [step]), step)
        pictures = phase.pictures(2, 64)
        pooled = F.interpolate(halve(pictures), scale_factor=2)
        assert pictures.shape == (2, 3, 64, 64) and torch.equal(pictures, pooled) is is_coarse


def test_a_run_without_a_start_has_the_weights_it_had():
    torch.manual_seed(3)
    plain = UNet(**NETWORKS["tiny"])
    torch.manual_seed(3)
    phase = build_teacher(tiny_settings())
    for one, other in zip(plain.parameters(), copy.deepcopy(phase.ema.network).parameters()):
        assert torch.equal(one, other)


def test_who_is_taken_further_does_not_go_back_to_half_the_side():
    phase = build_teacher(tiny_settings(dict(num_iterations=400, start_share=0.5, batch_size=2)))
    phase.first_total = 100  # as the loop reads from its checkpoint
    for step, side in ((49, 16), (50, 32), (150, 32)):
        next(phase.turns(step))
        assert phase.is_start == (side == 16)


@pytest.mark.parametrize("method", ["teacher", "shortcut", "meanflow"])
def test_the_average_too_is_the_inner_network_in_the_start_and_the_whole_one_after_it(method):
    """Whatever the pictures have left: what is measured next must not depend on that."""
    settings = tiny_settings(dict(start_share=0.5, num_iterations=4, warmup=1, teacher_steps=2))
    phase = build_scratch(method, settings, 0.5, torch.device("cpu"), ALONE)
    for step, name in ((1, "inner"), (2, "whole")):
        phase.pictures(1, 64)
        next(phase.turns(step))
        for growth in (phase.growth, phase.ema_growth):
            assert growth.network.forward == growth.passes[name]
