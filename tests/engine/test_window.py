"""Means of a window of steps: dropped steps are counted, and hide nothing."""

import torch

from fewstep.engine.window import Window


def row(loss, skipped=0.0, **more):
    values = {"loss": loss, "skipped": skipped, **more}
    return {key: torch.tensor(value) for key, value in values.items()}


def test_means_are_over_the_steps_that_have_a_key():
    window = Window()
    window.add(row(1.0), 4, {"skipped"})
    window.add(row(3.0, penalty=5.0), 4, {"skipped"})
    window.seconds = 2.0
    window.settle()
    assert window.close() == {
        "loss": 2.0,
        "skipped": 0.0,
        "penalty": 5.0,
        "images_per_second": 4.0,
    }
    window.add(row(7.0), 4, {"skipped"})
    window.settle()
    assert window.close()["loss"] == 7.0


def test_a_dropped_step_counts_as_dropped_alone():
    window = Window()
    for loss, skipped in ((1.0, 0.0), (float("nan"), 1.0), (float("inf"), 1.0)):
        window.add(row(loss, skipped), 1, {"skipped"})
    assert window.dropped_in_a_row(2) == {"skipped": 2} and not window.dropped_in_a_row(3)
    window.add(row(2.0), 1, {"skipped"})
    assert not window.dropped_in_a_row(1)
    window.settle()
    closed = window.close()
    assert closed["loss"] == 1.5 and closed["skipped"] == 0.5


def test_a_network_that_seldom_learns_has_a_count_of_its_own():
    """Between its updates the critics learn alone."""
    window, names = Window(), {"skipped", "disc_skipped"}
    for _ in range(3):
        window.add(row(1.0, 1.0, disc_skipped=0.0), 1, names)
        window.add({"disc_skipped": torch.tensor(0.0)}, 1, names)
    assert window.dropped_in_a_row(1) == {"skipped": 3}
    window.settle()
    assert Window(**window.state()).dropped_in_a_row(1) == {"skipped": 3}


def test_a_step_with_updates_that_were_taken_breaks_the_row_of_dropped_ones():
    """A network may have several a step, whose share that was dropped is logged."""
    window = Window()
    for share in (1.0, 1.0, 0.25, 1.0):
        window.add({"skipped": torch.tensor(share)}, 1, {"skipped"})
    assert window.dropped_in_a_row(1) == {"skipped": 1}


def test_a_window_of_dropped_steps_has_no_loss():
    window = Window()
    window.add(row(float("nan"), 1.0), 1, {"skipped"})
    window.settle()
    assert "loss" not in window.close()


def test_a_saved_window_goes_on():
    whole, parted = Window(), Window()
    for value in (1.0, 2.0):
        whole.add(row(value), 1, {"skipped"})
        parted.add(row(value), 1, {"skipped"})
    parted.settle()
    parted = Window(**parted.state())
    for window in (whole, parted):
        window.add(row(6.0), 1, {"skipped"})
        window.settle()
    assert whole.close()["loss"] == parted.close()["loss"] == 3.0
