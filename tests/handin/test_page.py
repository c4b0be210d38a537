"""`fewstep export --page` without a browser: its ONNX, its checks, and what it does to a folder."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from custom_model import create_custom_model
from fewstep.handin.page import main as page
from fewstep.handin.page import runtime
from fewstep.handin.page.agreement import (
    images_from,
    noises_of,
    open_session,
    references,
    shares_within,
)
from fewstep.handin.page.onnx_model import DTYPES, export_model, with_weights
from fewstep.handin.page.plan import NFE_LIST, plan_of, run_plan
from fewstep.handin.rounding import rounded
from src.model_config import FLOW_DEFAULTS
from src.utils import file_digest, save_model, to_uint8
from tests.handin.student import TINY, contents, refused, student

SITE = "base.css chain.js index.html model.json model.onnx noise.js page.css page.js runtime"
SITE = set(SITE.split()) | {"worker.js"}
FLOW = FLOW_DEFAULTS | {"network": "tiny"}
KINDS = {
    "few_step": TINY,
    "offset": TINY | {"noise_offset": 0.5},
    "ddim": TINY | {"sampler": "ddim"},
    "condition": TINY | {"use_additional_condition": True},
    "flow": FLOW,
    "flow with condition": FLOW | {"use_additional_condition": True},
}


def model_of(config):
    """A model whose images depend on all its inputs; a fresh tail is nearly zero."""
    torch.manual_seed(0)
    model = create_custom_model(**config)
    with torch.no_grad():
        model.network.tail[2].weight.normal_(0, 0.05)
    return model.eval().requires_grad_(False)


def export(folder, *flags):
    return page.main([str(flag) for flag in ("--page", folder, *flags)])


@pytest.fixture
def fake_runtime(tmp_path, monkeypatch):
    """A folder of files in the place of onnxruntime-web, and trusted as it."""
    folder = tmp_path / "node_modules"
    (folder / "dist").mkdir(parents=True)
    for name in runtime.FILES:
        (folder / "dist" / name).write_text(f"in the place of {name}")
        digest = file_digest(folder / "dist" / name).hex()
        monkeypatch.setitem(runtime.FILES, name, digest)
    return folder


@pytest.fixture
def packages():
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture
def exported(packages, fake_runtime, checkpoint, tmp_path):
    """(a folder with a page, the flags that made it)."""
    flags = ["--ckpt_path", checkpoint, "--runtime_dir", fake_runtime]
    assert export(tmp_path / "page", *flags) == 0
    return tmp_path / "page", flags


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_is_what_the_sampler_does(kind):
    model = model_of(KINDS[kind])

    def evaluate(x, levels):
        function = model.denoise if "edm" in KINDS[kind]["model_type"] else model.predict
        return function(torch.tensor(x)[None], *levels)[0].numpy()

    noises = [noises_of(model, image) for image in range(2)]
    for nfe in NFE_LIST:
        expected = images_from(model, nfe, noises)
        drawn = [torch.tensor(run_plan(plan_of(model, nfe), evaluate, one)) for one in noises]
        assert np.abs(to_uint8(torch.stack(drawn)).numpy().astype(int) - expected).max() <= 1
        assert expected.std() > 5
    assert model.scheduler.draw_noise.__func__ is type(model.scheduler).draw_noise


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_draws_what_pytorch_draws(packages, kind):
    model = model_of(KINDS[kind])
    exported = export_model(model)
    shares = shares_within(exported.SerializeToString(), model, references(model))
    assert set(shares) == set(NFE_LIST) and min(shares.values()) > 0.9999


def test_weights_take_less_room_and_published_ones_lose_nothing(packages):
    """What was 8 bits for each channel before is so again, to the last bit."""
    published = rounded(student(), TINY, "int8")
    exported = export_model(published)
    files = {dtype: with_weights(exported, dtype).SerializeToString() for dtype in DTYPES}
    assert len(files["int8"]) < 0.75 * len(files["fp16"]) < 0.55 * len(files["fp32"])
    x, sigma = np.float32(np.random.default_rng(0).normal(size=(1, 3, 64, 64))), np.float32([2])
    inputs = {"x": x, "sigma": sigma}
    whole, small, half = (
        open_session(files[dtype]).run(None, inputs)[0] for dtype in ("fp32", "int8", "fp16")
    )
    assert np.array_equal(whole, small) and not np.array_equal(whole, half)


def test_a_page_is_made(exported):
    folder, _ = exported
    assert {path.name for path in folder.iterdir()} == SITE
    assert {path.name for path in (folder / "runtime").iterdir()} == {
        *runtime.FILES, "LICENSE.txt", "ThirdPartyNotices.txt"
    }  # fmt: skip
    assert "MIT License" in (folder / "runtime" / "LICENSE.txt").read_text()
    about = json.loads((folder / "model.json").read_text())
    assert about["sha256"] == file_digest(folder / "model.onnx").hex()
    assert about["weights"] in DTYPES and min(about["agreement"].values()) >= 0.999
    assert about["plans"]["2"]["start"] == 2.5 and about["plans"]["2"]["steps"][0]["noise"] == 1.0


def test_nothing_of_the_page_is_fetched_from_elsewhere():
    for path in page.WEB.iterdir():
        assert not re.search(r"https?:|[\"'(]//", path.read_text()), path.name


def test_a_page_is_renewed_and_other_files_stay(exported, tmp_path, capsys):
    folder, flags = exported
    capsys.readouterr()
    before = contents_below(folder)
    (folder / "mine.txt").write_text("mine")
    (folder / "page.js").write_text("an older one")
    (folder / "model.onnx").unlink()
    assert export(folder, *flags) == 0
    assert contents_below(folder) == before | {"mine.txt": b"mine"}
    assert not list(tmp_path.glob(".page.*"))
    sizes, agreement, serve = capsys.readouterr().out.splitlines()
    assert "int8 weights, 0.6 MB" in sizes and " % at NFE 4" in agreement and "http.server" in serve


def contents_below(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("other", [None, b"{}", b"no JSON"])
def test_a_folder_of_others_is_left_alone(fake_runtime, checkpoint, tmp_path, other):
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "index.html").write_text("theirs")
    if other:
        (folder / "model.json").write_bytes(other)
    before = contents(folder)
    flags = ("--ckpt_path", checkpoint, "--runtime_dir", fake_runtime)
    refused("--page .*theirs: has files, but no page of ours", export, folder, *flags)
    assert contents(folder) == before


def test_a_wrong_network_is_refused_and_nothing_is_written(
    packages, fake_runtime, checkpoint, tmp_path, monkeypatch
):
    def spoilt(exported, dtype):
        copy = with_weights(exported, dtype)
        (bias,) = [one for one in copy.graph.initializer if one.name.endswith("head.bias")]
        bias.raw_data = (np.frombuffer(bias.raw_data, np.float32) + 0.1).tobytes()
        return copy

    monkeypatch.setattr(page, "with_weights", spoilt)
    flags = ("--ckpt_path", checkpoint, "--runtime_dir", fake_runtime)
    match = r"best_model.pt: as ONNX it differs from PyTorch: .* % of values at NFE \d lie within"
    refused(match, export, tmp_path / "page", *flags)
    assert [path.name for path in tmp_path.iterdir()] == [fake_runtime.name]


def test_larger_weights_are_taken_where_smaller_ones_change_the_images(
    packages, checkpoint, tmp_path, monkeypatch
):
    shares = iter([{1: 1.0, 4: 0.9989}, {1: 0.9991, 4: 0.9992}])
    monkeypatch.setattr(page, "shares_within", lambda *_: next(shares))
    dtype, kept = page.write_model(page.load(checkpoint, "cpu"), tmp_path / "model.onnx")
    assert dtype == "fp16" and kept == {1: 0.9991, 4: 0.9992}


def test_files_of_another_version_are_not_taken(
    packages, fake_runtime, checkpoint, tmp_path, monkeypatch
):
    flags = ("--ckpt_path", checkpoint, "--runtime_dir", fake_runtime)
    name = next(iter(runtime.FILES))
    (fake_runtime / "dist" / name).write_text("another version")
    refused(rf"{name}: not that of onnxruntime-web \d", export, tmp_path / "page", *flags)
    (fake_runtime / "dist" / name).unlink()
    refused(rf"node_modules: has no {name} .*npm pack", export, tmp_path / "page", *flags)
    flags = ("--ckpt_path", checkpoint)
    absent = ("--runtime_dir", "absent")
    refused("--runtime_dir absent: no such folder", export, "page", *flags, *absent)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    refused("npm is not here; --runtime_dir", export, tmp_path / "page", *flags)
    monkeypatch.setattr(shutil, "which", lambda _: "npm")
    failed = subprocess.CompletedProcess([], 1, "", "npm error code ENET\nmore\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    match = r"npm cannot fetch .* \(npm error code ENET\); --runtime_dir"
    refused(match, export, tmp_path / "page", *flags)
    assert [path.name for path in tmp_path.iterdir()] == [fake_runtime.name]


def test_mistakes_are_one_line(packages, fake_runtime, tmp_path, monkeypatch):
    runtime_flags = ("--runtime_dir", fake_runtime)
    refused("--page", page.main, [])
    refused("checkpoints/best_model.pt: no such file", export, "page", *runtime_flags)
    save_model(student(), "teacher.pt", TINY | {"sampler": "heun"})
    flags = ("--ckpt_path", "teacher.pt", *runtime_flags)
    refused("teacher.pt: a teacher, which needs many steps", export, "page", *flags)
    broken = student()
    with torch.no_grad():
        broken.network.head.bias[3] = float("nan")
    save_model(broken, "broken.pt", TINY)
    flags = ("--ckpt_path", "broken.pt", *runtime_flags)
    refused("values that are not finite", export, "page", *flags)
    Path("file").write_text("in the way")
    refused("--page file: file is not a folder", export, "file", *flags)
    for name in ("onnxruntime", "onnx"):
        monkeypatch.setitem(sys.modules, name, None)
        refused(f"page that generates needs a package: pip install {name}", export, "page", *flags)
    assert not Path("page").exists()
