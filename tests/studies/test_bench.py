"""The benchmarks: their arithmetic exactly, and each command at its smallest. No time is judged."""

import json
from functools import partial

import pytest
import torch

from fewstep.engine.batches import to_float
from fewstep.runs.settings import Settings
from fewstep.studies.bench import turns
from fewstep.studies.bench.faces import decoded, loader_batches, write_faces
from fewstep.studies.bench.main import build_parser, main
from fewstep.studies.bench.steps import PLAIN, Turns
from fewstep.studies.bench.turns import compare, in_turns, is_out_of_memory, sweep
from src.utils import UserError

CPU = torch.device("cpu")


def results_of(capsys, folder, *flags):
    """(lines, JSON) of a command that succeeds."""
    path = folder / "results.json"
    common = ["--device", "cpu", "--rounds", "1", "--json", str(path)]
    assert main([*map(str, flags), *common]) == 0
    lines, content = capsys.readouterr().out.splitlines(), json.loads(path.read_text())
    assert lines[0] == f"{content['machine']}, torch {torch.__version__}, {content['date']}"
    assert content["torch"] == torch.__version__ and content["flags"]["rounds"] == 1
    return lines, content


def assert_compared(row, lines, *names):
    """A comparison has a ratio and a rate for each of its two ways, and is printed."""
    assert len(row["ratios"]) == 1 and row["ratios"][0] > 0
    assert list(row["ways"]) == list(names)
    assert any(line.startswith(f"{row['name']}: ratio") for line in lines)
    for way in row["ways"].values():
        assert way["images_per_second"] > 0 and way["warmup_seconds"] > 0
        assert way["peak_bytes"] is None


def test_turns_alternate_and_wait_for_the_device(monkeypatch):
    calls, waits = [], []
    monkeypatch.setattr(turns, "wait_for", lambda device: waits.append(len(calls)))
    first, second = in_turns(partial(calls.append, "a"), partial(calls.append, "b"), 3, CPU)
    assert "".join(calls) == "ab" + "ba" + "ab"
    assert waits == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6]  # before and after each call
    assert len(first) == len(second) == 3 and min(first + second) > 0


def test_ratios_are_of_pairs(monkeypatch, capsys):
    seconds = [[1.0, 2.0, 4.0], [3.0, 3.0, 2.0]]
    monkeypatch.setattr(turns, "in_turns", lambda *_: seconds)
    ways = {"fast": lambda: list, "slow": lambda: list}
    row = compare("work", ways, 12, 3, CPU)
    assert row["name"] == "work, slow over fast" and row["ratios"] == [3.0, 1.5, 0.5]
    line = "work, slow over fast: ratio 1.500 (min 0.500, max 3.000, 3 pairs)"
    assert capsys.readouterr().out.startswith(f"{line}\n  fast: 6.0 images/s")
    assert [way["images_per_second"] for way in row["ways"].values()] == [6.0, 4.0]


def test_a_loader_gives_what_the_cache_gives(tmp_path):
    paths = write_faces(tmp_path / "files", 3)
    cached = to_float(decoded(paths, tmp_path / "cache").take([0, 1, 2]))
    assert cached.std() > 0.1 and not torch.equal(cached[0], cached[1])
    loaded = next(loader_batches(tmp_path / "files", 3, 0, CPU))
    for kept in cached:
        both = (kept, kept.flip(-1))
        assert any(torch.allclose(image, one, atol=1e-6) for image in loaded for one in both)


def test_levers_are_parsed_as_their_kind():
    flags = "--lever compile=off --lever tf32=off --lever checkpointing=on --lever micro_batch=4"
    levers = [("compile", "off"), ("tf32", False), ("checkpointing", True), ("micro_batch", 4)]
    assert build_parser("train").parse_args(flags.split()).lever == levers


@pytest.mark.parametrize(
    "text, wrong",
    [
        ("complie=off", "--lever.*'complie=off'.*compile"),
        ("compile", "--lever.*NAME=VALUE"),
        ("compile=fast", "--compile.*max-autotune-no-cudagraphs"),
        ("tf32=perhaps", "--tf32"),
        ("micro_batch=few", "--lever.*number"),
        ("micro_batch=-1", "--micro_batch.*at least 0"),
    ],
)
def test_a_lever_that_cannot_be_is_named(text, wrong):
    with pytest.raises(UserError, match=wrong):
        main(["train", "--lever", text])


def test_the_plain_step_differs_in_every_lever_that_does_not_save_memory(tmp_path):
    common = Turns("tiny", 1, CPU, tmp_path / "files", None)
    ours, plain = common.settings(8).speed, common.settings(8, **PLAIN).speed
    same = {name for name, value in vars(ours).items() if getattr(plain, name) == value}
    assert same == {"micro_batch", "checkpointing"}
    assert ours == Settings().speed


@pytest.mark.parametrize("flag", ["--rounds", "--steps", "--batch_size", "--sweep"])
def test_numbers_that_cannot_be_are_named(flag):
    with pytest.raises(UserError, match=f"{flag} 0: at least"):
        main(["train", flag, "0"])


def test_mistakes_are_named():
    with pytest.raises(UserError, match="bench 'trian': use one of train, sample, data"):
        main(["trian"])
    with pytest.raises(UserError, match="--images 4: fewer than --batch_size 8"):
        main("data --device cpu --images 4 --batch_size 8".split())


def test_what_can_be_measured_is_listed(capsys):
    assert main([]) == 2 and main(["--help"]) == 0
    assert capsys.readouterr().out.count("python -m fewstep bench sample") == 2


def test_a_sweep_ends_where_memory_does(capsys):
    def build(error, size):
        if size > 2:
            raise error
        return list

    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    rows = sweep("teacher", [2, 4, 8], partial(build, full), 1, CPU)
    assert [row["batch_size"] for row in rows] == [2]
    assert "batches of 4: out of memory" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="another"):
        sweep("teacher", [4], partial(build, RuntimeError("another")), 1, CPU)
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(ValueError("shapes"))


def test_full_memory_is_one_line(monkeypatch):
    def measure(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("fewstep.studies.bench.data.measure", measure)
    with pytest.raises(UserError, match="smaller --batch_size"):
        main(["data", "--device", "cpu"])


def test_data_compares_the_cache_with_loaders(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fewstep.studies.bench.data.WORKERS", 1)
    lines, content = results_of(capsys, tmp_path, "data", "--images", 16, "--batch_size", 4)
    assert content["decoded_images_per_second"] > 0
    for workers, row in enumerate(content["comparisons"]):
        assert_compared(row, lines, "cache", f"DataLoader with {workers} workers")


def test_sample_compares_and_sweeps(tmp_path, capsys):
    flags = ["--preset", "tiny", "--batch_size", 2, "--nfe_list", 1, 2, "--sweep", 1, 3, "--fast"]
    lines, content = results_of(capsys, tmp_path, "sample", *flags)
    assert [row["nfe"] for row in content["comparisons"]] == [1, 2]
    for row in content["comparisons"]:
        assert_compared(row, lines, "bare network", "sample")
    assert [row["batch_size"] for row in content["sweep"]] == [1, 3]
    assert min(row["images_per_second"] for row in content["sweep"]) > 0


@pytest.fixture
def few_files(monkeypatch):
    monkeypatch.setattr("fewstep.studies.bench.train.FILES", 4)
    monkeypatch.setattr("fewstep.studies.bench.steps.WORKERS", 0)


SMALL = ["train", "--preset", "tiny", "--batch_size", 2, "--steps", 1]


def test_train_compares_both_phases_with_the_plain_loop(few_files, tmp_path, capsys):
    lines, content = results_of(capsys, tmp_path, *SMALL)
    for phase in ("teacher", "student"):
        (row,) = content[phase]["comparisons"]
        assert row["name"] == f"{phase}, plain loop over defaults"
        assert_compared(row, lines, "defaults", "plain loop")
        assert content[phase]["sweep"] == [] and "profile" not in content[phase]


def test_train_pulls_levers_sweeps_and_profiles(few_files, tmp_path, capsys):
    more = ["--phase", "teacher", "--lever", "micro_batch=1", "--sweep", 2, 4, "--profile"]
    lines, content = results_of(capsys, tmp_path, *SMALL, *more)
    teacher = content["teacher"]
    assert "student" not in content
    (row,) = teacher["comparisons"]
    assert_compared(row, lines, "defaults", "micro_batch=1")
    assert [row["batch_size"] for row in teacher["sweep"]] == [2, 4]
    names, shares, calls = zip(*teacher["profile"])
    assert len(names) == 3 and "aten::convolution_backward" in names and min(calls) > 0
    assert list(shares) == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
    assert any("aten::convolution_backward" in line for line in lines)
