"""Schedules at the places where they are known."""

import pytest

from fewstep.engine.schedules import (
    cosine_fall,
    ema_decay,
    is_picture_step,
    late_decay,
    ramp,
    warmed_decay,
    warmup_cosine,
)


def test_warmup_then_cosine():
    assert warmup_cosine(0, 1000, 100) == pytest.approx(1 / 101)
    assert warmup_cosine(100, 1000, 100) == 1
    assert warmup_cosine(550, 1000, 100) == pytest.approx(0.5)
    assert warmup_cosine(999, 1000, 100) < 1e-4
    assert warmup_cosine(0, 10, 0) == 1
    assert warmup_cosine(550, 1000, 100, missed=500) == pytest.approx(0.5 * 51 / 101)
    assert warmup_cosine(550, 1000, 100, missed=450) == pytest.approx(0.5)


def test_ramp_and_late_decay():
    assert [ramp(s, 2, 2) for s in range(5)] == [0, 0, 0.5, 1, 1]
    assert ramp(0, 0, 0) == 1
    assert late_decay(0.6, 0.1, 2 / 3) == 1
    assert late_decay(5 / 6, 0.1, 2 / 3) == pytest.approx(0.55)
    assert late_decay(1, 0.1, 2 / 3) == pytest.approx(0.1)
    assert late_decay(0.5, 0.0, 0.0) == pytest.approx(0.5)


def test_a_cosine_falls_from_one_to_its_end():
    assert [cosine_fall(share, 0.2) for share in (0, 0.5, 1)] == pytest.approx([1, 0.6, 0.2])


def test_ema_half_life_is_a_share_of_the_steps():
    assert ema_decay(1000, 0.05) ** 50 == pytest.approx(0.5)
    assert ema_decay(1, 0.05) == 0.5
    assert warmed_decay(0, 0.999) == pytest.approx(0.1)
    assert warmed_decay(10**6, 0.999) == 0.999


def test_pictures_come_early_and_at_intervals():
    steps = [step for step in range(1, 1001) if is_picture_step(step, 400)]
    assert steps == [10, 20, 50, 100, 200, 400, 800]
