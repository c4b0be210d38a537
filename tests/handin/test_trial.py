"""Checks of how a submission runs, and what it may import there."""

import os
import shutil
from types import SimpleNamespace

import pytest
import torch

from custom_model import CustomScheduler
from fewstep.handin.archive import trial
from fewstep.handin.archive.environment import failure_of, grading_packages, run_restricted
from tests.handin.student import ROOT, run_here

CPU = torch.device("cpu")


def test_only_the_grading_environment_can_be_imported(tmp_path, monkeypatch):
    packages = grading_packages()
    assert {"torch", "sympy", "networkx", "jinja2", "PIL", "dateutil", "dotmap"} <= packages
    assert not {"timm", "huggingface_hub", "pytest", "_pytest", "fewstep"} & packages
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where the whole project lies
    (tmp_path / "local.py").write_text("here = True\n")
    (tmp_path / "script.py").write_text(
        "import importlib.util, sys, PIL.Image, numpy, yaml, local\n"
        "from importlib.metadata import version\n"
        "assert local.here and version('numpy') == numpy.__version__ and sys.argv[1:] == ['7']\n"
        "for name in ('timm', 'pytest', 'fewstep', 'custom_model', 'train'):\n"
        "    assert importlib.util.find_spec(name) is None, name\n"
        "import timm\n"
    )
    process = run_restricted(tmp_path, "script.py", 7)
    assert failure_of(process) == "exit code 1, ModuleNotFoundError: No module named 'timm'"


NEEDED = (
    "; the graders' sampler has custom_model.py, what that imports of the project save training"
    " code, and the grading environment's packages"
)
ENDED = SimpleNamespace(returncode=1, stderr="Traceback:\n  ...\nValueError: no such thing\n")


def test_a_model_that_imports_what_is_not_there(tmp_path):
    (tmp_path / "torch.py").write_text("")  # in place of the real one, which takes seconds
    (tmp_path / "custom_model.py").write_text("import timm\n")
    process, report = trial.run_graders(tmp_path, tmp_path, 2, CPU, [])
    assert report is None
    assert str(trial.check_model(process, report, tmp_path)) == (
        "✗ model: custom_model.py cannot build it (exit code 1, ModuleNotFoundError: No module"
        f" named 'timm'){NEEDED}"
    )


def test_a_model_that_imports_more_than_it_should(tmp_path):
    report = {"modules": ["custom_model", "src", "kagglehub", "torch", "fewstep"]}
    assert str(trial.check_model(None, report, tmp_path)) == (
        "✗ model: importing custom_model also imports fewstep, kagglehub; sampling must not need"
        " that"
    )


def test_a_sampler_that_fails(tmp_path):
    (finding,) = trial.check_sampler(ENDED, {"runs": []}, tmp_path, 2)
    assert str(finding) == (
        f"✗ sampler: fails as the graders run it (exit code 1, ValueError: no such thing){NEEDED}"
    )


def test_a_sampler_that_takes_more_evaluations():
    run = {str(nfe): {"evaluations": [nfe, nfe]} for nfe in (1, 2, 4)}
    assert trial.check_evaluations(run).ok
    run["1"]["evaluations"][1] = 2.0
    assert str(trial.check_evaluations(run)) == (
        "✗ evaluations: NFE 1 takes 2 evaluations of the network per image; sample() must take"
        " exactly num_inference_timesteps"
    )


OTHER_SEED = (
    "✗ other seed: seeds 42 and 43 give the same images; draw all noise from torch's global"
    " generator, without a seed of the model's own"
)


def test_a_sampler_with_a_seed_of_its_own(graders_folder, tmp_path, monkeypatch):
    draw = CustomScheduler.draw_noise

    def draw_the_same(self, shape, device="cpu", generator=None):
        return draw(self, shape, device, torch.Generator().manual_seed(0))

    monkeypatch.setattr(CustomScheduler, "draw_noise", draw_the_same)
    monkeypatch.setattr(trial, "run_restricted", run_here)
    process, report = trial.run_graders(graders_folder, tmp_path, 2, CPU, [trial.FIRST])
    findings = trial.check_sampler(process, report, tmp_path, 2)
    assert all(finding.ok for finding in findings)
    findings = list(trial.check_seeds(graders_folder, tmp_path, 2, CPU))
    assert [finding.ok for finding in findings] == [True, False] and str(findings[1]) == OTHER_SEED


@pytest.mark.parametrize(
    "again, other, lines",
    [
        (b"a", b"b", ["✓ same seed: the same bytes", "✓ other seed: other images"]),
        (
            b"c",
            b"b",
            [
                "✗ same seed: two runs with seed 42 differ; draw all noise from torch's global"
                " generator",
                "✓ other seed: other images",
            ],
        ),
        (b"a", b"a", ["✓ same seed: the same bytes", OTHER_SEED]),
        (
            b"a",
            None,
            [
                "✓ same seed: the same bytes",
                "✗ other seed: a run with seed 43 fails (exit code 1, ValueError: no such thing)",
            ],
        ),
        (
            None,
            None,
            [
                "✗ same seed: the second run fails (exit code 1, ValueError: no such thing); run it"
                " again",
                "✗ other seed: a run with seed 43 fails (exit code 1, ValueError: no such thing)",
            ],
        ),
    ],
)
def test_seeds(tmp_path, monkeypatch, again, other, lines):
    images = {"first": b"a", "again": again, "other": other}
    for name, content in images.items():
        if content:
            (tmp_path / name / "nfe=1").mkdir(parents=True)
            (tmp_path / name / "nfe=1" / "0000.png").write_bytes(content)
    report = {"runs": [content for content in (again, other) if content]}
    monkeypatch.setattr(trial, "run_graders", lambda *arguments: (ENDED, report))
    assert [str(finding) for finding in trial.check_seeds(tmp_path, tmp_path, 1, CPU)] == lines


def test_images_of_the_wrong_kind(tmp_path):
    from PIL import Image

    def write(nfe, number, size=(64, 64), mode="RGB", seed=None):
        folder = tmp_path / f"nfe={nfe}"
        folder.mkdir(exist_ok=True)
        noise = os.urandom(64 * 64 * 3) if seed is None else bytes([seed]) * 64 * 64 * 3
        image = Image.frombytes("RGB", (64, 64), noise).resize(size).convert(mode)
        image.save(folder / f"{number:04d}.png")

    report = {str(nfe): {"range": [-1.0, 1.0]} for nfe in (1, 2, 4)}
    for nfe in (1, 2, 4):
        write(nfe, 0)
        write(nfe, 1)
    assert trial.check_images(tmp_path, 2, report).ok
    images = trial.image_bytes(tmp_path)
    assert trial.check_nfes_differ(images).ok
    images["nfe=4"] = [images["nfe=2"][1], b""]
    assert str(trial.check_nfes_differ(images)) == (
        "✗ NFEs: NFE 2 and 4 give the same images; use num_inference_timesteps"
    )

    def line(report=report):
        return str(trial.check_images(tmp_path, 2, report))

    nan = report | {"1": {"range": None}}
    assert line(nan) == "✗ sampler: NFE 1 gives values that are not finite; use other weights"
    wide = report | {"4": {"range": [-1.0, 1.5]}}
    assert line(wide) == "✗ sampler: NFE 4 gives values from -1.00 to 1.50; clamp to [-1, 1]"
    write(2, 1, seed=7)
    assert line() == "✗ sampler: NFE 2: 0001.png of one colour; use other weights"
    shutil.copy(tmp_path / "nfe=2/0000.png", tmp_path / "nfe=2/0001.png")
    assert line() == "✗ sampler: NFE 2 gives an image twice; draw noise for each image"
    write(2, 1, size=(32, 32))
    assert line().startswith("✗ sampler: nfe=2/0001.png is ('PNG', 'RGB', (32, 32)), not a 64x64")
    write(2, 1, mode="L")
    assert line().startswith("✗ sampler: nfe=2/0001.png is ('PNG', 'L', (64, 64)), not a 64x64")
    (tmp_path / "nfe=2/0001.png").unlink()
    assert line() == "✗ sampler: NFE 2 gives 1 files, not 0000.png to the last"


@pytest.mark.parametrize("count, batch", [(2, 2), (4, 4), (32, 32), (33, 31), (65, 31), (1000, 32)])
def test_no_image_is_left_over_for_a_batch_of_one(count, batch):
    assert trial.batch_size_for(count) == batch and count % batch != 1


def test_an_official_sampler_that_fails(tmp_path):
    (tmp_path / "sampling.py").write_text("import sys\nsys.exit('no model: ' + sys.argv[2])\n")
    assert str(trial.try_official(tmp_path, tmp_path, 2, CPU)) == (
        "✗ official sampling.py: fails (exit code 1, no model: checkpoints/best_model.pt); the"
        " graders' sampler has custom_model.py, what that imports of the project save training"
        " code, and the grading environment's packages"
    )
    (tmp_path / "sampling.py").write_text("")
    assert str(trial.try_official(tmp_path, tmp_path, 2, CPU)) == (
        "✗ official sampling.py: NFE 1 gives 0 files, not 0000.png to the last; NFE 2 gives 0"
        " files, not 0000.png to the last; NFE 4 gives 0 files, not 0000.png to the last"
    )
