"""A disk that fills up: one clear error, earlier files as they were, and training goes on after."""

import errno
import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from fewstep.engine.log import append_row
from src.utils import UserError, save_picture, torch_save, write_json
from tests.faults.comparing import assert_same_results
from tests.faults.jobs import finish


@pytest.fixture
def small_disk(tmp_path):
    """A folder that is a file system of its own of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no small file system can be mounted here (it takes the rights of root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder, left):
    """Leave `left` bytes of a small disk."""
    free = shutil.disk_usage(folder).free
    with open(folder / "ballast", "wb") as file:
        file.write(b"\1" * max(0, free - left))


def sizes(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "ballast"}


@pytest.mark.parametrize("left", [0, 1_000, 100_000, 3_000_000])
def test_each_kind_of_write_is_whole_or_leaves_the_old_file(small_disk, left):
    from PIL import Image

    from fewstep.images.cache import cached_images

    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype=np.uint8)
    writes = {
        "weights.pt": lambda path: torch_save({"w": torch.rand(2_000_000)}, path),
        "config.json": lambda path: write_json(path, {"a": "x" * 4_000_000}),
        "sheet.png": lambda path: save_picture(Image.fromarray(noise), path),
    }
    for name in writes:
        (small_disk / name).write_bytes(b"old")
    (small_disk / "log.jsonl").write_bytes(b"{}\n")
    fill(small_disk, left)
    before = sizes(small_disk)
    for name, write in writes.items():
        with pytest.raises((UserError, OSError)) as caught:
            write(small_disk / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
        if isinstance(caught.value, OSError):
            assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError) as caught:
        append_row(small_disk / "log.jsonl", {"text": "x" * 4_000_000})
    assert "log.jsonl" in str(caught.value)
    with pytest.raises(UserError, match="not enough disk space"):
        cached_images(small_disk, "d" * 64, 2000, lambda: iter(()))
    assert sizes(small_disk) == before


def full_from(count):
    """Let the disk of this process be full from the `count`-th file that is moved into place on,
    while it is written."""
    import src.files

    plain, calls = os.fsync, [0]

    def fsync(descriptor):
        calls[0] += 1
        if calls[0] >= count:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(descriptor)

    src.files.os.fsync = fsync


def test_whichever_write_fails_training_goes_on_after_room_is_made(whole, tmp_path):
    """Every write of a run in turn is the one that finds the disk full."""
    failures = 0
    for count in range(1, 200, 3):
        code, text = finish(tmp_path, before=partial(full_from, count))
        if code == 0:
            break
        failures += 1
        lines = [line for line in text.splitlines() if line.startswith("error: ")]
        assert code == 2 and len(lines) == 1 and "Traceback" not in text, text
        assert "No space left" in lines[0] or "not enough disk space" in lines[0]
        assert str(tmp_path) in lines[0] and not list((tmp_path / "run").rglob("*.tmp.*"))
    print(f"{failures} runs found the disk full")
    assert failures >= 5 and code == 0
    assert_same_results(tmp_path, whole)


def test_a_run_on_a_disk_that_is_too_small_says_so_and_keeps_its_checkpoints(whole, small_disk):
    """The teacher's second or third checkpoint finds no room; more room, and the run ends as it
    should."""
    code, text = finish(small_disk, "--keep_checkpoints", "4")
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and "make room" in lines[0] and "Traceback" not in text
    kept = sorted((small_disk / "run" / "teacher").glob("checkpoint_iter_*.pt"))
    assert kept and all(torch.load(path, weights_only=True)["step"] for path in kept)
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    code, text = finish(small_disk)
    assert code == 0 and "going on with the teacher at step" in text, text
    for phase in ("teacher", "student"):  # those that were kept for the first command
        for path in (small_disk / "run" / phase).glob("checkpoint_iter_*.pt"):
            if not (whole / "run" / phase / path.name).exists():
                path.unlink()
    assert_same_results(small_disk, whole)


def test_a_log_that_cannot_be_begun_says_why(tmp_path, monkeypatch):
    def full(path, mode):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fewstep.engine.log.open", full, raising=False)
    with pytest.raises(OSError, match="No space left on device"):
        append_row(tmp_path / "log.jsonl", {"step": 1})


def test_an_error_of_the_disk_names_the_file(tmp_path):
    folder = tmp_path / "file"
    folder.write_text("not a folder")
    with pytest.raises(OSError) as caught:
        write_json(folder / "a.json", {})
    assert str(Path(caught.value.filename)).startswith(str(folder))
