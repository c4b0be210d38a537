"""Checkpoints: the newest good one is loaded, damage is said aloud, nothing good is deleted."""

import pytest
import torch

from fewstep.engine.checkpoints import (
    check_identity,
    checkpoint_path,
    list_checkpoints,
    load_newest,
    save_checkpoint,
    sweep_temporaries,
)
from src.utils import UserError


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def save(folder, *steps, keep=2):
    for step in steps:
        phase = {"x": torch.full((100,), float(step))}
        content = {"identity": {}, "seconds": 0.0, "window": {}, "phase": phase}
        save_checkpoint(folder, step, content, keep)


def test_the_last_few_are_kept(tmp_path):
    assert load_newest(tmp_path) is None
    save(tmp_path, 5, 10, 15)
    assert list_checkpoints(tmp_path) == [15, 10]
    assert load_newest(tmp_path)["phase"]["x"][0] == 15


def test_a_damaged_one_is_passed_over_and_never_costs_a_good_one(tmp_path, capsys):
    save(tmp_path, 5, 10)
    damage(checkpoint_path(tmp_path, 10))
    assert load_newest(tmp_path)["step"] == 5
    assert "checkpoint_iter_10.pt: damaged" in capsys.readouterr().out
    save(tmp_path, 6, keep=1)
    assert load_newest(tmp_path)["step"] == 6


def test_only_damaged_ones_are_an_error_even_the_second_time(tmp_path):
    save(tmp_path, 5)
    damage(checkpoint_path(tmp_path, 5))
    for _ in range(2):
        with pytest.raises(UserError, match="to start anew"):
            load_newest(tmp_path)


def test_leftovers_are_swept_and_checkpoints_are_not(tmp_path):
    save(tmp_path, 5)
    (tmp_path / ".checkpoint_iter_6.123.tmp.pt").write_bytes(b"half")
    sweep_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_iter_5.pt"]


def test_identity_names_the_first_difference(tmp_path):
    check_identity(tmp_path, {"lr": 1, "seed": 2}, {"lr": 1})
    with pytest.raises(UserError, match="trained with lr = 1, not 3"):
        check_identity(tmp_path, {"lr": 1}, {"lr": 3})


def test_the_length_may_grow_and_nothing_else():
    saved = {"steps": 5, "lr": 1}
    check_identity("run", saved, {"steps": 6, "lr": 1}, "steps")
    with pytest.raises(UserError, match="steps = 5, not 4; give the same or more"):
        check_identity("run", saved, {"steps": 4, "lr": 1}, "steps")
    with pytest.raises(UserError, match="lr = 1, not 2; give the same, or"):
        check_identity("run", saved, {"steps": 6, "lr": 2}, "steps")
