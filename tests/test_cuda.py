"""Both phases on a GPU, where there is one: bf16, channels-last, saved and loaded on the CPU."""

import pytest
import torch

from custom_model import create_custom_model
from src.utils import load_model, save_model
from training.building import build_student, build_teacher, student_config, teacher_config
from training.command_line import make_settings
from training.parts import split
from training.processes import ALONE

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


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
    settings = make_settings({"network": "tiny", "disc_warmup": 0, **flags})
    config = teacher_config(settings, 0.5)
    x0 = torch.rand(8, 3, 64, 64, device=device) * 2 - 1
    teacher = build_teacher(settings, 0.5, device, ALONE)
    config = student_config(config, settings, "")
    student = build_student(settings, teacher.ema, config, device, ALONE)
    for step in range(2):
        for stage in (teacher, student):
            metrics = stage.step(split(x0, [step]), step)
            assert all(torch.as_tensor(value).isfinite() for value in metrics.values())
            assert metrics["skipped"] == 0
    save_model(student.ema, tmp_path / "model.pt", config)
    loaded = load_model(tmp_path / "model.pt", create_custom_model, "cpu").eval()
    shape, seeds = (2, 3, 64, 64), [1, 2]
    there = student.ema.sample(shape, 2, seeds=seeds).cpu()
    assert torch.allclose(loaded.sample(shape, 2, seeds=seeds), there, atol=0.02)
