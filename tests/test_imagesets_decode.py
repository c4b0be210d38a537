"""Decoding: exact for what the challenge evaluates, well-defined for everything else."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

from imagesets.decode import UnreadableImage, decode_image
from src.utils import UserError

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "simpsons"


def noise(height, width, seed=0, channels=3):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def contract(path):
    chain = transforms.Compose([transforms.Resize((64, 64)), transforms.ToTensor()])
    pixels = chain(Image.open(path).convert("RGB")) * 255
    return pixels.round().byte().permute(1, 2, 0).numpy()


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not beside this repository")
def test_validation_originals_come_out_exactly():
    held_out = set((REAL / "val_split.txt").read_text().split())
    originals = [p for p in (REAL / "originals_200px").iterdir() if p.stem in held_out]
    assert len(originals) == 16
    for path in originals:
        expected = np.asarray(Image.open(REAL / "cropped" / path.name))
        assert np.array_equal(decode_image(path), expected), path.name


@pytest.mark.parametrize("side", [1, 40, 64, 65, 200])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
def test_square_rgb_equals_the_contract_transform(tmp_path, side, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise(side, side)).save(path)
    pixels = decode_image(path)
    assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8
    assert np.array_equal(pixels, contract(path))


def test_central_square_is_cut_out(tmp_path):
    pixels = noise(64, 100)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    assert np.array_equal(decode_image(tmp_path / "wide.png"), pixels[:, 18:82])
    Image.fromarray(pixels.swapaxes(0, 1)).save(tmp_path / "tall.png")
    assert np.array_equal(decode_image(tmp_path / "tall.png"), pixels.swapaxes(0, 1)[18:82])


def test_exif_orientation_is_applied(tmp_path):
    pixels = noise(64, 64)
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(decode_image(tmp_path / "turned.png"), pixels[::-1, ::-1])


def test_transparency_is_laid_on_white(tmp_path):
    pixels = noise(64, 64, channels=4)
    pixels[:32, :, 3], pixels[32:, :, 3] = 0, 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    decoded = decode_image(tmp_path / "a.png")
    assert (decoded[:32] == 255).all()
    assert np.array_equal(decoded[32:], pixels[32:, :, :3])


def test_transparent_palette_entry_is_white(tmp_path):
    image = Image.new("P", (64, 64), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 64, 32))
    image.save(tmp_path / "a.png", transparency=0)
    decoded = decode_image(tmp_path / "a.png")
    assert (decoded[:32] == 255).all() and (decoded[32:] == (0, 0, 255)).all()


def test_sixteen_bit_grey_is_shifted(tmp_path):
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    for name in ("a.png", "a.tiff"):
        Image.fromarray(values).save(tmp_path / name)
        assert np.array_equal(decode_image(tmp_path / name)[..., 0], values >> 8)


def test_grey_and_cmyk_become_rgb(tmp_path):
    grey = noise(64, 64)[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(decode_image(tmp_path / "grey.png"), grey[..., None].repeat(3, 2))
    Image.new("CMYK", (64, 64), (255, 0, 0, 0)).save(tmp_path / "cmyk.tiff")
    assert (decode_image(tmp_path / "cmyk.tiff") == (0, 255, 255)).all()


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (decode_image(tmp_path / "a.gif") == (255, 0, 0)).all()


def huge_png(width, height):
    def chunk(kind, body):
        content = kind + body
        return struct.pack(">I", len(body)) + content + struct.pack(">I", zlib.crc32(content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def png_bytes():
    stream = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(stream, "PNG")
    return stream.getvalue()


def pcx_bytes():
    stream = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(stream, "PCX")
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not one of"),
        (b"no image", "not one of"),
        (pcx_bytes(), "not one of"),
        (png_bytes()[:3000], "truncated"),
        (huge_png(10_000, 10_000), "10000x10000 pixels"),
        (huge_png(100_000, 100_000), "decompression bomb"),
    ],
)
def test_unusable_files_are_named_in_one_line(tmp_path, content, reason):
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        decode_image(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_floating_point_and_missing_files_are_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "a.tiff")
    with pytest.raises(UnreadableImage, match="no fixed range"):
        decode_image(tmp_path / "a.tiff")
    with pytest.raises(UnreadableImage, match="No such file"):
        decode_image(tmp_path / "b.png")
