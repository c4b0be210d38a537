"""Published students: what rounding costs, a folder that is whole or refused, the commands."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

import sampling
import src.samplers as samplers
from custom_model import create_custom_model
from fewstep.handin import publish
from fewstep.handin.published import CARD, WEIGHTS, model_card, read_published
from fewstep.handin.rounding import (
    SMALL,
    decode,
    dequantise,
    encode,
    image_errors,
    quantise,
    rounded,
    weight_error,
)
from fewstep.runs.weights import weights_digest
from fewstep.studies.evaluate.subjects import fingerprint
from src.utils import (
    UserError,
    file_digest,
    load_model,
    read_json,
    save_model,
    torch_save,
    write_json,
)
from tests.handin.records import SPACE, scores_of
from tests.handin.student import ROOT, TINY, student


@pytest.fixture(autouse=True, scope="module")
def small_images():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samplers, "IMAGE_SHAPE", (3, 16, 16))
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("student") / "final_model.pt"
    save_model(student(), path, TINY)
    return path


@pytest.fixture(scope="module")
def packed(checkpoint):
    """A published folder, not to be written to."""
    pack(checkpoint, checkpoint.parent / "packed")
    return checkpoint.parent / "packed"


@pytest.fixture
def copy(packed, tmp_path):
    return Path(shutil.copytree(packed, tmp_path / "copy"))


def pack(checkpoint, folder, *more):
    flags = ["pack", "--ckpt_path", checkpoint, "--output_dir", folder, *more]
    return publish.main([str(flag) for flag in flags])


def unpack(folder, target, *more):
    flags = ["unpack", "--input_dir", folder, "--ckpt_path", target, *more]
    return publish.main([str(flag) for flag in flags])


def refused(match, function, *arguments):
    """Check that a call ends with one line that matches."""
    with pytest.raises(UserError, match=match) as error:
        function(*arguments)
    assert "\n" not in str(error.value)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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


# Numbers


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


# The commands


def test_pack_and_unpack_give_a_normal_checkpoint(checkpoint, packed, tmp_path):
    target = tmp_path / "new" / "best_model.pt"
    assert unpack(packed, target) == 0
    assert sorted(contents(target.parent)) == ["best_model.pt", "model_config.json"]
    assert read_json(target.with_name("model_config.json")) == TINY
    stored = torch.load(target, weights_only=True)
    assert set(stored) == {"state_dict"}
    before = load_model(checkpoint, create_custom_model).state_dict()
    assert stored["state_dict"].keys() == before.keys()
    assert {value.dtype for value in stored["state_dict"].values()} == {torch.float32}
    assert 0.001 < weight_error(before, stored["state_dict"]) < 0.006
    flags = f"--ckpt_path {target} --save_dir {tmp_path}/out --num_samples 2 --device cpu"
    sampling.main([*flags.split(), "--nfe_list", "1", "2", "4"])
    assert len(list((tmp_path / "out" / "nfe=4").iterdir())) == 2


def test_changes_are_printed_and_stand_in_the_card(checkpoint, tmp_path, capsys):
    pack(checkpoint, tmp_path, "--dtype", "fp16")
    lines = capsys.readouterr().out.splitlines()
    assert sum(": changed by" in line for line in lines) == 4
    card = (tmp_path / CARD).read_text()
    assert "- fp16 weights: changed by 0.0" in card and "- images at NFE 4: changed by" in card
    assert f"`{file_digest(tmp_path / WEIGHTS).hex()}`" in card and "395,971 parameters" in card
    model, _ = read_published(tmp_path)
    assert weight_error(student().state_dict(), model.state_dict()) < 0.0005


def test_the_same_student_gives_the_same_files(checkpoint, packed, tmp_path):
    pack(checkpoint, tmp_path)
    assert contents(tmp_path) == contents(packed)


def test_the_card_has_data_recipe_and_hours():
    groups = {"data": {"data": "folder", "data_root": "/home/me", "batch_size": 64}}
    groups |= {"run": {"seed": 1}, "discriminator": {"disc": "patch", "penalty": "approx_r1"}}
    record = {"settings": groups, "preset": "tiny", "device": "Some GPU"}
    record |= {"teacher_seconds": 3600.0, "student_seconds": 1800.0}
    card = model_card(TINY, 12345, record, ["- nothing changed"])
    for text in ("Data: folder", "preset tiny --data folder --batch_size 64 --disc patch\n"):
        assert text in card
    assert "1.50 hours on Some GPU" in card and "nothing changed" in card
    assert "/home" not in card
    assert "not recorded" in model_card(TINY, 1, {}, [])


def test_unpack_never_replaces_other_weights_unasked(packed, tmp_path, capsys):
    target = tmp_path / "best_model.pt"
    unpack(packed, target)
    stamp = target.stat().st_mtime_ns
    capsys.readouterr()
    assert unpack(packed, target) == 0
    assert "is there already" in capsys.readouterr().out and target.stat().st_mtime_ns == stamp

    config = target.with_name("model_config.json")
    own = TINY | {"few_step_sigmas": {"1": [3.0]}}
    save_model(student(1), target, TINY)
    others = [target.read_bytes(), b"no checkpoint"]
    for content, settings in [(others[0], TINY), (others[1], TINY), (None, own)]:
        target.unlink(missing_ok=True)
        if content:
            target.write_bytes(content)
        config.write_text(json.dumps(settings))
        before = contents(tmp_path)
        refused("--force", unpack, packed, target)
        assert contents(tmp_path) == before
    assert unpack(packed, target, "--force") == 0
    config.write_text(json.dumps(own))  # the same weights, with levels that were tuned here
    refused("--force", unpack, packed, target)
    assert unpack(packed, target, "--force") == 0
    assert read_json(config) == TINY
    for name in (tmp_path, config):
        refused("--ckpt_path", unpack, packed, name)


def test_pack_never_replaces_a_student_unasked(checkpoint, copy, tmp_path):
    before = contents(copy)
    save_model(student(1), tmp_path / "other.pt", TINY)
    refused("is there already; --force", pack, tmp_path / "other.pt", copy)
    assert contents(copy) == before
    pack(tmp_path / "other.pt", copy, "--force")
    expected = weights_digest(rounded(student(1), TINY, "int8"))
    assert weights_digest(read_published(copy)[0]) == expected


def test_a_full_disk_leaves_the_weights_that_were_there(checkpoint, copy, tmp_path, monkeypatch):
    before = contents(copy)
    save_model(student(1), tmp_path / "other.pt", TINY)

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", disk_full)
    with pytest.raises(OSError, match="No space left.*model.safetensors"):
        pack(tmp_path / "other.pt", copy, "--force")
    assert contents(copy) == before


def test_only_students_with_finite_weights_are_packed(tmp_path):
    path, folder = tmp_path / "model.pt", tmp_path / "packed"
    save_model(student(), path, TINY | {"sampler": "heun"})
    refused("sampler is heun.*teacher", pack, path, folder)
    for value in (float("nan"), float("inf")):
        broken = student()
        with torch.no_grad():
            broken.network.head.bias[3] = value
        save_model(broken, path, TINY)
        refused("model.pt: network.head.bias is not finite", pack, path, folder)
    with torch.no_grad():
        broken.network.head.bias[3] = 0
        broken.network.middleblocks[0].block1[2].weight[0] = 1e6
    save_model(broken, path, TINY)
    refused("--dtype fp16: a weight is too large", pack, path, folder, "--dtype", "fp16")
    save_model(student(), path, TINY | {"use_additional_condition": True})
    refused("do not fit", pack, path, folder)
    torch_save({"model": 1}, path)
    refused("not a saved model", pack, path, folder)
    refused("no such file", pack, tmp_path / "none.pt", folder)
    refused("is not a folder", pack, path, path)
    assert not folder.exists()


def test_scores_in_the_card_are_those_of_these_weights(checkpoint, tmp_path):
    path, folder = tmp_path / "scores.json", tmp_path / "packed"
    good = scores_of([SPACE]) | fingerprint(checkpoint)
    wrong = [
        (good | {"weights_sha256": "0" * 64}, "of other weights"),
        (good | {"few_step_sigmas": {"1": [80.0]}}, "of other weights or noise levels"),
        ({"rows": []}, "not what fewstep evaluate writes"),
        ([1], "JSON object"),
    ]
    for content, match in wrong:
        write_json(path, content)
        refused(match, pack, checkpoint, folder, "--scores", path)
        assert not folder.exists()
    write_json(path, good)
    pack(checkpoint, folder, "--scores", path)
    card = (folder / CARD).read_text(encoding="utf-8")
    assert "| student, NFE 4 | 1000 | 35.72 ± 0.50 |" in card and "images in faces" in card
    assert "/home" not in card
    read_published(folder)


def test_the_absent_package_is_one_line(checkpoint, copy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    refused("pip install safetensors", pack, checkpoint, tmp_path / "packed")
    refused("pip install safetensors", unpack, copy, tmp_path / "best_model.pt")


# Damage


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
    "no settings": ({"config": None}, "not a published student"),
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
        refused("not a published student", unpack, copy, tmp_path / "out" / "best_model.pt")
        assert not sprung.exists() and not (tmp_path / "out").exists()


@pytest.mark.skipif(not shutil.which("make"), reason="make is not here")
def test_make_samples_says_when_nothing_is_published(tmp_path):
    command = ["make", "--no-print-directory", "samples", f"PRETRAINED={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == ""
    first = result.stderr.splitlines()[0]
    assert first.startswith(f"error: {tmp_path}") and "no published weights" in first
