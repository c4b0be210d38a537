"""A published folder is whole, or refused in a line."""

import json
import pickle
import shutil
import subprocess

import pytest
import safetensors.torch
import torch

from src.published import CARD, WEIGHTS
from src.utils import UserError, file_digest
from tests.handin.student import ROOT, TINY, refused, unpack


def forge(folder, config=TINY, **tensors):
    """Other content, whose checksum the card knows; a tensor None is left out."""
    stored = safetensors.torch.load_file(folder / WEIGHTS) | tensors
    stored = {name: value for name, value in stored.items() if value is not None}
    metadata = {"model": json.dumps({"dtype": "int8", "model_config": config})}
    safetensors.torch.save_file(stored, folder / WEIGHTS, metadata)
    seal(folder)


def seal(folder):
    card = folder / CARD
    digest = file_digest(folder / WEIGHTS).hex()
    card.write_text(card.read_text(encoding="utf-8").rpartition("`")[0][:-64] + digest + "`\n")


def flipped(place):
    def damage(folder):
        content = bytearray((folder / WEIGHTS).read_bytes())
        content[place] ^= 1
        (folder / WEIGHTS).write_bytes(bytes(content))

    return damage


def shortened(name, keep):
    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(keep * len(content))])

    return damage


def as_folder(folder):
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()


DAMAGE = {
    "first bit": (flipped(0), "model.safetensors: damaged"),
    "header": (flipped(100), "model.safetensors: damaged"),
    "middle": (flipped(60_000), "model.safetensors: damaged"),
    "last byte": (flipped(-1), "model.safetensors: damaged"),
    "empty": (shortened(WEIGHTS, 0), "model.safetensors: damaged"),
    "a byte too few": (shortened(WEIGHTS, 0.99999), "model.safetensors: damaged"),
    "no weights": (lambda folder: (folder / WEIGHTS).unlink(), "no published weights"),
    "no card": (lambda folder: (folder / CARD).unlink(), "README.md: missing"),
    "empty card": (shortened(CARD, 0), "README.md: damaged"),
    "half a checksum": (lambda folder: (folder / CARD).write_text(HALF), "README.md: damaged"),
}
HALF = f"SHA-256 of model.safetensors: `{'0' * 32}`\n"


@pytest.mark.parametrize("damage, match", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_one_line_and_nothing_is_written(copy, tmp_path, damage, match):
    damage(copy)
    target = tmp_path / "out" / "best_model.pt"
    refused(match, unpack, copy, target, "--force")
    assert not target.parent.exists()


def test_a_folder_in_place_of_the_file_names_it(copy, tmp_path):
    as_folder(copy)
    with pytest.raises((OSError, UserError), match="model.safetensors"):
        unpack(copy, tmp_path / "best_model.pt")


LARGE = "network.middleblocks.0.block1.2.weight"
MISFITS = {
    "another network": ({"config": TINY | {"network": "huge"}}, "network 'huge'"),
    "an unknown setting": ({"config": TINY | {"colour": 1}}, "unknown model setting 'colour'"),
    "a setting of another kind": ({"config": TINY | {"sigma_data": "x"}}, "sigma_data"),
    "no settings": ({"config": None}, "not a model of ours"),
    "more of a network": ({"config": TINY | {"use_additional_condition": True}}, "do not fit"),
    "another shape": ({"network.head.bias": torch.zeros(7)}, "do not fit"),
    "no scales": ({f"{LARGE}.scale": None}, "one scale a channel"),
    "too few scales": ({f"{LARGE}.scale": torch.ones(3)}, "one scale a channel"),
    "no integers": ({LARGE: None}, "do not fit"),
    "another type": ({LARGE: torch.ones(4, dtype=torch.int16)}, "its type is torch.int16"),
    "a foreign tensor": ({"x": torch.ones(3)}, "do not fit"),
    "a tensor less": ({"network.head.bias": None}, "do not fit"),
}


@pytest.mark.parametrize("changes, match", MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_the_network(copy, tmp_path, changes, match):
    forge(copy, **changes)
    refused(match, unpack, copy, tmp_path / "out" / "best_model.pt")
    assert not (tmp_path / "out").exists()


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_the_file_is_not_run(copy, tmp_path):
    sprung = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(sprung))).close()
    assert sprung.exists()  # the trap works
    sprung.unlink()
    torch.save({"state_dict": Trap(sprung)}, tmp_path / "trap.pt")
    for content in (pickle.dumps(Trap(sprung)), (tmp_path / "trap.pt").read_bytes()):
        (copy / WEIGHTS).write_bytes(content)
        seal(copy)
        refused("not a model of ours", unpack, copy, tmp_path / "out" / "best_model.pt")
        assert not sprung.exists() and not (tmp_path / "out").exists()


@pytest.mark.skipif(not shutil.which("make"), reason="make is not here")
def test_make_samples_says_when_nothing_is_published(tmp_path):
    command = ["make", "--no-print-directory", "samples", f"PRETRAINED={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == ""
    first = result.stderr.splitlines()[0]
    assert first.startswith(f"error: {tmp_path}") and "no published weights" in first
