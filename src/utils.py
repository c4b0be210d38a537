"""Names the challenge's scripts import (seeds, pictures, saving, loading) and the few helpers
beside them that every command shares: one-line errors, whole files, picture sheets."""

import argparse
import hashlib
import os
import random
import re
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from PIL import Image

# Most of these serve the callers of this module, who find all such helpers here.
from src.errors import (  # noqa: F401
    UserError,
    did_you_mean,
    file_error,
    is_out_of_memory,
    one_line,
    reason_of,
)
from src.files import (  # noqa: F401
    file_digest,
    move_into_place,
    naming,
    read_json,
    sweep_dead,
    torch_load,
    torch_save,
    whole_file,
    write_json,
)
from src.foreign import fitting_state, state_dicts
from src.model_config import with_later_keys
from src.streams import close_streams, steady_streams

OWN_CONFIG = "put the model_config.json beside the weights that was saved with them"
# Of a run's folder, of a teacher's in it, of the one for export.
CHECKPOINTS = ("final_model.pt", "model.pt", "best_model.pt")
NEGATIVE_NUMBER = re.compile(
    r"-(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$|-(inf|infinity|nan)$", re.IGNORECASE
)


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line. Flags must be spelled out.

    prog: what follows `python`, else the name of the program; of a subparser the whole command."""

    def __init__(self, **arguments):
        keep_lines = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=keep_lines, **arguments)
        self.prog = f"python {self.prog.removeprefix('python ')}"
        # argparse takes -1e-3 for a flag: it knows negative numbers without an exponent alone.
        self._negative_number_matcher = NEGATIVE_NUMBER

    def error(self, message):
        message = re.sub(r"(expected [2-9]\d* arguments)$", r"\1, with blanks between", message)
        raise UserError(f"{message} ({self.prog} --help lists the flags)")


def run_command(main, in_parallel=False):
    """Run `main()` as a program: a `UserError`, or a file that cannot be read or written, becomes
    one line on stderr and exit code 2; Ctrl-C exits with 130. Readers of its output that leave, or
    cannot take it, do not end it.

    Of several processes that torchrun started, the first does the work alone, as if started without
    it, unless `main` shares it out itself (in_parallel): else all would write the same files.
    """
    steady_streams()
    if not in_parallel and os.environ.get("WORLD_SIZE", "1") != "1":
        rank, count = (os.environ.pop(name, "0") for name in ("RANK", "WORLD_SIZE"))
        if rank != "0":
            print(f"process {rank} of {count}: process 0 does the work alone", file=sys.stderr)
            sys.exit(0)
    try:
        sys.exit(main())
    except UserError as error:
        print(one_line(f"error: {error}"), file=sys.stderr)
    except OSError as error:
        print(one_line(f"error: {file_error(error)}"), file=sys.stderr)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        print("error: out of memory; give a smaller --batch_size", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        close_streams()
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
    """The torch device called `name`; a GPU that is not there becomes the CPU, said aloud.

    Raises `UserError` for any other kind of device, Apple's GPUs (mps) among them.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is not None and device.type == "mps":
        # Sums of the log are float64 on the device. Adam's fused kernel, which drops broken updates
        # there, and bf16 would have to be tried on such a machine first.
        raise UserError(
            f"--device {name}: Apple's GPUs lack the float64 that is used here; use --device cpu"
        )
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


def save_picture(image, path):
    """Write a PIL image, whole or not at all; the suffix says the format."""
    with whole_file(path) as temporary:
        image.save(temporary)


def save_model(model, checkpoint_path, model_config, config_path=None):
    """Write `{"state_dict": ...}` to `checkpoint_path` and `model_config` as JSON beside it."""
    checkpoint_path = Path(checkpoint_path)
    config_path = config_path or checkpoint_path.with_name("model_config.json")
    torch_save({"state_dict": model.state_dict()}, checkpoint_path)
    write_json(config_path, model_config)


def read_model_config(path):
    """The content of a `model_config.json`. Raises `UserError` that says which it should be."""
    if not Path(path).exists():
        raise UserError(f"{path}: no such file; {OWN_CONFIG}")
    config = read_json(path)
    if "settings" in config:
        raise UserError(f"{path}: holds the settings of a run, not of a model; {OWN_CONFIG}")
    return with_later_keys(config)


def weights_digest(model):
    """SHA-256 over names and values of a model's weights, hexadecimal."""
    return state_digest(model.state_dict())


def state_digest(state):
    """The same of a state dict."""
    digest = hashlib.sha256()
    for key, value in state.items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def checkpoint_in(path, flag=""):
    """The file of weights that `path`, it or a folder that our programs write, names. Raises
    `UserError`, beginning with `flag`, where a folder has none."""
    path = Path(path)
    if not path.is_dir():
        return path
    for name in CHECKPOINTS:
        if (path / name).is_file():
            return path / name
    teacher = path / "teacher" / "model.pt"
    hint = f"; its teacher is {teacher}" if teacher.is_file() else ""
    raise UserError(f"{flag}{path}: has no {', '.join(CHECKPOINTS)}, nor published weights{hint}")


def load_model(checkpoint_path, create_model_fn, device="cpu", config_path=None):
    """Rebuild the model of `save_model`: `create_model_fn(device=device, **JSON)`, strict load.

    Weights that another program saved are looked for where such keep them, and what is changed in
    their names is printed. Raises `UserError` for missing, damaged or mismatching files.
    """
    checkpoint_path = Path(checkpoint_path)
    config_path = Path(config_path or checkpoint_path.with_name("model_config.json"))
    tables = state_dicts(torch_load(checkpoint_path), checkpoint_path)
    try:
        model = create_model_fn(device=device, **read_model_config(config_path))
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{config_path}: {error}; {OWN_CONFIG}") from error
    try:
        state, said = fitting_state(tables, model.state_dict())
    except ValueError as error:
        raise UserError(
            f"{checkpoint_path}: its weights do not fit the model of {config_path}: {error};"
            f" {OWN_CONFIG}"
        ) from error
    model.load_state_dict(state, strict=True)
    if said:
        print(f"{checkpoint_path}: {', '.join(said)}")
    return model.to(device)
