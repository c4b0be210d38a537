"""Nothing in a training step makes the host wait for the device.

Reading a tensor (`.item()`, `bool()`, `float()`, a boolean index) waits for all work that a GPU has
in its queue; making a tensor of host values copies from memory that is not pinned, which waits as
well. Both show up as operators that can be counted on any device.
"""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from custom_model import create_custom_model
from fewstep.engine.microbatch import split
from fewstep.engine.processes import ALONE
from fewstep.engine.window import Window
from fewstep.methods.edm import teacher_config
from fewstep.runs.command_line import make_settings
from fewstep.runs.presets import PRESETS
from tests.students import build_student, build_teacher, student_config

WAITING = {
    "aten::_local_scalar_dense",  # a value read by the host
    "aten::nonzero",  # a size that the values decide
    "aten::masked_select",
    "aten::is_nonzero",
    "aten::equal",
    "aten::lift_fresh",  # a tensor made of host values
}


class Waits(TorchDispatchMode):
    """Collects the names of operators that would make a host wait for its device."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        name = operator._schema.name
        by_mask = name in ("aten::index", "aten::index_put_") and any(
            index is not None and index.dtype == torch.bool for index in arguments[1]
        )
        if name in WAITING or by_mask:
            self.found.append(name)
        return operator(*arguments, **(named or {}))


def waits_of(work):
    with Waits() as waits:
        work()
    return waits.found


def build(flags):
    """(teacher phase, student phase), tiny, everyone learning from the first step."""
    chosen = dict(data="synthetic", disc_channels=8, disc_warmup=0, batch_size=4)
    settings = make_settings({**PRESETS["tiny"], **chosen, **flags})
    device = torch.device("cpu")
    config = teacher_config(settings, 0.6)
    teacher = create_custom_model(**config)
    student = build_student(settings, teacher, student_config(config, settings), device, ALONE)
    return build_teacher(settings, 0.6, device, ALONE), student


@pytest.mark.parametrize(
    "flags",
    [
        {},
        dict(disc="resnet", augment="translation,color,cutout", ada_target=0.6, augment_p=0.5),
        dict(distill="dmd", disc="unet", disc_channels=32, gan_loss="relativistic", penalty="r1r2"),
        dict(distill="sid", disc="none", freeze_convs=True, student_dropout=0.1),
        dict(joint_disc=False, warm_start=1, use_additional_condition=True),
        dict(updates="fused", micro_batch=2, checkpointing=True),
    ],
)
def test_a_step_never_waits_for_the_device(flags):
    parts = 2 if "micro_batch" in flags else 1
    for phase in build(flags):
        window = Window()
        images = torch.rand(4, 3, 64, 64) * 2 - 1

        def take(step, phase=phase, window=window, images=images):
            metrics = phase.step(split(images, range(parts)), step)
            window.add(metrics, len(images), phase.drop_metrics)

        for step in range(2):
            take(step)  # states and sums are made
        assert waits_of(lambda: take(2)) == [], phase.name


def test_the_count_would_notice_a_wait():
    x = torch.ones(3)
    assert waits_of(lambda: float(x.sum())) == ["aten::_local_scalar_dense"]
    assert "aten::index" in waits_of(lambda: x[x > 0])
    assert "aten::lift_fresh" in waits_of(lambda: torch.tensor([1.0]))
    assert waits_of(lambda: x + 1) == []


def test_kernels_that_cannot_skip_do_wait():
    """The reason for the default: without fused Adam the host has to know whether to step."""
    phase, _ = build(dict(updates="foreach"))
    images = torch.rand(4, 3, 64, 64) * 2 - 1
    found = waits_of(lambda: phase.step(split(images, [0]), 0))
    assert "aten::_local_scalar_dense" in found
