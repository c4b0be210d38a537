"""Folders of images that are scored: which files count, and their pixels.

They are listed and decoded as training images are (data/README.md), but for FID, which follows
clean-fid in both; where that makes a difference, it is printed.
"""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from fewstep.images import decode_image
from fewstep.images.decode import ORIENTATION, UPRIGHT
from src.feedback import Progress
from src.formatting import first_names
from src.listing import list_images
from src.suffixes import CLEANFIDS, SUFFIXES
from src.utils import UserError, one_line

FEW_IMAGES = 100  # fewer than features: their covariance is not even of full rank


def say_if_few(count, what):
    """Print a warning where `count` images are too few for a distance."""
    if count < FEW_IMAGES:
        print(f"only {count} {what}: distances to them mean little")


def common_count(count, folders, training):
    """How many images of each are scored: `count`, or as many as the smallest folder has, or as
    there are training images, of which the floor is; fewer are said. Distances of different numbers
    of images cannot be compared."""
    sizes = {f"--folder {name}: it has": len(files) for name, files in folders.items()}
    sizes["the training set has"] = training
    which = min(sizes, key=sizes.get)
    if sizes[which] >= count:
        return count
    print(f"{which} {sizes[which]} images, so {sizes[which]} of each are scored, not {count}")
    return sizes[which]


def image_files(folder, flag, like_cleanfid=False):
    """Sorted image files of a folder and its subfolders, hidden ones left out, at least two.

    like_cleanfid: those that clean-fid counts; the others are named in a printed line. `flag` is
    the command-line flag that named the folder, for the `UserError` if there are fewer, or if a
    subfolder cannot be listed.
    """
    names, closed = list_images(folder, flag)
    for name, reason in closed.items():
        raise UserError(f"{flag} {folder}: {name} {reason}; leave it out, or let it be read")
    files = [Path(folder) / name for name in names]
    if like_cleanfid:
        files = [file for file in files if file.suffix in CLEANFIDS]
        others = [name for name in names if Path(name).suffix not in CLEANFIDS]
        if others:
            print(
                f"{flag} {folder}: {len(others)} of {len(names)} images do not count for FID, as"
                f" clean-fid takes {' '.join(sorted(CLEANFIDS))} alone: {first_names(others)}"
            )
    if len(files) < 2:
        suffixes = ", ".join(sorted(CLEANFIDS) if like_cleanfid else SUFFIXES)
        raise UserError(
            f"{flag} {folder}: {len(files)} images in it (looked for {suffixes}), at least 2 are"
            " needed"
        )
    return files


def load_images(files, size=None):
    """Image files -> uint8 RGB `[N, H, W, 3]`, decoded by the rules for training images: to
    `[size, size]` as those are, or in the size that they have.

    Raises `UserError` naming a file that is unreadable or of another size than the first.
    """
    images = []
    report = Progress(f"decoding {one_line(str(Path(files[0]).parent))}", len(files))
    with report, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow finds odd is decoded by a rule or refused
        for file in files:
            images.append(decode_image(file, size))
            if images[-1].shape != images[0].shape:
                raise UserError(f"{file}: its size differs from that of {files[0]}; use one size")
            report.update()
    return np.stack(images)


def load_like_cleanfid(file):
    """One image file -> uint8 RGB `[H, W, 3]` as clean-fid reads it: grey is repeated, alpha is
    dropped. Raises `UserError` naming a file that is unreadable."""
    try:
        with Image.open(file) as image:
            return np.array(image.convert("RGB"))
    # Pillow raises the last two for some damaged PNGs.
    except (OSError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise UserError(f"{file}: not readable as an image ({error})") from error


def say_differences(files, folder):
    """Print what clean-fid makes of image files that the rules for training images do not."""
    by_difference = {}
    with Progress(f"looking at {one_line(str(folder))}", len(files)) as report:
        for file in files:
            for difference in _differences(file):
                by_difference.setdefault(difference, []).append(file.name)
            report.update()
    for difference, names in by_difference.items():
        count = f"{len(names)} of {len(files)} images"
        print(f"{folder}: {count} {difference}, as clean-fid does: {first_names(names)}")


def _differences(file):
    """From the header alone; nothing of a file that cannot be read, which reading it will name."""
    try:
        with Image.open(file) as image:
            deep = image.mode == "I" or image.mode.startswith("I;16")
            if deep:
                yield "of 16 bits are read with all above 255 as white"
            if image.has_transparency_data:
                yield "are read without their transparency"
            if image.getexif().get(ORIENTATION) in UPRIGHT:
                yield "are not turned as their EXIF data say"
    except Exception:  # damaged files raise almost anything
        return
