"""Writing and unpacking the archive."""

import shutil
import zipfile
from pathlib import Path, PurePosixPath

LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


def write_archive(files, path):
    """Write `{posix name: source path}` as a zip; the same contents give the same bytes.

    Nothing is compressed: weights hardly shrink, and zlib's bytes differ between its versions.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, source in sorted(files.items()):
            entry = zipfile.ZipInfo(name, LONG_AGO)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # a plain Unix file
            entry.file_size = Path(source).stat().st_size
            with open(source, "rb") as content, archive.open(entry, "w") as target:
                shutil.copyfileobj(content, target, 1 << 20)


def unpack(path, folder):
    """Unpack a zip into `folder`, verifying checksums; returns the sorted names in it.

    Raises `ValueError`, before anything is written, when a name occurs twice or leads elsewhere.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        for name in names:
            place = PurePosixPath(name)
            if place.is_absolute() or ".." in place.parts or "\\" in name:
                raise ValueError(f"{name!r} leads out of the archive")
        if len(set(names)) < len(names):
            raise ValueError("a name occurs twice")
        archive.extractall(folder)
    return sorted(names)


def copy_part(folder, names, target):
    """Copy the files `names` of `folder` to the same places in `target`."""
    for name in names:
        place = Path(target) / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(Path(folder) / name, place)
