"""The discriminator's turn as a whole, with a linear discriminator of points, in closed form."""

import math

import pytest
import torch
from torch import nn

from custom_model import create_custom_model
from fewstep.engine.microbatch import split
from fewstep.methods.adversary import (
    LEAD_STEPS,
    Adversary,
    Lead,
    Verdict,
    bare_discriminator,
    build_adversary,
)
from src.model_config import MODEL_DEFAULTS
from tests.methods.mixture import PointDiscriminator
from tests.students import plain_execution, tiny_settings

COUNT, EPS = 20_000, 0.01
CLEAN = dict(disc_noise=False, penalty_sigma=EPS, gan_loss="relativistic")


def begun(step):
    return 0.0


def fp32(**speed):
    return plain_execution(precision="fp32", **speed)


class Linear(nn.Module):
    """D(x) = w.x + b, twice."""

    def __init__(self):
        super().__init__()
        self.augment = PointDiscriminator.NoAugmentation()
        self.weight = nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
        self.bias = nn.Parameter(torch.tensor(0.5))

    def forward(self, x, sigma, draws=None, level=None, sets=1):
        return x.flatten(1) @ self.weight + self.bias


def turn_of(count=COUNT, joint_disc=True, **flags):
    """(the loss, the metrics, the discriminator, real points, generated points) of one turn."""
    torch.manual_seed(0)
    disc = Linear()
    settings = tiny_settings(CLEAN, flags).discriminator
    adversary = Adversary(settings, disc, fp32(joint_disc=joint_disc), begun)
    real, fake = torch.randn(count, 2, 1, 1), torch.randn(count, 2, 1, 1) + 1
    (turn,) = adversary.turns(lambda micro_batch: fake, lambda micro_batch: torch.ones(count), 0)
    adversary.learner.let_learn(True)
    loss, metrics = turn.loss(split(real, [0])[0])
    return loss, metrics, disc, real, fake


@pytest.mark.parametrize(
    ("penalty", "kinds"), [("approx_r1", 1), ("r1", 1), ("approx_r1r2", 2), ("r1r2", 2)]
)
@pytest.mark.parametrize("joint_disc", [True, False])
def test_each_penalty_is_its_gradient_norm_on_its_kinds_of_images(penalty, kinds, joint_disc):
    """Of a linear D it is eps^2 |w|^2, here the mean of both logits: (1 + 9 + 4) / 2."""
    _, metrics, *_ = turn_of(penalty=penalty, joint_disc=joint_disc)
    assert metrics["penalty"].item() == pytest.approx(kinds * EPS**2 * 7, rel=0.05)


def test_the_approximate_r2_looks_at_generated_images():
    """A discriminator that is steep at generated images alone."""
    torch.manual_seed(0)

    class Steep(Linear):
        def forward(self, x, sigma, draws=None, level=None, sets=1):
            return 5 * torch.relu(x.flatten(1).sum(dim=1, keepdim=True)) + 0 * self.bias

    real, levels = torch.full((COUNT, 2, 1, 1), -1.0), torch.ones(COUNT)
    values = {}
    for penalty in ("approx_r1", "approx_r1r2"):
        settings = tiny_settings(CLEAN, dict(penalty=penalty)).discriminator
        adversary = Adversary(settings, Steep(), fp32(), begun)
        (turn,) = adversary.turns(lambda micro_batch: -real, lambda micro_batch: levels, 0)
        values[penalty] = turn.loss(split(real, [0])[0])[1]["penalty"].item()
    assert values["approx_r1"] == 0
    assert values["approx_r1r2"] == pytest.approx(EPS**2 * 25 * 2, rel=0.05)


def test_all_parts_of_the_loss_add_up_with_their_weights():
    flags = dict(penalty="approx_r1r2", penalty_weight=3.0, centring_weight=0.25)
    loss, metrics, disc, real, fake = turn_of(count=64, **flags)
    pair = [(x.flatten(1) @ disc.weight + 0.5).detach() for x in (real, fake)]
    differences = (pair[1] - pair[0]).exp().log1p().mean().item()
    assert metrics["disc_loss"].item() == pytest.approx(differences, rel=1e-5)
    centre = (pair[0] + pair[1]).square().mean().item()
    total = differences + 0.25 * centre + 3.0 * metrics["penalty"].item()
    assert loss.item() == pytest.approx(total, rel=1e-5) and math.isfinite(total)


def test_only_centring_tells_a_relativistic_discriminator_where_zero_is():
    """Its loss has no gradient for a bias; centring has 2 (D(real) + D(fake)) twice."""
    loss, _, disc, *_ = turn_of(penalty="none")
    loss.backward()
    assert disc.bias.grad.abs() < 1e-6
    loss, _, disc, real, fake = turn_of(penalty="none", centring_weight=0.25)
    loss.backward()
    logits = [(x.flatten(1) @ disc.weight + 0.5).mean().item() for x in (real, fake)]
    assert disc.bias.grad.item() == pytest.approx(0.25 * 4 * sum(logits), rel=1e-4)


def test_the_lead_is_the_share_of_right_comparisons_over_that_of_wrong_ones():
    real = torch.tensor([[3.0, 3.0], [3.0, 3.0]])
    fake = torch.tensor([[2.0, 2.0], [2.0, 4.0]])  # right, right; right, wrong
    assert Verdict.of(real, fake).lead == 0.5
    assert Verdict.of(real, real - 1).lead == 1
    lead = Lead("cpu")
    lead.follow(torch.tensor(1.0))
    lead.follow(torch.tensor(float("nan")))  # says nothing
    assert lead.value.item() == pytest.approx(1 / LEAD_STEPS)


def test_held_out_images_are_judged_beside_generated_ones():
    """By the logits x1 + 3 x2 + 0.5 and 2 x1 + 0.5; nobody learns from it."""
    disc, settings = Linear(), tiny_settings(CLEAN).discriminator
    adversary = Adversary(settings, disc, fp32(), begun)
    heldout = torch.tensor([[1.0, 0.0], [1.0, 0.0]]).reshape(2, 2, 1, 1)
    fake = torch.tensor([[0.0, 0.0], [2.0, -1.0]]).reshape(2, 2, 1, 1)
    found = adversary.judge(heldout, fake, torch.ones(2))
    # Right in both logits of the first pair; of the second one they are 1.5 > -0.5 and 2.5 < 4.5.
    assert found == {"logits_heldout": pytest.approx(2.0), "lead_heldout": 0.5}
    assert all(parameter.grad is None for parameter in disc.parameters())


def test_real_and_generated_images_are_judged_as_of_the_same_levels():
    """So that a level alone tells nothing; in all views, and beside held-out images."""
    seen = []

    class Watching(Linear):
        def forward(self, x, sigma, draws=None, level=None, sets=1):
            seen.append(level.tolist())
            return super().forward(x, sigma)

    levels = torch.tensor([80.0, 4.0, 1.5])
    images = torch.randn(3, 2, 1, 1)
    for joint_disc, penalty in ((True, "approx_r1r2"), (False, "approx_r1r2"), (True, "r1r2")):
        settings = tiny_settings(CLEAN, dict(penalty=penalty)).discriminator
        adversary = Adversary(settings, Watching(), fp32(joint_disc=joint_disc), begun)
        (turn,) = adversary.turns(lambda micro_batch: images, lambda micro_batch: levels, 0)
        turn.loss(split(images, [0])[0])
    adversary.loss_of(images, images, levels)  # relativistic: it looks at both
    adversary.judge(images, images, levels)
    one = levels.tolist()
    assert seen == [one * 4] + [one] * 4 + [one * 2] + [one] * 2 + [one] * 2 + [one] * 2


def test_the_teachers_shape_may_have_weights_of_its_own():
    """The shapes differ: the tiny network's has no blocks on the way down, one from scratch has."""
    config = MODEL_DEFAULTS | {"network": "tiny"}
    teacher, shapes, same = create_custom_model(**config), {}, {}
    for start in ("random", "teacher_shape", "teacher"):
        settings = tiny_settings(dict(disc="unet", disc_start=start)).discriminator
        disc = build_adversary(settings, teacher, config, fp32(), begun).disc
        shapes[start] = {key: value.shape for key, value in disc.state_dict().items()}
        same[start] = torch.equal(disc.trunk.head.weight, teacher.network.head.weight)
    assert shapes["teacher"] == shapes["teacher_shape"] != shapes["random"]
    assert same == {"random": False, "teacher_shape": False, "teacher": True}
    earlier = {key: value for key, value in config.items() if key != "norm_groups"}
    settings = tiny_settings(dict(disc="unet", disc_start="teacher")).discriminator
    norms = [
        one
        for one in bare_discriminator(settings, earlier).modules()
        if isinstance(one, nn.GroupNorm)
    ]
    assert {norm.num_groups for norm in norms} == {32}, "as of published ones that do not say"
