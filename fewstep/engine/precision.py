"""Choices that depend on the device: precision, memory layout, compilation, TF32."""

from functools import partial
from typing import NamedTuple

import torch

from fewstep.engine.hardware import MATRIX_UNIT, bf16_pays, bf16_units, keep_freed_memory

# Networks that are trained channels-first even on a CPU with matrix units. In the other layout
# torch's backward pass of group norms is slow where a group has two channels, as it has there:
# a teacher's step took 1.3 times (small) and 1.9 times (tiny) as long, and one of the full network,
# with four channels, 0.86 times (Intel Xeon, bf16, one core).
CHANNELS_FIRST_ON_CPU = ("tiny", "small")


class Choices(NamedTuple):
    """precision: of the networks, "bf16" or "fp32". channels_last: the memory layout of images and
    convolutions. compile: a mode of `torch.compile`, or "off"."""

    precision: str
    channels_last: bool
    compile: str

    def describe(self, device):
        """In words, for a torch device."""
        words = [self.precision]
        if self.precision == "bf16" and device.type == "cpu":
            words = [f"bf16 ({bf16_units() or 'emulated: this processor has no units for it'})"]
        words += ["channels-last"] if self.channels_last else []
        words += [f"compiled ({self.compile})"] if self.compile != "off" else []
        return ", ".join(words)


def choices_of(device, network="", precision="auto", channels_last="auto", compile="auto"):
    """What the speed settings of these names mean on a torch device for training a network of
    `model_config.NETWORKS`, or, with network "", for sampling.

    "auto" is, on a GPU, bf16 where it has it, channels-last and compiled. On a CPU it is bf16 where
    that pays (`bf16_pays`), else fp32; channels-last where bf16 has matrix units, but for training
    those of `CHANNELS_FIRST_ON_CPU`; never compiled.
    """
    is_gpu = device.type == "cuda"
    if precision == "auto":
        if is_gpu:
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            has_bf16 = bf16_pays()
        precision = "bf16" if has_bf16 else "fp32"
    if channels_last == "auto":
        # oneDNN's convolutions with matrix units read it as it is, others are slower in it.
        has_matrix_units = precision == "bf16" and bf16_units() == MATRIX_UNIT
        is_last = is_gpu or (has_matrix_units and network not in CHANNELS_FIRST_ON_CPU)
    else:
        is_last = channels_last == "on"
    if compile == "auto":
        compile = "default" if is_gpu else "off"
    return Choices(precision, is_last, compile)


def autocast_for(device, precision):
    """A factory of contexts that run a network in "bf16" or "fp32". bf16 has fp32's range, so no
    loss is scaled; weights stay in fp32."""
    return partial(torch.autocast, device.type, torch.bfloat16, enabled=precision == "bf16")


def prepare_backends(device, tf32):
    """For a CUDA device: convolutions tuned to their (fixed) shapes, and with `tf32` what is left
    in fp32 in TF32. For a CPU: freed memory is kept."""
    if device.type == "cpu":
        keep_freed_memory()
    elif device.type == "cuda":
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True


def lay_out(what, channels_last):
    """A module (the weights of its convolutions) or a batch of images, channels-last where that is
    true, else as it is."""
    return what.to(memory_format=torch.channels_last) if channels_last else what
