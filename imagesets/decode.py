"""One image file -> 64x64 RGB pixels, the same to the last bit as the challenge's transform."""

import numpy as np
from PIL import Image, ImageOps

from src.utils import UserError

# Part of every cache's key: raise it whenever a rule below changes what comes out.
DECODE_VERSION = 1

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")

# Pillow only warns from here on; a small file that claims more than this is refused before it is
# decoded, because its pixels may not fit into memory.
MAX_PIXELS = 89_478_485


class UnreadableImage(UserError):
    """An image file that cannot be used; `reason` says why without naming the file."""

    def __init__(self, path, reason):
        super().__init__(f"{path}: cannot be used as an image ({reason}); replace or remove it")
        self.reason = reason


def decode_image(path, size=64):
    """Read the image file `path` as a uint8 array `[size, size, 3]` (RGB, 0 to 255).

    Square RGB files come out exactly as from torchvision's `Resize((size, size))` on the PIL image.
    Anything else is first made into one: turned as its EXIF tag says, transparency laid on white,
    16-bit grey shifted to 8 bits, other colour spaces converted, the first frame of an animation
    taken, and the largest central square cut out. Raises `UnreadableImage` (a `UserError`).
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels, more than {MAX_PIXELS}")
            pixels = _central_square(_to_rgb(ImageOps.exif_transpose(image)))
        return np.array(pixels.resize((size, size), Image.Resampling.BILINEAR))
    except Exception as error:  # damaged files raise almost anything, SyntaxError included
        raise UnreadableImage(path, _one_line(error, path)) from error


def _to_rgb(image):
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow's own conversion would clip every value above 255 to white.
        grey = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(grey.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _central_square(image):
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _one_line(error, path):
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not one of {', '.join(FORMATS)}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).replace(str(path), "the file")
    return " ".join(text.split())[:200] or type(error).__name__
