"""Both phases on a GPU, where there is one: bf16, channels-last, compiled, without waiting for the
device, saved and loaded on the CPU."""

import numpy as np
import pytest
import torch

from custom_model import create_custom_model
from fewstep.engine.batches import StepBatches
from fewstep.engine.microbatch import split
from fewstep.engine.processes import ALONE
from fewstep.engine.window import Window
from fewstep.images.cache import cached_images
from fewstep.methods.adversarial_settings import NO_WAITING
from fewstep.methods.edm import teacher_config
from fewstep.runs.command_line import make_settings
from src.utils import load_model, save_model
from tests.students import build_student, build_teacher, student_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

# The networks of a phase learn from its first step, and no one waits.
AT_ONCE = dict(network="tiny", warm_start=0, warm_pairs=0, disc_warmup=0, **NO_WAITING)


@pytest.mark.parametrize(
    "flags",
    [
        {},
        dict(
            distill="dmd", disc="patch", penalty="r1r2", augment="color,translation", ada_target=0.6
        ),
        dict(distill="sid", disc="unet", gan_loss="relativistic", disc_start="teacher"),
        dict(distill="sds", disc="timm:vit_tiny_patch16_224", penalty="r1", warm_start=1),
        dict(disc="none", freeze_convs=True),
    ],
)
def test_both_phases_step_and_their_networks_load_elsewhere(tmp_path, flags):
    device = torch.device("cuda")
    settings = make_settings({**AT_ONCE, "compile": "off", **flags})
    config = teacher_config(settings, 0.5)
    x0 = torch.rand(8, 3, 64, 64, device=device) * 2 - 1
    teacher = build_teacher(settings, 0.5, device, ALONE)
    config = student_config(config, settings)
    student = build_student(settings, teacher.ema, config, device, ALONE)
    for step in range(2):
        for phase in (teacher, student):
            metrics = phase.step(split(x0, [step]), step)
            assert all(torch.as_tensor(value).isfinite() for value in metrics.values())
            assert metrics[f"{phase.name}_skipped"] == 0
    save_model(student.ema, tmp_path / "model.pt", config)
    loaded = load_model(tmp_path / "model.pt", create_custom_model, "cpu").eval()
    shape, seeds = (2, 3, 64, 64), [1, 2]
    there = student.ema.sample(shape, 2, seeds=seeds).cpu()
    assert torch.allclose(loaded.sample(shape, 2, seeds=seeds), there, atol=0.02)


@pytest.fixture
def batches(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    cache = cached_images(tmp_path, "4" * 64, 16, lambda: iter(pixels))
    return [
        StepBatches(cache, 8, 0, True, torch.device("cuda"), on_device, channels_last=True)
        for on_device in (True, False)
    ]


def both_phases(**flags):
    device = torch.device("cuda")
    settings = make_settings({**AT_ONCE, **flags})
    teacher = build_teacher(settings, 0.5, device, ALONE)
    config = student_config(teacher_config(settings, 0.5), settings)
    return teacher, build_student(settings, teacher.ema, config, device, ALONE)


def test_no_step_waits_for_the_device(batches):
    for phase in both_phases(compile="off", augment="color", ada_target=0.6, augment_p=0.5):
        window = Window()
        for step in range(5):
            if step == 3:  # states and sums are made, kernels chosen
                torch.cuda.set_sync_debug_mode("error")
            try:
                for batch_of in batches:
                    metrics = phase.step(split(batch_of(step), [step, step + 1]), step)
                    window.add(metrics, 8, phase.drop_metrics)
            finally:
                torch.cuda.set_sync_debug_mode("default")


def test_compiled_and_plain_steps_agree(batches, capsys):
    images = batches[0](0)
    for plain, compiled in zip(both_phases(compile="off"), both_phases(compile="default")):
        for phase in (plain, compiled):
            torch.manual_seed(0)
            for parameter in phase.model.parameters():
                torch.nn.init.normal_(parameter, std=0.02)
        metrics = [phase.step(split(images, [1]), 0) for phase in (plain, compiled)]
        first = next(iter(metrics[0]))
        assert torch.allclose(metrics[0][first], metrics[1][first], rtol=0.05)
    assert "runs uncompiled" not in capsys.readouterr().out
