"""The commands that pack and unpack a student."""

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch

import sampling
from custom_model import create_custom_model
from fewstep.handin.published import model_card, origin
from fewstep.handin.rounding import rounded, weight_error
from fewstep.runs.building import load_teacher
from fewstep.runs.command_line import parse_settings
from fewstep.studies.evaluate.subjects import fingerprint
from src.published import CARD, WEIGHTS, read_published
from src.utils import (
    file_digest,
    load_model,
    read_json,
    save_model,
    torch_save,
    weights_digest,
    write_json,
)
from tests.handin.records import SPACE, scores_of
from tests.handin.student import TINY, contents, pack, refused, student, unpack


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
    model, _ = read_published(tmp_path, create_custom_model)
    assert weight_error(student().state_dict(), model.state_dict()) < 0.0005


def test_the_same_student_gives_the_same_files(checkpoint, packed, tmp_path):
    pack(checkpoint, tmp_path)
    assert contents(tmp_path) == contents(packed)


def test_the_card_has_data_recipe_and_hours():
    groups = {"data": {"data": "folder", "data_root": "/home/me", "batch_size": 64}}
    groups |= {"run": {"seed": 1}, "discriminator": {"disc": "unet", "penalty": "approx_r1"}}
    record = {"settings": groups, "preset": "tiny", "device": "Some GPU"}
    record |= {"teacher_seconds": 3600.0, "student_seconds": 1800.0, "training_seconds": 5400.0}
    card = model_card(TINY, 12345, record, ["- nothing changed"])
    command = "python train.py --preset tiny --data_root DIR --batch_size=64 --disc=unet"
    for text in ("Data: folder", f"- Recipe: `{command}`\n"):
        assert text in card
    assert "1.50 hours on Some GPU" in card and "nothing changed" in card
    assert "1.00 hours on Some GPU" in origin(record, of_teacher=True)
    elsewhere = record | {"teacher_device": "Another"}
    assert "1.50 hours on Another and Some GPU" in model_card(TINY, 1, elsewhere, [])
    assert "/home" not in card
    assert "not recorded" in model_card(TINY, 1, {}, [])
    record["exported"] = {"kind": "best", "step": 3500, "by": "heldout_loss"}
    scores = scores_of([SPACE])
    card = model_card(TINY, 1, record, [], scores)
    assert "; it exported its step 3,500, the best by heldout_loss" in card
    assert f"Data: folder of {scores['training_count']:,} images\n" in card
    assert "exported" not in origin(record), "which a discriminator's card has, too"


def test_a_folder_is_no_checkpoint(packed, tmp_path):
    for target in (tmp_path, f"{tmp_path / 'new'}/"):
        refused("is a folder; name a file", unpack, packed, target)
    text = "is a folder, not a file; name a final_model.pt"
    refused(text, pack, tmp_path, tmp_path / "packed")


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
        refused("a file is there already that does not.*--force", unpack, packed, target)
        assert contents(tmp_path) == before
    assert unpack(packed, target, "--force") == 0
    config.write_text(json.dumps(own))  # the same weights, with levels that were tuned here
    refused(f"{config}: a file is there already", unpack, packed, target)
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
    assert weights_digest(read_published(copy, create_custom_model)[0]) == expected


def test_a_full_disk_leaves_the_weights_that_were_there(checkpoint, copy, tmp_path, monkeypatch):
    before = contents(copy)
    save_model(student(1), tmp_path / "other.pt", TINY)

    def disk_full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", disk_full)
    with pytest.raises(OSError, match="No space left.*model.safetensors"):
        pack(tmp_path / "other.pt", copy, "--force")
    assert contents(copy) == before


def test_a_teacher_can_be_published_too(tmp_path):
    path, folder = tmp_path / "run" / "teacher" / "model.pt", tmp_path / "packed"
    config = TINY | {"sampler": "heun"}
    save_model(student(), path, config)
    write_json(tmp_path / "run" / "training_config.json", {"teacher_seconds": 3600.0})
    pack(path, folder)
    card = (folder / "README.md").read_text()
    assert "# A diffusion teacher" in card and "--teacher_ckpt" in card and "1.00 hours" in card
    assert "images at NFE 15:" in card
    assert read_published(folder, create_custom_model)[1] == config


@pytest.mark.parametrize("more", [{}, {"use_additional_condition": True}])
def test_the_command_that_is_told_distils_the_teacher(more, tmp_path, capsys):
    config = TINY | {"sampler": "heun"} | more
    path, folder, target = tmp_path / "model.pt", tmp_path / "packed", tmp_path / "my own/model.pt"
    save_model(create_custom_model(**config), path, config)
    pack(path, folder)
    unpack(folder, target)
    told = capsys.readouterr().out.splitlines()[-1].partition("written; python train.py ")[2]
    settings, _, _ = parse_settings(shlex.split(told))
    load_teacher(settings, target)
    assert weights_digest(load_teacher(settings, folder)[0]) == weights_digest(
        load_teacher(settings, target)[0]
    )
    general = told.replace(f"'{target}'", "DIR")
    assert f"`python train.py {general}` distils it" in (folder / CARD).read_text()


def test_a_checkpoint_of_the_working_folder_is_packed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(student(), "model.pt", TINY)
    assert pack("model.pt", "packed") == 0
    assert "not recorded" in Path("packed", CARD).read_text()


def test_only_finite_weights_are_packed(tmp_path):
    path, folder = tmp_path / "model.pt", tmp_path / "packed"
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
    good = scores_of([SPACE]) | fingerprint(student(), TINY)
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
    read_published(folder, create_custom_model)


def test_the_absent_package_is_one_line(checkpoint, copy, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    refused("pip install safetensors", pack, checkpoint, tmp_path / "packed")
    refused("pip install safetensors", unpack, copy, tmp_path / "best_model.pt")
