"""Every registered method: trained, stopped, gone on with to the same bits, saved, and sampled in a
bare environment."""

import subprocess
import sys

import pytest
import torch

import train
from custom_model import create_custom_model
from fewstep.engine.stopping import TIME_IS_UP
from fewstep.methods import METHODS
from fewstep.runs.command_line import parse_settings
from fewstep.runs.settings import unused_settings
from src.utils import UserError, load_model, read_json, torch_load
from tests.test_isolation import BARE, BLOCKED, OFFICIAL_STYLE, ROOT

pytestmark = pytest.mark.usefixtures("few_pictures")

FLAGS = dict(preset="tiny", data="synthetic", synthetic_count=16, batch_size=4, device="cpu")
FLAGS |= dict(num_iterations=2, student_iterations=2, warmup=1, disc_warmup=0, disc_channels=8)
FLAGS |= dict(start_share=0.5, teacher_steps=2, best_images=8, log_interval=1)


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def train_in(folder, method, monkeypatch, **more):
    """The exit code of train.py with small settings, everything of it in `folder`."""
    unused = unused_settings(method)
    flags = {key: value for key, value in FLAGS.items() if key not in unused} | more
    places = dict(save_dir=folder / "run", export_dir=folder / "out", cache_dir=folder / "cache")
    words = [f"--{key}={value}" for key, value in (flags | places).items()]
    monkeypatch.setattr(sys, "argv", ["train.py", f"--method={method.name}", *words])
    return train.main()


def test_a_method_goes_on_to_the_same_bits_and_is_sampled_as_graders_do(
    method, tmp_path, monkeypatch
):
    """Any limit of time leads to the end: each run takes a step, also from one phase to the next,
    and all together leave what an undisturbed run leaves."""
    monkeypatch.setattr("fewstep.engine.loop.draw_curves", lambda *_: None)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert train_in(whole, method, monkeypatch) == 0
    codes = []
    while not codes or (codes[-1] and len(codes) < 9):
        codes.append(train_in(parted, method, monkeypatch, max_minutes=1e-9))
    assert codes == [TIME_IS_UP] * (2 * len(method.phases)) + [0]
    first, second = (
        torch_load(f / "run" / "final_model.pt")["state_dict"] for f in (whole, parted)
    )
    assert first and all(torch.equal(first[key], second[key]) for key in first)
    record = read_json(whole / "run" / "training_config.json")
    assert record["finished"] and set(record["identities"]) == set(method.phases)

    exported = whole / "out" / "best_model.pt"
    model = load_model(exported, create_custom_model).eval()
    calls = []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    for nfe in (1, 2, 4):
        calls.clear()
        images = model.sample((2, 3, 64, 64), num_inference_timesteps=nfe)
        assert len(calls) == nfe and images.abs().max() <= 1

    (tmp_path / "official.py").write_text(OFFICIAL_STYLE)
    argv = [str(tmp_path / "official.py"), str(exported), str(tmp_path / "samples")]
    code = BLOCKED.format(names=BARE, argv=argv, root=repr(str(ROOT)))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "samples").glob("nfe=*/*.png"))) == 6


def test_flags_of_other_methods_are_refused():
    for flags, named in (
        (["--disc", "patch"], "--disc"),
        (["--p_mean", "-1"], "--p_mean"),
        (["--phase", "teacher"], "--phase teacher"),
        (["--teacher_ckpt", "t.pt"], "--teacher_ckpt"),
    ):
        with pytest.raises(UserError, match=named):
            parse_settings(["--method", "rectified_flow", "--data", "synthetic", *flags])
