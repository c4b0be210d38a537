"""The classifier two-sample test: its arithmetic, and what it tells apart."""

import numpy as np
import pytest
import torch

from fewstep.images.synthetic import draw_face
from fewstep.scores.ladder import LADDER
from fewstep.scores.two_sample import classifier_auc, roc_auc

COUNT, STEPS = 120, 25  # fewer images and steps than in use, to be quick


@pytest.fixture(scope="module")
def faces():
    """Two sets of drawn faces that share none."""
    return [np.stack([draw_face(i, seed) for i in range(COUNT)]) for seed in (0, 1)]


def test_area_by_hand():
    assert roc_auc([2, 3], [0, 1]) == 1
    assert roc_auc([0, 1], [2, 3, 4]) == 0
    assert roc_auc([1, 1], [1]) == 0.5
    assert roc_auc([0, 2], [1]) == 0.5
    assert roc_auc([1, 2], [1, 0]) == 3.5 / 4


@pytest.mark.parametrize("n, m, levels", [(5, 9, 3), (200, 131, 10), (200, 131, 10**6)])
def test_area_against_scikit_learn(n, m, levels):
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.RandomState(0)
    positive = random.randint(0, levels, n) + levels // 3  # few levels: many ties
    negative = random.randint(0, levels, m)
    labels, scores = [1] * n + [0] * m, np.concatenate([positive, negative])
    expected = metrics.roc_auc_score(labels, scores)
    assert roc_auc(positive, negative) == pytest.approx(expected, rel=1e-12)


def test_two_sets_of_one_distribution_are_not_told_apart(faces):
    assert classifier_auc(*faces, steps=STEPS) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("corruption", ["noise 5/255", "3x3 blur", "16-px patches shuffled"])
def test_corrupted_images_are_told_apart(faces, corruption):
    corrupted = LADDER[corruption](faces[0], np.random.RandomState(0))
    assert classifier_auc(corrupted, faces[1], steps=STEPS) > 0.8


@pytest.mark.parametrize("corruption", ["upside down", "red +10/255"])
def test_corrupted_real_images_are_told_apart(real_faces, corruption):
    corrupted = LADDER[corruption](real_faces[:400:2], np.random.RandomState(0))
    assert classifier_auc(corrupted, real_faces[1:400:2], steps=STEPS) > 0.8


def test_the_same_each_time_and_global_random_states_stay(faces):
    a, b = faces[0][:20], faces[1][:30]
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = classifier_auc(a, b, seed=3, steps=2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    torch.manual_seed(2)
    np.random.seed(2)
    assert classifier_auc(a, b, seed=3, steps=2) == first
    assert classifier_auc(a, b, seed=4, steps=2) != first


def test_classes_are_balanced_and_halves_disjoint(faces, monkeypatch):
    """Each image is scored once, by the network that did not train on it."""
    a, b = faces[0][:31], faces[1][:21]
    trained, scored = [], []

    def train(generated, real, *_):
        trained.append((generated, real))

    def logits(_, images):
        scored.append(images)
        return np.zeros(len(images))

    monkeypatch.setattr("fewstep.scores.two_sample._train", train)
    monkeypatch.setattr("fewstep.scores.two_sample._logits", logits)
    assert classifier_auc(a, b) == 0.5
    assert [len(images) for images in scored] == [11, 11, 10, 10]
    assert [len(images) for pair in trained for images in pair] == [10, 10, 11, 11]

    def ids(*sets):
        return {image.tobytes() for images in sets for image in images}

    for k in (0, 1):
        assert not ids(*trained[k]) & ids(*scored[2 * k : 2 * k + 2])
    assert ids(scored[1], scored[3]) == ids(b)
    assert ids(scored[0], scored[2]) < ids(a)


def test_other_images_are_refused(faces):
    a, b = faces[0][:8], faces[1][:8]
    with pytest.raises(ValueError, match="too few"):
        classifier_auc(a[:3], b)
    with pytest.raises(ValueError, match="one size"):
        classifier_auc(a[:, :32], b)
    with pytest.raises(ValueError, match="one size"):
        classifier_auc(a[:, :48], b[:, :48])
    with pytest.raises(ValueError, match="uint8"):
        classifier_auc(a / 255, b)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu(faces):
    corrupted = LADDER["3x3 blur"](faces[0], np.random.RandomState(0))
    before = torch.cuda.get_rng_state()
    assert classifier_auc(corrupted, faces[1], steps=STEPS, device="cuda") > 0.8
    assert torch.equal(torch.cuda.get_rng_state(), before)
