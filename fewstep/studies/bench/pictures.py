"""Image files to decode and the cache of them, drawn so that nothing has to be downloaded."""

import hashlib
import io
from pathlib import Path

from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from dataset import default_transform
from fewstep.images import cached_images, decode_image, draw_face, map_ordered

SIDE = 200  # as the Simpsons' files
FACES = 64  # drawn anew; more files repeat them, which decoding does not notice


def draw_files(folder, count):
    """Write `count` PNG files of `SIDE` pixels square to `folder`. Returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    faces = map_ordered(lambda index: draw_face(index, 0, SIDE), range(min(count, FACES)))
    contents = [_as_png(face) for face in faces]
    paths = [folder / f"{index:07d}.png" for index in range(count)]
    for index, path in enumerate(paths):
        path.write_bytes(contents[index % FACES])
    return paths


def _as_png(face):
    file = io.BytesIO()
    Image.fromarray(face).save(file, "PNG")
    return file.getvalue()


def decoded(paths, cache_dir):
    """The cache of these files, decoded as training does."""
    digest = hashlib.sha256("\n".join(map(str, paths)).encode()).hexdigest()
    return cached_images(cache_dir, digest, len(paths), lambda: map_ordered(decode_image, paths))


class PictureFiles(Dataset):
    """One file decoded at a time, as a usual data set does: RGB, 64x64, perhaps mirrored, floats
    `[3, 64, 64]` in [-1, 1]."""

    def __init__(self, paths):
        self.paths = paths
        self.transform = transforms.Compose(
            [default_transform(), transforms.RandomHorizontalFlip()]
        )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def file_loader(paths, batch_size, workers):
    """A shuffled torch `DataLoader` over the files, whole batches only."""
    return DataLoader(
        PictureFiles(paths),
        batch_size=batch_size,
        num_workers=workers,
        shuffle=True,
        drop_last=True,
        persistent_workers=workers > 0,
    )
