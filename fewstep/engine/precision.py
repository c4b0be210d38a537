"""Choices that depend on the device: precision, memory layout, compilation, TF32."""

from functools import partial
from typing import NamedTuple

import torch

from fewstep.engine.hardware import MATRIX_UNIT, bf16_pays, bf16_units, keep_freed_memory

# Networks that are compiled on a CPU with matrix units: there one of this size (levels 1-2-4-4,
# 4.4 M parameters) gained 1.35 times in bf16, one of 14 M lost (0.93). In fp32 compiling gains
# nothing or loses (0.85 on an Intel Xeon). It takes minutes, which a smaller network's short run
# does not win back.
COMPILED_ON_CPU = ("small",)


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
    """What the speed settings of these names mean on a torch device for a network of
    `model_config.NETWORKS`.

    "auto" is, on a GPU, bf16 where it has it, channels-last and compiled. On a CPU it is bf16 where
    that pays (`bf16_pays`), else fp32; channels-last, and compiled for the networks of
    `COMPILED_ON_CPU`, where bf16 has matrix units.
    """
    is_gpu = device.type == "cuda"
    if precision == "auto":
        if is_gpu:
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            has_bf16 = bf16_pays()
        precision = "bf16" if has_bf16 else "fp32"
    # oneDNN's convolutions with matrix units read channels-last as it is, others are slower in it.
    has_matrix_units = is_gpu or (precision == "bf16" and bf16_units() == MATRIX_UNIT)
    is_last = has_matrix_units if channels_last == "auto" else channels_last == "on"
    if compile == "auto":
        pays = is_gpu or (has_matrix_units and network in COMPILED_ON_CPU)
        compile = "default" if pays else "off"
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
