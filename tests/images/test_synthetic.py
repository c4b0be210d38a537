"""Drawn faces: the same for the same seed, different otherwise, and face-like."""

import random

import numpy as np

import fewstep.images.opening
from fewstep.images import open_image_sets
from fewstep.images.synthetic import INK, draw_face


def faces(count, seed=42):
    return np.stack([draw_face(k, seed) for k in range(count)])


def test_a_face_depends_on_its_arguments_only():
    first = draw_face(5, 42)
    random.seed(0)
    np.random.seed(0)
    draw_face(6, 42)
    assert np.array_equal(draw_face(5, 42), first)
    assert not np.array_equal(draw_face(6, 42), first)
    assert not np.array_equal(draw_face(5, 43), first)


def test_shape_and_sizes():
    assert draw_face(0, 0).shape == (64, 64, 3) and draw_face(0, 0).dtype == np.uint8
    large = draw_face(3, 1, size=128).astype(float)
    reduced = large.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(reduced - draw_face(3, 1)).mean() < 6


def test_variety():
    pixels = faces(200).astype(float)
    assert len({face.tobytes() for face in pixels}) == 200
    distance = np.abs(pixels[:100] - pixels[100:]).mean((1, 2, 3))
    assert distance.min() > 10
    assert pixels.std(axis=0).mean() > 40
    looks_right = np.abs(pixels - pixels[:, :, ::-1])
    assert looks_right.mean() > 10


def test_bold_outlines_and_white_eyes_in_every_face():
    for face in faces(100).astype(int):
        ink = (np.abs(face - INK).max(-1) < 25).mean()
        white = (face[16:48].min(-1) > 235).mean()
        assert 0.05 < ink < 0.6
        assert white > 0.015


def refuse(*_, **__):
    raise AssertionError("drawn although the cache is there")


def test_sets_do_not_overlap_and_are_drawn_once(tmp_path, monkeypatch):
    sets = open_image_sets(data="synthetic", synthetic_count=40, cache_dir=tmp_path, progress=False)
    assert (len(sets.train), len(sets.val)) == (40, 64)
    assert np.array_equal(sets.train.images[7], draw_face(7, 42))
    assert np.array_equal(sets.val.images[0], draw_face(40, 42))
    monkeypatch.setattr(fewstep.images.opening, "draw_face", refuse)
    again = open_image_sets(data="synthetic", synthetic_count=40, cache_dir=tmp_path)
    assert again.train.digest == sets.train.digest


def test_seed_gives_another_set(tmp_path):
    opened = [
        open_image_sets(
            data="synthetic", synthetic_count=3, cache_dir=tmp_path, data_seed=s, progress=False
        )
        for s in (1, 2)
    ]
    assert opened[0].train.digest != opened[1].train.digest
    assert not np.array_equal(opened[0].train.images, opened[1].train.images)
