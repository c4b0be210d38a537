"""What the tests of this room share: a student, its files as an archive has them, published."""

import shutil
from pathlib import Path

import pytest
import torch

import src.samplers as samplers
from fewstep.handin.archive import trial
from fewstep.handin.archive.archive import copy_part, unpack, write_archive
from fewstep.handin.archive.contents import CHECKPOINT, CONFIG, PROVIDED, collect, reachable
from src.utils import save_model
from tests.handin.student import ROOT, TINY, pack, run_here, student


@pytest.fixture(autouse=True, scope="module")
def small_images():
    """Samples are of 16 x 16 pixels, save those that a submission is asked for by size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samplers, "IMAGE_SHAPE", (3, 16, 16))
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("student") / "best_model.pt"
    save_model(student(), path, TINY)
    return path


@pytest.fixture(scope="session")
def official(tmp_path_factory):
    """Our own files with a comment more, in place of the challenge's repository."""
    folder = tmp_path_factory.mktemp("official")
    for name in PROVIDED:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text((ROOT / name).read_text() + "# theirs\n")
    (folder / "data").mkdir()
    (folder / "data" / "train_split.txt").write_text("1\n2\n")
    return folder


@pytest.fixture
def project(tmp_path):
    """A copy of the project's code, to be broken."""
    copy = tmp_path / "project"
    names = reachable(["train.py", "sampling.py", "measure_fid.py"], ROOT)
    copy_part(ROOT, {*names, "requirements.txt"}, copy)
    return copy


@pytest.fixture
def unpacked(project, checkpoint, tmp_path):
    """(folder of an unpacked archive, names in it)."""
    write_archive(collect(project, checkpoint, checkpoint.with_name("model_config.json")), "a.zip")
    names = unpack("a.zip", tmp_path / "unpacked")
    return tmp_path / "unpacked", names


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    """Nothing is written into the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def graders_folder(checkpoint, tmp_path_factory):
    """A folder with the checkpoint where an archive has it, for `run_here`."""
    folder = tmp_path_factory.mktemp("graders")
    (folder / "checkpoints").mkdir()
    shutil.copy(checkpoint, folder / CHECKPOINT)
    shutil.copy(checkpoint.with_name("model_config.json"), folder / CONFIG)
    return folder


@pytest.fixture(scope="session")
def model_shapes(graders_folder):
    """What `graders.py` reports of the submission that is not broken."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "run_restricted", run_here)
        return trial.run_graders(graders_folder, graders_folder, 2, "cpu", [])[1]


@pytest.fixture
def state(checkpoint):
    return torch.load(checkpoint, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def packed(checkpoint, tmp_path_factory):
    """A published folder, not to be written to."""
    folder = tmp_path_factory.mktemp("packed")
    pack(checkpoint, folder)
    return folder


@pytest.fixture
def copy(packed, tmp_path):
    return Path(shutil.copytree(packed, tmp_path / "copy"))
