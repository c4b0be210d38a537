"""The challenge's data module: Simpsons faces as float tensors, with the official splits.

It is imported, not run. What to run instead:

    python train.py --help     train on the Simpsons faces, or with --data_root DIR on other images
    data/README.md             where the images and the split files belong
"""

from pathlib import Path

from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from src.utils import UserError

SPLIT_DIR = Path(__file__).resolve().parent / "data"
DOWNLOADED = "./data/datasets/kostastokis/simpsons-faces/versions/1/cropped"


def get_data_iterator(loader):
    """Yield the loader's batches for ever, pass after pass.

    Raises `UserError` when a pass gives no batch, which would otherwise never end.
    """
    while True:
        batch = None
        for batch in loader:
            yield batch
        if batch is None:
            raise UserError(
                "the data loader gives no batch: more images, or a smaller --batch_size"
            )


def default_transform():
    """PIL image -> float tensor `[3, 64, 64]` in [-1, 1], as the official evaluation does it."""
    normalise = transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor(), normalise])


class SimpsonsDataset(Dataset):
    """The images of one split in the split file's order; an item is `transform(RGB PIL image)`.

    root: folder of `{id}.png`. split: "train" or "val". Raises `UserError` when the split file or
    images of it are missing.
    """

    def __init__(self, root, split, transform):
        self.root, self.split, self.transform = Path(root), split, transform
        self.paths = [self.root / f"{one}.png" for one in _read_ids(split)]
        missing = [path.stem for path in self.paths if not path.is_file()]
        if missing:
            raise UserError(
                f"{root}: {len(missing)} of {len(self.paths)} images of data/{split}_split.txt are"
                f" missing: {', '.join(missing[:10])}{', ...' if len(missing) > 10 else ''};"
                " complete the folder, or delete it to download the images again"
            )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


def _read_ids(split):
    path = SPLIT_DIR / f"{split}_split.txt"
    try:
        return path.read_text().split()
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"{path}: cannot be read ({reason}); copy it from the challenge's repository"
        ) from error


class SimpsonsDataModule:
    """Training and validation sets (`train_ds`, `val_ds`) and their loaders.

    When the default `root` does not exist the images are downloaded below `./data`. Batches are
    float tensors `[B, 3, 64, 64]` in [-1, 1] unless another `transform` is given. Raises
    `UserError` when the download is not possible, another `root` does not exist, or split files or
    images are missing.
    """

    def __init__(
        self,
        root=DOWNLOADED,
        batch_size=32,
        num_workers=4,
        transform=None,
    ):
        self.root = Path(root)
        self.batch_size, self.num_workers = batch_size, num_workers
        self.transform = transform or default_transform()
        if not self.root.is_dir():
            if self.root.resolve() != Path(DOWNLOADED).resolve():
                raise UserError(f"{root}: no such folder; name one, or leave it out to download")
            from fewstep.images import download_simpsons

            self.root = download_simpsons("./data")
        self.train_ds = SimpsonsDataset(self.root, "train", self.transform)
        self.val_ds = SimpsonsDataset(self.root, "val", self.transform)

    def train_dataloader(self):
        """Shuffled batches; the last incomplete one is dropped."""
        return DataLoader(
            self.train_ds,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            shuffle=True,
            drop_last=True,
        )

    def val_dataloader(self):
        """All validation images in the split file's order."""
        return DataLoader(self.val_ds, batch_size=self.batch_size, num_workers=self.num_workers)


if __name__ == "__main__":
    print(__doc__.strip())
