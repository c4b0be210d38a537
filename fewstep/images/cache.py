"""Decoded images on disk: one `.npy` file of uint8 pixels per set, named by what it was made from.

A set's digest covers everything that its pixels depend on, so a file under that name never needs
to be compared with its sources, and changed sources get a file of their own.
"""

import math
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from src.formatting import size_text
from src.utils import UserError, one_line, sweep_dead, whole_file


def evenly(count, most):
    """Up to `most` places among `count`, an array of integers: sets are in the order of their
    files, so the first ones may all be of one kind."""
    return np.linspace(0, count - 1, min(most, count)).astype(np.int64)


class ImageCache:
    """A set of decoded images, read from disk as they are asked for.

    `images`: read-only memory map, uint8 `[N, H, W, 3]`. `digest`: hexadecimal name of the content;
    equal digests mean equal pixels in equal order. Can be pickled: the copy opens the file again.
    """

    def __init__(self, path, digest):
        self.path = Path(path).resolve()
        self.digest = digest
        self.images = np.load(self.path, mmap_mode="r")

    def __reduce__(self):
        return ImageCache, (self.path, self.digest)

    def __len__(self):
        return len(self.images)

    def take(self, indices):
        """Images `indices` (list, array or CPU tensor of integers) -> uint8 tensor `[B, H, W, 3]`.

        The tensor is a copy; only the images asked for are read. Raises `IndexError`.
        """
        rows = np.asarray(indices, dtype=np.int64)
        return torch.from_numpy(np.asarray(self.images)[rows])


class ImageSets(NamedTuple):
    """Two sets of decoded images that share none, and one line that says what they are."""

    train: ImageCache
    val: ImageCache
    description: str


def cached_images(cache_dir, digest, count, make_images, size=64):
    """Open the set called `digest`; where there is no whole one, build it from `make_images()`.

    `make_images()` gives `count` uint8 arrays `[size, size, 3]` one after the other; it is not
    called when the set is there. Raises `UserError` when the disk is full or cannot be written.
    """
    path = Path(cache_dir) / f"{digest[:32]}.npy"
    shape = (count, size, size, 3)
    if not _is_whole(path, shape):
        with writing(path):
            _build(path, shape, make_images())
    return ImageCache(path, digest)


@contextmanager
def writing(path):
    """Turn an `OSError` while writing `path`, a file below the cache folder, into a `UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{one_line(str(path))}: cannot be written ({error.strerror or error}); free some disk"
            " space, or choose another --cache_dir"
        ) from error


def _build(path, shape, images):
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep_dead(path.parent)
    size = math.prod(shape)
    if shutil.disk_usage(path.parent).free < size:
        raise UserError(
            f"{path.parent}: not enough disk space for {shape[0]} decoded images"
            f" ({size_text(size)}); free some, or choose another --cache_dir"
        )
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with whole_file(path) as temporary:
        # Plain writes, not a memory map: a full disk is then an error and not a fatal signal.
        with open(temporary, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            written = 0
            for image in images:
                if image.shape != shape[1:] or image.dtype != np.uint8:
                    raise ValueError(f"image {written} is {image.dtype} {image.shape}")
                file.write(image.tobytes())
                written += 1
        if written != shape[0]:
            raise ValueError(f"{written} images came where {shape[0]} were expected")


def _is_whole(path, shape):
    try:
        images = np.load(path, mmap_mode="r")
        return (
            isinstance(images, np.memmap)  # an archive of arrays is loaded as something else
            and images.dtype == np.uint8
            and images.shape == shape
            and path.stat().st_size == images.offset + images.nbytes
        )
    except (OSError, ValueError, EOFError):
        return False
