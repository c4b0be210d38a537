"""An interrupted evaluation goes on from what it has, and never from what another setting gave."""

import numpy as np
import pytest

from fewstep.images.synthetic import draw_face
from fewstep.scores.random_features import random_feature_space
from fewstep.studies.evaluate.kept import Kept
from fewstep.studies.evaluate.series import Series, model_series, score_series


class Work:
    """A series of drawn faces and their scores, which counts what it is asked for."""

    def __init__(self, fails_at=None):
        self.sampled, self.scored, self.fails_at = [], [], fails_at

    def series(self, nfe=1, **identity):
        return Series(f"student, NFE {nfe}", "student", nfe, self.sample, {"nfe": nfe} | identity)

    def sample(self, seed):
        self.sampled.append(seed)
        return np.stack([draw_face(i, seed) for i in range(50)])

    def score(self, pixels, seed, generated):
        if seed == self.fails_at:
            raise KeyboardInterrupt
        self.scored.append(seed)
        return {random_feature_space().name: {"frechet": pixels.mean() / 3 + seed}}

    def rows(self, kept, **identity):
        spaces = [random_feature_space()]
        return score_series([self.series(**identity)], spaces, self.score, [1, 2, 3], kept)


def scores_of(rows):
    return [row["scores"] for row in rows]


def test_it_goes_on_with_the_same_numbers_and_pictures(tmp_path):
    whole, pictures = Work().rows(Kept(tmp_path / "other", {}))
    with pytest.raises(KeyboardInterrupt):
        Work(fails_at=2).rows(Kept(tmp_path, {}))
    kept, work = Kept(tmp_path, {}), Work()
    text = kept.describe([work.series()], [1, 2, 3])
    assert text == f"{tmp_path}: 1 of 3 sets of images are scored already, 1 sampled"
    rows, again = work.rows(kept)
    assert work.sampled == [3] and work.scored == [2, 3]
    assert scores_of(rows) == scores_of(whole) and rows[0]["count"] == 50
    assert np.array_equal(again["student, NFE 1"], pictures["student, NFE 1"])
    assert rows[0]["images_per_second"] > 0  # of the sampling that was done before


@pytest.mark.parametrize("shared, own", [({"spaces": ["a"]}, {}), ({}, {"weights": "b"})])
def test_another_setting_is_computed_anew_and_said(tmp_path, shared, own):
    Work().rows(Kept(tmp_path, {}))
    kept, work = Kept(tmp_path, shared), Work()
    text = kept.describe([work.series(**own)], [1, 2, 3])
    assert text.endswith("0 of 3 sets of images are scored already; 3 that are there are of other"
                         " settings and not used")  # fmt: skip
    work.rows(kept, **own)
    assert work.scored == [1, 2, 3]
    kept.forget_others()
    assert len(list(tmp_path.glob("*.npz"))) == 3


def test_a_damaged_file_counts_as_absent(tmp_path):
    Work().rows(Kept(tmp_path, {}))
    for path in tmp_path.glob("*.npz"):
        path.write_bytes(path.read_bytes()[:-100])
    work = Work()
    work.rows(Kept(tmp_path, {}))
    assert work.scored == [1, 2, 3] and Kept(tmp_path, {}).describe([], []) != ""


def test_samples_of_another_model_or_other_levels_are_others(tiny_model, tmp_path):
    kept, tiny_model.sampler = Kept(tmp_path, {}), "few_step"

    def path():
        return kept._path(model_series("student", "student", 1, tiny_model, 4, 2), 0)

    first = path()
    assert path() == first
    tiny_model.scheduler.few_step_table = {1: [3.0]}
    second = path()
    tiny_model.scheduler.few_step_table = {1: [3.0], 2: [3.0, 0.7]}
    assert path() == second, "one evaluation is as it was"
    tiny_model.network.tail[2].bias.data.add_(1)
    assert len({first, second, path()}) == 3


def test_nothing_is_written_where_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Work().rows(Kept(None, {}))
    assert list(tmp_path.iterdir()) == [] and Kept(None, {}).describe([Work().series()], [1]) == ""
