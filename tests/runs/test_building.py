"""What a run is built of, where no whole run is needed to see it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fewstep.images.synthetic import draw_face
from fewstep.runs import building
from fewstep.runs.command_line import make_settings
from fewstep.scores import efficientnet
from fewstep.scores.frechet import feature_distance
from fewstep.scores.spaces import SELECTING, feature_space


class Images:
    """Six drawn faces as a training set."""

    def __init__(self):
        self.pixels = torch.from_numpy(np.stack([draw_face(i, 0) for i in range(6)]))

    def __len__(self):
        return len(self.pixels)

    def take(self, rows):
        return self.pixels[torch.as_tensor(rows)]


@pytest.mark.parametrize("name", SELECTING)
def test_the_best_checkpoint_is_measured_in_the_space_that_was_asked_for(name, monkeypatch):
    if name == "efficientnet" and not efficientnet.is_installed():
        pytest.skip(efficientnet.INSTALL)
    made = np.stack([draw_face(i, 9) for i in range(8)])
    monkeypatch.setattr(building, "image_batches", lambda *_: [made])
    phase, images = SimpleNamespace(best_by=None, ema=None, is_start=False), Images()
    settings = make_settings({"best_features": name, "best_images": 8})
    selection = building.selection_of(settings, phase, images, torch.zeros(1), print)
    space = feature_space(name)
    wanted = feature_distance(space.embed(made), space.embed(images.pixels.numpy()))
    assert selection.score() == pytest.approx(wanted) and selection.measure == space.name
    phase.is_start = True  # it learns images of half the side, and can make no whole ones
    assert selection.score() is None
