"""What a logger is told: the rows of log.jsonl, whatever was killed in between, and no failure of
its own ends a training."""

import random
import sys
import time
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from fewstep.engine import loggers
from fewstep.engine.log import read_rows
from fewstep.engine.loggers import Reports, sheet_path
from fewstep.engine.loop import train
from fewstep.runs.command_line import parse_settings
from fewstep.runs.run_folder import phase_identity
from src.utils import UserError
from tests.engine.test_loop import CountingPhase, full_of_step, stop_at
from tests.students import job_in, tiny_settings

NAME, SETTINGS = CountingPhase.name, {"lr": 0.5, "data": "drawn"}
BESIDE = ("phase", "step")


def watched(folder, name, phase=None, batch_of=full_of_step):
    """A training of the loop with that logger, rows each second step, a checkpoint each sixth."""
    reports = Reports(name, folder, SETTINGS)
    intervals = dict(log_interval=2, save_interval=6, sample_interval=100)
    job = job_in(folder, **intervals)._replace(reports=reports)
    phase = phase or CountingPhase(14)
    try:
        train(phase, job, batch_of, identity={}, heldout=torch.zeros(1, 3, 4, 4))
    finally:
        reports.close()
    return phase


def killed(folder, name):
    """A training that ends at step 11: its rows of steps 8 and 10 have no checkpoint."""
    with pytest.raises(RuntimeError, match="killed"):
        watched(folder, name, batch_of=stop_at(11))


def numbers(row):
    return {key: value for key, value in row.items() if key not in BESIDE}


@pytest.fixture
def events():
    """A reader of TensorBoard's own; skips where it is absent."""
    module = "tensorboard.backend.event_processing.event_accumulator"
    return pytest.importorskip(module, reason="pip install tensorboard").EventAccumulator


def scalars(reader, key):
    return [(one.step, one.value) for one in reader.Scalars(f"{NAME}/{key}")]


def test_tensorboard_shows_the_rows_of_the_log_once_and_in_order_after_a_kill(tmp_path, events):
    killed(tmp_path, "tensorboard")
    folder = tmp_path / "tensorboard" / NAME
    open_since = events(str(folder)).Reload()
    assert [step for step, _ in scalars(open_since, "loss")] == [2, 4, 6, 8, 10]

    time.sleep(1.1)  # files are read in the order of their names, which begin with the second
    watched(tmp_path, "tensorboard")
    rows = read_rows(tmp_path / "log.jsonl")
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12, 14]
    for reader in (events(str(folder)).Reload(), open_since.Reload()):
        shown = {tag.partition("/")[2] for tag in reader.Tags()["scalars"]}
        assert shown == {key for row in rows for key in numbers(row)}
        for key in shown:
            told = {row["step"]: row[key] for row in rows if key in row}
            steps, values = zip(*scalars(reader, key))
            assert steps == tuple(told) and values == pytest.approx(tuple(told.values())), key
    sizes = [path.stat().st_size for path in sorted(folder.iterdir())]
    assert sizes[0] == 0 < sizes[1], "a file of an earlier start takes no room"


def test_tensorboard_shows_the_sheets_and_the_settings(tmp_path, events):
    watched(tmp_path, "tensorboard")
    reader = events(str(tmp_path / "tensorboard" / NAME)).Reload()
    images = reader.Images(f"{NAME}/samples")
    assert [one.step for one in images] == [10, 14]
    sheet = Image.open(sheet_path(tmp_path, NAME, 14)).convert("RGB")
    shown = Image.open(BytesIO(images[-1].encoded_image_string)).convert("RGB")
    assert np.array_equal(np.asarray(shown), np.asarray(sheet))
    (text,) = reader.Tensors("settings/text_summary")
    assert b'"lr": 0.5' in text.tensor_proto.string_val[0]


def concerns(row):
    return {"high": "loss is high: lower it"} if row["step"] >= 12 else {}


def test_what_a_sentinel_says_is_shown_as_a_text_beside_one_sheet(tmp_path, events):
    watched(tmp_path, "tensorboard", CountingPhase(14, concerns=concerns))
    reader = events(str(tmp_path / "tensorboard" / NAME)).Reload()
    (text,) = reader.Tensors(f"{NAME}/text/text_summary")
    assert text.step == 12 and text.tensor_proto.string_val == [b"loss is high: lower it"]
    assert len(reader.Images(f"{NAME}/samples")) == 2


def test_two_phases_count_their_steps_apart(tmp_path, events):
    """Going on with the second one leaves the first as it is."""
    reports = Reports("tensorboard", tmp_path, SETTINGS)
    rows = [{"step": step, "loss": float(step)} for step in (1, 2, 3)]
    reports.begin("first", [row | {"phase": "first"} for row in rows])
    reports.begin("second", [rows[0] | {"phase": "second"}])
    reports.row(rows[1] | {"phase": "second"})
    reports.close()
    steps = {}
    for phase in ("first", "second"):
        reader = events(str(tmp_path / "tensorboard" / phase)).Reload()
        steps[phase] = [one.step for one in reader.Scalars(f"{phase}/loss")]
    assert steps == {"first": [1, 2, 3], "second": [1, 2]}


class FakeRun:
    """A run of a package that draws curves, which keeps what it is told. failing: the name of a
    call that fails from its third time on."""

    def __init__(self, failing=None, **begun):
        self.begun, self.calls, self.failing = begun, [], failing

    def _take(self, name, *what):
        self.calls.append((name, *what))
        if name == self.failing and [call[0] for call in self.calls].count(name) > 2:
            raise ConnectionError("no network\nand more lines")

    def define_metric(self, name, step_metric=None):
        self._take("define_metric", name, step_metric)

    def log(self, values, step=None):
        torch.rand(3), np.random.rand(3), random.random()  # it may draw what it likes
        self._take("log", values, step)

    def finish(self):
        for _ in range(3):
            self._take("finish")

    def rows(self):
        """(step, {key: value}) of all that was logged, without pictures."""
        logged = []
        for _, values, step in (call for call in self.calls if call[0] == "log"):
            values = {key.removeprefix(f"{NAME}/"): value for key, value in values.items()}
            step = values.pop("step", step)
            values.pop("samples", None)
            logged.append((step, values))
        return logged

    def sheets(self):
        logged = [call[1] for call in self.calls if call[0] == "log"]
        return [values[f"{NAME}/samples"] for values in logged if f"{NAME}/samples" in values]


def put_in_place(monkeypatch, name, failing=None):
    """Let a fake stand for the package `name`. Returns the list of the runs that are begun."""
    runs = []

    def init(**begun):
        if failing == "init":
            raise ConnectionError("no network")
        runs.append(FakeRun(failing, **begun))
        return runs[-1]

    monkeypatch.setitem(sys.modules, name, SimpleNamespace(init=init, Image=lambda path: path))
    return runs


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_each_start_is_a_run_with_all_rows_of_the_log(tmp_path, monkeypatch, name):
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    runs = put_in_place(monkeypatch, name)
    killed(tmp_path / "mine", name)
    assert [step for step, _ in runs[0].rows()] == [2, 4, 6, 8, 10]
    watched(tmp_path / "mine", name)
    rows = read_rows(tmp_path / "mine" / "log.jsonl")
    assert runs[1].rows() == [(row["step"], numbers(row)) for row in rows] and len(rows) == 7
    assert runs[1].sheets() == [str(sheet_path(tmp_path / "mine", NAME, at)) for at in (10, 14)]
    for run in runs:
        assert run.calls[-1] == ("finish",)
        place = dict(project="fewstep", name="mine", group="mine", config=SETTINGS)
        assert place.items() <= run.begun.items()
    metrics = [call for call in runs[1].calls if call[0] == "define_metric"]
    wanted = [(f"{NAME}/step", None), (f"{NAME}/*", f"{NAME}/step")] if name == "wandb" else []
    assert [call[1:] for call in metrics] == wanted


@pytest.mark.parametrize("failing", ["init", "log", "finish"])
def test_a_logger_that_fails_is_one_warning_and_the_training_goes_on(
    tmp_path, monkeypatch, capsys, failing
):
    plain = watched(tmp_path / "plain", "none")
    runs = put_in_place(monkeypatch, "wandb", failing)
    phase = watched(tmp_path / "watched", "wandb")
    lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    (line,) = lines
    assert line.startswith("warning: --logger wandb: no network; training goes on without it")
    assert torch.equal(phase.sum, plain.sum), "and no random number of it is drawn"
    first, second = (read_rows(tmp_path / one / "log.jsonl") for one in ("plain", "watched"))
    for row in first + second:
        del row["seconds"], row["images_per_second"]
    assert first == second
    if failing == "log":
        assert len(runs[0].rows()) == 3, "nothing more is told"


def test_a_folder_that_cannot_be_written_to_is_such_a_failure(tmp_path, events, capsys):
    (tmp_path / "tensorboard").write_text("in the way")
    assert watched(tmp_path, "tensorboard").sum > 0
    assert capsys.readouterr().err.count("warning: --logger tensorboard") == 1


def test_numbers_that_are_none_are_left_out(tmp_path, monkeypatch):
    put_in_place(monkeypatch, "trackio")
    reports = Reports("trackio", tmp_path, SETTINGS)
    reports.begin(NAME, [])
    reports.row({"phase": NAME, "step": 3, "loss": float("nan"), "lost": None, "spread": 1.5})
    assert reports.logger.run.rows() == [(3, {"spread": 1.5})]


def test_without_a_logger_and_in_other_processes_nothing_is_begun(tmp_path, monkeypatch):
    runs = put_in_place(monkeypatch, "wandb")
    watched(tmp_path, "none")
    Reports("wandb", tmp_path, SETTINGS).close()  # as by processes that never log
    assert runs == []


@pytest.mark.parametrize("name", list(loggers.LOGGERS))
def test_an_absent_package_is_asked_for_before_anything_begins(monkeypatch, name):
    monkeypatch.setitem(sys.modules, loggers.MODULES.get(name, name), None)
    wanted = f"^--logger {name} needs a package: pip install {name}$"
    with pytest.raises(UserError, match=wanted):
        parse_settings(["--data", "synthetic", "--logger", name])


def test_the_logger_is_no_part_of_what_a_run_is():
    one, other = (tiny_settings(dict(logger=name)) for name in ("none", "wandb"))
    for phase in ("teacher", "student"):
        assert phase_identity(one, phase, {}) == phase_identity(other, phase, {})
