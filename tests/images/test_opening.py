"""`open_image_sets`: which images end up in which set, and the errors for what cannot work."""

import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fewstep.images.opening
import fewstep.images.splits
from fewstep.images import open_image_sets
from fewstep.images.kaggle import download_simpsons, simpsons_folder
from fewstep.images.splits import hashed_split
from src.listing import list_images
from src.utils import UserError

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "simpsons"
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason="the real images are not beside this repository"
)


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (value, value, value)).save(path)


@pytest.fixture
def root(tmp_path):
    for k in range(6):
        save(tmp_path / "images" / f"{k}.png", 10 * k)
    return tmp_path / "images"


@pytest.fixture
def split(tmp_path):
    def write(name, *ids):
        path = tmp_path / f"{name}.txt"
        path.write_text("\n".join(ids) + "\n")
        return path

    return write


def opened(root, **options):
    options = {"data_root": root, "cache_dir": root.parent / "cache", "progress": False, **options}
    return open_image_sets(**options)


def values(cache):
    return cache.images[:, 0, 0, 0].tolist()


def fails(match, **options):
    with pytest.raises(UserError, match=match) as caught:
        open_image_sets(**{"progress": False, **options})
    assert "\n" not in str(caught.value)
    return str(caught.value)


@needs_real
def test_available_part_of_the_real_images(tmp_path):
    sets = open_image_sets(
        data_root=REAL / "cropped",
        train_split=REAL / "train_split_available.txt",
        val_split=REAL / "val_split.txt",
        cache_dir=tmp_path,
        progress=False,
    )
    assert (len(sets.train), len(sets.val)) == (1154, 1000)
    for cache, name in ((sets.train, "train_split_available"), (sets.val, "val_split")):
        ids = (REAL / f"{name}.txt").read_text().split()
        for k in (0, 17, len(ids) - 1):
            expected = np.asarray(Image.open(REAL / "cropped" / f"{ids[k]}.png"))
            assert np.array_equal(cache.images[k], expected)


@needs_real
def test_whole_real_split_names_what_is_missing(tmp_path):
    message = fails(
        "7723 of 8877 ids have no image",
        data_root=REAL / "cropped",
        train_split=REAL / "train_split.txt",
        val_split=REAL / "val_split.txt",
        cache_dir=tmp_path,
    )
    ids = [line for line in (REAL / "train_split.txt").read_text().split() if int(line) > 1308]
    assert f"{', '.join(ids[:10])}, ...;" in message and ids[10] not in message


def test_given_splits_keep_their_order(root, split):
    sets = opened(root, train_split=split("t", "4", "0.png", "", "./2"), val_split=split("v", "5"))
    assert values(sets.train) == [40, 0, 20] and values(sets.val) == [50]
    assert "3 images for training, 1 for validation" in sets.description


def test_one_split_given_leaves_the_rest(root, split):
    sets = opened(root, val_split=split("v", "5", "1"))
    assert values(sets.val) == [50, 10] and values(sets.train) == [0, 20, 30, 40]
    sets = opened(root, train_split=split("t", "5", "1"))
    assert values(sets.train) == [50, 10] and values(sets.val) == [0, 20, 30, 40]
    fails("none is left", data_root=root, train_split=split("all", *"012345"))
    save(root / "5.bmp", 50)  # another file of a listed id: perhaps the same picture
    sets = opened(root, val_split=split("w", "5", "1"))
    assert values(sets.val) == [50, 10] and values(sets.train) == [0, 20, 30, 40]


def test_ids_in_subfolders_and_with_other_suffixes(root, split):
    save(root / "sub" / "deep" / "a.JPG", 90)
    save(root / "b.webp", 120)
    save(root / "0.bmp", 200)
    sets = opened(
        root, train_split=split("t", "sub/deep/a", "0", "0.bmp"), val_split=split("v", "b")
    )
    assert abs(values(sets.train)[0] - 90) <= 2 and values(sets.train)[1:] == [0, 200]
    assert abs(values(sets.val)[0] - 120) <= 2


def test_split_mistakes(root, split, tmp_path):
    one, both = split("one", "1"), split("both", "1", "2")
    fails("2 of 3 ids .*: 7, x;", data_root=root, train_split=split("t", "1", "7", "x"))
    fails("1 images are in both: 1.png", data_root=root, train_split=both, val_split=one)
    fails("listed more than once: 1.png", data_root=root, train_split=split("d", "1", "2", "1.png"))
    fails("no ids in it", data_root=root, val_split=split("e", "", ""))
    fails(
        "--val_split .*absent.txt: cannot be read",
        data_root=root,
        val_split=tmp_path / "absent.txt",
    )


def test_generated_split_is_written_and_said(root, capsys):
    sets = opened(root, progress=True)
    (folder,) = (root.parent / "cache" / "splits").iterdir()
    assert str(folder) in capsys.readouterr().out
    names = [(folder / f"{s}_split.txt").read_text().split() for s in ("train", "val")]
    assert sorted(names[0] + names[1]) == list_images(root)[0]
    again = opened(root, train_split=folder / "train_split.txt", val_split=folder / "val_split.txt")
    assert (again.train.digest, again.val.digest) == (sets.train.digest, sets.val.digest)


def test_hashed_split_shares():
    names = [f"{k}.png" for k in range(20_000)]
    train, val = hashed_split("r", names[:3000], 42)
    assert 240 < len(val) < 360 and sorted(train + val) == sorted(names[:3000])
    assert len(hashed_split("r", names, 42)[1]) == 1000
    assert hashed_split("r", names[:3000], 42) == (train, val)
    assert hashed_split("r", names[:3000], 43)[1] != val
    assert all(len(hashed_split("r", names[k : k + 3], 42)[1]) >= 1 for k in range(50))
    with pytest.raises(UserError, match="one image only"):
        hashed_split("r", names[:1], 42)


@pytest.mark.parametrize("count", [5, 100, 3000, 12_000])
def test_added_image_never_moves_a_training_image(count):
    names = [f"{k}.png" for k in range(count)]
    train, val = hashed_split("r", names, 42)
    for extra in range(20):
        train_after, val_after = hashed_split("r", [*names, f"new{extra}.png"], 42)
        assert set(train) <= set(train_after)
        assert len(set(val) - set(val_after)) <= 1


def test_hidden_files_and_link_loops(root):
    save(root / ".hidden" / "a.png", 1)
    save(root / "._0.png", 1)
    (root / "notes.txt").write_text("no image")
    (root / "loop").symlink_to(root, target_is_directory=True)
    assert list_images(root) == ([f"{k}.png" for k in range(6)], {})


def test_folder_mistakes(root, tmp_path):
    fails("no such folder", data_root=tmp_path / "absent")
    fails("no such folder", data_root=root / "0.png")
    (tmp_path / "empty").mkdir()
    fails("no images in it", data_root=tmp_path / "empty")
    fails("--data_root DIR is missing", data="folder")
    fails("use simpsons, folder or synthetic", data="cats")
    fails("leave out --data_root", data="synthetic", data_root=root)
    fails("there are 0 training images", data="synthetic", synthetic_count=0)


@pytest.fixture
def project_data(tmp_path, monkeypatch):
    monkeypatch.setattr(fewstep.images.opening, "DATA_DIR", tmp_path / "data")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def test_simpsons_needs_the_official_splits(project_data):
    message = fails("challenge's repository", data="simpsons")
    assert str(project_data / "train_split.txt") in message


def test_simpsons_on_disk_uses_the_official_splits(project_data, tmp_path):
    for k in range(3):
        save(simpsons_folder(project_data) / f"{k}.png", k)
    (project_data / "train_split.txt").write_text("2\n0\n")
    (project_data / "val_split.txt").write_text("1\n")
    for options in ({}, {"data_root": simpsons_folder(project_data)}):
        sets = open_image_sets(cache_dir=tmp_path / "c", progress=False, **options)
        assert values(sets.train) == [2, 0] and values(sets.val) == [1]
        assert sets.description.startswith("simpsons")


def test_kagglehub_absent_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(UserError, match="pip install kagglehub.*--data synthetic") as caught:
        download_simpsons(tmp_path)
    assert str(simpsons_folder(tmp_path)) in str(caught.value)


def test_download_without_network_says_what_to_do(tmp_path, monkeypatch):
    def offline(handle):
        raise ConnectionError("Failed to resolve\n'www.kaggle.com'")

    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=offline))
    monkeypatch.setenv("KAGGLEHUB_CACHE", "before")
    with pytest.raises(UserError, match="Failed to resolve 'www.kaggle.com'.*login") as caught:
        download_simpsons(tmp_path)
    assert "\n" not in str(caught.value) and os.environ["KAGGLEHUB_CACHE"] == "before"


def test_download_goes_below_the_data_folder(tmp_path, monkeypatch):
    def download(handle):
        folder = Path(os.environ["KAGGLEHUB_CACHE"]) / "datasets" / handle
        save(folder / "cropped" / "1.png", 1)
        return str(folder)

    monkeypatch.setitem(sys.modules, "kagglehub", types.SimpleNamespace(dataset_download=download))
    monkeypatch.delenv("KAGGLEHUB_CACHE", raising=False)
    assert download_simpsons(tmp_path) == simpsons_folder(tmp_path)
    assert "KAGGLEHUB_CACHE" not in os.environ
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert download_simpsons(tmp_path) == simpsons_folder(tmp_path)
