"""The order of the packages: a module imports from its own layer or from those below, never up."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Low to high. `fewstep.images` stands below `fewstep.scores`, which reads its split files; and the
# table of the commands, `fewstep.__main__`, above all rooms.
LAYERS = (
    "src",
    "custom_model",
    "fewstep.images",
    "fewstep.scores",
    "discriminator",
    "fewstep.engine",
    "fewstep.methods",
    "fewstep.runs",
    "fewstep.studies",
    "fewstep.handin",
    "fewstep",
    "train sampling measure_fid dataset",
)
# Rooms that stand on one step and do not know each other.
PEERS = ({"fewstep.images", "discriminator"}, {"fewstep.scores", "discriminator"})

# (module, imported module) of arrows for good reasons.
ALLOWED = {
    # the benchmark measures the challenge's own way of reading images against ours
    ("fewstep.studies.bench.data", "dataset"),
}


def layer(module):
    """The place of a module in `LAYERS`, or None for what is not ours."""
    for place in reversed(range(len(LAYERS))):
        for name in LAYERS[place].split():
            if name == "fewstep":
                matches = module in ("fewstep", "fewstep.__main__")
            else:
                matches = module == name or module.startswith(f"{name}.")
            if matches:
                return place
    return None


def is_upward(module, imported):
    here, there = layer(module), layer(imported)
    if there is None:
        return False
    rooms = {LAYERS[here], LAYERS[there]}
    return there > here or rooms in PEERS


def modules():
    """{name: path} of all our modules outside the tests."""
    paths = [*ROOT.glob("*.py"), *ROOT.glob("src/**/*.py")]
    paths += [*ROOT.glob("discriminator/**/*.py"), *ROOT.glob("fewstep/**/*.py")]
    names = {}
    for path in sorted(paths):
        parts = path.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imports(source):
    """Names of all modules that a source text imports, those inside functions too. What comes
    `from package import module` counts as the module, where it is one of ours."""
    ours = modules()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in ours else node.module


def test_every_module_has_a_layer():
    assert [name for name in modules() if layer(name) is None] == []


def test_no_arrow_goes_up():
    arrows = {
        (name, imported)
        for name, path in modules().items()
        for imported in imports(path.read_text())
        if is_upward(name, imported)
    }
    assert arrows == ALLOWED, "a new arrow goes up, or one of ALLOWED is gone"


@pytest.mark.parametrize(
    ("module", "source", "upward"),
    [
        ("src.files", "import torch\nfrom src.errors import UserError", []),
        ("src.files", "def f():\n    import custom_model", ["custom_model"]),
        ("fewstep.engine.loop", "from fewstep.methods import edm", ["fewstep.methods.edm"]),
        ("fewstep.engine.loop", "from fewstep import methods", ["fewstep.methods"]),
        ("fewstep.runs.building", "from fewstep.methods import edm", []),
        ("discriminator.unet", "import fewstep.images", ["fewstep.images"]),
        ("fewstep.handin.submit", "import train", ["train"]),
        ("sampling", "from fewstep.engine.fast_sampling import make_fast", []),
    ],
)
def test_how_arrows_are_seen(module, source, upward):
    assert [one for one in imports(source) if is_upward(module, one)] == upward
