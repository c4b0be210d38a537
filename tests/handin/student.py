"""The tiny student that these tests publish and hand in, and how."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from custom_model import MODEL_DEFAULTS, create_custom_model
from fewstep.handin import publish
from src.utils import UserError

ROOT = Path(__file__).resolve().parents[2]
LEVELS = {"1": [2.5], "2": [2.5, 1.0], "4": [2.5, 1.5, 1.0, 0.5]}
TINY = MODEL_DEFAULTS | {"network": "tiny", "sampler": "few_step", "few_step_sigmas": LEVELS}


def student(seed=0):
    """A tiny student whose images depend on the network; a fresh tail is nearly zero."""
    torch.manual_seed(seed)
    model = create_custom_model(**TINY)
    with torch.no_grad():
        model.network.tail[2].weight.normal_(0, 0.05)
    return model.eval()


def pack(checkpoint, folder, *more):
    flags = ["pack", "--ckpt_path", checkpoint, "--output_dir", folder, *more]
    return publish.main([str(flag) for flag in flags])


def unpack(folder, target, *more):
    flags = ["unpack", "--input_dir", folder, "--ckpt_path", target, *more]
    return publish.main([str(flag) for flag in flags])


def refused(match, function, *arguments):
    """Check that a call ends with one line that matches."""
    with pytest.raises(UserError, match=match) as error:
        function(*arguments)
    assert "\n" not in str(error.value)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def run_here(folder, script, *arguments):
    """`run_restricted` without a process of its own: all of this one can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        runpy.run_path(str(script), run_name="__main__")
    return SimpleNamespace(returncode=0, stderr="")
