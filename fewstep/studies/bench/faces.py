"""Image files to decode and the cache of them, drawn so that nothing has to be downloaded."""

import os
import shutil

from PIL import Image

from fewstep.images.cache import cached_images
from fewstep.images.decode import decode_image
from fewstep.images.parallel import map_ordered
from fewstep.images.synthetic import draw_face

SIDE = 200  # pixels, as the Simpsons' files
FACES = 64  # drawn anew; more files repeat them, which decoding does not notice
WORKERS = min(4, os.cpu_count() or 1)  # the challenge's number, where there are cores for it


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
    # Imported here: with torchvision comes torch's compiler, seconds before anything is said.
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import Compose, Normalize, RandomHorizontalFlip, Resize, ToTensor

    from dataset import get_data_iterator

    steps = [Resize((64, 64)), ToTensor(), Normalize((0.5,) * 3, (0.5,) * 3)]  # as `dataset.py`
    images = ImageFolder(folder, Compose([*steps, RandomHorizontalFlip()]))
    how = dict(shuffle=True, drop_last=True, persistent_workers=workers > 0)
    loader = DataLoader(images, batch_size, num_workers=workers, **how)
    for batch, _ in get_data_iterator(loader):
        yield batch.to(device)
