"""A tiny teacher and student as train.py builds them: several tests begin so."""

import torch

from custom_model import create_custom_model
from fewstep.engine.execution import Execution, execution_of
from fewstep.engine.loop import Job
from fewstep.engine.processes import ALONE
from fewstep.engine.stopping import StopRequests
from fewstep.methods.adversarial_settings import student_config
from fewstep.methods.edm import teacher_config
from fewstep.runs.building import build_distilled, build_scratch
from fewstep.runs.command_line import make_settings
from fewstep.runs.presets import PRESETS

SIGMA_DATA = 0.6
CPU = torch.device("cpu")
# Every network learns from the first step.
AT_ONCE = dict(student_warmup=0, disc_warmup=0, disc_channels=8, adv_ramp=0)


def tiny_settings(*flags):
    """Settings of the tiny preset on drawn faces; later dicts of flags win."""
    values = {**PRESETS["tiny"], "data": "synthetic"}
    for more in flags:
        values |= more
    return make_settings(values)


def plain_execution(**speed) -> Execution:
    """How a run computes on the CPU, with the defaults of the speed settings."""
    return execution_of(tiny_settings(speed), CPU)


def build_teacher(settings, sigma_data=SIGMA_DATA, device=CPU, processes=ALONE):
    return build_scratch("teacher", settings, sigma_data, device, processes)


def build_student(settings, teacher, config, device=CPU, processes=ALONE):
    return build_distilled(settings, teacher, config, device, processes)


def student_of(settings, processes=ALONE):
    """The student's phase, the same weights each time. An untrained teacher answers almost zero,
    which would hide differences."""
    torch.manual_seed(0)
    config = teacher_config(settings, SIGMA_DATA)
    teacher = create_custom_model(**config)
    with torch.no_grad():
        teacher.network.tail[2].weight.normal_(std=0.05)
    config = student_config(config, settings)
    return build_student(settings, teacher, config, processes=processes)


def job_in(folder, processes=ALONE, micro_batches=1, stop=None, **options):
    """A `Job` for the loop, without a command line."""
    options = tiny_settings(options).run
    return Job(folder, options, CPU, stop or StopRequests(), processes, micro_batches)
