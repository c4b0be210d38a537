"""Whether two run folders hold the same results, to the last bit."""

import json

import torch

TIMES = ("seconds", "images_per_second")


def rows(folder):
    """The log without what the clock says."""
    log = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in TIMES} for row in log]


def files(folder):
    """{name: path} of all that a run leaves."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): p for p in paths if p.name != "said"}


def assert_same(value, other, name):
    """Nested dicts, lists and tensors are equal, NaN never."""
    assert type(value) is type(other), name
    if isinstance(value, dict):
        assert value.keys() == other.keys(), name
        for key in value:
            assert_same(value[key], other[key], f"{name}.{key}")
    elif isinstance(value, list):
        assert len(value) == len(other), name
        for place, pair in enumerate(zip(value, other)):
            assert_same(*pair, f"{name}[{place}]")
    elif isinstance(value, torch.Tensor):
        assert value.dtype == other.dtype and torch.equal(value, other), name
    else:
        assert value == other, name


def assert_same_results(folder, reference):
    """Same files; weights, averages, optimisers, logs and pictures equal bit for bit."""
    own, theirs = files(folder), files(reference)
    assert sorted(own) == sorted(theirs)
    assert rows(folder) == rows(reference)
    for name in own:
        if name.endswith(".pt"):
            pair = [torch.load(f[name], weights_only=True) for f in (own, theirs)]
            for content in pair:
                content.pop("seconds", None)
                for key in TIMES[:1]:
                    content.get("window", {}).pop(key, None)
            assert_same(*pair, name)
        elif name.startswith("run/samples/") or name.endswith(("model_config.json", ".npy")):
            assert own[name].read_bytes() == theirs[name].read_bytes(), name
    configs = [json.loads(f["run/training_config.json"].read_text()) for f in (own, theirs)]
    assert configs[0]["identities"] == configs[1]["identities"]
    assert configs[0]["finished"] and configs[1]["finished"]
