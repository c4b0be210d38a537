"""The benchmarks: their arithmetic exactly, and each command at its smallest. No time is judged."""

import json
from functools import partial

import pytest
import torch

from fewstep.engine.batches import to_float
from fewstep.runs.settings import Settings
from fewstep.studies.bench import turns
from fewstep.studies.bench.data import decoded, loader_batches, write_faces
from fewstep.studies.bench.main import build_parser, main
from fewstep.studies.bench.train import PLAIN, preset_settings
from fewstep.studies.bench.turns import compare, in_turns
from src.utils import UserError, is_out_of_memory

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


IMPOSSIBLE = {
    "complie=off": "--lever.*'complie=off'.*compile",
    "compile": "--lever.*NAME=VALUE",
    "compile=fast": "--compile.*max-autotune-no-cudagraphs",
    "tf32=perhaps": "--lever.*'perhaps': use one of true, on",
    "micro_batch=few": "--lever.*number",
    "micro_batch=-1": "--micro_batch.*at least 0",
}


@pytest.mark.parametrize("lever", IMPOSSIBLE)
def test_a_lever_that_cannot_be_is_named(lever):
    with pytest.raises(UserError, match=IMPOSSIBLE[lever]):
        main(["train", "--lever", lever])


def test_the_plain_step_differs_in_every_lever_that_does_not_save_memory():
    ours, plain = preset_settings("tiny", 8).speed, preset_settings("tiny", 8, **PLAIN).speed
    same = {name for name, value in vars(ours).items() if getattr(plain, name) == value}
    assert same == {"micro_batch", "checkpointing", "threads"}
    assert ours == Settings().speed


@pytest.mark.parametrize("flag", ["--rounds", "--steps", "--batch_size"])
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


def test_full_memory_is_told_from_other_errors():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
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


def test_sample_compares_at_each_nfe_and_size(tmp_path, capsys):
    flags = ["--preset", "tiny", "--batch_size", 1, 3, "--nfe_list", 1, 2, "--fast"]
    lines, content = results_of(capsys, tmp_path, "sample", *flags)
    rows = content["comparisons"]
    assert [(row["nfe"], row["batch_size"]) for row in rows] == [(1, 1), (1, 3), (2, 1), (2, 3)]
    for row in rows:
        assert_compared(row, lines, "bare network", "sample")


@pytest.fixture
def few_files(monkeypatch):
    monkeypatch.setattr("fewstep.studies.bench.train.FILES", 2)
    monkeypatch.setattr("fewstep.studies.bench.train.WORKERS", 0)


SMALL = ["train", "--preset", "tiny", "--steps", 1]


def test_train_compares_both_phases_with_the_plain_loop(few_files, tmp_path, capsys):
    lines, content = results_of(capsys, tmp_path, *SMALL, "--batch_size", 2)
    for phase in ("teacher", "student"):
        (row,) = content[phase]["comparisons"]
        assert row["name"] == f"{phase}, batches of 2, plain loop over defaults"
        assert_compared(row, lines, "defaults", "plain loop")
        assert "profile" not in content[phase]


def test_train_pulls_levers_and_profiles(few_files, tmp_path, capsys):
    more = ["--phase", "teacher", "--lever", "micro_batch=1", "--profile", "--batch_size", 2, 3]
    lines, content = results_of(capsys, tmp_path, *SMALL, *more)
    assert "student" not in content
    comparisons, costs = content["teacher"]["comparisons"], content["teacher"]["profile"]
    assert [row["batch_size"] for row in comparisons] == [2, 3]
    for row in comparisons:
        assert_compared(row, lines, "defaults", "micro_batch=1")
    assert "aten::convolution_backward" in costs and costs.splitlines()[0] in lines
