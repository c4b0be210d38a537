"""`open_image_sets`: from what the user asked for to a training and a validation set."""

import hashlib
import os
from pathlib import Path

from fewstep.images.cache import cached_images
from fewstep.images.folder import SIZE, ImageSets, check_count, open_folder
from fewstep.images.kaggle import download_simpsons, simpsons_folder
from fewstep.images.parallel import map_ordered, reported
from fewstep.images.synthetic import GENERATOR_VERSION, draw_face
from src.utils import UserError

DATA_DIR = Path(__file__).resolve().parents[2] / "data"


def open_image_sets(
    data="simpsons",
    data_root=None,
    train_split=None,
    val_split=None,
    cache_dir="data/cache",
    seed=42,
    synthetic_count=4000,
    progress=True,
    skip_bad_images=False,
    batch_size=1,
):
    """Open (decoding at the first time) the images to train on and those held out.

    data: "simpsons" (downloaded once, official split files in `data/`), "folder" (`data_root`) or
        "synthetic" (`synthetic_count` drawn faces, and a quarter as many, 64 to 1000, held out).
    data_root: a folder of one's own, searched with its subfolders; given alone it means "folder".
    train_split, val_split: files with one id a line (`ID` or a relative path). Of a folder, with
        one of them the other set is the rest; with none, about a tenth is held out by a hash of the
        names and `seed`, and both lists are written below `cache_dir`.
    progress: print what takes long, where generated lists are and which images are left out.
    batch_size: that training images must fill.
    skip_bad_images: leave out images that cannot be used, as if they were not there.
    Raises `UserError` for every mistake in these, for missing images, and for images that cannot be
    used or leave none for one of the sets.
    """
    if data not in ("simpsons", "folder", "synthetic"):
        raise UserError(f"--data {data}: unknown; use simpsons, folder or synthetic")
    if data == "synthetic":
        if data_root or train_split or val_split:
            raise UserError(
                "--data synthetic draws its images: leave out --data_root, --train_split and"
                " --val_split"
            )
        check_count(synthetic_count, batch_size)
        return _open_synthetic(cache_dir, seed, synthetic_count, progress)
    if data == "folder" and not data_root:
        raise UserError("--data folder: --data_root DIR is missing; it names the folder of images")
    rest = (cache_dir, seed, skip_bad_images, progress, batch_size)
    official = os.path.realpath(simpsons_folder(DATA_DIR))
    if data_root and (data == "folder" or os.path.realpath(data_root) != official):
        return open_folder(data_root, train_split, val_split, *rest)
    train_split = train_split or _official_split("train_split")
    val_split = val_split or _official_split("val_split")
    return open_folder(download_simpsons(DATA_DIR), train_split, val_split, *rest, "simpsons")


def _official_split(name):
    path = DATA_DIR / f"{name}.txt"
    if not path.is_file():
        raise UserError(
            f"{path}: not there; copy data/{name}.txt from the challenge's repository to it, or"
            f" name a file with --{name}, or use --data_root DIR or --data synthetic"
        )
    return path


def _open_synthetic(cache_dir, seed, count, progress):
    if count < 1:
        raise UserError(f"--synthetic_count {count}: at least 1 image is needed")
    held_out = min(1000, max(64, count // 4))
    train = _drawn(range(count), seed, cache_dir, progress)
    val = _drawn(range(count, count + held_out), seed, cache_dir, progress)
    text = f"synthetic faces (seed {seed}): {count} images for training, {held_out} for validation"
    return ImageSets(train, val, text)


def _drawn(indices, seed, cache_dir, progress):
    text = f"drawn v{GENERATOR_VERSION} size {SIZE} seed {seed} {indices.start} {indices.stop}"
    digest = hashlib.sha256(text.encode()).hexdigest()
    label = "drawing faces" if progress else None

    def make():
        faces = map_ordered(lambda index: draw_face(index, seed, SIZE), indices)
        return reported(faces, len(indices), label)

    return cached_images(cache_dir, digest, len(indices), make, SIZE)
