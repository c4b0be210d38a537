"""One image file -> 64x64 RGB pixels, the same to the last bit as the challenge's transform."""

import numpy as np
from PIL import Image

from src.utils import UserError, one_line

# Part of every cache's key: raise it whenever a rule below changes what comes out.
DECODE_VERSION = 2

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

# Pillow only warns from here on; a small file that claims more than this is refused before it is
# decoded, because its pixels may not fit into memory.
MAX_PIXELS = 89_478_485

# EXIF's orientation -> what brings the image upright.
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# TIFF's tags, and what one of them says of grey images whose zero is white.
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0

# Pillow widens or narrows these PNG pixels to 8 bits, but not the colour that is transparent.
KEY_SCALES = {"L;2": 85, "L;4": 17, "RGB;16B": 1 / 256}


class UnreadableImage(UserError):
    """An image file that cannot be used; `reason` says why without naming the file, `lasting`
    whether its content is the reason, so that trying again is no use."""

    def __init__(self, path, reason, lasting=True):
        name = one_line(str(path))
        super().__init__(f"{name}: cannot be used as an image ({reason}); replace or remove it")
        self.reason, self.lasting = reason, lasting


def decode_image(path, size=64):
    """Read the image file `path` as a uint8 array `[size, size, 3]` (RGB, 0 to 255).

    Square RGB files come out exactly as from torchvision's `Resize((size, size))` on the PIL image.
    Anything else is first made into one: read by the rules of `_read_rgb`, and the largest central
    square cut out. With a size of None it stays as large as it is, `[H, W, 3]`. Raises
    `UnreadableImage` (a `UserError`).
    """
    try:
        pixels = _read_rgb(path)
        if size is not None:
            pixels = _central_square(pixels).resize((size, size), Image.Resampling.BILINEAR)
        return np.array(pixels)
    except Exception as error:  # damaged files raise almost anything, SyntaxError included
        passing = isinstance(error, MemoryError) or bool(getattr(error, "errno", None))
        raise UnreadableImage(path, _reason(error, path), not passing) from error


def _read_rgb(path):
    """The file as an RGB image: turned as its EXIF tag says, transparency laid on white, 16 bits
    shifted to 8, other colour spaces converted, the first frame of an animation taken."""
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width}x{image.height} pixels, more than {MAX_PIXELS}")
        pixels, turn = _to_rgb(image), UPRIGHT.get(_orientation(image))
    return pixels if turn is None else pixels.transpose(turn)


def _orientation(image):
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # damaged metadata of a sound image: it is taken as it is stored
        return None


def _to_rgb(image):
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range")
    if image.mode == "I" and image.format not in ("PNG", "PPM"):
        raise ValueError("32-bit and signed pixels have no fixed range")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _deep_grey_to_rgb(image)
    if image.format == "PNG":
        _rescale_key(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _deep_grey_to_rgb(image):
    # Pillow's own conversion would clip every value above 255 to white.
    tags = image.tag_v2 if image.format == "TIFF" else {}
    (bits,) = set(tags.get(BITS_PER_SAMPLE, (16,)))
    values = np.asarray(image).astype(np.int64)
    grey = (values >> (bits - 8)).clip(0, 255).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return Image.fromarray(grey).convert("RGB")


def _rescale_key(image):
    key = image.info.get("transparency")
    scale = KEY_SCALES.get(image.tile[0][3]) if image.tile else None
    if key is None or scale is None:
        return
    scaled = tuple(int(v * scale) for v in key) if isinstance(key, tuple) else int(key * scale)
    image.info["transparency"] = scaled


def _central_square(image):
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _reason(error, path):
    if isinstance(error, Image.UnidentifiedImageError):
        return f"not one of {', '.join(FORMATS)}, or damaged at its beginning"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = one_line(" ".join(str(error).replace(str(path), "the file").split()))
    return text[:200] or type(error).__name__
