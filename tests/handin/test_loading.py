"""`fewstep.load`: pictures and tensors of checkpoints, run folders and published folders."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import fewstep
import sampling
from src.published import WEIGHTS
from src.utils import UserError, save_model
from tests.handin.student import ROOT, TINY, refused, student, unpack


def pixels_in(folder):
    return [np.asarray(Image.open(path)) for path in sorted(folder.iterdir())]


def test_the_package_is_cheap_to_import():
    code = "import sys, fewstep; assert 'torch' not in sys.modules and callable(fewstep.load)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_images_are_pictures_or_tensors_and_a_seed_makes_them_again(checkpoint):
    generator = fewstep.load(checkpoint, "cpu")
    images = generator.sample(5, nfe=2, seed=7, batch_size=2)
    assert [type(image) for image in images] == [Image.Image] * 5
    assert {image.size for image in images} == {(16, 16)}
    tensor = generator.sample(5, nfe=2, seed=7, as_tensor=True)
    assert tensor.shape == (5, 3, 16, 16) and tensor.dtype == torch.float32
    assert tensor.min() >= -1 and tensor.max() <= 1
    grey = [(x.permute(1, 2, 0) * 127.5 + 127.5).numpy() for x in tensor]
    for image, expected in zip(images, grey):  # another batch: equal up to rounding
        assert np.abs(np.asarray(image) - expected).max() < 1.01
    assert torch.equal(tensor, generator.sample(5, nfe=2, seed=7, as_tensor=True))
    for seed in (8, None, None):
        other = generator.sample(5, nfe=2, seed=seed, as_tensor=True)
        assert (other - tensor).abs().max() > 0.1
        tensor = other


def test_levels_that_no_training_used_are_warned_of(checkpoint, recwarn):
    generator = fewstep.load(checkpoint, "cpu")
    generator.sample(1, nfe=2)
    assert not recwarn.list
    with pytest.warns(UserWarning, match="NFE 3 was not trained; its noise levels are interpo"):
        generator.sample(1, nfe=3)


def test_the_size_is_the_official_one(checkpoint, monkeypatch):
    monkeypatch.setattr("src.samplers.IMAGE_SHAPE", (3, 64, 64))
    assert fewstep.load(checkpoint, "cpu").sample(1, as_tensor=True).shape == (1, 3, 64, 64)


def test_a_run_and_the_folder_of_the_export_are_their_students(checkpoint, tmp_path):
    expected = fewstep.load(str(checkpoint), "cpu").sample(2, seed=1, as_tensor=True)
    folder = fewstep.load(checkpoint.parent, "cpu")
    assert folder.path == checkpoint and folder.config == TINY
    save_model(student(1), tmp_path / "teacher" / "model.pt", TINY)
    refused("has no final_model.pt.*its teacher is .*model.pt", fewstep.load, tmp_path)
    save_model(student(), tmp_path / "final_model.pt", TINY)
    save_model(student(1), tmp_path / "best_model.pt", TINY)
    run = fewstep.load(tmp_path, "cpu")
    assert torch.equal(run.sample(2, seed=1, as_tensor=True), expected)
    assert "final_model.pt, network tiny, few_step" in repr(run)
    teacher = fewstep.load(tmp_path / "teacher", "cpu").sample(2, seed=1, as_tensor=True)
    assert not torch.equal(teacher, expected)


def test_published_weights_are_those_that_are_unpacked(packed, tmp_path):
    unpack(packed, tmp_path / "best_model.pt")
    expected = fewstep.load(tmp_path, "cpu").sample(2, nfe=4, seed=3, as_tensor=True)
    for path in (packed, str(packed / WEIGHTS)):
        generator = fewstep.load(path, "cpu")
        assert generator.config == TINY and generator.path == packed / WEIGHTS
        assert torch.equal(generator.sample(2, nfe=4, seed=3, as_tensor=True), expected)


def test_the_sampler_reads_a_published_folder_and_its_file(packed, tmp_path):
    unpack(packed, tmp_path / "best_model.pt")
    flags = "--num_samples 3 --nfe_list 2 --device cpu --seed 5 --batch_size 2".split()
    made = {}
    for name, path in {
        "pt": tmp_path / "best_model.pt",
        "d": packed,
        "f": packed / WEIGHTS,
    }.items():
        folder = tmp_path / name
        sampling.main(["--ckpt_path", str(path), "--save_dir", str(folder), *flags])
        made[name] = pixels_in(folder / "nfe=2")
    assert len(made["pt"]) == 3 and np.ptp(made["pt"]) > 50
    assert np.array_equal(made["pt"], made["d"]) and np.array_equal(made["pt"], made["f"])


def test_what_the_sampler_cannot_read_is_refused(copy, tmp_path):
    def sample(path, *more):
        sampling.main(["--ckpt_path", str(path), "--save_dir", str(tmp_path / "out"), *more])

    config = str(copy / "README.md")
    refused("--config_path: .* has its own", sample, copy, "--config_path", config)
    (copy / "README.md").unlink()
    refused("README.md: missing", sample, copy)
    refused("no such file", sample, tmp_path / "none.safetensors")
    refused("--ckpt_path .*has no final_model.pt", sample, tmp_path)
    assert not (tmp_path / "out").exists()


def test_mistakes_are_one_line(checkpoint, tmp_path, monkeypatch, packed):
    refused("none.pt: no such file", fewstep.load, tmp_path / "none.pt")
    refused("nor published weights$", fewstep.load, tmp_path)
    refused("holds a model, not a discriminator", fewstep.load_discriminator, packed)
    generator = fewstep.load(checkpoint, "cpu")
    refused("count 0: at least 1", generator.sample, 0)
    refused("nfe 5000: at most", generator.sample, 1, 5000)
    with pytest.raises(TypeError):
        generator.sample(2.5)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(UserError, match="pip install safetensors"):
        fewstep.load(packed)
