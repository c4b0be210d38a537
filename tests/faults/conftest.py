"""What several kinds of faults are compared with."""

import pytest

from tests.faults.jobs import finish


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """The folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("whole")
    code, text = finish(folder)
    assert code == 0, text
    return folder
