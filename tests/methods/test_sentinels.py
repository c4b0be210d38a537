"""What the sentinels measure, and when they speak."""

import pytest
import torch

from fewstep.methods.sentinels import HEALTHY, PANELS, SENTINELS, concerns, measure, measure_later

SANE = dict(
    step=1000,
    spread=0.9,
    later_spread=0.9,
    colour_spread=0.8,
    detail=1.1,
    grad_ratio=1.0,
    disc_loss=1.5,
    disc_lead=0.5,
    disc_pace=1.0,
    logits_real=0.4,
    logits_heldout=0.3,
    logits_fake=-0.4,
    ada_p=0.3,
    **{f"shift_{c}": 0.01 for c in ("red", "green", "blue")},
    **{f"contrast_{c}": 1.02 for c in ("red", "green", "blue")},
)


def images(count=64, size=16):
    torch.manual_seed(0)
    return torch.randn(count, 3, size, size) * 0.3


def test_two_samples_of_the_same_images_measure_as_equal():
    found = measure(images()[:32], images()[32:])
    assert found["spread"].item() == pytest.approx(1, abs=0.05)
    assert found["detail"].item() == pytest.approx(1, abs=0.05)
    assert found["colour_spread"].item() == pytest.approx(1, abs=0.2)
    assert abs(found["shift_red"].item()) < 0.02
    assert found["contrast_blue"].item() == pytest.approx(1, abs=0.05)


def test_each_failure_shows_in_its_own_number():
    real = images()
    alike = real[:1] + 0.1 * images(32)
    assert measure(alike, real)["spread"].item() == pytest.approx(0.1, abs=0.02)
    assert measure_later(alike, real)["later_spread"].item() == pytest.approx(0.1, abs=0.02)
    one_hue = real - real.mean(dim=(2, 3), keepdim=True)
    found = measure(one_hue, real)
    assert found["colour_spread"] < 1e-3 and found["spread"] > 0.9
    redder = real + torch.tensor([0.25, 0.0, 0.0]).reshape(1, 3, 1, 1)
    found = measure(redder, real)
    assert found["shift_red"].item() == pytest.approx(0.25, abs=1e-5)
    assert found["shift_green"].item() == pytest.approx(0, abs=1e-5)
    assert measure(0.5 * real, real)["contrast_green"].item() == pytest.approx(0.5, abs=1e-4)
    smooth = torch.nn.functional.interpolate(real[:, :, ::2, ::2], scale_factor=2)
    assert measure(smooth, real)["detail"].item() == pytest.approx(0, abs=1e-5)


def test_grain_is_of_flat_areas_where_detail_is_of_strokes():
    flat = torch.zeros(32, 3, 16, 16)
    strokes = flat.clone()
    strokes[:, :, :, ::5] = 1.0
    noise = 0.02 * torch.randn(flat.shape, generator=torch.Generator().manual_seed(0))
    found = measure(strokes + noise, strokes)
    assert found["grain"] > 3 and found["detail"].item() == pytest.approx(1, abs=0.02)
    softer = measure(0.5 * strokes, strokes)
    assert softer["grain"].item() == pytest.approx(1)
    assert measure(flat, flat)["grain"].item() == pytest.approx(1)


def test_too_few_images_measure_nothing():
    assert measure(images(1), images()) == {}
    assert measure(images(0), images()) == {}
    assert measure_later(images(1), images()) == {}
    points = torch.randn(8, 2, 1, 1)
    assert "shift_red" in measure(points, points) and "shift_blue" not in measure(points, points)


def test_bands_of_the_curves_are_the_sane_ranges_of_keys_that_are_drawn():
    drawn = {key for panel in PANELS.values() for key in panel.keys}
    assert set(HEALTHY) <= drawn and HEALTHY["spread"] == (0.5, 2.0)
    for key, (low, high) in HEALTHY.items():
        for value, fine in ((low, True), (high, True), (high + 1, False), (low - 1, False)):
            assert (concerns({"step": 9, key: value}, 1) == {}) == fine, (key, value)


def test_a_sane_row_says_nothing_and_neither_does_an_early_one():
    assert concerns(SANE, settled=100) == {}
    assert concerns({"step": 50, "loss": 1.0}, settled=0) == {}
    assert concerns(SANE | {"spread": 0.01, "step": 100}, settled=100) == {}


@pytest.mark.parametrize(
    ("change", "name", "remedy"),
    [
        (dict(spread=0.2), "spread", "--disc_lead"),
        (dict(later_spread=0.2), "spread of later evaluations", "--distill_self"),
        (dict(colour_spread=0.1), "colour spread", "--first_sigma"),
        (dict(logits_heldout=-0.3), "memory of the discriminator", "--augment"),
        (dict(shift_green=-0.4), "colour shift", "--adv_weight"),
        (dict(contrast_blue=2.5), "contrast", "--adv_weight"),
        (dict(detail=0.1), "detail", "--adv_weight"),
        (dict(grad_ratio=1e6), "gradient ratio", "--penalty_weight"),
        (dict(disc_loss=0.001), "discriminator's loss", "--disc_lr"),
        (dict(disc_lead=0.97), "discriminator's lead", "--disc_steps"),
        (dict(student_waits=1.0), "waiting", "--disc_lead"),
        (dict(disc_pace=0.1), "discriminator's pace", "--disc_lead_most"),
        (dict(ada_p=0.95), "augmentation probability", "--disc_channels"),
    ],
)
def test_each_sentinel_speaks_for_its_failure_alone(change, name, remedy):
    found = concerns(SANE | change, settled=100)
    assert list(found) == [name]
    changed = next(iter(change))
    if changed.startswith(("shift", "contrast")):
        assert f"({changed.rpartition('_')[2]})" in found[name]
    assert remedy in found[name] and "\n" not in found[name]
    assert f"{next(iter(change.values())):.3g}" in found[name] or name.startswith("memory")


def test_every_remedy_names_flags_that_there_are():
    import re
    from dataclasses import fields

    from fewstep.runs.settings import GROUPS

    flags = {item.name for group in GROUPS.values() for item in fields(group)}
    for sentinel in SENTINELS:
        named = re.findall(r"--(\w+)", sentinel.remedy)
        assert named and set(named) <= flags
