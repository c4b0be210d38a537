"""What a step needs, counted on tensors without values, and the time that a dry run states."""

import pytest
import torch

from fewstep.engine.counting import Rehearsal
from fewstep.methods import METHODS
from fewstep.runs import estimate
from fewstep.runs.command_line import make_settings
from fewstep.runs.estimate import Need, needs_of

CPU = torch.device("cpu")
MIB = 2**20
# Whether torch lets tensors without values lie on a GPU that is not there (from 2.9 on).
HAS_ABSENT_GPUS = hasattr(torch._C, "_ensureCUDADeviceGuardSet")


def settings_of(**flags):
    return make_settings({"network": "tiny", "disc_warmup": 0, **flags})


def test_memory_is_what_lives_and_operations_are_those_of_products():
    with Rehearsal() as rehearsal:
        x = torch.ones(512, 512)  # 1 MiB
        y = x @ x
        view = y[:10]
        assert rehearsal.peak() == 2 * MIB and rehearsal.operations() == 2 * 512**3
        del y
        z = x + 1
        assert rehearsal.peak() == 3 * MIB  # the view keeps the product
        del view, z
        x.add_(1)
        assert rehearsal.peak() == 3 * MIB and rehearsal.operations() == 0
        x.mul_(2)
        assert rehearsal.peak() == MIB
        with pytest.raises(Exception, match="_local_scalar_dense"):
            x.sum().item()
    assert torch.ones(2).sum().item() == 2


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda:0",
            marks=pytest.mark.skipif(not HAS_ABSENT_GPUS, reason="this torch needs the GPU itself"),
        ),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_a_step_of_each_method_can_be_rehearsed(method, device):
    """On a GPU this finds tensors on the wrong device, too: each operator asks where its inputs
    are. Its weights and Adam's moments are the least that a phase keeps."""
    settings = settings_of(method=method, batch_size=8, compile="off")
    for need in needs_of(settings, torch.device(device)):
        learnt = sum(need.parameters.values())
        assert 4 * 4 * learnt < need.memory < 2**30
        # At least one multiplication and one addition a weight and image, forth and twice back.
        assert need.operations > 6 * 8 * max(need.parameters.values())
        assert need.disk > 4 * learnt


def test_memory_follows_the_micro_batch_and_operations_the_batch():
    whole, parts = [
        needs_of(settings_of(batch_size=16, micro_batch=size, phase="teacher"), CPU)[0]
        for size in (16, 4)
    ]
    assert parts.memory < 0.6 * whole.memory
    assert parts.operations == pytest.approx(whole.operations, rel=0.01)


@pytest.mark.parametrize(("operations", "is_timed"), [(10**9, True), (10**14, False)])
def test_long_steps_are_reckoned_not_timed(monkeypatch, operations, is_timed):
    monkeypatch.setattr(estimate, "_convolution_speed", lambda execution: 10**11 / 0.85)
    monkeypatch.setattr(estimate, "_step_seconds", lambda *phase: 5.0)
    monkeypatch.setattr(estimate, "_uncompiled", lambda settings, device: ["a phase"])
    need = Need("teacher", 10, {}, 0, 0, operations)
    seconds = estimate._seconds_of(settings_of(batch_size=8), [need], CPU, 1)
    assert seconds == [5.0 if is_timed else pytest.approx(1000)]
