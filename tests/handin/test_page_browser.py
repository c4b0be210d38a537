"""The page in a real browser, with the tiny network: it draws what PyTorch draws."""

import io
import shutil
import threading
from base64 import b64decode
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from fewstep.handin.page import main as page
from fewstep.handin.page.agreement import images_from, noises_of, share_within
from fewstep.handin.page.noise import draw_noise
from fewstep.handin.page.runtime import take_runtime
from src.utils import UserError, save_model
from tests.handin.student import TINY, student

CONFIG = TINY | {"noise_offset": 0.15}
MINUTE = 60_000  # ms that an answer may take on a busy machine
PICTURES = "row => [...document.querySelectorAll(`#${row} canvas`)].map(e => e.toDataURL())"
NOISE = """async parts => {
    const {drawNoise} = await import("./noise.js");
    return [...drawNoise(...parts)];
}"""
MIX = """async parts => {
    const {mixNoise} = await import("./noise.js");
    return [...mixNoise(...parts)];
}"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with the page of the tiny student, not to be written to."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    folder = tmp_path_factory.mktemp("site")
    (folder / "runtime").mkdir()
    try:
        take_runtime(folder / "runtime")
    except UserError as error:
        pytest.skip(str(error))
    save_model(student(), folder / "best_model.pt", CONFIG)
    flags = ["--ckpt_path", folder / "best_model.pt", "--runtime_dir", folder / "runtime"]
    page.main([str(flag) for flag in ("--page", folder / "page", *flags)])
    return folder / "page"


@pytest.fixture(scope="module")
def served(site):
    """Its address, of a server as `python -m http.server` is."""
    yield from serve(site)


def serve(folder):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def opened(browser, served):
    """(the page on a small screen, all drawn, console messages, addresses asked for)."""
    context = browser.new_context(viewport={"width": 360, "height": 800}, color_scheme="dark")
    window = context.new_page()
    messages, requests = [], []
    window.on("console", lambda message: messages.append(message.text))
    window.on("pageerror", lambda error: messages.append(str(error)))
    context.on("request", lambda request: requests.append(request.url))
    window.goto(served)
    window.wait_for_selector("canvas[aria-busy]", timeout=MINUTE)
    yield window, messages, requests
    context.close()


def wait(window, row):
    """Until a row is as it was asked for."""
    selector = f"#{row} canvas[aria-busy=true]"
    window.wait_for_selector(selector, state="detached", timeout=MINUTE)


def drawn(window, row):
    """Images of a row as uint8 `[N, 64, 64, 3]`."""
    wait(window, row)
    files = [b64decode(url.partition(",")[2]) for url in window.evaluate(PICTURES, row)]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files])
    assert pixels.shape[1:] == (64, 64, 4) and (pixels[..., 3] == 255).all()
    return pixels[..., :3]


def of_pytorch(seed, nfe, count):
    model = student().requires_grad_(False)
    model.scheduler.noise_offset = CONFIG["noise_offset"]
    return images_from(model, nfe, [noises_of(model, image, seed) for image in range(count)])


def test_noise_is_that_of_python(opened):
    window, *_ = opened
    for address in ((0, 0, 0), (4294967295, 3, 2)):
        values = window.evaluate(NOISE, [*address, [3, 64, 64], 0.15])
        expected = draw_noise(*address, (3, 64, 64), 0.15).ravel()
        np.testing.assert_allclose(values, expected, atol=1e-6)


def test_a_mixture_of_noises_is_as_strong(opened):
    window, *_ = opened
    a, b = (draw_noise(seed, 0, 0, (3, 16, 16)).ravel().tolist() for seed in (1, 2))
    for share in (0, 0.3, 1):
        mixed = window.evaluate(MIX, [a, b, share])
        assert abs(np.var(mixed) - 1) < 0.2  # halfway on a straight line it would be 0.5
    np.testing.assert_allclose(mixed, b, atol=1e-9)


def test_images_are_those_of_pytorch(opened):
    window, *_ = opened
    new = drawn(window, "new")
    assert len(new) == 8 and len({image.tobytes() for image in new}) == 8
    assert share_within(new, of_pytorch(1, 1, 8)) >= 0.999
    for nfe in (1, 2, 4):
        row = drawn(window, f"row-{nfe}")
        assert share_within(row, of_pytorch(1, nfe, 4)) >= 0.999
        assert window.inner_text(f"#same-{nfe}").endswith(" ms an image")
    assert window.inner_text("#status").startswith("8 images of 1 evaluation each, seed 1: ")


def test_another_seed_and_number_of_evaluations_by_keyboard(opened):
    window, *_ = opened
    before = drawn(window, "new")
    window.focus("#seed")
    window.keyboard.press("Control+a")
    window.keyboard.type("77")
    window.keyboard.press("Tab")  # to the evaluations
    window.keyboard.press("ArrowRight")
    wait(window, "new")
    assert window.inner_text("#status").startswith("8 images of 2 evaluations each, seed 77: ")
    assert share_within(drawn(window, "new"), of_pytorch(77, 2, 8)) >= 0.999
    window.fill("#seed", "1")
    window.check("[name=nfe][value='1']")
    window.keyboard.press("Tab")
    window.keyboard.press("Enter")  # on Draw
    assert np.array_equal(drawn(window, "new"), before)
    window.click("#another")
    seed = int(window.input_value("#seed"))
    assert share_within(drawn(window, "new"), of_pytorch(seed, 1, 8)) >= 0.999
    window.fill("#seed", "4294967296")  # beyond 32 bits
    window.click("[type=submit]")
    assert f"seed {seed}:" in window.inner_text("#status")


def test_the_walk_by_keyboard(opened):
    window, *_ = opened
    window.fill("#seed", "1")
    window.click("[type=submit]")
    start, middle, end = drawn(window, "walk")
    assert share_within(start[None], of_pytorch(1, 1, 1)) >= 0.999
    assert share_within(end[None], of_pytorch(2, 1, 1)) >= 0.999
    model = student()
    model.scheduler.noise_offset = CONFIG["noise_offset"]
    a, b = (noises_of(model, 0, seed) for seed in (1, 2))
    mixed = (a + b) * np.float32(0.5**0.5)
    assert share_within(middle[None], images_from(model, 1, [mixed])) >= 0.999
    window.focus("#share")
    window.keyboard.press("ArrowRight")
    wait(window, "walk")
    label = window.locator("#walk canvas").nth(1).get_attribute("aria-label")
    assert label == "51 percent of the way from seed 1 to seed 2"
    assert not np.array_equal(drawn(window, "walk")[1], middle)
    window.keyboard.press("Home")
    assert np.array_equal(drawn(window, "walk")[1], start)
    assert window.get_attribute("#share", "aria-valuetext") == "0 percent"
    assert window.inner_text("#walk-caption").endswith(" ms an image")


def test_it_is_readable_on_a_phone_in_the_dark_and_by_a_screen_reader(opened):
    window, messages, requests = opened
    assert window.evaluate("document.documentElement.scrollWidth") <= 360
    assert window.evaluate("getComputedStyle(document.body).colorScheme") == "light dark"
    assert window.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    window.wait_for_selector("canvas[aria-busy=true]", state="detached", timeout=MINUTE)
    labels = window.evaluate(
        "[...document.querySelectorAll('canvas')].map(c => [c.role, c.getAttribute('aria-label')])"
    )
    assert len(labels) == 8 + 3 * 4 + 3
    assert all(role == "img" and "not drawn" not in label for role, label in labels)
    assert len({label for _, label in labels}) >= 12
    nameless = "[...document.querySelectorAll('input')].filter(e => !e.labels.length).length"
    assert window.evaluate(nameless) == 0
    assert window.get_attribute("#status", "role") == "status"
    small = "[...document.querySelectorAll('button, [type=number], [type=range]')]"
    assert window.evaluate(f"Math.min(...{small}.map(e => e.offsetHeight))") >= 40
    assert messages == [] and all(url.startswith(window.url) for url in requests)
    assert any(url.endswith(".wasm") for url in requests)


def test_what_cannot_be_loaded_is_said(browser, site, tmp_path):
    copy = shutil.copytree(site, tmp_path / "copy")
    (copy / "model.onnx").unlink()
    for address in serve(copy):
        window = browser.new_page()
        window.goto(address)
        window.wait_for_selector("#failure:not([hidden])", timeout=MINUTE)
        assert window.inner_text("#failure") == (
            "This does not work: model.onnx: 404 File not found"
        )
        assert window.is_disabled("[type=submit]") and window.inner_text("#status") == ""
        window.close()
