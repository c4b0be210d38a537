"""Batches from the decoded cache against a torch DataLoader that decodes PNG files one by one.

    python -m fewstep bench data --device cpu

A turn takes all images once. Files and cache are drawn to a temporary folder.
"""

import itertools
import os
import shutil
from functools import partial

from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip, Resize, ToTensor

from dataset import get_data_iterator
from fewstep.engine.batches import StepBatches
from fewstep.images.cache import cached_images
from fewstep.images.decode import decode_image
from fewstep.images.parallel import map_ordered
from fewstep.images.synthetic import draw_face
from fewstep.studies.bench.turns import compare, seconds_of
from src.arguments import DEFAULT, MOST_IMAGES, InRange, whole_number
from src.utils import UserError

ROUNDS, BATCH, LEAST = 6, 32, 1
SIDE = 200  # pixels, as the Simpsons' files
FACES = 64  # drawn anew; more files repeat them, which decoding does not notice
WORKERS = min(4, os.cpu_count() or 1)  # the challenge's number, where there are cores for it


def add_flags(parser):
    number = dict(type=whole_number, action=InRange, low=1, high=MOST_IMAGES)
    parser.add_argument(
        "--images",
        **number,
        default=2000,
        help=f"number of PNG files that are read ({DEFAULT})",
    )


def measure(args, device, folder):
    """Compare the cache with a loader in this process and with one that has workers; a dict."""
    images, largest = args.images, max(args.batch_size)
    if images < largest:
        raise UserError(f"--images {images}: fewer than --batch_size {largest}; give more")
    decode = partial(decoded, write_faces(folder / "files", images), folder / "cache")
    rate = images / seconds_of(decode, device)
    print(f"decoding {images} files once: {rate:.0f} images/s")
    cache, comparisons = decode(), []
    for size, workers in itertools.product(args.batch_size, sorted({0, WORKERS})):
        cached = map(StepBatches(cache, size, 0, True, device), itertools.count())
        loaded = loader_batches(folder / "files", size, workers, device)
        steps = images // size
        ways = {
            "cache": partial(taking, cached, steps),
            f"DataLoader with {workers} workers": partial(taking, loaded, steps),
        }
        title = f"data, batches of {size}"
        comparisons.append(compare(title, ways, steps * size, args.rounds, device))
    return {"decoded_images_per_second": rate, "comparisons": comparisons}


def taking(batches, count):
    """A function that takes the next `count` of an iterator's batches at each call."""

    def take():
        for _ in range(count):
            next(batches)

    return take


def write_faces(folder, count):
    """Write `count` PNG files to `folder`/faces. Returns their paths."""
    place = folder / "faces"  # `ImageFolder` takes subfolders for classes
    place.mkdir(parents=True)
    paths = [place / f"{index:07d}.png" for index in range(count)]
    for index, path in enumerate(paths):
        if index < FACES:
            Image.fromarray(draw_face(index, 0, SIDE)).save(path)
        else:
            shutil.copyfile(paths[index % FACES], path)
    return paths


def decoded(paths, cache_dir):
    """The `ImageCache` of these files, decoded as training does it."""
    return cached_images(cache_dir, "0" * 32, len(paths), lambda: map_ordered(decode_image, paths))


def loader_batches(folder, batch_size, workers, device):
    """Endless batches `[B, 3, 64, 64]` in [-1, 1] on the device, in the challenge's way: from a
    `DataLoader` that decodes file after file, each pass in another order."""
    steps = [Resize((64, 64)), ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)]  # as `dataset.py`
    images = ImageFolder(folder, Compose([*steps, RandomHorizontalFlip()]))
    how = dict(shuffle=True, drop_last=True, persistent_workers=workers > 0)
    loader = DataLoader(images, batch_size, num_workers=workers, **how)
    for batch, _ in get_data_iterator(loader):
        yield batch.to(device)
