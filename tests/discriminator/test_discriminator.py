"""Discriminators: shape of the logits, what they can see, and that every part learns."""

import sys

import pytest
import torch
from torch import nn

import discriminator
from custom_model import NETWORKS, create_custom_model
from discriminator import build_discriminator
from discriminator.parts import minibatch_stddev, replace_batch_norm
from discriminator.registry import REGISTRY
from src.utils import UserError

NAMES = ["resnet", "patch", "unet", "timm:resnet10t"]


def build(name="resnet", **changes):
    torch.manual_seed(0)
    arguments = dict(
        network=NETWORKS["tiny"],
        sigma_data=0.5,
        channels=0,
        depth=0,
        heads=[],
        stddev=True,
        condition=True,
        from_level=False,
        spectral="auto",
        policy=[],
        p=1.0,
    )
    return build_discriminator(name, **arguments | changes)


@pytest.fixture(params=NAMES)
def disc(request):
    return build(request.param)


def test_every_architecture_is_tested():
    assert {name.partition(":")[0] for name in NAMES} == set(REGISTRY)


def test_logits_are_one_row_an_image_in_fp32(disc):
    logits = disc(torch.randn(4, 3, 64, 64), torch.tensor([0.0, 0.1, 1.0, 80.0]))
    places = sum(disc.trunk.maps[place][0] ** 2 for place in disc.used)
    assert logits.shape == (4, places)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()


def test_maps_are_as_announced(disc):
    maps = disc.trunk(torch.randn(2, 3, 64, 64), torch.ones(2))
    assert [(h.shape[2], h.shape[1]) for h in maps] == disc.trunk.maps


def test_noise_level_changes_the_verdict_unless_it_is_not_told(disc):
    disc.eval()  # no power iteration between the calls
    x = torch.randn(4, 3, 64, 64)
    scaled = x * ((1.0 + 0.25) / (0.01 + 0.25)) ** 0.5  # the same input after normalisation
    levels = torch.full((4,), 0.1), torch.full((4,), 1.0)
    assert not torch.allclose(disc(x, levels[0]), disc(scaled, levels[1]), atol=1e-4)
    disc.condition = False
    assert torch.allclose(disc(x, levels[0]), disc(scaled, levels[1]), atol=1e-4)


def test_every_parameter_gets_a_gradient(disc):
    disc(torch.randn(4, 3, 64, 64), torch.rand(4)).square().mean().backward()
    judged = {id(p) for p in disc.parameters()}
    if disc.used[-1] < len(disc.trunk.maps) - 1:  # parts below the last head are of no use
        judged -= {id(p) for p in disc.trunk.parameters()}
    without = [
        n
        for n, p in disc.named_parameters()
        if id(p) in judged and (p.grad is None or not p.grad.any())
    ]
    assert without == []


def test_images_of_a_batch_meet_only_in_the_stddev_of_their_group(disc):
    disc.eval()  # no power iteration between the calls
    torch.manual_seed(1)
    x, sigma = torch.randn(8, 3, 64, 64), torch.full((8,), 0.3)
    changed = x.clone()
    changed[0] += 1
    difference = (disc(x, sigma) - disc(changed, sigma)).abs().amax(dim=1)
    assert (difference[:4] > 0).all()
    assert (difference[4:] < 1e-5).all()
    disc = build("resnet", stddev=False)
    difference = (disc(x, sigma) - disc(changed, sigma)).abs().amax(dim=1)
    assert difference[0] > 0 and (difference[1:] < 1e-5).all()


def test_minibatch_stddev_sees_equal_images():
    equal = torch.randn(1, 5, 4, 4).expand(4, -1, -1, -1)
    varied = torch.randn(4, 5, 4, 4)
    assert minibatch_stddev(equal)[:, -1].max() < 1e-3
    expected = varied.var(dim=0, unbiased=False).sqrt().mean()
    assert torch.allclose(minibatch_stddev(varied)[:, -1], expected.expand(4, 4, 4), atol=1e-4)
    for batch in (2, 3, 5, 6):  # sizes that 4 does not divide have groups all the same
        x = torch.randn(batch, 5, 4, 4)
        assert minibatch_stddev(x).shape == (batch, 6, 4, 4)
        assert minibatch_stddev(x)[:, -1].min() > 0.1


def test_it_learns_to_tell_noise_from_stripes(disc):
    torch.manual_seed(2)
    optimizer = torch.optim.Adam(disc.parameters(), lr=4e-3)
    stripes = torch.ones(64) * torch.arange(64).remainder(8).sub(3.5).sign()
    sigma = torch.full((4,), 0.1)
    for _ in range(20):
        real = stripes.expand(4, 3, 64, 64) * torch.rand(4, 1, 1, 1)
        fake = torch.randn(4, 3, 64, 64) * 0.5
        loss = (1 - disc(real, sigma)).relu().mean() + (1 + disc(fake, sigma)).relu().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1


@pytest.mark.parametrize("name", NAMES)
def test_told_of_the_evaluation_it_judges_the_images_of_each_apart(name):
    """The same two textures change sides between two evaluations: without the level nothing could
    be learnt. Before it learns the level says nothing, and it is as it would be without."""
    disc = build(name, from_level=True)
    torch.manual_seed(3)
    stripes = torch.ones(64) * torch.arange(64).remainder(8).sub(3.5).sign() * 0.5
    textures = stripes.expand(8, 3, 64, 64), torch.randn(8, 3, 64, 64) * 0.5
    level, sigma = torch.tensor([80.0, 0.5]).repeat(4), torch.full((8,), 0.1)
    disc.eval()
    without = build(name).eval()
    without.load_state_dict(disc.state_dict(), strict=False)
    with torch.no_grad():
        expected = without(textures[0], sigma)
        for levels in (level, level.flip(0)):
            assert torch.equal(disc(textures[0], sigma, level=levels), expected)
    disc.train()
    is_first = (level == 80.0)[:, None, None, None]
    real, fake = torch.where(is_first, *textures), torch.where(is_first, *textures[::-1])
    optimizer = torch.optim.Adam(disc.parameters(), lr=4e-3)
    for _ in range(60):
        logits = disc(real, sigma, level=level), disc(fake, sigma, level=level)
        loss = (1 - logits[0]).relu().mean() + (1 + logits[1]).relu().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1


def test_width_depth_and_heads():
    sizes = [
        sum(p.numel() for p in build(**c).parameters())
        for c in ({}, {"channels": 32}, {"depth": 2})
    ]
    assert sizes[1] > 2 * sizes[0] and sizes[2] > 1.5 * sizes[0]
    logits = build(heads=[32, 4])(torch.randn(2, 3, 64, 64), torch.ones(2))
    assert logits.shape == (2, 32 * 32 + 4 * 4)
    with pytest.raises(UserError, match="maps at 4, 8, 16, 32"):
        build(heads=[7])
    with pytest.raises(UserError, match="--disc_channels 20: --disc unet needs a multiple of 32"):
        build("unet", channels=20)
    with pytest.raises(UserError, match="--disc_depth 3"):
        build("timm:resnet10t", depth=3)


def test_spectral_norm_bounds_every_layer():
    disc = build("patch")  # where it is on by itself
    for _ in range(20):
        disc(torch.randn(2, 3, 64, 64), torch.ones(2))  # power iterations
    for layer in disc.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2).item() < 1.3
    plain = build("patch", spectral="off")
    assert not any("parametrizations" in name for name, _ in plain.named_parameters())
    assert any("parametrizations" in name for name, _ in build(spectral="on").named_parameters())


def test_augmentation_is_inside_and_repeats_with_its_draws():
    disc = build(policy=["color", "translation"])
    x, sigma = torch.randn(4, 3, 64, 64), torch.ones(4)
    draws = disc.augment.draw(4)
    assert torch.equal(disc(x, sigma, draws), disc(x, sigma, draws))
    assert not torch.equal(disc(x, sigma), disc(x, sigma))
    assert "augment.p" in disc.state_dict()


def test_the_teachers_encoder_is_taken_only_when_asked():
    teacher = create_custom_model(network="tiny", sigma_data=0.5)
    own = build("unet", teacher=teacher).trunk
    for key, value in own.state_dict().items():
        assert torch.equal(value, teacher.network.state_dict()[key])
    scratch = build("unet").trunk
    assert not torch.equal(scratch.head.weight, teacher.network.head.weight)
    with pytest.raises(UserError, match="--disc resnet cannot; use --disc unet"):
        build("resnet", teacher=teacher)
    logits = build("unet", teacher=teacher)(torch.randn(2, 3, 64, 64), torch.ones(2))
    assert logits.isfinite().all()


@pytest.mark.parametrize("preconditioning", ["edm", "flow"])
def test_the_teachers_encoder_sees_images_scaled_as_the_teacher_does(preconditioning):
    flags = dict(network="tiny", sigma_data=0.5, preconditioning=preconditioning)
    disc, seen = build("unet", teacher=create_custom_model(**flags)), []
    disc.trunk.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x, sigma = torch.randn(2, 3, 64, 64), torch.tensor([0.0, 0.8])
    disc(x, sigma)
    scale = 1 / (1 + sigma) if preconditioning == "flow" else (sigma**2 + 0.25).rsqrt()
    torch.testing.assert_close(seen[0], x * scale.reshape(2, 1, 1, 1))


def test_batch_norm_is_replaced_and_the_verdict_then_ignores_the_neighbours():
    disc = build("timm:resnet10t", stddev=False)
    assert disc.replaced_norms > 5
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in disc.modules())
    x, sigma = torch.randn(4, 3, 64, 64), torch.ones(4)
    assert torch.allclose(disc(x, sigma)[:1], disc(x[:1], sigma[:1]), atol=1e-4)
    assert build("resnet").replaced_norms == 0
    with pytest.raises(UserError, match="BatchNorm1d"):
        replace_batch_norm(nn.Sequential(nn.BatchNorm1d(4)))


@pytest.mark.parametrize(
    "name", ["convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_timm_backbones_of_other_kinds(name):
    disc = build(f"timm:{name}")
    assert disc(torch.randn(2, 3, 64, 64), torch.ones(2)).shape[0] == 2


def test_timm_names_that_do_not_exist_get_near_matches(monkeypatch):
    with pytest.raises(UserError, match="did you mean .*resnet50"):
        build("timm:resnet5O")
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it were not installed
    with pytest.raises(UserError, match="pip install timm"):
        build("timm:resnet50")


@pytest.mark.parametrize("name", ["resnett", "timm", "resnet:deep", ""])
def test_other_names_are_refused_in_one_line(name):
    with pytest.raises(UserError) as caught:
        build(name)
    assert "--disc" in str(caught.value) and "\n" not in str(caught.value)


def test_one_new_file_is_a_new_architecture(tmp_path, monkeypatch):
    (tmp_path / "flat.py").write_text(
        "import torch\n"
        "from discriminator.registry import Plain, register\n"
        "@register('flat')\n"
        "class FlatTrunk(Plain, torch.nn.Module):\n"
        "    maps = [(16, 5)]\n"
        "    def __init__(self, network, sigma_data, channels, depth):\n"
        "        super().__init__()\n"
        "        self.conv = torch.nn.Conv2d(3, 5, 4, stride=4)\n"
        "    def forward(self, x, sigma):\n"
        "        return [self.conv(x)]\n".replace("\\\n", "\n")
    )
    monkeypatch.setattr(discriminator, "__path__", [*discriminator.__path__, str(tmp_path)])
    discriminator.find_architectures()
    try:
        assert build("flat")(torch.randn(2, 3, 64, 64), torch.ones(2)).shape == (2, 256)
        assert "flat" in discriminator.known_names()
    finally:
        REGISTRY.pop("flat", None)
        sys.modules.pop("discriminator.flat", None)
