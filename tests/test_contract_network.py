"""The U-Net against the challenge's own: names, shapes, order, outputs, and initialisation."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from src.base_model import BaseGenerativeModel, BaseScheduler
from src.module import AttnBlock, DownSample, ResBlock, TimeEmbedding, UpSample
from src.network import UNet

DATA = Path(__file__).parent / "data"
TINY = dict(ch=32, ch_mult=[1, 2], attn=[1], num_res_blocks=1, dropout=0.1)
FULL = dict(ch=128, ch_mult=[1, 2, 2, 2], attn=[1], num_res_blocks=4, dropout=0.1)
NETWORKS = {
    "tiny": TINY,
    "tiny_cond": TINY | {"use_additional_condition": True},
    "full": FULL,
    "full_cond": FULL | {"use_additional_condition": True},
}


def vector_weights(state_dict):
    """The weights of `unet_vectors.npz`: one seed per name, scaled by fan-in."""
    weights = {}
    for key in sorted(state_dict):
        shape = tuple(state_dict[key].shape)
        w = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
        if len(shape) > 1:
            w = w / math.sqrt(math.prod(shape[1:]))
        else:
            w = 1 + 0.1 * w if key.endswith(".weight") else 0.1 * w
        weights[key] = torch.from_numpy(w.astype(np.float32))
    return weights


def vector_network(tag):
    network = UNet(**NETWORKS[tag]).eval()
    network.load_state_dict(vector_weights(network.state_dict()), strict=True)
    return network


@pytest.fixture(scope="module")
def full():
    torch.manual_seed(0)
    return UNet()


@pytest.mark.parametrize("tag", NETWORKS)
def test_names_shapes_and_order(tag):
    expected = json.loads((DATA / "unet_state_dict.json").read_text())[tag]
    with torch.device("meta"):  # names and shapes need no memory
        state = UNet(**NETWORKS[tag]).state_dict()
    assert [(k, list(v.shape)) for k, v in state.items()] == list(expected.items())


@pytest.mark.parametrize("tag", ["tiny", "tiny_cond", "full"])
def test_outputs_equal_the_graders(tag):
    vectors = np.load(DATA / "unet_vectors.npz")
    size = 64 if tag == "full" else 16
    random = np.random.RandomState(int(vectors[f"{tag}/seed"]))
    x = torch.from_numpy(random.standard_normal((2, 3, size, size)).astype(np.float32))
    condition = None
    if f"{tag}/condition" in vectors:
        condition = torch.from_numpy(vectors[f"{tag}/condition"])
    with torch.no_grad():
        y = vector_network(tag)(x, torch.from_numpy(vectors[f"{tag}/t"]), condition)
    np.testing.assert_allclose(y.numpy(), vectors[f"{tag}/y"], rtol=0, atol=1e-5)


def test_defaults_are_the_challenges_network(full):
    assert sum(p.numel() for p in full.parameters()) == 58_753_283
    expected = json.loads((DATA / "unet_state_dict.json").read_text())["full"]
    assert [(k, list(v.shape)) for k, v in full.state_dict().items()] == list(expected.items())
    dropouts = [m.p for m in full.modules() if isinstance(m, nn.Dropout)]
    assert dropouts and set(dropouts) == {0.1}


def test_initial_weights(full):
    near_zero, embedding = 0, 0
    for name, layer in full.named_modules():
        if not isinstance(layer, nn.Conv2d | nn.Linear):
            continue
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(layer.weight)
        if name.startswith("time_embedding"):
            # PyTorch's default: weights and biases uniform within 1 / sqrt(fan_in)
            embedding += 1
            bound = 1 / math.sqrt(fan_in)
            assert layer.bias.abs().max() > 0.5 * bound
        else:
            gain = 1e-5 if name.endswith("block2.3") or name == "tail.2" else 1.0
            near_zero += gain != 1.0
            bound = gain * math.sqrt(6 / (fan_in + fan_out))
            assert torch.all(layer.bias == 0), name
        assert layer.weight.abs().max() <= bound * (1 + 1e-6), name
        # std of a uniform variable; 4 % is over 4 standard errors of the smallest (3,456 weights)
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.04), name
    assert embedding == 2
    # 16 blocks down, 2 in the middle, 20 up, and the tail
    assert near_zero == 16 + 2 + 20 + 1


def test_norms_start_as_identity_and_a_fresh_network_is_nearly_zero(full):
    for layer in full.modules():
        if isinstance(layer, nn.GroupNorm):
            assert layer.num_groups == 32
            assert torch.all(layer.weight == 1) and torch.all(layer.bias == 0)
    with torch.no_grad():
        y = full.eval()(torch.randn(1, 3, 16, 16), torch.tensor([10.0]))
    assert 0 < y.abs().max() < 1e-3


def test_condition_linears_keep_pytorchs_defaults():
    torch.manual_seed(0)
    network = UNet(**NETWORKS["tiny_cond"])
    for layer in [*network.condition_embedding.mlp[::2], *network.condition_fusion[::2]]:
        bound = 1 / math.sqrt(layer.in_features)
        assert 0.5 * bound < layer.bias.abs().max() <= bound
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.04)


def test_fractional_times_differ_from_their_neighbours():
    network = vector_network("tiny")
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        at = {t: network(x, torch.tensor([t])) for t in (3.0, 3.5, 4.0)}
        integer = network(x, torch.tensor([3]))
    assert (at[3.5] - at[3.0]).abs().max() > 1e-3
    assert (at[3.5] - at[4.0]).abs().max() > 1e-3
    assert torch.equal(integer, at[3.0])


def test_sinusoids_are_cosines_then_sines():
    features = TimeEmbedding.sinusoids(torch.tensor([0.0, 2.5]), 256)
    assert features.shape == (2, 256)
    assert torch.equal(features[0], torch.cat([torch.ones(128), torch.zeros(128)]))
    k = 64  # frequency 10000^(-64/128) = 0.01
    assert features[1, k].item() == pytest.approx(math.cos(0.025), abs=1e-6)
    assert features[1, 128 + k].item() == pytest.approx(math.sin(0.025), abs=1e-6)


def test_a_missing_condition_is_an_error_and_a_given_one_matters():
    network = vector_network("tiny_cond")
    x, t = torch.zeros(2, 3, 16, 16), torch.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="condition"):
        network(x, t)
    with torch.no_grad():
        one = network(x, t, torch.tensor([0.0, 0.0]))
        two = network(x, t, torch.tensor([500.0, 500.0]))
    assert (one - two).abs().max() > 1e-3


def test_attention_level_must_exist():
    with pytest.raises(ValueError, match="levels are 0 to 1"):
        UNet(ch=32, ch_mult=[1, 2], attn=[2], num_res_blocks=1)


def test_blocks_sizes_and_ignored_embedding():
    x = torch.randn(2, 32, 8, 8)
    assert DownSample(32)(x, None).shape == (2, 32, 4, 4)
    assert UpSample(32)(x, None).shape == (2, 32, 16, 16)
    block = ResBlock(32, 64, 128, 0.0, attn=True)
    assert block(x, torch.randn(2, 128)).shape == (2, 64, 8, 8)
    assert isinstance(ResBlock(32, 32, 128, 0.0).shortcut, nn.Identity)


def test_attention_against_pytorchs():
    attention = AttnBlock(32)
    x = torch.randn(2, 32, 4, 4)
    h = attention.group_norm(x)
    q, k, v = (
        layer(h).flatten(2).transpose(1, 2)
        for layer in (attention.proj_q, attention.proj_k, attention.proj_v)
    )
    expected = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    expected = x + attention.proj(expected.reshape(x.shape))
    torch.testing.assert_close(attention(x), expected, rtol=1e-5, atol=1e-5)


def test_base_classes_keep_what_they_are_given():
    class Scheduler(BaseScheduler):
        def _setup(self, extra=None):
            self.extra = extra

        def sample_timesteps(self, batch_size, device): ...
        def forward_process(self, data, noise, t): ...
        def reverse_process_step(self, xt, pred, t, t_next): ...
        def get_target(self, data, noise, t): ...

    class Model(BaseGenerativeModel):
        def compute_loss(self, data, noise, **kwargs): ...
        def predict(self, xt, t, **kwargs): ...
        def sample(self, shape, num_inference_timesteps=20, **kwargs): ...

    scheduler = Scheduler(10, extra="kept")
    assert (scheduler.num_train_timesteps, scheduler.extra) == (10, "kept")
    assert Scheduler().num_train_timesteps == 1000
    model = Model(nn.Linear(1, 1), scheduler)
    assert model.scheduler is scheduler and model.device == torch.device("cpu")
    with pytest.raises(TypeError):
        BaseScheduler()
    with pytest.raises(TypeError):
        BaseGenerativeModel(nn.Identity(), scheduler)
