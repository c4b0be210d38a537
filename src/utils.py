"""Names the challenge's scripts import (seeds, pictures, saving, loading) and the few helpers
beside them that every command shares: one-line errors, whole files, picture sheets."""

import argparse
import difflib
import hashlib
import json
import os
import random
import sys
import zipfile
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from PIL import Image


class UserError(Exception):
    """A user's mistake. The message is one line: what is wrong, where, and what to do."""


def did_you_mean(name, known):
    """The end of a message, `; did you mean NEAREST?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def reason_of(error):
    """The first line of an exception's message, or its kind where it has none."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line. Flags must be spelled out."""

    def __init__(self, **arguments):
        keep_lines = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=keep_lines, **arguments)

    def error(self, message):
        raise UserError(f"{message} (python {self.prog} --help lists the flags)")


def run_command(main):
    """Run `main()` as a program: a `UserError`, or a file that cannot be read or written, becomes
    one line on stderr and exit code 2; Ctrl-C exits with 130."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a pipe's encoding may lack a letter or a check mark
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror or error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    sys.exit(2)


def seed_everything(seed):
    """Seed Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def get_current_time():
    """Local time as a name for a folder, e.g. `2026-01-31_23-59-59`."""
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def image_seeds(seed, start, count):
    """One seed per image that depends only on `seed` and the image's index.

    Below 2^32, because torch's CPU generator ignores higher bits. Consecutive from a hashed start:
    never the same twice in a run, and runs with other seeds hardly ever overlap.
    """
    first = int(np.random.SeedSequence(seed % 2**64).generate_state(1)[0])
    return [(first + index) % 2**32 for index in range(start, start + count)]


def pick_device(name):
    """The torch device called `name`; a GPU that is not there becomes the CPU, said aloud."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cuda", "cpu"):
        raise UserError(f"--device {name}: use cuda, cuda:N or cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        print(f"device {name} is not there; using the CPU")
        return torch.device("cpu")
    return device


def to_uint8(x):
    """Float images `[..., 3, H, W]` in [-1, 1] -> uint8 `[..., H, W, 3]` on the CPU, rounded."""
    x = (x.detach().float().cpu() * 0.5 + 0.5).clamp(0, 1).mul(255).round().to(torch.uint8)
    return x.movedim(-3, -1).contiguous()


def tensor_to_pil_image(x):
    """Float images `[B, 3, H, W]` or `[3, H, W]` in [-1, 1] -> list of PIL images.

    As the challenge's scripts expect, a batch of one gives the bare image, not a list of one.
    """
    pixels = to_uint8(x if x.ndim == 4 else x[None]).numpy()
    images = [Image.fromarray(pixel) for pixel in pixels]
    return images[0] if len(images) == 1 else images


def picture_sheet(pixels, columns=8, scale=2, gap=2):
    """Tile uint8 images `[N, H, W, 3]` into one PIL image, row by row, each enlarged by `scale`."""
    pixels = np.asarray(pixels).repeat(scale, axis=1).repeat(scale, axis=2)
    count, height, width, _ = pixels.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    size = (rows * (height + gap) + gap, columns * (width + gap) + gap, 3)
    sheet = np.full(size, 255, dtype=np.uint8)
    for i, pixel in enumerate(pixels):
        top = gap + (i // columns) * (height + gap)
        left = gap + (i % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = pixel
    return Image.fromarray(sheet)


@contextmanager
def whole_file(path):
    """Yield a temporary path beside `path`; on success it is synced to disk and moved into place.

    A reader sees the old file or the new one, never a part. The temporary name keeps the suffix,
    because writers choose the format by it. On an exception nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not NamedTemporaryFile: its mode 0600 would stay on the final file.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def file_digest(path):
    """SHA-256 of a file's content, 32 bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


def save_picture(image, path):
    """Write a PIL image, whole or not at all; the suffix says the format."""
    with whole_file(path) as temporary:
        image.save(temporary)


def write_json(path, content):
    """Write `content` as indented JSON, whole or not at all."""
    with whole_file(path) as temporary:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8")


def read_json(path):
    """Read a JSON object; `UserError` when the file is absent or not a JSON object."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: a JSON object was expected")
    return content


def torch_save(content, path):
    """`torch.save`, whole or not at all. Raises `UserError` when the disk is full."""
    try:
        with whole_file(path) as temporary:
            torch.save(content, temporary)
    except RuntimeError as error:  # what torch raises for a failed write
        raise UserError(f"{path}: cannot be written; is the disk full?") from error


def torch_load(path, device="cpu"):
    """Load a file of tensors and plain values; code in it is never run.

    Raises `UserError` when the file is absent, damaged (every record's checksum is verified, which
    plain loading does not do) or holds anything else than tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise UserError(f"{path}: damaged (checksum of {damaged!r}); use another checkpoint")
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; train first, or name a checkpoint") from error
    except UserError:
        raise
    except Exception as error:  # any damage or foreign format ends in this one line
        raise UserError(
            f"{path}: not a checkpoint that can be loaded ({reason_of(error)})"
        ) from error


def save_model(model, checkpoint_path, model_config, config_path=None):
    """Write `{"state_dict": ...}` to `checkpoint_path` and `model_config` as JSON beside it."""
    checkpoint_path = Path(checkpoint_path)
    config_path = config_path or checkpoint_path.with_name("model_config.json")
    torch_save({"state_dict": model.state_dict()}, checkpoint_path)
    write_json(config_path, model_config)


def load_model(checkpoint_path, create_model_fn, device="cpu", config_path=None):
    """Rebuild the model of `save_model`: `create_model_fn(device=device, **JSON)`, strict load.

    Raises `UserError` for missing, damaged or mismatching files.
    """
    checkpoint_path = Path(checkpoint_path)
    config_path = config_path or checkpoint_path.with_name("model_config.json")
    checkpoint = torch_load(checkpoint_path)
    try:
        model = create_model_fn(device=device, **read_json(config_path))
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{config_path}: {error}") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f'{checkpoint_path}: no "state_dict" in it; not a saved model')
    try:
        model.load_state_dict(checkpoint["state_dict"], strict=True)
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(
            f"{checkpoint_path}: its weights do not fit the model of {config_path}"
        ) from error
    return model.to(device)
