"""`open_image_sets`: from what the user asked for to a training and a validation set."""

import hashlib
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fewstep.images.cache import ImageSets, cached_images
from fewstep.images.folder import SIZE, check_count, open_folder
from fewstep.images.kaggle import download_simpsons, simpsons_folder
from fewstep.images.parallel import map_ordered
from fewstep.images.synthetic import GENERATOR_VERSION, draw_face
from src.utils import UserError

DATA_DIR = Path(__file__).resolve().parents[2] / "data"


@dataclass(frozen=True)
class ImageSource:
    """Which images there are.

    data: "simpsons" (downloaded once, official split files in `data/`), "folder" (`data_root`) or
        "synthetic" (`synthetic_count` drawn faces, and a quarter as many, 64 to 1000, held out).
    data_root: a folder of one's own, searched with its subfolders; given alone it means "folder".
    train_split, val_split: files with one id a line (`ID` or a relative path). Of a folder, with
        one of them the other set is the rest; with none, about a tenth is held out by a hash of the
        names and `data_seed`, and both lists are written below `cache_dir`.
    skip_bad_images: leave out images that cannot be used, and say so each time, as if they were
        neither in the folder nor in the split files.
    """

    data: str = "simpsons"
    data_root: str | Path | None = None
    train_split: str | Path | None = None
    val_split: str | Path | None = None
    cache_dir: str | Path = "data/cache"
    data_seed: int = 42
    synthetic_count: int = 4000
    skip_bad_images: bool = False


def open_image_sets(batch_size=1, progress=True, **source):
    """Open (decoding at the first time) the images to train on and those held out: `ImageSets`.

    source: fields of `ImageSource`. batch_size: that training images must fill. progress: print
    what takes long, where generated lists are and which images are left out. Raises `UserError` for
    every mistake in these, for missing images, and for images that cannot be used or leave none for
    one of the sets.
    """
    source = ImageSource(**source)
    root, train_split, val_split = source.data_root, source.train_split, source.val_split
    if source.data not in ("simpsons", "folder", "synthetic"):
        raise UserError(f"--data {source.data}: unknown; use simpsons, folder or synthetic")
    if source.data == "synthetic":
        if root or train_split or val_split:
            raise UserError(
                "--data synthetic draws its images: leave out --data_root, --train_split and"
                " --val_split"
            )
        check_count(source.synthetic_count, batch_size)
        return _draw(source, progress)
    if source.data == "folder" and not root:
        raise UserError("--data folder: --data_root DIR is missing; it names the folder of images")
    source = with_splits(source)
    if source.data == "folder" or is_own_folder(root):
        return open_folder(root, source, batch_size, progress)
    return open_folder(download_simpsons(DATA_DIR), source, batch_size, progress, "simpsons")


def with_splits(source):
    """An `ImageSource` with the files of the official split, if it is of the Simpsons and names no
    others. Raises `UserError` where one of them is not there."""
    if source.data != "simpsons" or is_own_folder(source.data_root):
        return source
    return replace(
        source,
        train_split=source.train_split or _official_split("train_split"),
        val_split=source.val_split or _official_split("val_split"),
    )


def is_own_folder(root):
    """Whether `--data_root` names images of one's own: some, and not where the Simpsons' are."""
    return bool(root) and os.path.realpath(root) != os.path.realpath(simpsons_folder(DATA_DIR))


def _official_split(name):
    path = DATA_DIR / f"{name}.txt"
    if not path.is_file():
        raise UserError(
            f"{path}: not there; copy data/{name}.txt from the challenge's repository to it, or"
            f" name a file with --{name}, or use --data_root DIR or --data synthetic"
        )
    return path


def _draw(source, progress):
    count, seed = source.synthetic_count, source.data_seed
    held_out = min(1000, max(64, count // 4))
    sets = []
    for indices in (range(count), range(count, count + held_out)):
        text = f"drawn v{GENERATOR_VERSION} size {SIZE} seed {seed} {indices.start} {indices.stop}"
        digest = hashlib.sha256(text.encode()).hexdigest()
        draw = partial(draw_face, seed=seed, size=SIZE)
        make = partial(map_ordered, draw, indices, "drawing faces" if progress else None)
        sets.append(cached_images(source.cache_dir, digest, len(indices), make, SIZE))
    text = f"synthetic faces (seed {seed}): {count} images for training, {held_out} for validation"
    return ImageSets(*sets, text)
