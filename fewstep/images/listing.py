"""Which files below a folder are images, by their names."""

import os
from bisect import bisect_left
from pathlib import Path

from fewstep.images.decode import SUFFIXES
from fewstep.images.messages import some
from src.utils import UserError, one_line


def list_images(root):
    """(names, closed): all images below `root` as sorted relative paths with `/`, by their suffix,
    and `{folder: reason}` of the subfolders that cannot be listed.

    Hidden files and folders are left out; links to folders are followed, each folder once. A folder
    with an image's suffix is searched like any other, and is a name too if no image is in it.
    Raises `UserError` when `root` is not a folder, cannot be listed or holds no image.
    """
    shown_root = one_line(str(root))
    if not os.path.isdir(root):
        raise UserError(f"--data_root {shown_root}: no such folder; name a folder of images")
    names, like_images, closed, seen = [], [], {}, set()
    waiting = [""]  # not recursive: folders may be nested deeper than Python's calls
    while waiting:
        folder = waiting.pop()
        try:
            files, folders = _entries(Path(root) / folder, seen)
        except OSError as error:
            reason = f"cannot be listed: {error.strerror or error}"
            if not folder:
                raise UserError(f"--data_root {shown_root}: {reason}") from error
            closed[f"{folder}/"] = reason
            continue
        prefix = f"{folder}/" if folder else ""
        names += [prefix + name for name in files if _is_named_like_image(name)]
        like_images += [prefix + name for name in folders if _is_named_like_image(name)]
        waiting += [prefix + name for name in reversed(folders)]
    names.sort()
    hollow = [f for f in like_images if f"{f}/" not in closed and not _any_below(f, names)]
    if not names + hollow:
        reasons = f"; not listed: {some(sorted(closed))}" if closed else ""
        suffixes = ", ".join(SUFFIXES)
        raise UserError(
            f"--data_root {shown_root}: no images in it (looked for {suffixes}{reasons})"
        )
    return sorted(names + hollow), closed


def _entries(path, seen):
    """(files, folders) directly in `path`, sorted, nothing if it is among the `seen`."""
    status = os.stat(path)
    if (status.st_dev, status.st_ino) in seen:
        return [], []
    files, folders = [], []
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                (folders if _is_folder(entry) else files).append(entry.name)
    seen.add((status.st_dev, status.st_ino))
    return sorted(files), sorted(folders)


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, for instance
        return False


def _is_named_like_image(name):
    return name.lower().endswith(SUFFIXES)


def _any_below(folder, names):
    place = bisect_left(names, f"{folder}/")
    return place < len(names) and names[place].startswith(f"{folder}/")
