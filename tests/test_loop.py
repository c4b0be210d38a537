"""The loop with a stage of one number: what is logged, saved, refused and gone on with."""

import pytest
import torch

from fewstep.engine.log import read_rows
from fewstep.engine.loop import train
from src.utils import UserError


class CountingStage:
    """Adds a random number each step; its state is the sum."""

    name, ema = "counting", torch.nn.Module()

    def __init__(self, broken_from=10**9):
        self.total, self.broken_from = torch.zeros(1), broken_from

    def step(self, parts, step):
        broken = step >= self.broken_from
        if not broken:
            self.total = self.total + torch.rand(1) + sum(part.images.sum() for part in parts)
        loss = float("nan") if broken else step
        return {"loss": torch.tensor(loss), "skipped": torch.tensor(float(broken))}

    def state_dict(self):
        return {"total": self.total}

    def load_state_dict(self, state):
        self.total = state["total"]


def run(folder, stage, total, saved=None, **changes):
    arguments = dict(
        batch_of=lambda step: torch.full((2, 3, 4, 4), float(step)),
        total=total,
        folder=folder,
        identity={"lr": 1.0},
        seed=0,
        pictures=lambda: torch.zeros(2, 3, 4, 4),
        extra_metrics=lambda: {"heldout_loss": 1.0},
        log_interval=4,
        save_interval=3,
        sample_interval=100,
        keep_checkpoints=2,
        on_save=lambda: None if saved is None else saved.append(float(stage.total)),
    )
    return train(stage, **arguments | changes)


def test_held_out_values_are_logged_whenever_they_are_measured(tmp_path):
    run(tmp_path, CountingStage(), 11)
    rows = read_rows(tmp_path / "log.jsonl")
    assert [row["step"] for row in rows] == [4, 8, 10, 11]
    assert ["heldout_loss" in row for row in rows] == [False, False, True, True]
    assert [row["loss"] for row in rows] == [1.5, 5.5, 8.5, 10.0]  # means of their own steps
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == [
        "counting_0000010.png",
        "counting_0000011.png",
    ]


def test_going_on_gives_the_same_and_the_same_rows(tmp_path):
    whole, parted = CountingStage(), CountingStage()
    run(tmp_path / "whole", whole, 11)
    with pytest.raises(RuntimeError):
        run(tmp_path / "parted", parted, 11, batch_of=stop_at(8))
    again = CountingStage()
    run(tmp_path / "parted", again, 11)
    assert torch.equal(again.total, whole.total)
    first, second = (read_rows(tmp_path / name / "log.jsonl") for name in ("whole", "parted"))
    for row in first + second:
        del row["seconds"], row["images_per_second"]
    assert first == second


def stop_at(last):
    def batch_of(step):
        if step == last:
            raise RuntimeError("killed")
        return torch.full((2, 3, 4, 4), float(step))

    return batch_of


def test_a_concern_is_said_and_logged_once_a_run(tmp_path, capsys):
    def concerns(row):
        return {"high": f"loss = {row['loss']:g}: lower it"} if row["step"] >= 8 else {}

    with pytest.raises(RuntimeError):
        run(tmp_path, CountingStage(), 40, concerns=concerns, batch_of=stop_at(14))
    run(tmp_path, CountingStage(), 40, concerns=concerns)
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1 and said[0].endswith("counting, step 8: loss = 5.5: lower it")
    logged = [row for row in read_rows(tmp_path / "log.jsonl") if "concern" in row]
    assert [(row["step"], row["concern"]) for row in logged] == [(8, "high")]


def test_a_finished_stage_writes_its_results_again(tmp_path):
    saved = []
    run(tmp_path, CountingStage(), 3, saved)
    run(tmp_path, CountingStage(), 3, saved)
    assert len(saved) == 2 and saved[0] == saved[1] > 0


def test_other_settings_are_refused(tmp_path):
    run(tmp_path, CountingStage(), 3)
    with pytest.raises(UserError, match="trained with lr = 1.0, not 2.0"):
        run(tmp_path, CountingStage(), 6, identity={"lr": 2.0})


def test_a_diverged_run_stops_and_keeps_its_last_state(tmp_path):
    stage = CountingStage(broken_from=6)
    with pytest.raises(UserError, match="not finite for 14 steps up to 20"):
        run(tmp_path, stage, 1000, max_skips=10)
    rows = read_rows(tmp_path / "log.jsonl")
    assert rows[1]["loss"] == 4.5 and rows[1]["skipped"] == 0.5  # means over the good steps
    assert "loss" not in rows[-1] and rows[-1]["skipped"] == 1
