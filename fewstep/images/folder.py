"""A folder of images -> a training and a validation set, whatever else is in the folder."""

import hashlib
import os
import warnings
from functools import partial
from pathlib import Path
from typing import NamedTuple

from fewstep.images.cache import ImageCache, cached_images
from fewstep.images.contents import content_hashes
from fewstep.images.decode import DECODE_VERSION, UnreadableImage, decode_image
from fewstep.images.listing import list_images
from fewstep.images.messages import listed, unusable_error
from fewstep.images.parallel import map_ordered, reported
from fewstep.images.splits import chosen_split, hashed_split, unlistable, write_split
from fewstep.images.undecodable import read_undecodable, write_undecodable
from src.utils import UserError, one_line

SIZE = 64


class ImageSets(NamedTuple):
    """Two sets of decoded images that share none, and one line that says what they are."""

    train: ImageCache
    val: ImageCache
    description: str


class Undecodable(Exception):
    """Decoding a set found images that cannot be decoded; `found`: `{name: UnreadableImage}`."""

    def __init__(self, found):
        super().__init__(f"{len(found)} images cannot be decoded")
        self.found = found


def check_count(count, batch_size):
    """Raise `UserError` where `count` training images do not fill a batch."""
    if count < batch_size:
        raise UserError(f"--batch_size {batch_size}: there are {count} training images; give less")


def open_folder(
    root,
    train_split,
    val_split,
    cache_dir,
    seed,
    skip_bad,
    progress,
    batch_size=1,
    title="folder",
):
    """The `ImageSets` of the images below `root`, see `open_image_sets`.

    skip_bad: leave out images that cannot be used, and say so each time, as if they were neither in
    the folder nor in the split files; else they end in one `UserError`.
    """
    root, cache_dir = Path(root), Path(cache_dir)
    names, bad = list_images(root)
    reader = _Reader(root, cache_dir, progress)
    while True:  # once more for each time that images have been found to be left out
        train, val = _divided(root, names, bad, train_split, val_split, seed)
        if train:
            check_count(len(train), batch_size)
        total = len(train) + len(val) + len(bad)
        found = reader.unusable(train + val)
        if (bad or found) and not skip_bad:
            rest = [name for name in train + val if name not in found]
            raise unusable_error(root, bad | found | reader.undecodable(rest), total)
        if not found and not (train and val):
            which, reasons = "validation" if train else "training", listed(bad, total)
            raise UserError(
                f"{one_line(str(root))}: no image is left for {which}, because {reasons}; replace"
                " some of them"
            )
        if not found:
            try:
                sets = reader.decoded(train, val), reader.decoded(val, [])
                break
            except Undecodable as error:
                found = reader.remembered(error.found)
                if not skip_bad:
                    raise unusable_error(root, found, total) from error
        bad = bad | found
    if bad and progress:
        print(f"{one_line(str(root))}: {listed(bad, total)}; left out (--skip_bad_images)")
    if not (train_split or val_split):
        _write_lists(cache_dir / "splits" / f"{_place(root)}-seed{seed}", train, val, progress)
    text = f"{len(train)} images for training, {len(val)} for validation"
    return ImageSets(*sets, f"{title} {one_line(str(root))}: {text}")


def _divided(root, names, bad, train_split, val_split, seed):
    """(train, val) names of the images that are not `bad`; either may be empty because of those."""
    usable = [name for name in names if name not in bad]
    if train_split or val_split:
        return chosen_split(root, usable, bad, train_split, val_split)
    if len(usable) < 2 and bad:
        return usable, []
    return hashed_split(root, usable, seed)


def _write_lists(folder, train, val, progress):
    write_split(folder / "train_split.txt", train)
    write_split(folder / "val_split.txt", val)
    if progress:
        count = len(train) + len(val)
        print(
            f"no split files given: {len(val)} of {count} held out,"
            f" lists in {one_line(str(folder))}"
        )


def _place(root):
    """What files below the cache folder that belong to the images of `root` are called by."""
    return hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:16]


def _failures(tried):
    return {name: image for name, image in tried if isinstance(image, UnreadableImage)}


class _Reader:
    """Reads the images of one folder, each file's content and verdict once."""

    def __init__(self, root, cache_dir, progress):
        self.root, self.cache_dir, self.progress = root, cache_dir, progress
        self.hashes = {}  # of the contents of those that can be read
        self.verdicts = cache_dir / "undecodable.json"
        self.refused = read_undecodable(self.verdicts)  # content -> reason

    def unusable(self, names):
        """`{name: reason}` of those that are known not to be usable, without decoding any."""
        found = {name: unlistable(name) for name in names if unlistable(name)}
        new = [name for name in names if name not in found and name not in self.hashes]
        manifest = self.cache_dir / f"contents-{_place(self.root)}.jsonl"
        hashes, unreadable = content_hashes(self.root, new, manifest, self._label("reading"))
        self.hashes |= hashes
        for name in names:
            reason = self.refused.get(self.hashes.get(name))
            if reason is not None:
                found[name] = reason
        return found | unreadable

    def undecodable(self, names):
        """`{name: reason}` of those that turn out not to be usable when they are decoded."""
        return self.remembered(_failures(self._tried(names)))

    def remembered(self, found):
        """`{name: UnreadableImage}` -> `{name: reason}`; lasting ones are known from now on."""
        lasting = {self.hashes[name]: e.reason for name, e in found.items() if e.lasting}
        self.refused |= lasting
        if lasting:
            write_undecodable(self.verdicts, self.refused)
        return {name: error.reason for name, error in found.items()}

    def decoded(self, names, others):
        """The `ImageCache` of `names`. Raises `Undecodable`; then `others` have been tried too, so
        that one run finds every image to be replaced."""
        digest = hashlib.sha256(f"decoded v{DECODE_VERSION} size {SIZE}\n".encode())
        for name in names:
            digest.update(self.hashes[name])
        make = partial(self._decode_all, names, others)
        return cached_images(self.cache_dir, digest.hexdigest(), len(names), make, SIZE)

    def _decode_all(self, names, others):
        found = {}
        for name, image in self._tried(names):
            if isinstance(image, UnreadableImage):
                found[name] = image
            elif not found:
                yield image
        if found:
            raise Undecodable(found | _failures(self._tried(others)))

    def _tried(self, names):
        """Yield (name, pixels or `UnreadableImage`)."""
        with warnings.catch_warnings():
            # Whatever Pillow finds odd is either decoded by a rule or refused.
            warnings.simplefilter("ignore")
            images = map_ordered(self._try_one, names)
            labelled = reported(images, len(names), self._label("decoding"))
            yield from zip(names, labelled, strict=True)

    def _try_one(self, name):
        try:
            return decode_image(self.root / name, SIZE)
        except UnreadableImage as error:
            return error

    def _label(self, doing):
        return f"{doing} {one_line(str(self.root))}" if self.progress else None
