"""Inception features and FID as clean-fid computes them (Parmar et al. 2022, arXiv:2104.11222).

clean-fid's resizing and its TorchScript network are used as they are; the distance is that of
`scores.frechet`, because clean-fid's own calls SciPy's matrix root with an argument that SciPy 1.18
removed. The two distances agree to about seven digits.
"""

import os
import platform
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from fewstep.scores.folders import load_like_cleanfid
from src.errors import package_for
from src.feedback import Progress
from src.utils import UserError, file_digest, reason_of, whole_file

WEIGHTS_NAME = "inception-2015-12-05.pt"
# SHA-256 of that file as StyleGAN's authors serve it and clean-fid fetches it: the network of FID.
FID_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
SIDE, WIDTH = 299, 2048  # of the images that it takes, in pixels; of its features


def weights_path(given=None):
    """The weights file: `given`, else the environment's FID_WEIGHTS, else clean-fid's own place."""
    cleanfids_folder = "./" if platform.system() == "Windows" else "/tmp"
    given = given or os.environ.get("FID_WEIGHTS")
    return Path(given) if given else Path(cleanfids_folder) / WEIGHTS_NAME


def check_weights(path):
    """Raise `UserError` unless clean-fid and whole Inception weights are there. Downloads nothing.

    clean-fid itself trusts a half-downloaded file for ever; here each record's checksum is checked.
    """
    package_for("FID", "cleanfid", "clean-fid (or: --features random)")
    remedy = (
        f"--download_weights fetches {_url()}, --fid_weights FILE names a copy,"
        " --features random does without (and is not FID)"
    )
    if not path.is_file():
        raise UserError(f"FID needs Inception's weights, and {path} is not there: {remedy}")
    if not _is_whole(path):
        raise UserError(f"{path} is not a whole file of weights: move it away, then {remedy}")


def download_weights(path, url=None):
    """Fetch the weights to `path` unless they are there; says so first. Raises `UserError`."""
    if path.is_file():
        return
    url = url or _url()
    print(f"downloading Inception's weights from {url} to {path}")
    try:
        with whole_file(path) as temporary:
            torch.hub.download_url_to_file(url, str(temporary))
            if not _is_whole(temporary):
                raise UserError(f"{url}: what came is not whole; try again")
            if (digest := file_digest(temporary).hex()) != FID_SHA256:
                raise UserError(f"{url}: what came is not Inception's file (SHA-256 {digest})")
    except OSError as error:
        raise UserError(f"{url}: cannot be downloaded ({reason_of(error)})") from error


class InceptionSpace:
    """Images -> clean-fid's 2048 Inception features; Fréchet distances in it are FID.

    `digest` is the SHA-256 of the weights file. Of another file than clean-fid's (`FID_SHA256`) the
    space has another name, with the digest in it, and distances in it are not FID (`is_fid`).
    Raises `UserError` for a file that is absent, damaged, or no network of that interface.
    """

    def __init__(self, path=None):
        path = weights_path(path)
        check_weights(path)
        self.digest = file_digest(path).hex()
        self.is_fid = self.digest == FID_SHA256
        self.name = "Inception" if self.is_fid else f"weights-{self.digest[:12]}"
        try:
            self._layers = torch.jit.load(path, map_location="cpu").eval().layers
            with torch.no_grad():
                width = self._layers(torch.zeros(1, 3, SIDE, SIDE)).numel()
        except (RuntimeError, AttributeError, TypeError) as error:
            raise UserError(f"{path}: not clean-fid's Inception ({reason_of(error)})") from error
        if width != WIDTH:
            raise UserError(
                f"{path}: not clean-fid's Inception: it gives {width} features an image, not"
                f" {WIDTH}; name {WEIGHTS_NAME}"
            )

    def embed(self, images, batch_size=64, device="cpu"):
        """uint8 images `[N, H, W, 3]`, or N of various sizes -> float32 features `[N, 2048]`."""
        return self._embed(lambda i: images[i], len(images), batch_size, device)

    def embed_files(self, files, batch_size=64, device="cpu"):
        """The same for image files, read as clean-fid reads them."""
        return self._embed(lambda i: load_like_cleanfid(files[i]), len(files), batch_size, device)

    @torch.no_grad()
    def _embed(self, image, count, batch_size, device):
        from cleanfid.resize import build_resizer

        resize = build_resizer("clean")  # uint8 [H, W, 3] -> float32 [299, 299, 3] in [0, 255]
        layers = self._layers.to(device)
        features = []
        # Threads suffice: Pillow decodes and resizes without holding the interpreter.
        report = Progress(f"features {self.name}", count)
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, report:
            for start in range(0, count, batch_size):
                chosen = range(start, min(start + batch_size, count))
                resized = list(pool.map(lambda i: resize(image(i)), chosen))
                x = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).contiguous()
                y = layers((x.to(device) - 128) / 128)  # as clean-fid normalises
                features.append(y.reshape(len(x), -1).cpu().numpy())
                report.update(len(x))
        return np.concatenate(features)


def _url():
    from cleanfid.downloads_helper import inception_url

    return inception_url


def _is_whole(path):
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError):
        return False
