"""`open_image_sets`: from what the user asked for to a training and a validation set."""

import hashlib
import warnings
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from imagesets.cache import ImageCache, cached_images
from imagesets.contents import content_hashes, unreadable_error
from imagesets.decode import DECODE_VERSION, UnreadableImage, decode_image
from imagesets.kaggle import download_simpsons, simpsons_folder
from imagesets.parallel import map_ordered, reported
from imagesets.splits import chosen_split, hashed_split, list_images, write_split
from imagesets.synthetic import GENERATOR_VERSION, draw_face
from src.utils import UserError

DATA_DIR = Path(__file__).resolve().parents[1] / "data"
SIZE = 64


class ImageSets(NamedTuple):
    """Two sets of decoded images that share none, and one line that says what they are."""

    train: ImageCache
    val: ImageCache
    description: str


def open_image_sets(
    data="simpsons",
    data_root=None,
    train_split=None,
    val_split=None,
    cache_dir="data/cache",
    seed=42,
    synthetic_count=4000,
    progress=True,
):
    """Open (decoding at the first time) the images to train on and those held out.

    data: "simpsons" (downloaded once, official split files in `data/`), "folder" (`data_root`) or
        "synthetic" (`synthetic_count` drawn faces, and a quarter as many, 64 to 1000, held out).
    data_root: a folder of one's own, searched with its subfolders; given alone it means "folder".
    train_split, val_split: files with one id a line (`ID` or a relative path). Of a folder, with
        one of them the other set is the rest; with none, about a tenth is held out by a hash of the
        names and `seed`, and both lists are written below `cache_dir`.
    progress: print what takes long and where generated lists are.
    Raises `UserError` for every mistake in these, for missing and for unreadable images.
    """
    if data not in ("simpsons", "folder", "synthetic"):
        raise UserError(f"--data {data}: unknown; use simpsons, folder or synthetic")
    if data == "synthetic":
        if data_root or train_split or val_split:
            raise UserError(
                "--data synthetic draws its images: leave out --data_root, --train_split and"
                " --val_split"
            )
        return _open_synthetic(cache_dir, seed, synthetic_count, progress)
    if data == "folder" and not data_root:
        raise UserError("--data folder: --data_root DIR is missing; it names the folder of images")
    official = simpsons_folder(DATA_DIR)
    if data_root and (data == "folder" or Path(data_root).resolve() != official.resolve()):
        return _open_folder(data_root, train_split, val_split, cache_dir, seed, progress)
    train_split = train_split or _official_split("train_split")
    val_split = val_split or _official_split("val_split")
    root = download_simpsons(DATA_DIR)
    return _open_folder(root, train_split, val_split, cache_dir, seed, progress, "simpsons")


def _official_split(name):
    path = DATA_DIR / f"{name}.txt"
    if not path.is_file():
        raise UserError(
            f"{path}: not there; copy data/{name}.txt from the challenge's repository to it, or"
            f" name a file with --{name}, or use --data_root DIR or --data synthetic"
        )
    return path


def _open_folder(root, train_split, val_split, cache_dir, seed, progress, title="folder"):
    root = Path(root)
    names = list_images(root)
    place = hashlib.sha256(str(root.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    if train_split or val_split:
        train, val = chosen_split(root, names, train_split, val_split)
    else:
        train, val = hashed_split(root, names, seed)
        lists = Path(cache_dir) / "splits" / f"{place}-seed{seed}"
        write_split(lists / "train_split.txt", train)
        write_split(lists / "val_split.txt", val)
        if progress:
            print(f"no split files given: {len(val)} of {len(names)} held out, lists in {lists}")
    manifest = Path(cache_dir) / f"contents-{place}.jsonl"
    label = f"reading {root}" if progress else None
    hashes = content_hashes(root, train + val, manifest, label)
    sets = (
        _decoded(root, train, val, hashes[: len(train)], cache_dir, progress),
        _decoded(root, val, [], hashes[len(train) :], cache_dir, progress),
    )
    text = f"{title} {root}: {len(train)} images for training, {len(val)} for validation"
    return ImageSets(*sets, text)


def _decoded(root, names, others, hashes, cache_dir, progress):
    digest = hashlib.sha256(f"decoded v{DECODE_VERSION} size {SIZE}\n".encode())
    for content in hashes:
        digest.update(content)
    label = f"decoding {root}" if progress else None
    make = partial(_decode_all, root, names, others, label)
    return cached_images(cache_dir, digest.hexdigest(), len(names), make, SIZE)


def _decode_all(root, names, others, label):
    """Yield the decoded images of `names`; a failure is raised at the end, with all others found.

    After a failure `others` are tried too, so that one run names every file to be replaced.
    """
    failures = []
    try_one = partial(_try_decode, root)
    with warnings.catch_warnings():
        # `decode_image` refuses these images by itself, in the one error at the end.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        results = reported(map_ordered(try_one, names), len(names), label)
        for name, result in zip(names, results, strict=True):
            if isinstance(result, UnreadableImage):
                failures.append((name, result.reason))
            elif not failures:
                yield result
        if failures:
            for name, result in zip(others, map_ordered(try_one, others), strict=True):
                if isinstance(result, UnreadableImage):
                    failures.append((name, result.reason))
            raise unreadable_error(root, failures, len(names) + len(others))


def _try_decode(root, name):
    try:
        return decode_image(root / name, SIZE)
    except UnreadableImage as error:
        return error


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
