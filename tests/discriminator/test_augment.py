"""Augmentation of the discriminator's inputs, and the controller of its probability."""

import pytest
import torch

from discriminator.augment import POLICIES, Augment, cut_out, recolour, translate


def images(count=4, size=16):
    torch.manual_seed(0)
    return torch.rand(count, 3, size, size) * 2 - 1


def test_the_middle_of_the_range_changes_nothing():
    x = images()
    assert torch.equal(translate(x, torch.full((4, 2), 0.5)), x)
    assert torch.allclose(recolour(x, torch.full((4, 3), 0.5)), x, atol=1e-6)


def test_translation_moves_whole_images_and_fills_with_zeros():
    x = images()
    moved = translate(x, torch.tensor([[0.999, 0.5], [0.0, 0.5], [0.5, 0.999], [0.5, 0.0]]))
    assert torch.equal(moved[0, :, :, :-2], x[0, :, :, 2:]) and not moved[0, :, :, -2:].any()
    assert torch.equal(moved[1, :, :, 2:], x[1, :, :, :-2]) and not moved[1, :, :, :2].any()
    assert torch.equal(moved[2, :, :-2], x[2, :, 2:]) and not moved[2, :, -2:].any()
    assert torch.equal(moved[3, :, 2:], x[3, :, :-2]) and not moved[3, :, :2].any()


def test_colours_by_hand():
    x = images()
    brighter = recolour(x, torch.tensor([[1.0, 0.5, 0.5]] * 4))
    assert torch.allclose(brighter, x + 0.5, atol=1e-6)
    grey = recolour(x, torch.tensor([[0.5, 0.0, 0.5]] * 4))
    assert torch.allclose(grey, x.mean(dim=1, keepdim=True).expand_as(x), atol=1e-6)
    flat = recolour(x, torch.tensor([[0.5, 0.5, 0.0]] * 4))
    assert torch.allclose(flat.std(dim=(1, 2, 3)), 0.5 * x.std(dim=(1, 2, 3)), rtol=1e-4)
    assert torch.allclose(flat.mean(dim=(1, 2, 3)), x.mean(dim=(1, 2, 3)), atol=1e-6)


def test_cutout_zeroes_a_square_of_half_the_size():
    x = torch.ones(2, 3, 16, 16)
    cut = cut_out(x, torch.tensor([[0.5, 0.5], [0.0, 0.0]]))
    assert (cut[0] == 0).sum() == 3 * 7 * 7 and not cut[0, :, 8, 8].any()
    assert (cut[1] == 0).sum() == 3 * 4 * 4 and not cut[1, :, 0, 0].any()


@pytest.mark.parametrize("name", POLICIES)
def test_gradients_flow_and_every_image_is_treated_alone(name):
    augment, x = Augment([name], 1.0), images().requires_grad_()
    draws = augment.draw(4)
    augment(x, draws).square().sum().backward()
    assert (x.grad.flatten(1).abs().sum(dim=1) > 0).all()
    alone = augment(x[2:3], draws[2:3])
    assert torch.allclose(alone[0], augment(x, draws)[2], atol=1e-6)


def test_the_same_draws_give_the_same_images_and_others_do_not():
    augment, x = Augment(list(POLICIES), 0.7), images()
    draws = augment.draw(4)
    assert torch.equal(augment(x, draws), augment(x, draws))
    assert not torch.equal(augment(x), augment(x))
    assert Augment([], 1.0)(x) is x


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_each_image_is_changed_with_the_given_probability(p):
    augment, x = Augment(["color"], p), images(1000, 4)
    changed = (augment(x) != x).flatten(1).any(dim=1).float().mean().item()
    assert changed == pytest.approx(p, abs=0.05)


def test_probability_rises_when_real_images_are_known_and_falls_when_not():
    augment = Augment(["color"], 0.5)
    known, unsure = torch.full((8, 5), 2.0), torch.tensor([[1.0, -1.0]])
    augment.steer(known.sign().mean(), target=0.6, images=8, speed=80)
    assert augment.p.item() == pytest.approx(0.6)
    for _ in range(3):
        augment.steer(unsure.sign().mean(), target=0.6, images=8, speed=80)
    assert augment.p.item() == pytest.approx(0.3)
    for _ in range(20):
        augment.steer(known.sign().mean(), target=0.6, images=8, speed=80)
    assert augment.p.item() == 1.0
    for _ in range(20):
        augment.steer(unsure.sign().mean(), target=0.6, images=8, speed=80)
    assert augment.p.item() == 0.0
    assert "p" in augment.state_dict(), "a resumed run goes on with the probability it had"
