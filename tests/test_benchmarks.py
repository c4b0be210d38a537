"""The benchmarks: their arithmetic exactly, and each command at its smallest. No time is judged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from fewstep.engine.batches import to_float
from fewstep.runs.settings import Settings
from fewstep.studies.bench import bench_data, bench_train
from fewstep.studies.bench.contenders import PLAIN, parse_lever, settings_of
from fewstep.studies.bench.device import is_out_of_memory
from fewstep.studies.bench.flops import flops_of, peak_flops, utilisation
from fewstep.studies.bench.pictures import PictureFiles, decoded, draw_files
from fewstep.studies.bench.report import memory_text
from fewstep.studies.bench.train_measures import sweep
from fewstep.studies.bench.turns import in_turns, ratio_line, ratios, spread
from src.utils import UserError

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")


def command(bench, *flags):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", f"benchmarks.{bench}", "--device", "cpu", *map(str, flags)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )


def results_of(bench, folder, *flags):
    """(lines, JSON) of a command that succeeds."""
    path = folder / "results.json"
    done = command(bench, *flags, "--rounds", 1, "--json", path)
    assert done.returncode == 0, done.stderr[-2000:]
    lines, content = done.stdout.splitlines(), json.loads(path.read_text())
    assert f"torch {torch.__version__}, {content['date']}" in lines[0]
    assert content["device"] in lines[0] and content["torch"] == torch.__version__
    return lines, content


def are_positive(numbers):
    return len(numbers) > 0 and all(number > 0 for number in numbers)


def test_turns_alternate_after_one_warm_up_of_each():
    calls, waits = [], []
    turns = in_turns(
        lambda: calls.append("a"), lambda: calls.append("b"), 3, lambda: waits.append(len(calls))
    )
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert len(turns.first) == len(turns.second) == 3 and len(turns.warmups) == 2
    assert waits == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8]  # before and after each call
    assert are_positive([*turns.first, *turns.second, *turns.warmups])


def test_ratios_are_of_pairs():
    assert ratios([1.0, 2.0, 4.0], [3.0, 3.0, 2.0]) == [3.0, 1.5, 0.5]
    assert spread([3.0, 1.5, 0.5, 2.5]) == (0.5, 2.0, 3.0)
    line = ratio_line("slow over fast", [1.0, 2.0, 4.0], [3.0, 3.0, 2.0])
    assert line == "slow over fast: ratio 1.500 (min 0.500, max 3.000, 3 pairs)"


def test_operations_are_counted_exactly():
    linear, x = nn.Linear(32, 16), torch.randn(8, 32, requires_grad=True)
    assert flops_of(lambda: linear(x)) == 2 * 8 * 32 * 16
    # Backward, the same again for the gradient of the input and for that of the weights.
    assert flops_of(lambda: linear(x).sum().backward()) == 3 * 2 * 8 * 32 * 16
    convolution = nn.Conv2d(4, 8, 3, padding=1)
    images = torch.randn(2, 4, 10, 10)
    assert flops_of(lambda: convolution(images)) == 2 * 2 * 10 * 10 * 4 * 8 * 9
    assert flops_of(lambda: images.relu() + 1) == 0
    assert utilisation(3e9, 2.0, 6e9) == 0.25


def test_the_peak_is_one_of_this_world():
    assert 1e8 < peak_flops(CPU, torch.float32) < 1e16


def test_memory_in_words():
    assert memory_text(None) == "-"
    assert memory_text(3 * 2**29) == "1.50 GiB" and memory_text(2**19) == "0.5 MiB"


def test_a_loader_gives_what_the_cache_gives(tmp_path):
    paths = draw_files(tmp_path / "files", 3)
    cached = to_float(decoded(paths, tmp_path / "cache").take([0, 1, 2]))
    assert cached.std() > 0.1 and not torch.equal(cached[0], cached[1])
    files = PictureFiles(paths)
    for index in range(3):
        one, kept = files[index], cached[index]
        assert any(torch.allclose(one, same, atol=1e-6) for same in (kept, kept.flip(-1)))


def test_levers_are_parsed_as_their_kind():
    assert parse_lever("compile=off") == ("compile", "off")
    assert parse_lever("tf32=off") == ("tf32", False)
    assert parse_lever("checkpointing=on") == ("checkpointing", True)
    assert parse_lever("micro_batch=4") == ("micro_batch", 4)


@pytest.mark.parametrize(
    "text, said",
    [
        ("complie=off", "did you mean compile"),
        ("compile", "NAME=VALUE"),
        ("compile=fast", "max-autotune-no-cudagraphs"),
        ("tf32=perhaps", "on, off"),
        ("micro_batch=few", "number"),
        ("micro_batch=-1", "at least 0"),
    ],
)
def test_a_lever_that_cannot_be_is_named(text, said):
    with pytest.raises(UserError, match=f"--(lever|micro_batch).*{said}"):
        bench_train.parse_arguments(["--lever", text])


def test_the_plain_step_differs_in_every_lever_that_does_not_save_memory(tmp_path):
    ours = settings_of("tiny", 8, {}, tmp_path).speed
    plain = settings_of("tiny", 8, PLAIN, tmp_path).speed
    same = {name for name, value in vars(ours).items() if getattr(plain, name) == value}
    assert same == {"micro_batch", "checkpointing"}
    assert ours == Settings().speed


@pytest.mark.parametrize("flag", ["--rounds", "--steps", "--batch_size", "--sweep"])
def test_numbers_that_cannot_be_are_named(flag):
    with pytest.raises(UserError, match=f"{flag} 0: at least"):
        bench_train.parse_arguments([flag, "0"])


def test_too_few_images_are_named():
    with pytest.raises(UserError, match="--images 4: fewer than --batch_size 8"):
        bench_data.parse_arguments(["--images", "4", "--batch_size", "8"])


@pytest.mark.parametrize("bench", ["bench_train", "bench_sample", "bench_data"])
def test_a_mistake_is_one_line_and_exit_code_2(bench):
    done = command(bench, "--round", 3)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and "--round" in done.stderr


class Crowded:
    """Stands for `Bench` on a device that holds batches of 2 alone."""

    device, rounds, steps, wait = CPU, 1, 1, staticmethod(lambda: None)

    def __init__(self, error):
        self.error = error

    def flops_per_image(self, phase):
        return 1.0

    def contender(self, phase, speed, batch_size):
        from fewstep.studies.bench.contenders import Contender

        if batch_size > 2:
            raise self.error
        return Contender(lambda: None, 0.0, None)


def test_a_sweep_ends_where_memory_does(capsys):
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    found = sweep(Crowded(full), "teacher", [2, 4, 8], peak=1.0)
    assert [row["batch_size"] for row in found] == [2]
    assert "batches of 4: out of memory" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="another"):
        sweep(Crowded(RuntimeError("another")), "teacher", [4], peak=1.0)
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(ValueError("shapes"))


def test_bench_data_compares_the_cache_with_loaders(tmp_path):
    flags = ["--images", 32, "--batch_size", 8]
    lines, content = results_of("bench_data", tmp_path, *flags)
    assert content["decoded_images_per_second"] > 0
    for row in content["comparisons"]:
        assert are_positive(row["ratios"]) and any(row["name"] in line for line in lines)
        assert row["cache_images_per_second"] > 0 and row["loader_images_per_second"] > 0
    assert {row["workers"] for row in content["comparisons"]} >= {0}


def test_bench_data_measures_caches_of_any_size(tmp_path):
    lines, content = results_of("bench_data", tmp_path, "--counts", 10, 300, "--batch_size", 4)
    assert [row["images"] for row in content["growth"]] == [10, 300]
    assert len(lines) == 4 and lines[2].startswith("300 images: written in")
    for row in content["growth"]:
        assert row["open_seconds"] > 0 and row["batch_seconds"] > 0


def test_bench_sample_compares_and_sweeps(tmp_path):
    flags = ["--preset", "tiny", "--batch_size", 2, "--nfe_list", 1, 2, "--sweep", 1, 3]
    lines, content = results_of("bench_sample", tmp_path, *flags)
    assert {row["nfe"] for row in content["comparisons"]} == {1, 2}
    for row in content["comparisons"]:
        assert are_positive(row["ratios"]) and any(row["name"] in line for line in lines)
    assert [(row["way"], row["batch_size"]) for row in content["sweep"]] == [
        (way, size) for way in ("plain", "fast") for size in (1, 3)
    ]
    assert are_positive([row["images_per_second"] for row in content["sweep"]])


SMALL = ["--preset", "tiny", "--batch_size", 2, "--steps", 1]


def test_bench_train_compares_both_phases_with_the_plain_step(tmp_path):
    lines, content = results_of("bench_train", tmp_path, *SMALL)
    for phase in ("teacher", "add"):
        found = content[phase]["comparison"]
        assert are_positive(found["ratios"]) and found["flops_per_step"] > 0
        assert any(line.startswith(f"{phase}, plain over defaults: ratio") for line in lines)
        for name in ("defaults", "plain"):
            assert found[name]["images_per_second"] > 0 and 0 < found[name]["utilisation"] < 2
            assert found[name]["warmup_seconds"] > 0
    assert (
        content["add"]["comparison"]["flops_per_step"]
        > (content["teacher"]["comparison"]["flops_per_step"])
    )


def test_bench_train_pulls_levers_sweeps_and_profiles(tmp_path):
    more = ["--phase", "add", "--lever", "micro_batch=2"]
    flags = [*SMALL, "--batch_size", 4, *more, "--sweep", 2, 4, "--profile"]
    lines, content = results_of("bench_train", tmp_path, *flags)
    found = content["add"]
    assert "comparison" not in found and "teacher" not in content
    assert [(row["lever"], row["value"]) for row in found["levers"]] == [("micro_batch", 2)]
    assert all(are_positive(row["ratios"]) for row in found["levers"])
    assert [row["batch_size"] for row in found["sweep"]] == [2, 4]
    names = [name for name, _, _ in found["profile"]["costs"]]
    shares = [share for _, share, _ in found["profile"]["costs"]]
    assert len(names) == 10 and "aten::convolution_backward" in names
    assert shares == sorted(shares, reverse=True) and sum(shares) <= 1
    assert any("aten::convolution_backward" in line for line in lines)
