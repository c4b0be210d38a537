"""Sets of generated and real images, and sheets that show some of them."""

import numpy as np
from PIL import Image, ImageDraw
from tqdm import tqdm

from src.samplers import image_batches
from src.utils import UserError, picture_sheet

STRIP_COLUMNS = 10


def real_images(cache, count, seed):
    """`count` of the images of `cache` (all, if there are fewer) as uint8 `[N, H, W, 3]`."""
    picks = np.random.default_rng(seed).permutation(len(cache))[:count]
    return cache.take(np.sort(picks)).numpy()


def sample_images(model, nfe, count, batch_size, seed, title, sigmas=None):
    """`count` images as uint8 `[count, 64, 64, 3]`; image i depends on `seed` and i alone."""
    batches = image_batches(model.eval(), nfe, count, batch_size, seed, sigmas)
    try:
        with tqdm(total=count, desc=title, leave=False, disable=None) as bar:
            return np.concatenate([_counted(batch, bar) for batch in batches])
    except UserError as error:
        raise UserError(f"{title}: {error}") from error


def strip_of(pixels):
    """The first pictures of uint8 `[N, H, W, 3]` side by side, as a PIL image."""
    return picture_sheet(pixels[:STRIP_COLUMNS], STRIP_COLUMNS)


def labelled_sheet(strips, label_height=16):
    """Strips of pictures, (title, PIL image) each, below each other under their titles."""
    width = max((strip.width for _, strip in strips), default=1)
    height = max(1, sum(strip.height + label_height for _, strip in strips))
    sheet = Image.new("RGB", (width, height), "white")
    draw, top = ImageDraw.Draw(sheet), 0
    for title, strip in strips:
        draw.text((4, top + 2), title, fill="black")
        sheet.paste(strip, (0, top + label_height))
        top += strip.height + label_height
    return sheet


def _counted(batch, bar):
    bar.update(len(batch))
    return batch
