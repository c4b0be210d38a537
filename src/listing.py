"""Which files below a folder are images, by their names."""

import os
from bisect import bisect_left
from pathlib import Path

from src.errors import UserError, one_line
from src.formatting import first_names
from src.suffixes import SUFFIXES


def list_images(root, flag="--data_root"):
    """(names, closed): all images below `root` as sorted relative paths with `/`, by their suffix,
    and `{folder: reason}` of the subfolders that cannot be listed.

    Hidden files and folders are left out; links to folders are followed, each folder once. A folder
    with an image's suffix is searched like any other, and is a name too if no image is in it.
    Raises `UserError`, naming `flag`, when `root` is no folder, cannot be listed or has no image.
    """
    where = f"{flag} {one_line(str(root))}"
    if not os.path.isdir(root):
        raise UserError(f"{where}: no such folder; name a folder of images")
    try:
        names, closed = named_like_images(root)
    except OSError as error:
        raise UserError(f"{where}: cannot be listed: {error.strerror or error}") from error
    if not names:
        unlisted = f"; not listed: {first_names(sorted(closed))}" if closed else ""
        raise UserError(f"{where}: no images in it (looked for {', '.join(SUFFIXES)}{unlisted})")
    return names, closed


def named_like_images(root):
    """The same, of a folder that may be without images. Raises `OSError` where `root` cannot be
    listed."""
    names, named_folders, closed, visited = [], [], {}, set()
    waiting = [""]  # not recursive: folders may be nested deeper than Python's calls
    while waiting:
        prefix = waiting.pop()  # "" or "folder/"
        try:
            files, folders = _entries(Path(root) / prefix, visited)
        except OSError as error:
            if not prefix:
                raise
            closed[prefix] = f"cannot be listed: {error.strerror or error}"
            continue
        names += [prefix + name for name in files if _is_named_like_image(name)]
        named_folders += [prefix + name for name in folders if _is_named_like_image(name)]
        waiting += [f"{prefix}{name}/" for name in reversed(folders)]
    names.sort()
    names += [f for f in named_folders if f"{f}/" not in closed and not _any_below(f, names)]
    return sorted(names), closed


def _entries(path, visited):
    """(files, folders) directly in `path`, sorted, nothing if it was `visited` before."""
    status = os.stat(path)
    if (status.st_dev, status.st_ino) in visited:
        return [], []
    files, folders = [], []
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                (folders if _is_folder(entry) else files).append(entry.name)
    visited.add((status.st_dev, status.st_ino))
    return sorted(files), sorted(folders)


def _is_folder(entry):
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, for instance
        return False


def _is_named_like_image(name):
    return name.lower().endswith(SUFFIXES)


def _any_below(folder, sorted_names):
    place = bisect_left(sorted_names, f"{folder}/")
    return place < len(sorted_names) and sorted_names[place].startswith(f"{folder}/")
