"""Features of reference images on disk, named by what they were made from."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np
import torch

from src.utils import file_digest, whole_file

FORMAT = 2  # of the features themselves: goes up when resizing or reading changes


def cached_features(folder, space, content, device, embed):
    """`embed()` -> features `[N, D]`, taken from `folder` where this was done before.

    space: the feature space, by its name and digest; content: hexadecimal digest of the images in
    their order; device: where `embed` works, since a GPU rounds in its own way. A file that is
    damaged counts as absent (an archive's checksums tell). A `folder` of None keeps nothing.
    """
    if folder is None:
        return embed()
    name = f"{FORMAT} {space.name} {space.digest} {torch.device(device).type} {content}"
    path = Path(folder) / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)  # now, not after the work
    try:
        with np.load(path) as stored:
            return stored["features"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, TypeError):
        features = embed()
    with whole_file(path) as temporary:
        np.savez(temporary, features=features)
    return features


def files_digest(files):
    """SHA-256 of files' contents in their order, whatever their names."""
    sha = hashlib.sha256()
    for file in files:
        sha.update(file_digest(file))
    return sha.hexdigest()


def pixels_digest(images):
    """SHA-256 of uint8 images `[N, H, W, 3]`, their shape included."""
    sha = hashlib.sha256(str(images.shape).encode())
    sha.update(np.ascontiguousarray(images))
    return sha.hexdigest()
