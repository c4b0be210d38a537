"""A tiny student as train.py builds it, from a teacher that answers: several tests begin so."""

import torch

from custom_model import create_custom_model
from fewstep.engine.processes import ALONE
from fewstep.runs.building import build_student, student_config, teacher_config
from fewstep.runs.command_line import make_settings
from fewstep.runs.presets import PRESETS

SIGMA_DATA = 0.6


def tiny_settings(*flags):
    """Settings of the tiny preset on drawn faces; later dicts of flags win."""
    values = {**PRESETS["tiny"], "data": "synthetic"}
    for more in flags:
        values |= more
    return make_settings(values)


def student_of(settings, processes=ALONE):
    """The student's stage, the same weights each time. An untrained teacher answers almost zero,
    which would hide differences."""
    torch.manual_seed(0)
    config = teacher_config(settings, SIGMA_DATA)
    teacher = create_custom_model(**config)
    with torch.no_grad():
        teacher.network.tail[2].weight.normal_(std=0.05)
    config = student_config(config, settings, "")
    return build_student(settings, teacher, config, torch.device("cpu"), processes)
