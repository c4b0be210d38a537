"""The Simpsons Faces images, fetched with kagglehub where they are not on disk yet."""

import os
from pathlib import Path

from src.errors import UserError, package_for

# With its version the handle is also found in kagglehub's cache when there is no network, and the
# images stay those that the challenge's scores are measured on.
NAME = "kostastokis/simpsons-faces"
HANDLE = f"{NAME}/versions/1"
PAGE = f"https://www.kaggle.com/datasets/{NAME}"


def simpsons_folder(data_dir):
    """Where under `data_dir` kagglehub puts the images: `{id}.png` files."""
    return Path(data_dir) / "datasets" / HANDLE / "cropped"


def download_simpsons(data_dir):
    """The folder of the images; they are downloaded below `data_dir` if they are not there yet.

    Raises `UserError` saying what to do when kagglehub is absent or the download fails.
    """
    folder = simpsons_folder(data_dir)
    if folder.is_dir():
        return folder
    by_hand = (
        f"or download {PAGE} by hand and put its PNG files into {folder},"
        " or use --data_root DIR (your own images) or --data synthetic (nothing to download)"
    )
    purpose = "the download of the Simpsons images"
    kagglehub = package_for(purpose, "kagglehub", f"kagglehub, {by_hand}")
    downloaded = _download(kagglehub, data_dir, by_hand) / "cropped"
    if not downloaded.is_dir():
        raise UserError(f"{downloaded}: not there after the download; try again, {by_hand}")
    return downloaded


def _download(kagglehub, data_dir, by_hand):
    before = os.environ.get("KAGGLEHUB_CACHE")
    os.environ["KAGGLEHUB_CACHE"] = str(data_dir)
    try:
        return Path(kagglehub.dataset_download(HANDLE))
    except Exception as error:  # network, login and disk errors come in a dozen types
        reason = " ".join(str(error).split())[:80] or type(error).__name__
        raise UserError(
            f"the Simpsons images cannot be downloaded ({reason}): check the network and the"
            f" Kaggle login (kagglehub.login()) and try again, {by_hand}"
        ) from error
    finally:
        if before is None:
            del os.environ["KAGGLEHUB_CACHE"]
        else:
            os.environ["KAGGLEHUB_CACHE"] = before
