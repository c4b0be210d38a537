"""A folder of images -> a training and a validation set, whatever else is in the folder."""

import hashlib
import os
import warnings
from functools import partial
from pathlib import Path

from fewstep.images.cache import ImageSets, cached_images
from fewstep.images.contents import content_hashes, read_undecodable, write_undecodable
from fewstep.images.decode import DECODE_VERSION, UnreadableImage, decode_image
from fewstep.images.parallel import map_ordered
from fewstep.images.splits import divide, meant_by, names_by_id, read_split, write_split
from src.formatting import MOST_NAMES, short_name
from src.listing import list_images
from src.utils import UserError, one_line

SIZE = 64


def check_count(count, batch_size):
    """Raise `UserError` where `count` training images do not fill a batch."""
    if count < batch_size:
        raise UserError(f"--batch_size {batch_size}: there are {count} training images; give less")


def open_folder(root, source, batch_size, progress, title="folder"):
    """The `ImageSets` of the images below `root`.

    source: the `ImageSource` that names split files, seed, cache and `skip_bad_images`; title:
    begins the description. Raises `UserError`.
    """
    files = _read_split_files(source)
    names, failures = list_images(root)
    divided = partial(divide, root, names, split_files=files, seed=source.data_seed)
    train, val, _ = divided(failures)
    if train:  # else the failures tell why there is none
        check_count(len(train), batch_size)

    folder = _Folder(root, source.cache_dir, progress)
    wanted = _wanted(names, files)
    failures |= folder.unreadable(wanted)
    train, val, left_out = divided(failures)
    sets = None
    if train and val and (source.skip_bad_images or not left_out):
        sets = folder.decoded_or_none(train, val)
    if sets is None:  # try them all, so that one run names every image that is to be replaced
        failures |= folder.undecodable([name for name in wanted if name not in failures])
        train, val, left_out = divided(failures)
        _check_left(root, train, val, left_out, source.skip_bad_images)
        sets = folder.decoded(train), folder.decoded(val)
    check_count(len(train), batch_size)

    root_text = one_line(str(root))
    if left_out and progress:
        reasons = _reasons(left_out, len(train) + len(val))
        print(f"{root_text}: {reasons}; left out (--skip_bad_images)")
    if not any(files):
        lists = Path(source.cache_dir) / "splits" / f"{_place(root)}-seed{source.data_seed}"
        write_split(lists / "train_split.txt", train)
        write_split(lists / "val_split.txt", val)
        if progress:
            count = f"{len(val)} of {len(train) + len(val)} held out"
            print(f"no split files given: {count}, lists in {one_line(str(lists))}")
    counts = f"{len(train)} images for training, {len(val)} for validation"
    return ImageSets(*sets, f"{title} {root_text}: {counts}")


def _read_split_files(source):
    paths = {"--train_split": source.train_split, "--val_split": source.val_split}
    return [read_split(path, flag) if path else None for flag, path in paths.items()]


def _wanted(names, split_files):
    """The names that could be in a set: with both split files, those that an id may mean."""
    if not all(split_files):
        return names
    by_id = names_by_id(names)
    meant = {name for file in split_files for one in file.ids for name in meant_by(one, by_id)}
    return sorted(meant)


def _reasons(failures, usable):
    """`{name: reason}` -> "N of TOTAL images cannot be used: " and the first ten by name."""
    first = sorted(failures)[:MOST_NAMES]
    text = ", ".join(f"{short_name(name)} ({short_name(failures[name])})" for name in first)
    more = ", ..." if len(failures) > MOST_NAMES else ""
    return f"{len(failures)} of {usable + len(failures)} images cannot be used: {text}{more}"


def _check_left(root, train, val, left_out, skip):
    """Raise `UserError` where the images `left_out` are too many: any, or with `skip` all of a
    set."""
    if not left_out:
        return
    begin = one_line(str(root))
    reasons = _reasons(left_out, len(train) + len(val))
    if not skip:
        raise UserError(
            f"{begin}: {reasons}; replace or remove them, or give --skip_bad_images to go on"
            " without them"
        )
    if not train or not val:
        empty = "validation" if train else "training"
        raise UserError(
            f"{begin}: no image is left for {empty}, because {reasons}; replace some of them"
        )


def _place(root):
    """What files below the cache folder that belong to the images of `root` are called by."""
    return hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]


class _Folder:
    """The files of one folder: their contents, their failures and their pixels."""

    def __init__(self, root, cache_dir, progress):
        self.root, self.cache_dir = Path(root), Path(cache_dir)
        self.progress = progress
        self.hashes = {}  # name -> SHA-256 of the content

    def unreadable(self, names):
        """`{name: reason}` of those that are known not to be usable, without decoding any. The
        others are remembered by their contents."""
        unlistable = "a line break in its name, which no split file can list"
        failures = {name: unlistable for name in names if "\n" in name}
        names = [name for name in names if name not in failures]
        manifest = self.cache_dir / f"contents-{_place(self.root)}.jsonl"
        self.hashes, unread = content_hashes(self.root, names, manifest, self._label("reading"))
        reasons = read_undecodable(self.cache_dir / "undecodable.json")
        known = {n: reasons[content] for n, content in self.hashes.items() if content in reasons}
        return failures | unread | known

    def undecodable(self, names):
        """`{name: reason}` of those that cannot be decoded; where the content is the reason, that
        is remembered."""
        results = dict(zip(names, self._in_turn(self._failure, names), strict=True))
        failures = {name: error for name, error in results.items() if error is not None}
        lasting = {self.hashes[n]: error.reason for n, error in failures.items() if error.lasting}
        if lasting:
            path = self.cache_dir / "undecodable.json"
            write_undecodable(path, read_undecodable(path) | lasting)
        return {name: error.reason for name, error in failures.items()}

    def decoded(self, names):
        """The `ImageCache` of `names`. Raises `UnreadableImage` at the first that is none."""
        digest = hashlib.sha256(f"decoded v{DECODE_VERSION} size {SIZE}\n".encode())
        for name in names:
            digest.update(self.hashes[name])
        make = partial(self._in_turn, self._decode, names)
        return cached_images(self.cache_dir, digest.hexdigest(), len(names), make, SIZE)

    def decoded_or_none(self, *sets):
        """The `ImageCache` of each set of names, or None where an image cannot be decoded."""
        try:
            return [self.decoded(names) for names in sets]
        except UnreadableImage:
            return None

    def _in_turn(self, function, names):
        with warnings.catch_warnings():
            # Whatever Pillow finds odd is either decoded by a rule or refused.
            warnings.simplefilter("ignore")
            yield from map_ordered(function, names, self._label("decoding"))

    def _decode(self, name):
        return decode_image(self.root / name, SIZE)

    def _failure(self, name):
        try:
            self._decode(name)
        except UnreadableImage as error:
            return error

    def _label(self, doing):
        return f"{doing} {one_line(str(self.root))}" if self.progress else None
