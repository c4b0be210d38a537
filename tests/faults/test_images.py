"""Hostile images: each is decoded by a rule of data/README.md or refused by name, alone and in one
folder with all others."""

import io
import os
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fewstep.images.folder
from fewstep.images import open_image_sets
from src.formatting import short_name
from src.utils import UserError

ROOT = Path(__file__).resolve().parents[2]
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
RED, BLUE, WHITE, GREY = (255, 0, 0), (0, 0, 255), (255, 255, 255), (18, 18, 18)
PINK = (255, 127, 127)  # half of red on white
EXIF = b"Exif\0\0MM\0*\0\0\0\x08"


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(stream, kind, **options)
    return stream.getvalue()


def plain(color, mode="RGB", size=(64, 64)):
    return Image.new(mode, size, color)


def chunk(kind, body):
    content = kind + body
    return struct.pack(">I", len(body)) + content + struct.pack(">I", zlib.crc32(content))


def png(values, depth, colour_type, *chunks, size=(1, 1)):
    """A PNG of one row of raw bytes, of what Pillow does not write: 16-bit colours, for example."""
    head = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" + values))
    parts = (chunk(b"IHDR", head), *chunks, body, chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(values, bits, samples=1, photometric=1, kind=1, size=(1, 1)):
    """An uncompressed TIFF of raw bytes. photometric: 0 white is zero, 1 black is zero, 2 RGB;
    kind: 1 unsigned, 2 signed."""
    end = 8 + len(values) + 2 + 10 * 12 + 4  # header, pixels, ten entries and their frame
    widths = bits if samples == 1 else end  # several do not fit into the entry, which says where
    tags = {256: size[0], 257: size[1], 258: widths, 259: 1, 262: photometric, 273: 8}
    tags |= {277: samples, 278: size[1], 279: len(values), 339: kind}
    short, long = 3, 4
    entries = b"".join(
        struct.pack("<HHII", tag, short if tag == 258 else long, samples if tag == 258 else 1, v)
        for tag, v in tags.items()
    )
    frame = struct.pack("<H", len(tags)), b"\0\0\0\0"
    head = b"II*\0" + struct.pack("<I", 8 + len(values))
    return head + values + frame[0] + entries + frame[1] + struct.pack("<H", bits) * samples


def two_bytes(*values, order=">"):
    return struct.pack(f"{order}{len(values)}H", *values)


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def stored_for(orientation):
    """NOISE as a camera held otherwise stores it; the file says how to turn it back."""
    turns = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: np.rot90(p, 2),
        4: lambda p: p[::-1],
        5: lambda p: p.swapaxes(0, 1),
        6: lambda p: np.rot90(p, 1),
        7: lambda p: np.rot90(p, 2).swapaxes(0, 1),
        8: lambda p: np.rot90(p, -1),
    }
    return np.ascontiguousarray(turns[orientation](NOISE))


def thin(height, width):
    """Black but for the pixel in its middle, which is red."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[(height - 1) // 2, (width - 1) // 2] = RED
    return pixels


def animation(kind):
    frames = [plain(color, "RGBA") for color in ((255, 0, 0, 128), (0, 0, 255, 128))]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)


def palette_png(**options):
    image = Image.new("P", (64, 64), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (0, 32, 64, 64))
    return encoded(image, "PNG", **options)


def halves(top, bottom):
    return np.repeat(np.array([[top], [bottom]], np.uint8), 32, axis=0).repeat(64, axis=1)


def changed(content, place):
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def zipped():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.png", PNG)
    return stream.getvalue()


def webp_header(width, height):
    """An animation whose canvas claims to be larger than its frames."""
    content = animation("WEBP")
    claim = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return content[:24] + claim + content[30:]


def with_text(kind, body):
    return PNG[:33] + chunk(kind, body) + PNG[33:]


def sparse(path):
    path.touch()
    os.truncate(path, 2**31)


def linked_to(target):
    return lambda path: path.symlink_to(target)


def ring(path):
    (path.parent.parent / "ring").symlink_to(path)
    path.symlink_to(path.parent.parent / "ring")


def linked_image(path):
    elsewhere = path.parent.parent / "elsewhere.bytes"
    elsewhere.write_bytes(PNG)
    path.symlink_to(elsewhere)


PNG, JPEG = encoded(NOISE, "PNG"), encoded(NOISE, "JPEG", quality=95)
FROM_JPEG = np.array(Image.open(io.BytesIO(JPEG)))
IDAT = PNG.index(b"IDAT")
IDAT_END = IDAT + 4 + struct.unpack(">I", PNG[IDAT - 4 : IDAT])[0]
BMP = encoded(NOISE, "BMP")
GIF_HEAD = b"GIF89a" + struct.pack("<HH", 65_000, 65_000) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"

# name -> (bytes of the file or what makes it, what comes out). What comes out: pixels, one colour,
# or, of a file that is refused, words of the reason.
CASES = {
    # no images
    "empty.png": (b"", "empty file"),
    "text.png": (b"no image\n", "not one of"),
    "page.jpg": (b"<!DOCTYPE html><html><body>403</body></html>", "not one of"),
    "archive.png": (zipped(), "not one of"),
    "vector.png": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not one of"),
    "foreign.png": (encoded(NOISE, "PCX"), "not one of"),
    "zeros.png": (bytes(5000), "not one of"),
    "nothing.png": (png(b"", 8, 2, size=(0, 0)), "not one of"),
    # damaged
    "half.png": (PNG[: len(PNG) // 2], "truncated"),
    "half.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "half.webp": (encoded(NOISE, "WEBP")[:1000], "decoder"),
    "half.gif": (encoded(NOISE, "GIF")[:3000], "truncated"),
    "half.bmp": (BMP[: len(BMP) // 2], "truncated"),
    "half.tiff": (encoded(NOISE, "TIFF")[:6000], "truncated"),
    "header_checksum.png": (changed(PNG, 30), "damaged at its beginning"),
    "pixel_checksum.png": (changed(PNG, IDAT_END - 1), "broken data stream"),
    "chunk_checksum.png": (changed(PNG, IDAT_END), NOISE),
    "no_end.png": (PNG[:IDAT_END], NOISE),
    "more_after.jpg": (JPEG + b"garbage" * 1000, FROM_JPEG),
    "long_text.png": (with_text(b"tEXt", b"k\0" + b"a" * 2_000_000), NOISE),
    "text_bomb.png": (
        with_text(b"zTXt", b"k\0\0" + zlib.compress(bytes(5_000_000))),
        "MAX_TEXT_CHUNK|Too Large",
    ),
    # more pixels than they have bytes for
    "bomb.png": (png(b"", 8, 0, size=(100_000, 100_000)), "decompression bomb"),
    "half_bomb.png": (png(b"", 8, 0, size=(10_000, 10_000)), "10000x10000 pixels"),
    "bomb.gif": (GIF_HEAD + b"," + bytes(20), "decompression bomb"),
    "bomb.tiff": (tiff(bytes(9), 8, size=(100_000, 100_000)), "decompression bomb"),
    "bomb.webp": (webp_header(16_000, 16_000), "decompression bomb"),
    "bomb.bmp": (BMP[:18] + struct.pack("<ii", 60_000, 60_000) + BMP[26:], "decompression bomb"),
    # no files
    "dangling.png": (linked_to("nowhere.png"), "No such file"),
    "self.png": (linked_to("self.png"), "Too many levels of symbolic links"),
    "ring.png": (ring, "Too many levels of symbolic links"),
    "through_file.png": (linked_to("text.png/a.png"), "Not a directory|No such file"),
    "pipe.png": (os.mkfifo, "not a file"),
    "socket.png": (lambda path: os.mknod(path, stat.S_IFSOCK | 0o600), "not a file"),
    "device.png": (linked_to("/dev/zero"), "not a file"),
    "folder.png": (lambda path: path.mkdir(), "a folder without images"),
    "loop.png": (linked_to("."), "a folder without images"),
    "sparse.png": (sparse, "2147483648 bytes"),
    "link.png": (linked_image, NOISE),
    # names
    "two\nlines.png": (PNG, "line break"),
    "bad two\nlines\x1b[31m.png": (b"x", "line break"),
    "renamed_png.jpg": (PNG, NOISE),
    "renamed_jpeg.png": (JPEG, FROM_JPEG),
    "UPPER CASE.PNG": (PNG, NOISE),
    " blanks around .png": (PNG, NOISE),
    "carriage\rreturn\x85\u2028.png": (PNG, NOISE),
    "ünï 名前 🙂.png": (PNG, NOISE),
    "right \u202eto left.png": (PNG, NOISE),
    os.fsdecode(b"not utf-8 \xff\xfe.png"): (PNG, NOISE),
    os.fsdecode(b"bad not utf-8 \xff.png"): (b"x", "not one of"),
    "-rf %s {0} $HOME 'a' \"b\" \\n.png": (PNG, NOISE),
    "x" * 251 + ".png": (PNG, NOISE),
    "y" * 251 + ".png": (b"x", "not one of"),
    # depths
    "grey16.png": (png(two_bytes(0x12FF), 16, 0), GREY),
    "grey16.tiff": (tiff(two_bytes(0x12FF, order="<"), 16), GREY),
    "grey12.tiff": (tiff(two_bytes(0x123F), 12), GREY),
    "grey16_white_is_0.tiff": (tiff(two_bytes(0xEDFF, order="<"), 16, photometric=0), GREY),
    "grey16_alpha.png": (png(two_bytes(0, 0x80FF), 16, 4), (127, 127, 127)),
    "rgb16.png": (png(two_bytes(0x12FF, 0xAB00, 0x00FF), 16, 2), (0x12, 0xAB, 0)),
    "rgb16.tiff": (
        tiff(two_bytes(0x12FF, 0xAB00, 0x00FF, order="<"), 16, 3, 2),
        (0x12, 0xAB, 0),
    ),
    "rgba16.png": (png(two_bytes(0xFFFF, 0, 0, 0x80FF), 16, 6), PINK),
    "signed16.tiff": (tiff(struct.pack("<h", -5), 16, kind=2), "no fixed range"),
    "integer32.tiff": (tiff(struct.pack("<I", 2**31), 32), "no fixed range"),
    "float.tiff": (encoded(np.zeros((8, 8), np.float32), "TIFF"), "no fixed range"),
    "one_bit.png": (encoded(plain(1, "1"), "PNG"), WHITE),
    # colours
    "cmyk.jpg": (encoded(plain((255, 0, 0, 0), "CMYK"), "JPEG"), (0, 255, 255)),  # as Adobe's
    "cmyk.tiff": (encoded(plain((255, 0, 0, 0), "CMYK"), "TIFF"), (0, 255, 255)),
    "lab.tiff": (encoded(plain((255, 128, 128), "LAB"), "TIFF"), WHITE),
    "ycbcr.tiff": (encoded(plain(RED), "TIFF", compression="jpeg"), RED),
    "grey.jpg": (encoded(plain(18, "L"), "JPEG"), GREY),
    # transparency
    "alpha.png": (encoded(halves((*RED, 0), (*BLUE, 255)), "PNG"), halves(WHITE, BLUE)),
    "all_clear.png": (encoded(plain((255, 0, 0, 0), "RGBA"), "PNG"), WHITE),
    "half_clear.webp": (encoded(plain((255, 0, 0, 128), "RGBA"), "WEBP", lossless=True), PINK),
    "grey_alpha.png": (encoded(plain((0, 128), "LA"), "PNG"), (127, 127, 127)),
    "palette.png": (palette_png(), halves(RED, BLUE)),
    "palette_key.png": (palette_png(transparency=0), halves(WHITE, BLUE)),
    "palette_alpha.png": (palette_png(transparency=b"\x80\xff"), halves(PINK, BLUE)),
    "key_grey4.png": (png(b"\x30", 4, 0, chunk(b"tRNS", two_bytes(3))), WHITE),
    "key_grey16.png": (png(two_bytes(0x12FF), 16, 0, chunk(b"tRNS", two_bytes(0x12FF))), WHITE),
    "other_key_grey16.png": (png(two_bytes(0x12FF), 16, 0, chunk(b"tRNS", two_bytes(0x12))), GREY),
    "key_rgb8.png": (png(bytes(RED), 8, 2, chunk(b"tRNS", two_bytes(*RED))), WHITE),
    "key_rgb16.png": (
        png(two_bytes(1000, 2000, 3000), 16, 2, chunk(b"tRNS", two_bytes(1000, 2000, 3000))),
        WHITE,
    ),
    # several images in a file
    "animation.gif": (encoded(plain(RED), "GIF", save_all=True, append_images=[plain(BLUE)]), RED),
    "animation.webp": (animation("WEBP"), PINK),
    "animation.png": (animation("PNG"), PINK),
    "pages.tiff": (encoded(plain(RED), "TIFF", save_all=True, append_images=[plain(BLUE)]), RED),
    "camera.jpg": (encoded(plain(RED), "MPO", save_all=True, append_images=[plain(BLUE)]), RED),
    # shapes
    "1x1.png": (encoded(plain(RED, size=(1, 1)), "PNG"), RED),
    "1x10000.png": (encoded(thin(10_000, 1), "PNG"), RED),
    "10000x1.gif": (encoded(thin(1, 10_000), "GIF"), RED),
    # how the camera was held
    **{f"held_{k}.png": (encoded(stored_for(k), "PNG", exif=exif(k)), NOISE) for k in range(1, 9)},
    "held.tiff": (encoded(stored_for(6), "TIFF", exif=exif(6)), NOISE),
    "held_lzw.tiff": (
        encoded(stored_for(6), "TIFF", exif=exif(6), compression="tiff_lzw"),
        NOISE,
    ),
    "held.webp": (encoded(stored_for(8), "WEBP", exif=exif(8), lossless=True), NOISE),
    "held_wide.png": (
        encoded(np.pad(stored_for(6), ((0, 0), (7, 7), (0, 0))), "PNG", exif=exif(6)),
        NOISE,
    ),
    "no_exif.png": (with_text(b"eXIf", b"garbage"), NOISE),
    "cut_exif.jpg": (encoded(NOISE, "JPEG", quality=95, exif=EXIF + b"\0\x05\x01"), FROM_JPEG),
    "exif_99.jpg": (encoded(NOISE, "JPEG", quality=95, exif=exif(99)), FROM_JPEG),
}
REFUSED = {name: outcome for name, (_, outcome) in CASES.items() if isinstance(outcome, str)}
CONVERTED = [name for name in CASES if name not in REFUSED]


def make(folder, name):
    folder.mkdir(parents=True, exist_ok=True)
    content, _ = CASES[name]
    if isinstance(content, bytes):
        (folder / name).write_bytes(content)
    else:
        content(folder / name)


def opened(folder, **options):
    cache_dir = folder.parent / "cache"
    return open_image_sets(data_root=folder, cache_dir=cache_dir, **options)


@pytest.mark.parametrize("name", CASES)
def test_decoded_by_a_rule_or_refused_by_name(tmp_path, name, recwarn):
    folder, val = tmp_path / "images", tmp_path / "val.txt"
    make(folder, name)
    (folder / "good.png").write_bytes(PNG)
    val.write_text("good.png\n")
    if name not in REFUSED:
        pixels = opened(folder, val_split=val).train.images
        expected = np.broadcast_to(np.array(CASES[name][1], np.uint8), (64, 64, 3))
        assert pixels.shape == (1, 64, 64, 3)
        assert np.abs(pixels[0].astype(int) - expected).max() <= 1
    else:
        with pytest.raises(UserError, match=REFUSED[name]) as caught:
            opened(folder, val_split=val)
        message = str(caught.value).removeprefix(str(folder))
        assert message.startswith(": 1 of 2 images cannot be used: ")
        assert message.isprintable() and len(message) < 400
    assert not recwarn.list


def test_the_table_is_as_large_as_promised():
    assert len(CASES) >= 25 and len(REFUSED) > 10 and len(CONVERTED) > 10


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """(a folder of all these files, one of those that can be used)."""
    everything = tmp_path_factory.mktemp("everything") / "images"
    good = tmp_path_factory.mktemp("good") / "images"
    for name in CASES:
        make(everything, name)
    for name in CONVERTED:
        make(good, name)
    return everything, good


def test_all_in_one_folder_are_one_error(folders):
    everything, _ = folders
    with pytest.raises(UserError) as caught:
        opened(everything)
    message = str(caught.value)
    assert f"{len(REFUSED)} of {len(CASES)} images cannot be used" in message
    named = [name for name in sorted(REFUSED) if f"{short_name(name)} (" in message]
    assert named == sorted(REFUSED)[:10] and ", ...;" in message
    assert "--skip_bad_images" in message and message.isprintable()
    assert not list(everything.parent.glob("cache/*.npy"))


def test_skipped_they_leave_what_a_folder_without_them_holds(folders, monkeypatch, capsys):
    everything, good = folders
    expected = opened(good)
    capsys.readouterr()
    skipped = opened(everything, skip_bad_images=True)
    report = [line for line in capsys.readouterr().out.splitlines() if "cannot be used" in line]
    assert len(report) == 1 and f"{len(REFUSED)} of {len(CASES)} images" in report[0]
    assert "bad two\\nlines\\x1b[31m.png (a line break" in report[0] and ", ...;" in report[0]
    monkeypatch.setattr(fewstep.images.folder, "decode_image", None)
    again = opened(everything, skip_bad_images=True)
    assert report[0] in capsys.readouterr().out.splitlines()
    for sets in (skipped, again):
        for one, other in zip(sets[:2], expected[:2], strict=True):
            assert one.digest == other.digest and np.array_equal(one.images, other.images)
    lists = (p for f in (everything, good) for p in f.parent.glob("cache/splits/*/*"))
    assert len({path.read_bytes() for path in lists}) == 2


def train(folder, *flags):
    command = [sys.executable, ROOT / "train.py", "--data_root", folder, *flags]
    command += "--preset tiny --device cpu --phase teacher --num_iterations 1 --warmup 0".split()
    command += ["--batch_size", "4", "--sample_interval", "9", "--teacher_steps", "1"]
    command += ["--save_dir", folder.parent / "run", "--cache_dir", folder.parent / "cache"]
    command += ["--export_dir", folder.parent / "export"]
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=folder.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "ascii"},
    )


def test_training_refuses_in_one_line_or_goes_on_without_them(folders):
    everything, _ = folders
    refused = train(everything)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1 and refused.stderr.startswith("error: ")
    assert f"{len(REFUSED)} of {len(CASES)} images" in refused.stderr
    assert not list(everything.parent.glob("run*"))
    skipping = train(everything, "--skip_bad_images")
    assert skipping.returncode == 0, skipping.stderr
    assert f"{len(REFUSED)} of {len(CASES)} images" in skipping.stdout
    assert "Warning" not in skipping.stderr
    assert (everything.parent / "run" / "teacher" / "model.pt").is_file()
