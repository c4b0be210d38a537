"""A folder for programs to be refused in, and what refusing means."""

import os

import pytest
import torch
from PIL import Image

from custom_model import create_custom_model
from src.model_config import MODEL_DEFAULTS
from src.utils import save_model
from tests.faults.programs import start

PLANS = {
    "deep.yaml": "[" * 5000,
    "date.yaml": "grid: {distill_std: [2020-01-01]}",
    "mapping.yaml": "base: {lr: {a: 1}}\ngrid: {disc: [patch]}",
    "yes.yaml": "seeds: [yes]\ngrid: {disc: [patch]}",
    "long.yaml": f"seeds: [{'9' * 5000}]\ngrid: {{disc: [patch]}}",
    "many.yaml": "grid:\n"
    + "".join(
        f"  {flag}: [{', '.join(map(str, range(1, 13)))}]\n"
        for flag in ("disc_warmup", "adv_ramp", "disc_steps", "fake_steps")
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the programs run: files of several kinds, pictures, and a student without merits."""
    folder = tmp_path_factory.mktemp("command_lines")
    (folder / "a_file").write_text("not what it is taken for")
    (folder / "nothing").write_text("")
    (folder / "bytes").write_bytes(bytes(range(256)))
    (folder / "empty").mkdir()
    for name, content in PLANS.items():
        (folder / name).write_text(content)
    (folder / "pictures").mkdir()
    for place in range(9):
        Image.new("RGB", (64, 64), (place, 0, 0)).save(folder / "pictures" / f"{place}.png")
    config = MODEL_DEFAULTS | {"network": "tiny", "sampler": "few_step"}
    save_model(create_custom_model(**config), folder / "model" / "best_model.pt", config)
    before, precision = os.getcwd(), torch.get_float32_matmul_precision()
    os.chdir(folder)
    yield folder
    os.chdir(before)
    torch.set_float32_matmul_precision(precision)


def contents(folder):
    """{relative path: (bytes, time of the last change)} of all that is in a folder."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns)
    return found


def assert_refused(program, arguments, folder, *names):
    """Exit code 2, nothing but one line that holds one of `names`, nothing made or changed."""
    before = contents(folder)
    code, _, said = start(program, arguments)
    assert code == 2, arguments
    assert said.startswith("error: ") and said.endswith("\n") and len(said.splitlines()) == 1, said
    assert said.rstrip("\n").isprintable() and len(said) < 5000, said
    assert any(name in said for name in names), (names, said)
    assert contents(folder) == before, arguments


def escaped(text):
    """The beginning of a text as it may stand in a message."""
    return repr(text)[1:-1][:40]
