"""Shared by all tests: one core each, and where optional real data lies."""

from pathlib import Path

import pytest
import torch

from custom_model import create_custom_model

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def simpsons():
    """Folder of real images beside the checkout; tests that need it skip where it is absent."""
    folder = SHARED / "simpsons"
    if not folder.is_dir():
        pytest.skip("the real images are not beside this checkout (../shared/simpsons)")
    return folder


@pytest.fixture
def tiny_model():
    """A tiny denoiser whose output depends on its input (fresh networks return nearly zero)."""
    torch.manual_seed(0)
    model = create_custom_model(network="tiny", sigma_data=0.6)
    with torch.no_grad():
        model.network.tail[2].weight.normal_(std=0.05)
    return model.eval()
