"""Folders of images: which files count, and their pixels."""

from pathlib import Path

import numpy as np
from PIL import Image

from src.suffixes import SCORED_SUFFIXES
from src.utils import UserError


def image_files(folder, flag):
    """Sorted image files of a folder and its subfolders, hidden ones left out, at least two.

    `flag` is the command-line flag that named the folder, for the `UserError` if there are fewer.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{flag} {folder}: no such folder; generate or name one")
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix in SCORED_SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    if len(files) < 2:
        raise UserError(f"{flag} {folder}: {len(files)} images in it, at least 2 are needed")
    return files


def load_image(file):
    """One image file -> uint8 RGB `[H, W, 3]`, read as clean-fid does: grey is repeated, alpha is
    dropped. Raises `UserError` naming a file that is unreadable."""
    try:
        with Image.open(file) as image:
            return np.array(image.convert("RGB"))
    # Pillow raises the last two for some damaged PNGs.
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: not readable as an image ({error})") from error


def load_images(files, size=None):
    """Image files -> uint8 RGB `[N, H, W, 3]`, resized to `size` = (width, height) if given.

    Resizing is Pillow's antialiased bilinear, as torchvision's `Resize` does to a PIL image.
    Raises `UserError` naming a file that is unreadable or of another size than the first.
    """
    images = []
    for file in files:
        pixels = load_image(file)
        if size is not None and pixels.shape[1::-1] != tuple(size):
            resized = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
            pixels = np.asarray(resized)
        images.append(pixels)
        if pixels.shape != images[0].shape:
            raise UserError(f"{file}: its size differs from that of {files[0]}; use one size")
    return np.stack(images)
