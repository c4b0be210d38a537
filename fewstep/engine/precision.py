"""Choices that depend on the device: precision, memory layout, TF32."""

from functools import partial

import torch


def is_wanted(choice, device):
    """Whether a lever set to "on", "off" or "auto" is used; auto: on a GPU, where it was made for.
    On a CPU each was measured to cost time (docs/performance.md)."""
    return choice == "on" or (choice == "auto" and device.type == "cuda")


def autocast_for(device, precision):
    """A factory of contexts that run a network in "bf16" or "fp32"; "auto" is bf16 on a GPU that
    has it. bf16 has fp32's range, so no loss is scaled; weights stay in fp32."""
    enabled = precision == "bf16"
    if precision == "auto" and device.type == "cuda":
        enabled = torch.cuda.is_bf16_supported(including_emulation=False)
    return partial(torch.autocast, device.type, torch.bfloat16, enabled=enabled)


def prepare_backends(device, tf32):
    """For a CUDA device: convolutions tuned to their (fixed) shapes, and with `tf32` what is left
    in fp32 in TF32."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = tf32
        torch.backends.cudnn.benchmark = True


def lay_out(what, device, channels_last):
    """A module (the weights of its convolutions) or a batch of images, channels-last where that is
    wanted, else as it is."""
    if is_wanted(channels_last, device):
        return what.to(memory_format=torch.channels_last)
    return what
