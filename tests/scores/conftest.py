"""Real images, decoded once for all tests of scores."""

import pytest

from fewstep.scores.ladder import load_set


@pytest.fixture(scope="session")
def real_faces(simpsons):
    """The Simpsons' validation images, uint8 `[1000, 64, 64, 3]`."""
    return load_set(simpsons / "cropped", simpsons / "val_split.txt")
