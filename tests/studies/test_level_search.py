"""The search for noise levels: finds what is best, never anything worse, never rising levels."""

import math

from fewstep.studies.evaluate.tune import Trials, search_levels


def distance_to(target):
    """A smooth score whose minimum is at `target`, in logarithms."""

    def score(levels):
        assert all(a > b >= 0 for a, b in zip(levels, [*levels[1:], 0]))
        return sum(math.log(a / b) ** 2 for a, b in zip(levels, target))

    return score


def test_finds_levels_within_a_factor_of_two():
    target = [5.0, 1.3, 0.9, 0.3]
    best, tried = search_levels(distance_to(target), [[8.0, 2.0, 1.0, 0.5]])
    # the steps are factors of 2^(1/4) at the end, so half of one is the most that can be left
    assert all(abs(math.log2(a / b)) <= 0.25 for a, b in zip(best, target))
    assert len(tried) == len({tuple(levels) for levels, _ in tried})


def test_never_worse_than_any_start():
    starts = [[8.0, 1.0], [5.0, 1.0]]
    best, tried = search_levels(distance_to([5.0, 1.0]), starts)
    assert best == [5.0, 1.0] and [levels for levels, _ in tried[:2]] == starts
    flat, _ = search_levels(lambda levels: 1.0, [[8.0, 1.0]])
    assert flat == [8.0, 1.0]  # nothing is changed where nothing is gained


def test_each_list_of_levels_is_scored_once():
    asked = []

    def score(levels):
        asked.append(tuple(levels))
        return levels[0]

    best, tried = search_levels(score, [[4.0]])
    assert best == [4.0 * 0.5 * 2**-0.25] and len(asked) == len(set(asked)) == len(tried)


def test_levels_stay_falling():
    best, tried = search_levels(lambda levels: -levels[1], [[4.0, 2.0, 1.9]])
    assert best[1] < 4.0
    assert all(a > b for levels, _ in tried for a, b in zip(levels, levels[1:]))


def test_trials_outlive_a_stop_and_are_not_taken_for_another_model(tmp_path, capsys):
    path, levels = tmp_path / "trials.json", [80.0, 1.5 * 2**0.25]
    Trials(path, {"weights": "a"}).put(levels, 12.25)
    again = Trials(path, {"weights": "a"})
    assert again.get(levels) == 12.25 and again.get([80.0, 1.5]) is None
    assert "1 trials are there already" in capsys.readouterr().out
    assert Trials(path, {"weights": "b"}).get(levels) is None
