"""The random feature space: the same everywhere, and it sees what an eye sees."""

import numpy as np
import pytest
import torch

from fewstep.scores.comparison import Comparison
from fewstep.scores.ladder import FLOOR, LADDER, ladder_table
from fewstep.scores.ladder import main as ladder_main
from fewstep.scores.random_features import DIGEST, NAME, RandomFeatureSpace, random_feature_space
from src.utils import UserError


def smooth_pictures(count, seed=0):
    """Random smooth colour pictures with an edge, uint8 `[count, 64, 64, 3]`."""
    random = np.random.RandomState(seed)
    coarse = torch.from_numpy(random.uniform(0, 255, (count, 3, 4, 4)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    smooth[:, :, 40:] *= 0.5
    return smooth.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def test_name_and_digest_are_pinned():
    space = RandomFeatureSpace()
    assert space.name == NAME == "random-conv-v1"
    assert space.digest == DIGEST


def test_features_are_pinned():
    """The digest covers weights and scales; this covers the formula."""
    ramp = (np.arange(64 * 64 * 3).reshape(1, 64, 64, 3) * 37 % 251).astype(np.uint8)
    features = random_feature_space().embed(ramp)
    expected = np.array(
        [-4.10299, 0.3014, 0.95148, -0.46265, -11.65502, -0.71968, 0.64796, -0.73399]
    )
    np.testing.assert_allclose(features[0, ::8], expected, rtol=0, atol=2e-4)


def test_global_random_state_does_not_matter_and_stays_as_it_was():
    images = smooth_pictures(3)
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = RandomFeatureSpace().embed(images)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    torch.manual_seed(2)
    np.random.seed(2)
    assert np.array_equal(RandomFeatureSpace().embed(images), first)


def test_shape_type_and_batches():
    space, images = random_feature_space(), smooth_pictures(5)
    features = space.embed(images)
    assert features.shape == (5, space.dimension) == (5, 64)
    assert features.dtype == np.float64 and np.isfinite(features).all()
    np.testing.assert_allclose(space.embed(images, batch_size=2), features, atol=1e-4)
    flipped = space.embed(images[:, ::-1])  # a view with a negative stride
    np.testing.assert_array_equal(flipped, space.embed(images[:, ::-1].copy()))
    assert np.abs(flipped - features).max() > 0.1


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 64, 64, 3), np.float32),
        np.zeros((2, 3, 64, 64), np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((2, 8, 8, 3), np.uint8),
    ],
)
def test_other_shapes_and_types_are_refused(images):
    with pytest.raises(ValueError, match="images"):
        random_feature_space().embed(images)


def test_flat_images_have_finite_features():
    assert np.isfinite(random_feature_space().embed(np.zeros((2, 64, 64, 3), np.uint8))).all()


def test_distance_is_symmetric_and_zero_for_equal_sets():
    a, b = smooth_pictures(80, seed=1), smooth_pictures(80, seed=2)
    space = random_feature_space()
    to_a, to_b = Comparison([space], a), Comparison([space], b)
    assert to_a.distance(a) < 1e-6
    assert to_b.distance(a) == pytest.approx(to_a.distance(b), rel=1e-6)
    assert to_b.distance(a) > 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_same_features():
    space, images = random_feature_space(), smooth_pictures(5)
    np.testing.assert_allclose(space.embed(images, device="cuda"), space.embed(images), atol=1e-3)


def test_corruptions_do_what_their_names_say():
    images = smooth_pictures(6)
    made = {name: corrupt(images, np.random.RandomState(0)) for name, corrupt in LADDER.items()}
    for name, corrupted in made.items():
        assert corrupted.shape == images.shape and corrupted.dtype == np.uint8, name
        if "modes" not in name and name != FLOOR:  # of six images, fewer than 10 or 100 differ
            assert not np.array_equal(corrupted, images), name
    assert np.array_equal(made["upside down"][:, 0], images[:, -1])
    for size in (16, 8):
        shuffled = made[f"{size}-px patches shuffled"]
        assert np.array_equal(np.sort(shuffled, axis=None), np.sort(images, axis=None))
        first = shuffled[0, :size, :size]
        corners = range(0, 64, size)
        assert any(
            np.array_equal(first, images[0, i : i + size, j : j + size])
            for i in corners
            for j in corners
        )
    box = images[0, 9:12, 19:22].astype(float).mean(axis=(0, 1))
    assert np.abs(made["3x3 blur"][0, 10, 20] - box).max() <= 0.5
    flat = np.full((2, 64, 64, 3), 128, np.uint8)
    noisy = LADDER["noise 5/255"](flat, np.random.RandomState(0))
    assert noisy.std() == pytest.approx(5, rel=0.05)
    assert len(np.unique(made["one mode only"].reshape(6, -1), axis=0)) == 1
    pair = np.stack([np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 100, np.uint8)])
    assert np.unique(LADDER["two faces averaged"](pair, np.random.RandomState(0))) == [50]


def test_every_corruption_of_real_images_stands_above_the_floor(real_faces):
    half, other = real_faces[:600:2], Comparison([random_feature_space()], real_faces[1:600:2])
    distances = {
        name: other.distance(corrupt(half, np.random.RandomState(0)))
        for name, corrupt in LADDER.items()
        if name != "red +10/255"  # which the space hardly sees
    }
    times = {name: distance / distances[FLOOR] for name, distance in distances.items()}
    for name, least in {
        "upside down": 3,
        "16-px patches shuffled": 10,
        "8-px patches shuffled": 20,
        "two faces averaged": 5,
        "3x3 blur": 4,
        "noise 5/255": 4,
        "100 modes": 2,
        "one mode only": 20,
    }.items():
        assert times[name] > least, (name, times)
    assert times["8-px patches shuffled"] > times["16-px patches shuffled"]
    assert times["noise 10/255"] > times["noise 5/255"]
    assert times["one mode only"] > times["10 modes"] > times["100 modes"]


def test_ladder_command(tmp_path, capsys, monkeypatch):
    from PIL import Image

    for i, pixels in enumerate(smooth_pictures(10)):
        Image.fromarray(pixels).resize((80, 80)).save(tmp_path / f"{i}.png")
    (tmp_path / "ids.txt").write_text("0\n1.png\n2\n3\n4\n5\n6\n7\n")
    monkeypatch.setattr("fewstep.scores.comparison.classifier_auc", lambda *_, **__: 0.25)
    ladder_main(["--data_root", str(tmp_path), "--split", str(tmp_path / "ids.txt")])
    lines = capsys.readouterr().out.splitlines()
    assert DIGEST[:12] in lines[0] and "8 images" in lines[0]
    table = [line for line in lines if line.startswith("| ")]
    assert len(table) == 2 + len(LADDER) and table[0].endswith("| classifier's AUC |")
    assert all(line.endswith("| 0.250 |") for line in table[2:])
    (tmp_path / "few.txt").write_text("0\n")
    for flags in (["--split", "few.txt"], ["--seed", "-1"]):
        flags = [str(tmp_path / flag) if flag.endswith("txt") else flag for flag in flags]
        with pytest.raises(UserError, match="1 images, at least|--seed -1"):
            ladder_main(["--data_root", str(tmp_path), *flags])
    (tmp_path / "more.txt").write_text("0\n77\n")
    with pytest.raises(UserError, match="no image called 77"):
        ladder_main(["--data_root", str(tmp_path), "--split", str(tmp_path / "more.txt")])
    with pytest.raises(UserError, match="no such file"):
        ladder_main(["--data_root", str(tmp_path), "--split", str(tmp_path / "absent.txt")])
    with pytest.raises(UserError, match="--data_root"):
        ladder_main(["--data_root", str(tmp_path / "absent")])


def test_ladder_table():
    rows = {FLOOR: {"frechet": 2.0, "auc": 0.5}, "noise": {"frechet": 5.0, "auc": 0.9}}
    assert ladder_table(rows).splitlines()[2:] == [
        f"| {FLOOR} | 1.0 | 2.00 | 0.500 |",
        "| noise | 2.5 | 5.00 | 0.900 |",
    ]
