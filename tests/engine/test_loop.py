"""The loop with a phase of one number: what is logged, saved, refused and gone on with."""

import re
import signal

import pytest
import torch

from fewstep.engine.checkpoints import list_checkpoints
from fewstep.engine.log import read_rows
from fewstep.engine.loop import Selection, better, state_text, train
from fewstep.engine.phase import Phase
from fewstep.engine.stopping import TIME_IS_UP, Interrupted, StopRequests
from src.utils import UserError
from tests.students import job_in


class CountingPhase(Phase):
    """Adds a random number each step; its state is the sum."""

    name, ema, remedies = "counting", torch.nn.Module(), {"skipped": "lower it"}
    drop_metrics = ("skipped",)

    def __init__(self, total, broken_from=10**9, concerns=lambda row: {}):
        super().__init__([], total, {})
        self.sum, self.broken_from, self.concerns = torch.zeros(1), broken_from, concerns

    def step(self, micro_batches, step):
        broken = step >= self.broken_from
        if not broken:
            self.sum = self.sum + torch.rand(1) + sum(one.images.sum() for one in micro_batches)
        loss = float("nan") if broken else step
        return {"loss": torch.tensor(loss), "skipped": torch.tensor(float(broken))}

    def draw_first(self, step, check):
        self.drawn_at = step

    def pictures(self, count, side):
        return torch.zeros(len(self.nfe_rows) * count, 3, 4, 4)

    def heldout_metrics(self, images):
        return {"heldout_loss": 1.0}

    def state_dict(self):
        return {"sum": self.sum}

    def load_state_dict(self, state):
        self.sum = state["sum"]


def full_of_step(step):
    return torch.full((2, 3, 4, 4), float(step))


def run(folder, phase, saved=None, batch_of=full_of_step, lr=1.0, selection=None, **options):
    intervals = dict(log_interval=4, save_interval=3, sample_interval=100)
    return train(
        phase,
        job_in(folder, **intervals | options),
        batch_of,
        identity={"lr": lr, "steps": phase.total},
        steps_flag="steps",
        heldout=torch.zeros(1, 3, 4, 4),
        selection=selection,
        publish=lambda: None if saved is None else saved.append(float(phase.sum)),
    )


def test_held_out_values_are_logged_whenever_they_are_measured(tmp_path):
    run(tmp_path, CountingPhase(11))
    rows = read_rows(tmp_path / "log.jsonl")
    assert [row["step"] for row in rows] == [4, 8, 10, 11]
    assert ["heldout_loss" in row for row in rows] == [False, False, True, True]
    assert [row["loss"] for row in rows] == [1.5, 5.5, 8.5, 10.0]  # means of their own steps
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == [
        "counting_0000010.png",
        "counting_0000011.png",
    ]


def test_going_on_gives_the_same_and_the_same_rows(tmp_path):
    whole, parted = CountingPhase(11), CountingPhase(11)
    run(tmp_path / "whole", whole)
    with pytest.raises(RuntimeError):
        run(tmp_path / "parted", parted, batch_of=stop_at(8))
    again = CountingPhase(11)
    run(tmp_path / "parted", again)
    assert torch.equal(again.sum, whole.sum)
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


def test_a_signal_ends_what_is_drawn_first_at_once(tmp_path):
    class Drawing(CountingPhase):
        def draw_first(self, step, check):
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("it went on")

    phase = CountingPhase(5)
    run(tmp_path, phase)
    assert phase.drawn_at == 0
    longer = CountingPhase(8)
    run(tmp_path, longer)
    assert longer.drawn_at == 5
    with pytest.raises(Interrupted) as stopped:
        run(tmp_path / "drawing", Drawing(5))
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert not list((tmp_path / "drawing").rglob("*.pt"))


def test_a_concern_is_said_and_logged_once_a_run(tmp_path, capsys):
    def concerns(row):
        return {"high": f"loss = {row['loss']:g}: lower it"} if row["step"] >= 8 else {}

    with pytest.raises(RuntimeError):
        run(tmp_path, CountingPhase(40, concerns=concerns), batch_of=stop_at(14))
    run(tmp_path, CountingPhase(40, concerns=concerns))
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1 and said[0].endswith("counting, step 8: loss = 5.5: lower it")
    logged = [row for row in read_rows(tmp_path / "log.jsonl") if "concern" in row]
    assert [(row["step"], row["concern"]) for row in logged] == [(8, "high")]


def test_a_finished_phase_writes_its_results_again(tmp_path):
    saved = []
    run(tmp_path, CountingPhase(3), saved)
    run(tmp_path, CountingPhase(3), saved)
    assert len(saved) == 2 and saved[0] == saved[1] > 0


def test_other_settings_are_refused(tmp_path):
    run(tmp_path, CountingPhase(3))
    with pytest.raises(UserError, match="trained with lr = 1.0, not 2.0"):
        run(tmp_path, CountingPhase(6), lr=2.0)


def test_an_earlier_programs_run_goes_on_with_what_it_had_without_saying(tmp_path, capsys):
    def train_with(phase, new):
        identity = {"steps": phase.total} | new
        more = dict(heldout=torch.zeros(1, 3, 4, 4), steps_flag="steps", before={"weight": 0.0})
        job = job_in(tmp_path, log_interval=4, save_interval=3, sample_interval=100)
        train(phase, job, full_of_step, identity=identity, **more)

    train_with(CountingPhase(5), {})
    train_with(CountingPhase(7), {"weight": 0.0})
    assert "from 5 to 7 steps" in capsys.readouterr().out
    with pytest.raises(UserError, match="weight = 0.0, not 0.5"):
        train_with(CountingPhase(7), {"weight": 0.5})


def test_a_finished_phase_draws_nothing_first(tmp_path):
    class Drawing(CountingPhase):
        draws = 0

        def draw_first(self, step, check):
            self.draws += 1

    first, again = Drawing(5), Drawing(5)
    run(tmp_path, first)
    run(tmp_path, again)
    assert first.draws == 1 and again.draws == 0


def test_a_finished_phase_is_taken_further_and_says_by_which_schedule(tmp_path, capsys):
    """Also when the longer run is stopped in between."""
    whole, parted = CountingPhase(11), CountingPhase(11)
    for folder in ("whole", "parted"):
        run(tmp_path / folder, CountingPhase(5))
    run(tmp_path / "whole", whole)
    assert (
        "from 5 to 11 steps: from step 5 on its schedules are those of 11"
        in capsys.readouterr().out
    )
    with pytest.raises(RuntimeError):
        run(tmp_path / "parted", CountingPhase(11), batch_of=stop_at(8))
    capsys.readouterr()
    run(tmp_path / "parted", parted)
    assert "schedules" not in capsys.readouterr().out
    assert torch.equal(parted.sum, whole.sum) and parted.first_total == 5
    with pytest.raises(UserError, match="steps = 11, not 9; give the same or more"):
        run(tmp_path / "whole", CountingPhase(9))


def test_a_diverged_run_stops_and_keeps_its_last_state(tmp_path):
    phase = CountingPhase(1000, broken_from=6)
    with pytest.raises(UserError, match="not finite for the last 14 updates up to step 20"):
        run(tmp_path, phase, max_skips=10)
    rows = read_rows(tmp_path / "log.jsonl")
    assert rows[1]["loss"] == 4.5 and rows[1]["skipped"] == 0.5  # means over the good steps
    assert "loss" not in rows[-1] and rows[-1]["skipped"] == 1


@pytest.mark.parametrize("broken_from", [0, 18])
def test_a_phase_whose_last_updates_were_dropped_has_not_succeeded(tmp_path, broken_from):
    saved, phase = [], CountingPhase(21, broken_from=broken_from)
    with pytest.raises(UserError, match=f"last {21 - broken_from} updates up to step 21.*lower it"):
        run(tmp_path, phase, saved, max_skips=50, save_interval=20)
    assert len(saved) == 1, "the last state is neither saved nor published"
    with pytest.raises(UserError, match=f"last {21 - broken_from} updates"):
        run(tmp_path, phase, saved, max_skips=50, save_interval=20)
    run(tmp_path, CountingPhase(21), saved)  # with whatever has helped
    assert list_checkpoints(tmp_path / "counting")[0] == 21


def test_a_single_dropped_update_at_the_end_of_a_long_phase_does_no_harm(tmp_path):
    run(tmp_path, CountingPhase(60, broken_from=59))
    assert list_checkpoints(tmp_path / "counting")[0] == 60


def test_when_its_time_is_up_a_run_saves_and_goes_on_later(tmp_path):
    whole, parted = CountingPhase(11), CountingPhase(11)
    run(tmp_path / "whole", whole)
    stop = StopRequests(minutes=1e-9)
    with pytest.raises(Interrupted, match="stopped at step 1 of 11") as caught:
        run(tmp_path / "parted", parted, stop=stop)
    assert caught.value.exit_code == TIME_IS_UP == 75
    run(tmp_path / "parted", again := CountingPhase(11))
    assert torch.equal(again.sum, whole.sum)


def test_checkpoints_come_by_time_as_well(tmp_path):
    """Steps may take minutes; which one is the best does not depend on the clock."""
    scored = []
    for minutes, saves in ((1e-9, 5), (60.0, 1), (0.0, 1)):
        saved, folder = [], tmp_path / str(minutes)
        selection = Selection(lambda: scored.append(1) or 1.0, lambda: None, "a measure")
        run(
            folder,
            CountingPhase(5),
            saved,
            save_interval=100,
            save_minutes=minutes,
            selection=selection,
        )
        assert len(saved) == saves, minutes
    assert len(scored) == 3, "at the last step alone"


def test_a_bar_has_losses_and_images_a_second(tmp_path, capsys):
    row = {"phase": "student", "step": 4, "distill_loss": 0.05123, "disc_loss": 1.5, "spread": 1.0}
    row |= {"identity_loss": 0.2, "heldout_loss": 9.0, "images_per_second": 129.7}
    assert state_text(row) == "130 images/s, disc_loss 1.5, distill_loss 0.0512"
    assert state_text({"images_per_second": 4.2}) == "4 images/s"
    run(tmp_path, CountingPhase(11))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("counting: 100%|") and " 11/11 [" in last
    assert re.search(r", [\d]+ images/s, loss 10]$", last)


def test_the_best_is_of_one_measure():
    best = better(None, 1, 30.0, "random")
    assert better(best, 2, 31.0, "random") == best and better(best, 2, float("nan"), "b") == best
    assert better(best, 2, 29.0, "random") == {"step": 2, "value": 29.0, "measure": "random"}
    # numbers of another measure do not compare
    assert better(best, 2, 200.0, "efficientnet")["step"] == 2
    assert better({"step": 1, "value": 3.0}, 2, 4.0, "random")["step"] == 1  # of earlier versions
