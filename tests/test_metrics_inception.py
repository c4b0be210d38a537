"""FID: the same number as clean-fid's own, and clear errors where its weights are not."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from metrics import inception
from src.utils import UserError

cleanfid_fid = pytest.importorskip("cleanfid.fid")


class FakeLayers(nn.Module):
    def forward(self, x):
        pooled = nn.functional.adaptive_avg_pool2d(x, (32, 22)).flatten(1)
        return pooled[:, :2048]


class FakeInception(nn.Module):
    """As much of Inception's TorchScript file as clean-fid uses."""

    def __init__(self):
        super().__init__()
        self.layers = FakeLayers()

    def forward(self, x):
        return self.layers(x)


@pytest.fixture
def weights(tmp_path):
    torch.jit.script(FakeInception()).save(str(tmp_path / inception.WEIGHTS_NAME))
    return tmp_path


def write_pictures(folder, count, low, seed):
    folder.mkdir()
    random = np.random.RandomState(seed)
    for i in range(count):
        pixels = random.randint(low, 256, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(
            folder / f"{i:04d}.png"
        )
    return sorted(folder.iterdir())


def few_features(x):
    """A stand-in network with 12 features, so that 30 images give full-rank covariances."""
    return nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


def test_equals_cleanfids_own_number(tmp_path):
    a = write_pictures(tmp_path / "a", 30, 0, seed=0)
    b = write_pictures(tmp_path / "b", 25, 60, seed=1)
    ours = inception.fid(a, b, few_features, "cpu", batch_size=7, num_workers=0)
    try:
        theirs = cleanfid_fid.compare_folders(
            str(tmp_path / "a"), str(tmp_path / "b"), few_features, "clean",
            device=torch.device("cpu"), verbose=False,
        )  # fmt: skip
    except TypeError as error:
        pytest.skip(f"clean-fid's own distance does not run with this SciPy: {error}")
    assert theirs > 100
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_network_equals_cleanfids_loader(weights, tmp_path, monkeypatch):
    files = write_pictures(tmp_path / "a", 3, 0, seed=0)
    network = inception.load_inception("cpu", weights)
    features = inception.inception_features(files, network, "cpu", num_workers=0)
    assert features.shape == (3, 2048)
    from cleanfid import features as cleanfid_features

    wrapper = cleanfid_features.InceptionV3W
    monkeypatch.setattr(
        cleanfid_features, "InceptionV3W", lambda path, **kwargs: wrapper(str(weights), **kwargs)
    )
    theirs = cleanfid_features.build_feature_extractor(
        "clean", torch.device("cpu"), use_dataparallel=False
    )
    expected = cleanfid_fid.get_files_features(
        [str(file) for file in files], theirs, 0, device=torch.device("cpu"), verbose=False
    )
    np.testing.assert_array_equal(features, expected)


def test_weights_are_sought_where_cleanfid_seeks_them(monkeypatch):
    from cleanfid import features as cleanfid_features

    sought = []

    def remember(path, **kwargs):
        sought.append(path)
        return nn.Identity()

    monkeypatch.setattr(cleanfid_features, "InceptionV3W", remember)
    cleanfid_features.build_feature_extractor("clean", torch.device("cpu"), False)
    assert sought == [str(inception.weights_folder())]


def test_absent_weights_name_the_file_and_the_way_out(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("no download may be tried")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(UserError) as caught:
        inception.load_inception("cpu", tmp_path)
    message = str(caught.value)
    assert str(tmp_path / inception.WEIGHTS_NAME) in message
    assert "https://" in message and "--features random" in message and "\n" not in message


def test_damaged_weights_are_found(weights):
    inception.check_weights(weights)
    path = weights / inception.WEIGHTS_NAME
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="damaged: delete it"):
        inception.check_weights(weights)


def test_missing_cleanfid_is_a_user_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanfid", None)
    with pytest.raises(UserError, match="pip install clean-fid"):
        inception.check_weights()
