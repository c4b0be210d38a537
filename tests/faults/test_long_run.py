"""Many steps: memory, open files and threads stay as they are, the log grows by its rows alone.

LONG_RUN_STEPS=1000 python -m pytest -s tests/faults/test_long_run.py takes so many of each phase.
"""

import ctypes
import gc
import json
import os
import sys
import threading
from pathlib import Path

import pytest
import torch

import train

STEPS = int(os.environ.get("LONG_RUN_STEPS", 50))  # of each phase, a multiple of 50
FLAGS = (
    "--preset tiny --data synthetic --synthetic_count 64 --batch_size 2 --device cpu"
    f" --num_iterations {STEPS} --student_iterations {STEPS} --warmup 1 --disc_warmup 1"
    f" --disc_channels 8 --self_input_share 1 --log_interval 10 --save_interval {STEPS // 5}"
    f" --sample_interval {STEPS // 5} --teacher_steps 2 --best_images 8"
).split()
SETTLED = STEPS // 5  # steps of a phase after which all that is made once has been made
MOST_GROWTH = 24  # MiB; of 1,000 steps 30 KiB a step would be a leak


def resident():
    """MiB of this process in memory, what is free but not given back left out."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def live_tensors():
    return sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects())


@pytest.fixture(scope="module")
def lived(one_thread, few_pictures, tmp_path_factory):
    """(run folder, {phase: [(step, MiB, open files, threads, tensors), ...]}) of a run in here."""
    if not Path("/proc/self/statm").exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("memory and open files are read as on Linux with glibc, which is not here")
    folder = tmp_path_factory.mktemp("long")
    seen = {"teacher": [], "student": []}
    with pytest.MonkeyPatch.context() as patch:
        plain = train.train

        def watched(phase, *arguments, **named):
            step_of = phase.step

            def step(parts, step):
                if step % (STEPS // 10) == 0:
                    files = len(os.listdir("/proc/self/fd"))
                    now = resident(), files, threading.active_count(), live_tensors()
                    seen[phase.name].append((step, *now))
                return step_of(parts, step)

            phase.step = step
            return plain(phase, *arguments, **named)

        patch.setattr(train, "train", watched)
        words = ["--save_dir", folder / "run", "--export_dir", folder / "export"]
        words += ["--cache_dir", folder / "cache"]
        patch.setattr(sys, "argv", ["train.py", *FLAGS, *map(str, words)])
        assert train.main() == 0
    return folder / "run", seen


@pytest.mark.parametrize("phase", ["teacher", "student"])
def test_memory_open_files_and_threads_are_flat(lived, phase):
    settled = [row for row in lived[1][phase] if row[0] >= SETTLED]
    assert len(settled) == 8
    _, memory, files, threads, tensors = zip(*settled)
    print(phase, "MiB", [round(value) for value in memory], "files", files, "tensors", tensors)
    assert max(memory[-3:]) - max(memory[:3]) < MOST_GROWTH
    assert max(files) - min(files) <= 1 and len(set(threads)) == 1
    assert max(tensors) == min(tensors)


def test_the_log_grows_by_equal_rows(lived):
    lines = (lived[0] / "log.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for phase in ("teacher", "student"):
        steps = [row["step"] for row in rows if row["phase"] == phase and "concern" not in row]
        assert steps == sorted({*range(10, STEPS + 1, 10), *(s for s in steps if s % 10)})
        sizes = [len(line) for line, row in zip(lines, rows) if row["phase"] == phase]
        assert max(sizes) < 2000
    assert sum("concern" in row for row in rows) < 20


def test_the_folder_is_bounded(lived):
    """Checkpoints: the last two and the best; a sheet for each interval and a few early ones."""
    folder = lived[0]
    for phase in ("teacher", "student"):
        checkpoints = [p.name for p in (folder / phase).glob("checkpoint_iter_*")]
        assert {f"checkpoint_iter_{STEPS}.pt", f"checkpoint_iter_{STEPS - STEPS // 5}.pt"} <= {
            *checkpoints
        }
        assert len(checkpoints) <= 3
        sheets = list((folder / "samples").glob(f"{phase}_*.png"))
        early = {step for step in (10, 20, 50, 100) if step % (STEPS // 5) and step < STEPS // 5}
        assert len(sheets) == 5 + len(early)
    names = {p.name for p in folder.iterdir()}
    assert names == {
        *("teacher", "student", "samples", "log.jsonl", "training_config.json"),
        *("training_curves.png", "final_model.pt", "model_config.json"),
    }
