"""Shared by all tests: one core each, a browser, and where optional real data lies."""

import os
import signal
from pathlib import Path

import pytest
import torch

from custom_model import create_custom_model

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parents[1] / "shared"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

# A suite under nohup ignores it, and what is ignored when a training starts stays so.
if hasattr(signal, "SIGHUP"):  # not on Windows
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Begun first: a process that takes one of these last would be waited for.
SLOWEST = """
runs/test_torchrun.py methods/test_mixture_students.py faults/test_resume.py
runs/test_every_flag.py studies/test_evaluate.py studies/test_compare.py engine/test_processes.py
faults/test_long_run.py test_isolation.py faults/test_signals.py faults/test_disk.py
runs/test_train.py faults/test_damage.py faults/test_images.py runs/test_methods.py
handin/test_page_browser.py
studies/test_evaluation.py studies/test_bench.py engine/test_speed.py handin/test_submit.py
test_notebook.py
""".split()


def pytest_collection_modifyitems(items):
    """The slowest files first, each still in one piece."""
    places = {TESTS / name: place for place, name in enumerate(SLOWEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def simpsons():
    """Folder of real images beside the checkout; tests that need it skip where it is absent."""
    folder = SHARED / "simpsons"
    if not folder.is_dir():
        pytest.skip("the real images are not beside this checkout (../shared/simpsons)")
    return folder


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window; tests that need it skip where it is absent."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    paths = [Path(place) / name for place in os.environ["PATH"].split(":") for name in BROWSERS]
    installed = [path for path in paths if path.is_file()]
    if not installed:
        pytest.skip("no Chromium on the PATH (Debian: apt-get install chromium)")
    with api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=str(installed[0]), args=flags)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def one_thread():
    """Sums in the order of other processes, which have one thread each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def few_pictures():
    """Training in this process measures and shows fewer images, most of the time of a short run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.HELDOUT_IMAGES", 4)
        patch.setattr("fewstep.engine.loop.SHEET_IMAGES", 2)
        yield


@pytest.fixture
def tiny_model():
    """A tiny denoiser whose output depends on its input (fresh networks return nearly zero)."""
    torch.manual_seed(0)
    model = create_custom_model(network="tiny", sigma_data=0.6)
    with torch.no_grad():
        model.network.tail[2].weight.normal_(std=0.05)
    return model.eval()
