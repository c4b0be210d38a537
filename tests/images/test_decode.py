"""Decoding: exact for what the challenge evaluates. For everything else: faults/test_images.py."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms

import fewstep.images.decode
from fewstep.images.decode import UnreadableImage, decode_image
from src.utils import UserError

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "simpsons"


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


def test_portable_maps_are_read_and_16_bits_of_them_shifted(tmp_path):
    grey = noise(64, 64, channels=1)[..., 0]
    deep = (grey.astype(">u2") << 8 | 77).astype(">u2")
    (tmp_path / "deep.pgm").write_bytes(b"P5 64 64 65535\n" + deep.tobytes())
    Image.fromarray(noise(64, 64)).save(tmp_path / "colour.ppm")
    assert np.array_equal(decode_image(tmp_path / "deep.pgm"), np.stack([grey] * 3, axis=-1))
    assert np.array_equal(decode_image(tmp_path / "colour.ppm"), noise(64, 64))


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


FORMATS = {
    "png": {},
    "jpeg": {},
    "jpeg progressive": {"progressive": True},
    "webp": {},
    "webp lossless": {"lossless": True},
    "bmp": {},
    "gif": {},
    "tiff": {},
    "tiff lzw": {"compression": "tiff_lzw"},
    "tiff deflate": {"compression": "tiff_adobe_deflate"},
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", FORMATS)
def test_cut_anywhere_an_image_is_refused_or_as_it_was(tmp_path, kind):
    stream = io.BytesIO()
    Image.fromarray(noise(16, 16)).save(stream, kind.split()[0].upper(), **FORMATS[kind])
    content, path = stream.getvalue(), tmp_path / "a.png"
    path.write_bytes(content)
    whole, refused = decode_image(path), 0
    for end in range(0, len(content), max(1, len(content) // 40)):
        path.write_bytes(content[:end])
        try:
            assert np.array_equal(decode_image(path), whole), end
        except UnreadableImage:
            refused += 1
    assert refused > 20


def test_the_error_is_one_line_and_says_whether_trying_again_may_help(tmp_path, monkeypatch):
    path = tmp_path / "two\nlines.png"
    path.write_bytes(b"no image")
    with pytest.raises(UserError, match="not one of") as caught:
        decode_image(path)
    assert "two\\nlines.png" in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.lasting
    with pytest.raises(UnreadableImage, match="No such file") as caught:
        decode_image(tmp_path / "absent.png")
    assert not caught.value.lasting
    Image.fromarray(noise(8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr(fewstep.images.decode, "_to_rgb", out_of_memory)
    with pytest.raises(UnreadableImage, match="MemoryError") as caught:
        decode_image(tmp_path / "a.png")
    assert not caught.value.lasting


def out_of_memory(image):
    raise MemoryError
