"""The challenge's data module, by its contract."""

import inspect
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dataset
from dataset import SimpsonsDataModule, SimpsonsDataset, get_data_iterator
from src.utils import UserError

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "simpsons"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Seven images of 200x200 with a training split of five and a validation split of two."""
    monkeypatch.setattr(dataset, "SPLIT_DIR", tmp_path / "data")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train_split.txt").write_text("1\n2\n3\n4\n5\n")
    (tmp_path / "data" / "val_split.txt").write_text("7\n6\n")
    (tmp_path / "images").mkdir()
    for k in range(1, 8):
        Image.new("RGB", (200, 200), (k, 0, 255)).save(tmp_path / "images" / f"{k}.png")
    return tmp_path / "images"


def first_channel(batch):
    """The red values 0 to 255 that the images of a batch are filled with."""
    return ((batch[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def test_signature_is_the_contract():
    parameters = inspect.signature(SimpsonsDataModule).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "root": "./data/datasets/kostastokis/simpsons-faces/versions/1/cropped",
        "batch_size": 32,
        "num_workers": 4,
        "transform": None,
    }
    assert list(inspect.signature(SimpsonsDataset).parameters) == ["root", "split", "transform"]
    assert dataset.SPLIT_DIR == Path(dataset.__file__).parent / "data"


def test_loaders(root):
    module = SimpsonsDataModule(root=str(root), batch_size=2, num_workers=0)
    assert (len(module.train_ds), len(module.val_ds)) == (5, 2)
    (batch,) = module.val_dataloader()
    assert batch.shape == (2, 3, 64, 64) and batch.dtype == torch.float32
    assert first_channel(batch) == [7, 6]
    assert batch[:, 1].unique().tolist() == [-1] and batch[:, 2].unique().tolist() == [1]
    loader = module.train_dataloader()
    assert [len(batch) for batch in loader] == [2, 2]
    torch.manual_seed(0)
    orders = {tuple(k for batch in loader for k in first_channel(batch)) for _ in range(10)}
    assert len(orders) > 1 and all(set(order) <= {1, 2, 3, 4, 5} for order in orders)


def test_workers_give_the_same_images(root):
    module = SimpsonsDataModule(root=root, batch_size=1, num_workers=2)
    assert [first_channel(batch) for batch in module.val_dataloader()] == [[7], [6]]


def test_own_transform(root):
    module = SimpsonsDataModule(root=root, num_workers=0, transform=lambda image: image.size)
    assert module.val_ds[0] == (200, 200)


def test_iterator_is_endless(root):
    loader = SimpsonsDataModule(root=root, batch_size=2, num_workers=0).train_dataloader()
    assert len(list(itertools.islice(get_data_iterator(loader), 7))) == 7


def test_iterator_refuses_a_loader_without_batches(root):
    loader = SimpsonsDataModule(root=root, batch_size=6, num_workers=0).train_dataloader()
    with pytest.raises(UserError, match="--batch_size"):
        next(get_data_iterator(loader))


def test_missing_images_and_split_files(root):
    (root / "3.png").unlink()
    with pytest.raises(UserError, match="1 of 5 images .* missing: 3;"):
        SimpsonsDataModule(root=root)
    (root.parent / "data" / "val_split.txt").unlink()
    with pytest.raises(UserError, match="challenge's repository"):
        SimpsonsDataset(root, "val", None)


def test_absent_root_without_kagglehub(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(UserError, match="pip install kagglehub"):
        SimpsonsDataModule()
    with pytest.raises(UserError, match="absent: no such folder"):  # a slip: nothing is fetched
        SimpsonsDataModule(root="absent")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not beside this repository")
def test_real_validation_original_is_the_reference_image(root, tmp_path):
    (tmp_path / "data" / "val_split.txt").write_text("6\n")
    item = SimpsonsDataset(REAL / "originals_200px", "val", dataset.default_transform())[0]
    pixels = ((item + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(pixels, np.asarray(Image.open(REAL / "cropped" / "6.png")))
