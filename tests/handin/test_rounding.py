"""Weights in fewer bits: what it costs, and what is stored."""

import pytest
import torch

from custom_model import create_custom_model
from fewstep.handin.rounding import (
    SMALL,
    encode,
    image_errors,
    quantise,
    rounded,
    weight_error,
)
from src.published import decode, dequantise
from tests.handin.student import TINY, student


def test_each_weight_is_within_half_a_step():
    weight = torch.randn(5, 7, 3, 3) * torch.logspace(-6, 3, 5).reshape(-1, 1, 1, 1)
    values, scales = quantise(weight)
    assert values.dtype == torch.int8 and values.shape == weight.shape and scales.shape == (5,)
    assert values.flatten(1).abs().amax(dim=1).tolist() == [127] * 5  # every channel uses it all
    steps = (dequantise(values, scales) - weight).abs().flatten(1).amax(dim=1) / scales
    assert steps.max() <= 0.5001


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38, -1e-41, 3e38])
def test_extreme_channels_stay_finite_and_do_not_spoil_others(value):
    weight = torch.randn(3, 50)
    weight[1] = value
    back = dequantise(*quantise(weight))
    assert back.isfinite().all() and (back[0] - weight[0]).norm() < 0.01 * weight[0].norm()
    assert value or not back[1].any()


def test_the_error_is_relative_and_of_all_weights_together():
    before = {"a": torch.full((3,), 2.0), "b": torch.full((4, 4), 10.0), "zeros": torch.zeros(2)}
    assert weight_error(before, before) == 0
    error = weight_error(before, before | {"a": torch.full((3,), 1.0)})
    assert error == pytest.approx((3 / (12 + 1600)) ** 0.5)


def test_only_large_tensors_are_rounded():
    torch.manual_seed(0)
    state = {
        "bias": torch.randn(5000),
        "scale": torch.randn(2),
        "first": torch.randn(4, SMALL // 4),
    }
    state["large"] = torch.randn(4, SMALL // 2)
    assert encode(state, "int8")["large"].dtype == torch.int8
    assert encode(state, "fp16")["large"].dtype == torch.float16
    for dtype, largest in (("int8", 0.01), ("fp16", 0.0005)):
        back = decode(encode(state, dtype))
        assert {name for name in state if not torch.equal(back[name], state[name])} == {"large"}
        assert weight_error({"large": state["large"]}, back) < largest


def test_image_errors_are_those_of_the_samples():
    model = student()
    assert image_errors(model, student()) == {1: 0, 2: 0, 4: 0}
    assert all(0 < e < 3 for e in image_errors(model, rounded(model, TINY, "int8")).values())


def test_size_of_the_full_network():
    """From shapes, without making it: 58.7 million bytes, and little more."""
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in create_custom_model("meta").state_dict().items()}
    assert sum(shape.numel() for shape in shapes.values()) == 58_753_283
    large = [shape for shape in shapes.values() if len(shape) > 1 and shape.numel() > SMALL]
    rounded_count = sum(shape.numel() for shape in large)
    assert rounded_count + 4 * (58_753_283 - rounded_count) + 4 * sum(s[0] for s in large) < 60e6
