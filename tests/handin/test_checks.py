"""Checks of a submission's checkpoint, network and settings."""

import json
from pathlib import Path

import pytest
import torch

from fewstep.handin.archive import checks
from fewstep.handin.archive.contents import CHECKPOINT, CONFIG
from tests.handin.student import ROOT, TINY


def saved(folder, content, config=TINY):
    """A folder with that checkpoint and configuration, as an archive has them."""
    (folder / "checkpoints").mkdir(exist_ok=True)
    torch.save(content, folder / CHECKPOINT)
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


def test_a_checkpoint_of_the_student_alone(tmp_path, state, model_shapes):
    finding, loaded = checks.check_checkpoint(saved(tmp_path, {"state_dict": state}))
    assert finding.ok and checks.check_weights(loaded, model_shapes["model"]).ok


def test_checkpoints_that_hold_something_else(tmp_path, state):
    for content, line in [
        (
            {"state_dict": state, "optimizer": {}, "step": 3},
            'holds optimizer, step beside "state_dict"; hand in final_model.pt of a run',
        ),
        ({"model": state}, 'no "state_dict" in it; hand in final_model.pt of a run'),
        ({"state_dict": {"a": 1}}, "a not a named tensor; hand in final_model.pt of a run"),
    ]:
        finding, _ = checks.check_checkpoint(saved(tmp_path, content))
        assert str(finding) == f"✗ checkpoint: {line}"


def test_a_checkpoint_that_would_run_code(tmp_path):
    finding, state = checks.check_checkpoint(saved(tmp_path, {"state_dict": Path("a")}))
    assert not finding.ok and state is None
    assert finding.detail.startswith(f"{CHECKPOINT}: not a checkpoint that can be loaded")


def with_discriminator(state):
    return state | {f"disc.{i}.weight": torch.zeros(1) for i in range(4)}


def with_nan(state):
    key = "network.head.weight"
    return state | {key: torch.full_like(state[key], float("nan"))}


def in_half_precision(state):
    return {key: value.half() if "head" in key else value for key, value in state.items()}


def without_bias(state):
    return {key: value for key, value in state.items() if key != "network.head.bias"}


def of_another_width(state):
    return state | {"network.head.bias": torch.zeros(7)}


@pytest.mark.parametrize(
    "change, line",
    [
        (
            with_discriminator,
            "holds disc.0.weight, disc.1.weight, disc.2.weight, ..., not the student's; save the"
            " student alone",
        ),
        (with_nan, "network.head.weight not finite; use an earlier checkpoint"),
        (
            in_half_precision,
            "network.head.bias, network.head.weight not float32; save the student as float32",
        ),
        (
            without_bias,
            "lacks network.head.bias; save the model that checkpoints/model_config.json describes",
        ),
        (
            of_another_width,
            "shape of network.head.bias not that of checkpoints/model_config.json; use the two of"
            " one run",
        ),
    ],
)
def test_weights(state, model_shapes, change, line):
    finding = checks.check_weights(change(state), model_shapes["model"])
    assert str(finding) == f"✗ weights: {line}"


def test_the_network_is_the_challenges():
    shapes = json.loads((ROOT / "tests/data/unet_state_dict.json").read_text())
    for tag, condition in (("full", False), ("full_cond", True)):
        full = {name: list(shape) for name, shape in dict(shapes[tag]).items()}
        state = {f"network.{name}": torch.empty(shape) for name, shape in full.items()}
        assert checks.check_network(state, full, condition).ok
        assert not checks.check_network(state, full, not condition).ok
    state["network.extra"] = torch.zeros(17)
    assert str(checks.check_network(state, full, True)) == (
        "✗ network: 59,934,996 parameters, 59,934,979 of fixed names and shapes are needed;"
        " train with --network full"
    )


def test_a_network_of_another_size(state, model_shapes):
    assert str(checks.check_network(state, model_shapes["full"], False)) == (
        "✗ network: 395,971 parameters, 58,753,283 of fixed names and shapes are needed;"
        " train with --network full"
    )


def test_the_probe_knows_the_challenges_network(model_shapes):
    shapes = json.loads((ROOT / "tests/data/unet_state_dict.json").read_text())
    assert model_shapes["full"] == {
        name: list(shape) for name, shape in dict(shapes["full"]).items()
    }


def test_a_rectified_flow_has_no_levels(tmp_path):
    config = {"model_type": "rectified_flow", "network": "full"}
    finding, content = checks.check_config(saved(tmp_path, {}, config))
    assert str(finding) == "✓ config: of a rectified_flow" and content == config


@pytest.mark.parametrize(
    "config, line",
    [
        (
            TINY | {"sampler": "heun"},
            'sampler "heun": this is the teacher; hand in the student (final_model.pt) with its'
            " model_config.json",
        ),
        (
            TINY | {"few_step_sigmas": {"1": [2.5], "4": [4, 3, 2, 1]}},
            "few_step_sigmas has no levels for NFE 2; take the model_config.json that lies beside"
            " the student",
        ),
        ([], "checkpoints/model_config.json: a JSON object was expected"),
    ],
)
def test_configurations(tmp_path, config, line):
    finding, _ = checks.check_config(saved(tmp_path, {}, config))
    assert str(finding) == f"✗ config: {line}"
