"""Students in compact form: what rounding costs, files that are whole or refused, the commands."""

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import sampling
import src.samplers as samplers
from custom_model import MODEL_DEFAULTS, create_custom_model
from fewstep.handin import publish as pretrained
from fewstep.handin.packed import folder as folder_module
from fewstep.handin.packed import manifest as manifest_module
from fewstep.handin.packed.errors import output_errors, relative_error, weight_errors
from fewstep.handin.packed.folder import describe_parts, read_folder, write_folder
from fewstep.handin.packed.manifest import (
    KEYS,
    VERSION,
    content_digest,
    make_manifest,
    read_manifest,
)
from fewstep.handin.packed.parts import (
    LARGEST_ERROR,
    SMALL,
    decode,
    divide,
    encode,
    from_bytes,
    to_bytes,
)
from fewstep.handin.packed.quantise import CLIPPING, dequantise, quantise
from fewstep.handin.packed.student import expand
from fewstep.runs.identity import weights_digest
from src.utils import UserError, load_model, read_json, save_model, torch_save

ROOT = Path(__file__).resolve().parents[1]
LEVELS = {"1": [2.5], "2": [2.5, 1.0], "4": [2.5, 1.5, 1.0, 0.5]}
CONFIG = MODEL_DEFAULTS | {"network": "tiny", "sampler": "few_step", "few_step_sigmas": LEVELS}
MIB = 2**20


def student(seed=0):
    """A tiny student whose images depend on the network; a fresh tail is nearly zero."""
    torch.manual_seed(seed)
    model = create_custom_model(**CONFIG)
    with torch.no_grad():
        model.network.tail[2].weight.normal_(0, 0.05)
    return model.eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("student") / "final_model.pt"
    save_model(student(), path, CONFIG)
    return path


@pytest.fixture(scope="module")
def packed(checkpoint):
    """A folder of compact form, not to be written to."""
    folder = checkpoint.parent / "packed"
    pretrained.main(pack_flags(checkpoint, folder))
    return folder


@pytest.fixture
def copy(packed, tmp_path):
    return Path(shutil.copytree(packed, tmp_path / "copy"))


def pack_flags(checkpoint, folder, *more):
    flags = ["pack", "--ckpt_path", checkpoint, "--output_dir", folder, "--check_images", 1, *more]
    return [str(flag) for flag in flags]


def unpack(folder, target, *more):
    return pretrained.main(
        ["unpack", "--input_dir", str(folder), "--ckpt_path", str(target), *more]
    )


def resealed(folder, **changes):
    """The manifest of a folder with changes and a checksum that holds, as a forger would write."""
    content = json.loads((folder / "manifest.json").read_text()) | changes
    content["sha256"] = content_digest(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def replaced(folder, contents):
    """The folder with other parts, to which the manifest agrees."""
    entries = describe_parts(contents)
    for entry, content in zip(entries, contents):
        (folder / entry["file"]).write_bytes(content)
    resealed(folder, parts=entries)


def contents_of(folder):
    return read_folder(folder)[1]


def one_line(error):
    return "\n" not in str(error.value) and str(error.value)


# Numbers


def test_each_weight_is_within_half_a_step_where_nothing_is_cut_off():
    weight = torch.randn(5, 7, 3, 3) * torch.logspace(-6, 3, 5).reshape(-1, 1, 1, 1)
    values, scales = quantise(weight, clipping=(1.0,))
    assert values.dtype == torch.int8 and values.shape == weight.shape and scales.shape == (5,)
    assert values.flatten(1).abs().amax(dim=1).tolist() == [127] * 5  # every channel uses it all
    steps = (dequantise(values, scales) - weight).abs().flatten(1).amax(dim=1) / scales
    assert steps.max() <= 0.5001


def test_scales_of_their_own_serve_channels_of_different_size():
    weight = torch.randn(16, 100) * torch.logspace(-2, 0, 16)[:, None]
    per_channel = dequantise(*quantise(weight))
    per_tensor = dequantise(*quantise(weight.reshape(1, -1))).reshape(weight.shape)
    smallest = (weight[0], per_channel[0]), (weight[0], per_tensor[0])
    assert 20 * relative_error(*smallest[0]) < relative_error(*smallest[1])


def test_search_finds_the_best_scale_of_each_channel_among_those_offered():
    torch.manual_seed(0)
    weight = torch.randn(32, 300)
    each = [(dequantise(*quantise(weight, (s,))) - weight).square().sum(dim=1) for s in CLIPPING]
    errors = torch.stack(each)  # [shares, channels]
    found = (dequantise(*quantise(weight)) - weight).square().sum(dim=1)
    assert torch.allclose(found, errors.amin(dim=0))
    assert len(set(errors.argmin(dim=0).tolist())) > 3  # one share does not suit all channels
    assert found.sum() < 0.98 * errors[CLIPPING.index(1.0)].sum()


@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-38, -1e-41, 3e38])
def test_extreme_channels_stay_finite_and_do_not_spoil_others(value):
    weight = torch.randn(3, 50)
    weight[1] = value
    back = dequantise(*quantise(weight))
    assert back.isfinite().all() and relative_error(weight[0], back[0]) < 0.01
    assert value or not back[1].any()


def test_errors_are_relative_and_of_all_weights_together():
    before = {"a": torch.full((3,), 2.0), "b": torch.full((4, 4), 10.0), "zeros": torch.zeros(2)}
    after = {"a": torch.full((3,), 1.0), "b": torch.full((4, 4), 10.0), "zeros": torch.zeros(2)}
    each, overall = weight_errors(before, after)
    assert each == {"a": pytest.approx(0.5), "b": 0.0, "zeros": 0.0}
    assert overall == pytest.approx((3 / (12 + 1600)) ** 0.5)
    assert relative_error(torch.zeros(2), torch.ones(2)) == float("inf")


def test_output_errors_are_those_of_the_denoised_images():
    model, other = student(), student()
    assert set(output_errors(model, other, side=16)) == set(LEVELS["4"])
    assert not any(any(pair) for pair in output_errors(model, other, side=16).values())
    seen = []

    def constant(value):
        def denoise(x, sigma):
            seen.append((sigma, float(x.std())))
            return torch.full_like(x, value)

        return SimpleNamespace(denoise=denoise, scheduler=model.scheduler)

    changes = output_errors(constant(0.5), constant(0.51), side=64)
    assert list(changes) == LEVELS["4"]
    for relative, grey in changes.values():
        assert relative == pytest.approx(0.02, rel=1e-4)
        assert grey == pytest.approx(0.01 * 127.5, rel=1e-4)
    assert all(std == pytest.approx(sigma, rel=0.02) for sigma, std in seen)


# Arrays and files


def test_what_is_small_or_would_lose_much_stays_exact():
    torch.manual_seed(0)
    outliers = torch.randn(4, SMALL)
    outliers[:, 0] = 1e3  # beside it, 8 bits round all other weights to nothing
    state = {
        "bias": torch.randn(5000),
        "first": torch.randn(4, SMALL // 4),
        "large": torch.randn(4, SMALL // 2),
        "outliers": outliers,
    }
    encoded = encode(state)
    kinds = {name: {key.rpartition(".")[2] for key in group} for name, group in encoded.items()}
    assert kinds.pop("large") == {"int8", "scale"}
    assert set(map(tuple, kinds.values())) == {("float32",)}
    back = decode({key: array for group in encoded.values() for key, array in group.items()})
    assert 0 < relative_error(state["large"], back["large"]) < LARGEST_ERROR
    assert all(torch.equal(back[name], state[name]) for name in kinds)


def test_parts_are_of_nearly_one_size_and_hold_each_tensor_once():
    encoded = encode(student().state_dict())
    for count in (1, 3, 4):
        parts = divide(encoded, count)
        sizes = [sum(array.nbytes for array in part.values()) for part in parts]
        assert max(sizes) - min(sizes) < 0.02 * sum(sizes)
        names = [key for part in parts for key in part]
        assert sorted(names) == sorted(key for group in encoded.values() for key in group)
        assert len({name for part in parts for name in decode(part)}) == len(encoded)
    with pytest.raises(ValueError, match="do not fill"):
        divide(encoded, len(encoded) + 1)


def test_the_same_student_gives_the_same_files(checkpoint, packed, tmp_path):
    pretrained.main(pack_flags(checkpoint, tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in packed.iterdir()
    }


def test_size_of_the_full_network():
    """At most 60 MiB, and each of four parts below 16 MiB: from shapes, without making it."""
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in create_custom_model("meta").state_dict().items()}
    assert sum(shape.numel() for shape in shapes.values()) == 58_753_283
    encoded = {}
    for name, shape in shapes.items():
        if len(shape) > 1 and shape.numel() > SMALL:
            arrays = {f"{name}.int8": np.empty(shape, np.int8)}
            arrays[f"{name}.scale"] = np.empty(shape[0], np.float32)
        else:
            arrays = {f"{name}.float32": np.empty(shape, np.float32)}
        encoded[name] = arrays
    sizes = [len(to_bytes(part)) for part in divide(encoded, 4)]
    assert max(sizes) < 15 * MIB and 56 * MIB < sum(sizes) < 58 * MIB


# The commands


def test_pack_and_unpack_give_a_normal_checkpoint(
    checkpoint, packed, tmp_path, monkeypatch, capsys
):
    target = tmp_path / "new" / "best_model.pt"
    assert unpack(packed, target) == 0
    assert sorted(path.name for path in target.parent.iterdir()) == [
        "best_model.pt",
        "model_config.json",
    ]
    assert read_json(target.with_name("model_config.json")) == CONFIG
    stored = torch.load(target, weights_only=True)
    assert set(stored) == {"state_dict"}
    before = load_model(checkpoint, create_custom_model).state_dict()
    assert stored["state_dict"].keys() == before.keys()
    assert {value.dtype for value in stored["state_dict"].values()} == {torch.float32}
    each, overall = weight_errors(before, stored["state_dict"])
    manifest = read_manifest(packed)
    assert manifest["errors"]["weights"] == pytest.approx(overall, rel=1e-3)
    assert 0.001 < overall < 0.006 and max(each.values()) < 0.01
    assert set(manifest["errors"]["outputs"]) == {str(sigma) for sigma in LEVELS["4"]}
    assert all(0 < row["relative"] < 0.02 for row in manifest["errors"]["outputs"].values())
    assert manifest["original_sha256"] == weights_digest(student())
    assert manifest["parameters"] == sum(value.numel() for value in before.values())
    monkeypatch.setattr(samplers, "IMAGE_SHAPE", (3, 16, 16))
    flags = f"--ckpt_path {target} --save_dir {tmp_path}/out --num_samples 2 --device cpu"
    sampling.main([*flags.split(), "--nfe_list", "1", "2", "4"])
    assert len(list((tmp_path / "out" / "nfe=4").iterdir())) == 2


def test_unpack_never_replaces_other_weights_unasked(packed, tmp_path, capsys):
    target = tmp_path / "best_model.pt"
    unpack(packed, target)
    stamp = target.stat().st_mtime_ns
    capsys.readouterr()
    assert unpack(packed, target) == 0
    assert "is there already" in capsys.readouterr().out and target.stat().st_mtime_ns == stamp

    config = target.with_name("model_config.json")
    own = CONFIG | {"few_step_sigmas": {"1": [3.0]}}
    save_model(student(1), target, CONFIG)
    others = [target.read_bytes(), b"no checkpoint"]
    for content, settings in [(others[0], CONFIG), (others[1], CONFIG), (None, own)]:
        target.unlink(missing_ok=True)
        if content:
            target.write_bytes(content)
        config.write_text(json.dumps(settings))
        with pytest.raises(UserError, match="--force") as error:
            unpack(packed, target)
        assert one_line(error)
        assert json.loads(config.read_text()) == settings
        assert target.exists() == bool(content) and (not content or target.read_bytes() == content)
    assert unpack(packed, target, "--force") == 0
    config.write_text(json.dumps(own))  # the same weights, with levels that were tuned here
    with pytest.raises(UserError, match="--force"):
        unpack(packed, target)
    assert unpack(packed, target, "--force") == 0
    assert read_json(config) == CONFIG
    assert (
        weights_digest(load_model(target, create_custom_model))
        == (read_manifest(packed)["expanded_sha256"])
    )


def test_packing_again_leaves_no_old_parts_and_nothing_else_is_touched(copy, tmp_path):
    (copy / "README.md").write_text("mine")
    (copy / ".weights_2_0a1b2c3d.99.tmp.npz").write_bytes(b"of a killed program")
    save_model(student(1), tmp_path / "other.pt", CONFIG)
    pretrained.main(pack_flags(tmp_path / "other.pt", copy, "--parts", 2))
    manifest = read_manifest(copy)
    named = {entry["file"] for entry in manifest["parts"]}
    assert len(named) == 2
    assert {path.name for path in copy.iterdir()} == named | {"manifest.json", "README.md"}
    assert manifest["original_sha256"] == weights_digest(student(1))
    unpack(copy, tmp_path / "x" / "best_model.pt")


@pytest.mark.parametrize("fails", ["part", "manifest"])
@pytest.mark.parametrize("over", ["nothing", "another student"])
def test_packing_is_all_or_nothing(copy, tmp_path, monkeypatch, fails, over):
    folder = copy if over == "another student" else tmp_path / "new"
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    save_model(student(1), tmp_path / "other.pt", CONFIG)
    done = []

    def disk_full(path, *_):
        raise OSError(28, "No space left on device")

    if fails == "manifest":
        monkeypatch.setattr(folder_module, "write_json", disk_full)
    else:
        whole_file = folder_module.whole_file

        def second_fails(path):
            done.append(path)
            return whole_file(path) if len(done) < 3 else disk_full(path)

        monkeypatch.setattr(folder_module, "whole_file", second_fails)
    with pytest.raises(UserError, match="cannot be written.*No space left") as error:
        pretrained.main(pack_flags(tmp_path / "other.pt", folder))
    assert one_line(error)
    if over == "nothing":
        assert not folder.exists()
    else:
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_parts_are_there_before_the_manifest_names_them(checkpoint, copy, tmp_path, monkeypatch):
    """Whenever a writer is killed, what the folder's manifest names is whole."""
    save_model(student(1), tmp_path / "other.pt", CONFIG)
    write_json, replace, seen = folder_module.write_json, os.replace, []

    def watched(source, target):
        replace(source, target)
        if Path(target).parent == copy:
            seen.append(read_folder(copy)[0]["original_sha256"])

    monkeypatch.setattr(os, "replace", watched)
    pretrained.main(pack_flags(tmp_path / "other.pt", copy))
    old, new = (weights_digest(student(seed)) for seed in (0, 1))
    assert seen == [old] * 4 + [new] and write_json


def test_only_students_with_finite_weights_are_packed(checkpoint, tmp_path):
    path, folder = tmp_path / "model.pt", tmp_path / "packed"

    def refused(match, *more, flags=None):
        with pytest.raises(UserError, match=match) as error:
            pretrained.main(flags or pack_flags(path, folder, *more))
        assert one_line(error) and not folder.exists()

    save_model(student(), path, CONFIG | {"sampler": "heun"})
    refused("sampler is heun.*teacher")
    for value in (float("nan"), float("inf")):
        broken = student()
        with torch.no_grad():
            broken.network.head.bias[3] = value
        save_model(broken, path, CONFIG)
        refused("model.pt: network.head.bias is not finite")
    save_model(student(), path, CONFIG | {"network": "full"})
    refused("do not fit")
    torch_save({"model": 1}, path)
    refused("not a saved model")
    refused("no such file", flags=pack_flags(tmp_path / "none.pt", folder))
    refused("--parts 0", flags=pack_flags(checkpoint, folder, "--parts", 0))
    refused("--parts 100", flags=pack_flags(checkpoint, folder, "--parts", 100))
    refused("--check_images", flags=pack_flags(checkpoint, folder, "--check_images", -1))
    with pytest.raises(UserError, match="is a file"):
        pretrained.main(pack_flags(checkpoint, path))


def test_config_may_lie_elsewhere(checkpoint, tmp_path):
    shutil.copy(checkpoint, tmp_path / "moved.pt")
    flags = pack_flags(tmp_path / "moved.pt", tmp_path / "packed")
    with pytest.raises(UserError, match="model_config.json: no such file"):
        pretrained.main(flags)
    pretrained.main([*flags, "--config_path", str(checkpoint.with_name("model_config.json"))])
    assert read_manifest(tmp_path / "packed")["model_config"] == CONFIG


def test_notes_are_kept_and_must_be_of_these_weights(checkpoint, tmp_path):
    path, folder = tmp_path / "notes.json", tmp_path / "packed"
    flags = pack_flags(checkpoint, folder, "--notes", path)
    good = {"original_sha256": weights_digest(student()), "few_step_sigmas": LEVELS, "é": [1.5]}
    wrong = [
        (good | {"original_sha256": "0" * 64}, "of other weights"),
        (good | {"few_step_sigmas": {"1": [80.0]}}, "of other weights or noise levels"),
        ({"score": float("nan")}, "not finite"),
        ({"text": "x" * (1 << 16)}, "at most"),
        ([1], "JSON object"),
    ]
    for content, match in wrong:
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=match):
            pretrained.main(flags)
        assert not folder.exists()
    path.write_text(json.dumps(good))
    pretrained.main(flags)
    assert read_manifest(folder)["notes"] == good


def test_compare_measures_both_and_its_notes_are_taken(checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(samplers, "IMAGE_SHAPE", (3, 16, 16))
    notes, folder = tmp_path / "notes.json", tmp_path / "packed"
    flags = (
        f"compare --ckpt_path {checkpoint} --data synthetic --synthetic_count 16 --num_samples 4"
    )
    flags += f" --seeds 1 2 --nfe_list 1 2 --device cpu --cache_dir {tmp_path} --output {notes}"
    pretrained.main(flags.split())
    content = read_json(notes)
    assert content["what"] == "Fréchet distance in random-conv-v1 (not FID)"
    assert set(content["nfe"]) == {"1", "2"} and content["seeds"] == [1, 2]
    for row in content["nfe"].values():
        assert len(row["before"]) == len(row["after"]) == 2
        assert row["before"] != row["after"] and row["before"][0] != row["before"][1]
        assert np.allclose(row["before"], row["after"], rtol=0.05)
        assert all(0 < grey < 3 for grey in row["grey_levels"])
    assert "NFE 2: " in capsys.readouterr().out
    pretrained.main(pack_flags(checkpoint, folder, "--notes", notes))
    assert read_manifest(folder)["notes"] == content
    save_model(student(), tmp_path / "teacher.pt", CONFIG | {"sampler": "heun"})
    with pytest.raises(UserError, match="teacher"):
        pretrained.main([*flags.split(), "--ckpt_path", str(tmp_path / "teacher.pt")])


@pytest.mark.parametrize(
    "flags, match",
    [
        ("--nfe_list 0", "--nfe_list 0"),
        ("--num_samples 3", "--num_samples 3"),
        ("--seeds -1", "--seeds"),
        ("--fid_weights x", "--features inception"),
        ("--x_flip", "x_flip"),
    ],
)
def test_flags_of_compare_are_checked_first(flags, match):
    with pytest.raises(UserError, match=match):
        pretrained.main(f"compare --ckpt_path none.pt {flags}".split())


# Damage


def damaged_part(place):
    def damage(folder):
        path = sorted(folder.glob("weights_*"))[1]
        content = bytearray(path.read_bytes())
        content[place if place >= 0 else len(content) + place] ^= 1
        path.write_bytes(bytes(content))

    return damage


def truncated(pattern, keep):
    def damage(folder):
        path = sorted(folder.glob(pattern))[0]
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content))])

    return damage


def lost(pattern):
    return lambda folder: sorted(folder.glob(pattern))[-1].unlink()


def swapped(folder):
    first, second = sorted(folder.glob("weights_*"))[:2]
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])


def as_folder(folder):
    lost("weights_*")(folder)
    (folder / read_manifest(folder)["parts"][-1]["file"]).mkdir()


DAMAGE = {
    "first bit of a part": (damaged_part(0), "weights_2_.*checksum"),
    "middle of a part": (damaged_part(60_000), "weights_2_.*checksum"),
    "last byte of a part": (damaged_part(-1), "weights_2_.*checksum"),
    "empty part": (truncated("weights_*", 0), "weights_1_.*damaged.*bytes"),
    "half a part": (truncated("weights_*", 0.5), "weights_1_.*damaged.*bytes"),
    "a byte too few": (truncated("weights_*", 0.99999), "weights_1_.*damaged.*bytes"),
    "missing part": (lost("weights_*"), "weights_4_.*missing"),
    "swapped parts": (swapped, "weights_1_.*damaged"),
    "folder for a part": (as_folder, "weights_4_.*(cannot be read|damaged)"),
    "no manifest": (lost("manifest.json"), "no published weights"),
    "empty manifest": (truncated("manifest.json", 0), "manifest.json: not readable as JSON"),
    "half a manifest": (truncated("manifest.json", 0.5), "manifest.json: not readable as JSON"),
}


@pytest.mark.parametrize("damage, match", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_one_line_and_nothing_is_written(copy, tmp_path, damage, match):
    damage(copy)
    target = tmp_path / "out" / "best_model.pt"
    with pytest.raises(UserError, match=match) as error:
        unpack(copy, target, "--force")
    assert one_line(error) and not target.parent.exists()


def test_every_flipped_bit_of_the_manifest_is_found_or_changes_nothing(copy):
    path, meant, passed = copy / "manifest.json", read_manifest(copy), 0
    with open(path, "r+b", buffering=0) as file:  # in place: new files would take a minute
        for place, byte in enumerate(path.read_bytes()):
            for changed in [byte ^ 1 << bit for bit in range(8)] + [byte]:
                file.seek(place)
                file.write(bytes([changed]))
                try:
                    assert read_manifest(copy) == meant
                    passed += changed != byte  # such as 1E-05 for 1e-05
                except UserError as error:
                    assert changed != byte and "\n" not in str(error) and str(path) in str(error)
    assert passed < 10


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"version": VERSION + 1}, "update the project"),
        ({"version": 0}, '"version" 0'),
        ({"version": "1"}, '"version" is no int'),
        ({"format": "another"}, "not a manifest"),
        ({"colour": 1}, "has unknown colour"),
        ({"parts": []}, '"parts"'),
        ({"parts": [1]}, '"parts"'),
        ({"parts": [{"file": "../weights_1_00000000.npz", "bytes": 1, "sha256": ""}]}, '"parts"'),
        ({"parts": [{"file": "weights_1_00000000.npz", "bytes": 1}]}, '"parts"'),
        ({"model_config": []}, '"model_config" is no dict'),
        ({"expanded_sha256": "0" * 64}, "other weights than the manifest says"),
        ({"model_config": CONFIG | {"network": "huge"}}, "network 'huge'"),
        ({"model_config": CONFIG | {"colour": 1}}, "unknown model setting 'colour'"),
        ({"model_config": CONFIG | {"sigma_data": "x"}}, "sigma_data"),
        ({"model_config": CONFIG | {"use_additional_condition": True}}, "missing"),
    ],
)
def test_a_manifest_that_is_whole_but_wrong(copy, tmp_path, changes, match):
    resealed(copy, **changes)
    with pytest.raises(UserError, match=match) as error:
        unpack(copy, tmp_path / "out" / "best_model.pt")
    assert one_line(error) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", KEYS)
def test_a_manifest_that_lacks_a_key(copy, key):
    content = json.loads((copy / "manifest.json").read_text())
    del content[key]
    (copy / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=key):
        read_manifest(copy)


def changed_arrays(contents, change):
    parts = [from_bytes(content) for content in contents]
    change(parts[0], next(key for key in parts[0] if key.endswith(".int8")))
    return [to_bytes(part) for part in parts]


MISFITS = {
    "another shape": (lambda p, k: p.update({k: p[k][:, :-1]}), "has shape"),
    "no scales": (lambda p, k: p.pop(k.replace(".int8", ".scale")), "one scale a channel"),
    "too few scales": (
        lambda p, k: p.update({f"{k[:-5]}.scale": p[f"{k[:-5]}.scale"][1:]}),
        "one scale a channel",
    ),
    "no integers": (lambda p, k: p.pop(k), "integers are missing"),
    "another type": (lambda p, k: p.update({k: p[k].astype(np.int16)}), "not an array of weights"),
    "a foreign tensor": (lambda p, k: p.update({"x.float32": np.ones(3, "f4")}), "x is not in the"),
    "an unknown kind": (lambda p, k: p.update({"x.int4": np.ones(3, "i1")}), "x.int4: not an"),
    "other numbers": (lambda p, k: p[k].fill(1), "other weights than the manifest says"),
}


@pytest.mark.parametrize("change, match", MISFITS.values(), ids=MISFITS)
def test_parts_that_do_not_fit_the_network(copy, tmp_path, change, match):
    replaced(copy, changed_arrays(contents_of(copy), change))
    with pytest.raises(UserError, match=match) as error:
        unpack(copy, tmp_path / "out" / "best_model.pt")
    assert one_line(error) and not (tmp_path / "out").exists()


def test_a_tensor_in_two_parts_and_one_in_none(copy, tmp_path):
    contents = contents_of(copy)
    for chosen, match in [([*contents, contents[0]], "in two parts"), (contents[:3], "is missing")]:
        manifest = read_manifest(copy) | {"parts": describe_parts(chosen)}
        with pytest.raises(UserError, match=match):
            expand(manifest, chosen, "here")


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def traps(path):
    """Files that would run code: a pickle, an array of objects, torch's own, with such in them."""
    yield pickle.dumps(Trap(path))
    for save in (np.save, np.savez, torch.save):
        file = io.BytesIO()
        objects = np.empty(1, object)
        objects[0] = Trap(path)
        if save is torch.save:
            torch.save(Trap(path), file)
        elif save is np.save:
            np.save(file, objects, allow_pickle=True)
        else:
            np.savez(file, **{"x.float32": objects})
        yield file.getvalue()


def test_code_in_a_part_is_not_run(copy, tmp_path):
    sprung = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(sprung))).close()
    assert sprung.exists()  # the trap works
    sprung.unlink()
    contents = contents_of(copy)
    for trap in traps(sprung):
        replaced(copy, [trap, *contents[1:]])
        with pytest.raises(UserError, match="not arrays of numbers|not an array") as error:
            unpack(copy, tmp_path / "out" / "best_model.pt")
        assert one_line(error) and not sprung.exists() and not (tmp_path / "out").exists()


def test_the_folder_writer_takes_what_the_reader_gives(copy, tmp_path):
    manifest, contents = read_folder(copy)
    write_folder(tmp_path / "again", manifest, contents)
    assert read_folder(tmp_path / "again") == (manifest, contents)
    assert make_manifest(**manifest) == manifest and manifest_module.NAME == "manifest.json"


def test_errors_of_the_program_are_one_line(tmp_path):
    command = [sys.executable, "-m", "fewstep", "publish", "unpack", "--input_dir", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("error: ") and "no published weights" in result.stderr


@pytest.mark.skipif(not shutil.which("make"), reason="make is not here")
def test_make_samples_says_when_nothing_is_published(tmp_path):
    command = ["make", "--no-print-directory", "samples", f"PRETRAINED={tmp_path}"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2 and result.stdout == ""
    first = result.stderr.splitlines()[0]
    assert first.startswith(f"error: {tmp_path}") and "no published weights" in first
