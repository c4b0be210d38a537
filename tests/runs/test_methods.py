"""Every registered method: trained, stopped, gone on with to the same bits, saved, and sampled in a
bare environment."""

import shutil
import subprocess
import sys

import pytest
import torch

import train
from custom_model import create_custom_model
from fewstep.engine.log import read_rows
from fewstep.engine.stopping import TIME_IS_UP
from fewstep.methods import METHODS
from fewstep.runs.command_line import parse_settings
from fewstep.runs.settings import unused_settings
from src.utils import UserError, load_model, read_json, torch_load
from tests.test_isolation import BARE, BLOCKED, OFFICIAL_STYLE, ROOT

pytestmark = pytest.mark.usefixtures("few_pictures")

FLAGS = dict(preset="tiny", data="synthetic", synthetic_count=16, batch_size=4, device="cpu")
FLAGS |= dict(num_iterations=2, student_iterations=2, warmup=1, disc_warmup=0, disc_channels=8)
FLAGS |= dict(ct_iterations=2, ct_warmup=1)
FLAGS |= dict(start_share=0.5, teacher_steps=2, best_images=8, log_interval=1)
FLAGS |= dict(reflow_iterations=2, reflow_heun=2)
FLAGS |= dict(ld3_iterations=2, ld3_evaluations=2)
FLAGS |= dict(progressive_iterations=3, progressive_start=4)


@pytest.fixture(params=METHODS, scope="module")
def method(request):
    return METHODS[request.param]


@pytest.fixture(scope="module")
def whole(method, few_pictures, tmp_path_factory):
    """The folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp(method.name)
    with pytest.MonkeyPatch.context() as patch:
        assert train_in(folder, method, patch) == 0
    return folder


def train_in(folder, method, monkeypatch, **more):
    """The exit code of train.py with small settings, everything of it in `folder`."""
    unused = unused_settings(method)
    flags = {key: value for key, value in FLAGS.items() if key not in unused} | more
    places = dict(save_dir=folder / "run", export_dir=folder / "out", cache_dir=folder / "cache")
    words = [f"--{key}={value}" for key, value in (flags | places).items()]
    monkeypatch.setattr(sys, "argv", ["train.py", f"--method={method.name}", *words])
    return train.main()


def test_a_method_goes_on_to_the_same_bits_and_is_sampled_as_graders_do(
    method, whole, tmp_path, monkeypatch
):
    """Any limit of time leads to the end: each run takes a step, also from one phase to the next,
    and all together leave what an undisturbed run leaves."""
    monkeypatch.setattr("fewstep.engine.loop.draw_curves", lambda *_: None)
    parted, codes = tmp_path / "parted", []
    while not codes or (codes[-1] and len(codes) < 9):
        codes.append(train_in(parted, method, monkeypatch, max_minutes=1e-9))
    rows = read_rows(whole / "run" / "log.jsonl")
    assert codes == [TIME_IS_UP] * len({(row["phase"], row["step"]) for row in rows}) + [0]
    first, second = (
        torch_load(f / "run" / "final_model.pt")["state_dict"] for f in (whole, parted)
    )
    assert first and all(torch.equal(first[key], second[key]) for key in first)
    configs = [read_json(f / "run" / "model_config.json") for f in (whole, parted)]
    assert configs[0] == configs[1]  # what is learnt may be noise levels
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


def test_a_finished_training_is_taken_further(method, whole, tmp_path, monkeypatch, capsys):
    """In its folder, from its last step, in the whole network where it had started in a part; and
    stopped on the way it has the same end."""
    name, flag, ends = method.phase.name, method.steps_flag, []
    if method.phase.has_fixed_length:
        with pytest.raises(UserError, match=f"{flag} = 3, not 4"):
            train_in(whole, method, monkeypatch, **{flag: 4})
        return
    for place in ("at_once", "parted"):
        folder, codes = tmp_path / place, []
        shutil.copytree(whole, folder)
        capsys.readouterr()
        limits = [0.0] if place == "at_once" else [1e-9, 0.0]
        codes = [train_in(folder, method, monkeypatch, **{flag: 4}, max_minutes=m) for m in limits]
        assert codes == [TIME_IS_UP if limit else 0 for limit in limits]
        said = capsys.readouterr().out
        assert said.count(f"taking the {name} from 2 to 4 steps: from step 2 on its schedules") == 1
        rows = [row for row in read_rows(folder / "run" / "log.jsonl") if row["phase"] == name]
        assert [row["step"] for row in rows if "concern" not in row] == [1, 2, 3, 4]
        assert not any("start_loss" in row for row in rows[2:])
        ends.append(result_of(folder))
    before = result_of(whole)
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    assert not all(torch.equal(ends[0][key], before[key]) for key in before)
    with pytest.raises(UserError, match=f"{flag} = 4, not 3; give the same or more"):
        train_in(tmp_path / "at_once", method, monkeypatch, **{flag: 3})


def test_a_training_starts_from_the_generator_of_an_earlier_one(
    method, whole, tmp_path, monkeypatch, capsys
):
    """And says what does not fit, in one line."""
    student = whole / "run" / "final_model.pt"
    if method.phase.learns_levels:
        with pytest.raises(UserError, match="--student_ckpt"):
            train_in(tmp_path, method, monkeypatch, student_ckpt=student)
        return
    with pytest.raises(UserError, match="norm_groups = 32, what is trained here 16"):
        train_in(tmp_path, method, monkeypatch, student_ckpt=student, norm_groups=16)
    started = []
    monkeypatch.setattr(method.phase, "start_from", lambda _, weights: started.append(weights))
    assert train_in(tmp_path, method, monkeypatch, student_ckpt=student) == 0
    before = torch_load(student)["state_dict"]
    assert all(torch.equal(started[0][key], before[key]) for key in before)


def result_of(folder):
    """All that a run has learnt: weights, or noise levels."""
    levels = read_json(folder / "run" / "model_config.json").get("few_step_sigmas", {})
    levels = {f"levels of NFE {nfe}": torch.tensor(row) for nfe, row in levels.items()}
    return torch_load(folder / "run" / "final_model.pt")["state_dict"] | levels


def test_flags_of_other_methods_are_refused():
    for flags, named in (
        (["--disc", "patch"], "--disc"),
        (["--p_mean", "-1"], "--p_mean"),
        (["--phase", "teacher"], "--phase teacher"),
        (["--teacher_ckpt", "t.pt"], "--teacher_ckpt"),
    ):
        with pytest.raises(UserError, match=named):
            parse_settings(["--method", "rectified_flow", "--data", "synthetic", *flags])
