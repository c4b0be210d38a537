"""FID as clean-fid computes it (Parmar et al. 2022, arXiv:2104.11222): its resizing and Inception
network, with the distance of `metrics.frechet`.

clean-fid's own distance calls SciPy's matrix root with an argument that SciPy 1.18 removed, so only
its feature extraction is used; the two distances agree to about seven digits.
"""

import os
import platform
import zipfile
from pathlib import Path

import torch

from metrics.frechet import feature_statistics, frechet_distance
from src.utils import UserError

WEIGHTS_NAME = "inception-2015-12-05.pt"


def weights_folder():
    """The folder where clean-fid looks for its weights; it cannot be told another."""
    return Path("./" if platform.system() == "Windows" else "/tmp")


def check_weights(folder=None):
    """Raise `UserError` unless clean-fid and whole Inception weights are there. Downloads nothing.

    clean-fid itself trusts a half-downloaded file for ever; here each record's checksum is checked.
    """
    try:
        import cleanfid  # noqa: F401
    except ImportError as error:
        raise UserError(
            "clean-fid is missing: pip install clean-fid (or: --features random)"
        ) from error
    path = Path(folder or weights_folder()) / WEIGHTS_NAME
    from cleanfid.downloads_helper import inception_url

    remedy = f"download {inception_url} to {path}, or use --features random (which is not FID)"
    if not path.is_file():
        raise UserError(f"FID needs Inception's weights, and {path} is not there: {remedy}")
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None
    except (zipfile.BadZipFile, OSError):
        whole = False
    if not whole:
        raise UserError(f"{path} is damaged: delete it, then {remedy}")


def load_inception(device, folder=None):
    """clean-fid's Inception, a function of images `[B, 3, 299, 299]` in [0, 255] -> `[B, 2048]`.

    Raises `UserError` when the weights are absent or damaged.
    """
    check_weights(folder)
    from cleanfid.inception_torchscript import InceptionV3W

    folder = str(folder or weights_folder())
    return InceptionV3W(folder, download=False).to(torch.device(device)).eval()


def inception_features(files, network, device, batch_size=64, num_workers=None):
    """Image files -> features `[N, D]`: clean-fid's "clean" resizing, then `network`."""
    from cleanfid.fid import get_files_features

    if num_workers is None:
        num_workers = min(4, os.cpu_count() or 1)
    return get_files_features(
        [str(file) for file in files],
        network,
        num_workers=num_workers,
        batch_size=batch_size,
        device=torch.device(device),
        mode="clean",
        verbose=False,
    )


def fid(files_a, files_b, network, device, batch_size=64, num_workers=None):
    """FID of two lists of image files; equals clean-fid's `compute_fid` of their folders."""
    a, b = (
        feature_statistics(inception_features(files, network, device, batch_size, num_workers))
        for files in (files_a, files_b)
    )
    return frechet_distance(*a, *b)
