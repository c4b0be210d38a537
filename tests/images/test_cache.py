"""The cache: built once, whole or not at all, rebuilt when its sources or itself have changed."""

import os
import pickle
import shutil
import subprocess
from collections import namedtuple

import numpy as np
import pytest
import torch
from PIL import Image

import fewstep.images.cache
import fewstep.images.contents
import fewstep.images.folder
from fewstep.images import open_image_sets
from fewstep.images.cache import cached_images
from fewstep.images.parallel import map_ordered
from src.files import temporary_name
from src.utils import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Eight images, last written long enough ago to be remembered by size and times."""
    root = tmp_path / "images"
    root.mkdir()
    for k in range(8):
        pixels = np.random.default_rng(k).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{k}.png")
    return root


@pytest.fixture
def settled(monkeypatch):
    monkeypatch.setattr(fewstep.images.contents, "SETTLED_NS", -1)


def open_folder(root):
    return open_image_sets(data_root=root, cache_dir=root.parent / "cache", progress=False)


def refuse(*_):
    raise AssertionError("called although the cache is there")


def test_take_copies_the_rows_asked_for(tmp_path):
    cache = cached_images(tmp_path, "d" * 64, 5, lambda: PIXELS)
    assert len(cache) == 5 and cache.digest == "d" * 64
    for indices in ([3, 0, 3], np.array([3, 0, 3]), torch.tensor([3, 0, 3])):
        taken = cache.take(indices)
        assert taken.dtype == torch.uint8 and taken.shape == (3, 64, 64, 3)
        assert np.array_equal(taken.numpy(), PIXELS[[3, 0, 3]])
    taken.zero_()
    assert np.array_equal(cache.images, PIXELS)
    assert cache.take([]).shape == (0, 64, 64, 3)
    with pytest.raises(IndexError):
        cache.take([5])
    with pytest.raises(ValueError, match="read-only"):
        cache.images[0] = 0


def test_pickled_cache_opens_the_same_file_and_carries_no_pixels(tmp_path):
    cache = cached_images(tmp_path, "d" * 64, 5, lambda: PIXELS)
    content = pickle.dumps(cache)
    assert len(content) < 1000
    again = pickle.loads(content)
    assert again.digest == cache.digest and np.array_equal(again.images, PIXELS)


def test_second_opening_neither_decodes_nor_reads(folder, settled, monkeypatch):
    first = open_folder(folder)
    monkeypatch.setattr(fewstep.images.folder, "decode_image", refuse)
    monkeypatch.setattr(fewstep.images.contents, "file_digest", refuse)
    second = open_folder(folder)
    assert second.train.digest == first.train.digest
    assert np.array_equal(second.train.images, first.train.images)
    assert np.array_equal(second.val.images, first.val.images)


def test_recently_written_files_are_read_again(folder, monkeypatch):
    open_folder(folder)
    monkeypatch.setattr(fewstep.images.contents, "file_digest", refuse)
    with pytest.raises(AssertionError):
        open_folder(folder)


def test_changed_image_gives_a_new_cache(folder, settled):
    lists = [folder.parent / name for name in ("train.txt", "val.txt")]
    for path, ids in zip(lists, ("0 1 2 3 4", "5 6 7"), strict=True):
        path.write_text(ids.replace(" ", "\n"))
    options = {"train_split": lists[0], "val_split": lists[1], "cache_dir": folder.parent / "c"}
    first = open_image_sets(data_root=folder, progress=False, **options)
    kept = first.train.images.copy()
    old = os.stat(folder / "3.png")
    Image.fromarray(PIXELS[0]).save(folder / "3.png")
    os.utime(folder / "3.png", ns=(old.st_atime_ns, old.st_mtime_ns))
    second = open_image_sets(data_root=folder, progress=False, **options)
    assert second.train.digest != first.train.digest and second.val.digest == first.val.digest
    assert np.array_equal(second.train.images[3], PIXELS[0])
    assert np.array_equal(first.train.images, kept)


def test_digest_depends_on_the_order(folder):
    forward, backward = folder.parent / "f.txt", folder.parent / "b.txt"
    forward.write_text("0\n1\n2\n")
    backward.write_text("2\n1\n0\n")
    opened = [
        open_image_sets(data_root=folder, train_split=s, cache_dir=folder.parent, progress=False)
        for s in (forward, backward)
    ]
    assert opened[0].train.digest != opened[1].train.digest
    assert np.array_equal(opened[0].train.images[::-1], opened[1].train.images)


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


def cut_header(path):
    os.truncate(path, 40)


def spoil(path):
    path.write_text("{")


def store_other_kind(path):
    np.save(path, PIXELS.astype(np.int16))


@pytest.mark.parametrize("damage", [cut, cut_header, spoil, store_other_kind, os.unlink])
def test_damaged_cache_is_rebuilt(tmp_path, damage):
    cache = cached_images(tmp_path, "d" * 64, 5, lambda: PIXELS)
    damage(cache.path)
    calls = []
    again = cached_images(tmp_path, "d" * 64, 5, lambda: calls.append(1) or PIXELS)
    assert calls == [1] and np.array_equal(again.images, PIXELS)


def test_damaged_manifest_costs_a_second_reading_only(folder, settled):
    first = open_folder(folder)
    (manifest,) = (folder.parent / "cache").glob("contents-*.jsonl")
    manifest.write_text(manifest.read_text()[:150])
    assert open_folder(folder).train.digest == first.train.digest
    assert len(manifest.read_text().splitlines()) == 8


def test_interrupted_build_leaves_nothing(tmp_path):
    def interrupted():
        yield PIXELS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_images(tmp_path, "d" * 64, 5, interrupted)
    assert list(tmp_path.iterdir()) == []


def test_wrong_number_of_images_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="4 images"):
        cached_images(tmp_path, "d" * 64, 5, lambda: PIXELS[:4])
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_killed_builds_are_swept(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    old = temporary_name(tmp_path / "a.npy", ended.pid)
    new = temporary_name(tmp_path / "b.npy", os.getpid())
    old.touch()
    new.touch()
    cached_images(tmp_path, "d" * 64, 5, lambda: PIXELS)
    assert not old.exists() and new.exists()


def test_full_disk_is_one_error_before_any_work(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")(1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match="not enough disk space"):
        cached_images(tmp_path, "d" * 64, 5, lambda: PIXELS)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_disk_that_fills_up_while_writing_is_one_error(tmp_path, monkeypatch):
    real_open = open

    def full(path, mode="r", *rest, **options):
        return real_open("/dev/full" if mode == "wb" else path, mode, *rest, **options)

    monkeypatch.setattr(fewstep.images.cache, "open", full, raising=False)
    with pytest.raises(UserError, match="No space left.*--cache_dir"):
        cached_images(tmp_path, "d" * 64, 5, lambda: PIXELS)
    assert list(tmp_path.iterdir()) == []


def test_unwritable_cache_dir_is_one_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--cache_dir"):
        cached_images(tmp_path / "file" / "cache", "d" * 64, 5, lambda: PIXELS)


def test_two_builders_at_once_agree(tmp_path):
    def competing():
        cached_images(tmp_path, "d" * 64, 5, lambda: PIXELS)
        return PIXELS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", iter([1, 2, 3, 4]).__next__)
        cache = cached_images(tmp_path, "d" * 64, 5, competing)
    assert np.array_equal(cache.images, PIXELS)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".npy"]


def test_parallel_work_keeps_order_and_little_in_flight():
    drawn = 0

    def items():
        nonlocal drawn
        for k in range(10_000):
            drawn += 1
            yield k

    results = map_ordered(lambda k: k * k, items())
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert drawn <= 8 * os.cpu_count() + 3
    assert list(results)[-1] == 9999**2
