"""The hand-in archive: what goes in, and that each thing that can be wrong is said, alone."""

import json
import os
import runpy
import shutil
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from custom_model import NETWORKS, CustomScheduler
from fewstep.handin import submit
from fewstep.handin.archive import checks, trial
from fewstep.handin.archive.archive import copy_part, unpack, write_archive
from fewstep.handin.archive.contents import (
    CHECKPOINT,
    CONFIG,
    PROVIDED,
    collect,
    module_files,
    reachable,
)
from fewstep.handin.archive.environment import failure_of, grading_packages, run_restricted
from src.utils import UserError, save_model
from tests.handin.student import ROOT, TINY, student

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("student") / "best_model.pt"
    save_model(student(), path, TINY)
    return path


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Our own files with a comment more, in place of the challenge's repository."""
    folder = tmp_path_factory.mktemp("official")
    for name in PROVIDED:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text((ROOT / name).read_text() + "# theirs\n")
    (folder / "data").mkdir()
    (folder / "data" / "train_split.txt").write_text("1\n2\n")
    return folder


@pytest.fixture
def project(tmp_path):
    """A copy of the project's code, to be broken."""
    copy = tmp_path / "project"
    names = reachable(["train.py", "sampling.py", "measure_fid.py"], ROOT)
    copy_part(ROOT, {*names, "requirements.txt"}, copy)
    return copy


@pytest.fixture
def unpacked(project, checkpoint, tmp_path):
    """(folder of an unpacked archive, names in it)."""
    write_archive(collect(project, checkpoint, checkpoint.with_name("model_config.json")), "a.zip")
    names = unpack("a.zip", tmp_path / "unpacked")
    return tmp_path / "unpacked", names


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run_here(folder, script, *arguments):
    """`run_restricted` without a process of its own: all of this one can be imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        runpy.run_path(str(script), run_name="__main__")
    return SimpleNamespace(returncode=0, stderr="")


@pytest.fixture(scope="module")
def graders_folder(checkpoint, tmp_path_factory):
    """A folder with the checkpoint where an archive has it, for `run_here`."""
    folder = tmp_path_factory.mktemp("graders")
    (folder / "checkpoints").mkdir()
    shutil.copy(checkpoint, folder / CHECKPOINT)
    shutil.copy(checkpoint.with_name("model_config.json"), folder / CONFIG)
    return folder


@pytest.fixture(scope="module")
def model_shapes(graders_folder):
    """What `graders.py` reports of the submission that is not broken."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trial, "run_restricted", run_here)
        return trial.run_graders(graders_folder, graders_folder, 2, CPU, [])[1]


def main(checkpoint, *more, root=ROOT):
    return submit.main(["--ckpt_path", str(checkpoint), *map(str, more)], root=root)


# The whole command


def test_a_student_that_passes_is_packed_and_the_archive_is_whole(
    checkpoint, official, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(checks, "NETWORK", NETWORKS["tiny"])  # the full one would take minutes
    monkeypatch.setattr(checks, "PARAMETERS", {False: 395_971})
    (tmp_path / "two_pages.pdf").write_bytes(b"%PDF-1.4\n")
    more = ("--writeup_pdf", "two_pages.pdf", "--output", "out/hand_in.zip", "--num_samples", 2)
    code = main(checkpoint, "--official", official, *more)
    lines = capsys.readouterr().out.splitlines()
    assert code == 0, lines
    assert [line.partition(":")[0] for line in lines if line[0] in "✓✗"] == [
        f"✓ {name}"
        for name in (
            *("files", "size", "provided files", "checkpoint", "config", "model", "weights"),
            *("network", "sampler", "evaluations", "NFEs", "same seed", "other seed"),
            "official sampling.py",
        )
    ]
    assert "✓ network: the challenge's, 395,971 parameters" in lines
    assert f"✓ provided files: 7 as in {official}, byte for byte" in lines
    (model,) = [line for line in lines if line.startswith("✓ model:")]
    assert model.startswith("✓ model: built from custom_model, src alone, by Python 3")
    assert lines[-1].startswith("written: out/hand_in.zip, ")
    assert os.listdir("out") == ["hand_in.zip"]

    names = unpack("out/hand_in.zip", "unpacked")
    packages = ("src", "fewstep", "discriminator")
    code = {name for package in packages for name in module_files(package, ROOT)}
    scripts = {"custom_model.py", *PROVIDED, "train.py"}
    splits = {name for name in collect(ROOT, checkpoint, checkpoint) if name.startswith("data/")}
    others = {"requirements.txt", CHECKPOINT, CONFIG, "writeup.pdf", "data/train_split.txt"}
    assert set(names) == code | scripts | splits | others
    assert (tmp_path / "unpacked" / CHECKPOINT).read_bytes() == checkpoint.read_bytes()


def test_a_failed_check_leaves_an_older_archive_as_it_is(checkpoint, tmp_path, capsys, monkeypatch):
    findings = [checks.Finding("size", True, "small"), checks.Finding("network", False, "tiny")]
    monkeypatch.setattr(submit, "inspect", lambda *arguments: findings)
    output = tmp_path / "submission.zip"
    output.write_text("an older one")
    assert main(checkpoint, "--output", output) == 1
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "✓ size: small",
        "✗ network: tiny",
        f"nothing written to {output}: 1 of 2 checks failed; what is there is of an earlier run",
    ]
    assert output.read_text() == "an older one" and os.listdir(tmp_path) == [output.name]


MISTAKES = {
    "--ckpt_path no.pt": "--ckpt_path no.pt: no such file; train first",
    "--ckpt_path alone.pt": "--config_path model_config.json: no such file",
    "--config_path no.json": "--config_path no.json: no such file",
    "--official part": "--official part: lacks src/module.py, sampling.py; name a",
    "--num_samples 1": "--num_samples 1: at least 2",
    "--device tpu": "--device tpu: use",
    "--output part": "--output part: is a folder",
    "--writeup_pdf no.pdf": "--writeup_pdf no.pdf: no such file",
    "--writeup_pdf note.txt": "--writeup_pdf note.txt: not a PDF",
    "--batch_size 3": "unrecognized arguments",
}


def test_mistakes_are_named_before_any_work(checkpoint, official, tmp_path):
    (tmp_path / "note.txt").write_text("no PDF")
    shutil.copytree(official, tmp_path / "part")
    (tmp_path / "part" / "sampling.py").unlink()
    (tmp_path / "part" / "src" / "module.py").unlink()
    shutil.copy(checkpoint, tmp_path / "alone.pt")
    for flags, message in MISTAKES.items():
        with pytest.raises(UserError) as caught:
            main(checkpoint, *flags.split())
        assert message in str(caught.value)
    assert not list(tmp_path.glob(".submit*"))


# What goes in


def test_a_new_helper_is_found_however_deep_and_strangers_stay_out(project, checkpoint):
    (project / "helper.py").write_text("import json\n\ndef f():\n    from deeper.one import x\n")
    (project / "deeper" / ".ipynb_checkpoints").mkdir(parents=True)
    for name in ("one.py", "two.py", ".ipynb_checkpoints/one.py"):
        (project / "deeper" / name).write_text("x = 1\n")
    (project / "src" / "samplers.py").write_text("import helper\n")
    (project / "scratch.py").write_text("")
    files = collect(project, checkpoint, checkpoint.with_name("model_config.json"))
    new = {"helper.py", "deeper/one.py", "deeper/two.py"}
    assert new <= set(files) and not {name for name in files if "scratch" in name or "ipy" in name}
    assert {"fewstep/engine/loop.py", "discriminator/patch.py"} <= set(files)  # named by no import
    (project / "helper.py").write_text("def f(:\n")
    with pytest.raises(UserError, match=r"helper.py: line 1 is not Python"):
        collect(project, checkpoint, checkpoint)


def test_the_provided_files_come_from_the_checkout(project, checkpoint, official):
    (project / "data").mkdir()
    for name in ("train_split.txt", "val_split.txt", "my_split.txt"):
        (project / "data" / name).write_text("ours")
    files = collect(project, checkpoint, checkpoint, official)
    theirs = {name for name, path in files.items() if official in path.parents}
    assert theirs == {*PROVIDED, "data/train_split.txt"}
    assert files["data/val_split.txt"] == project / "data/val_split.txt"
    assert "data/my_split.txt" not in files


def test_the_same_contents_give_the_same_bytes(tmp_path):
    for name in ("b.py", "a.py"):
        (tmp_path / name).write_text(name)
    files = {name: tmp_path / name for name in ("b.py", "a.py")}
    write_archive(files, "one.zip")
    os.utime("a.py", (1, 1))
    os.chmod("b.py", 0o755)
    write_archive(dict(reversed(files.items())), "two.zip")
    assert Path("one.zip").read_bytes() == Path("two.zip").read_bytes()
    assert zipfile.ZipFile("one.zip").namelist() == ["a.py", "b.py"]


@pytest.mark.parametrize("names", [["../a"], ["/a"], ["b\\a"], ["a", "a"]])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_unpacking_stays_in_its_folder(tmp_path, names):
    with zipfile.ZipFile("bad.zip", "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    with pytest.raises(ValueError):
        unpack("bad.zip", tmp_path / "in")
    assert os.listdir(tmp_path) == ["bad.zip"]


def test_files_that_are_missing_foreign_or_unknown(unpacked):
    folder, names = unpacked
    assert checks.check_files(folder, names).ok
    assert checks.check_files(folder, names).detail.startswith(f"{len(names)}, all")
    lacking = [name for name in names if name not in ("src/utils.py", CONFIG)]
    assert str(checks.check_files(folder, lacking)) == (
        "✗ files: checkpoints/model_config.json, src/utils.py missing; hand in a whole checkout"
    )
    (folder / "scratch.py").write_text("")
    assert str(checks.check_files(folder, [*names, "scratch.py", ".git/index"])) == (
        "✗ files: .git/index, scratch.py not part of a submission; remove them"
    )
    (folder / "train.py").write_text(
        "import timm, sympy, pytest, os.path, fewstep.engine.loop\ndef f():\n    import an_extra\n"
    )
    assert str(checks.check_files(folder, names)) == (
        "✗ files: train.py imports pytest, which is neither in the archive nor in requirements.txt;"
        " add it"
    )


def test_size():
    assert str(checks.check_size(2.4e8, 2.35e8)) == "✓ size: archive 240.0 MB, checkpoint 235.0 MB"
    assert str(checks.check_size(1.2e9, 1.1e9)) == (
        "✗ size: archive 1,200.0 MB, checkpoint 1,100.0 MB; over 1,000.0 MB: hand in the student"
        " alone (final_model.pt of a run), not a checkpoint to resume from"
    )


def test_provided_files_that_were_changed(unpacked, official):
    folder, _ = unpacked
    assert str(checks.check_provided(folder)) == (
        "✓ provided files: ours, not compared: give --official DIR"
    )
    copy_part(official, [*PROVIDED, "data/train_split.txt"], folder)
    assert checks.check_provided(folder, official).ok
    (folder / "src/network.py").write_text("")
    assert str(checks.check_provided(folder, official)) == (
        f"✗ provided files: src/network.py not as in {official}; put theirs back"
    )


# The checkpoint and its configuration


def saved(folder, content, config=TINY):
    """A folder with that checkpoint and configuration, as an archive has them."""
    (folder / "checkpoints").mkdir(exist_ok=True)
    torch.save(content, folder / CHECKPOINT)
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


@pytest.fixture
def state(checkpoint):
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def test_a_checkpoint_of_the_student_alone(tmp_path, state, model_shapes):
    finding, loaded = checks.check_checkpoint(saved(tmp_path, {"state_dict": state}))
    assert finding.ok and checks.check_weights(loaded, model_shapes["model"]).ok


def test_checkpoints_that_hold_something_else(tmp_path, state):
    for content, line in [
        (
            {"state_dict": state, "optimizer": {}, "step": 3},
            'holds optimizer, step beside "state_dict"; hand in final_model.pt of a run',
        ),
        ({"model": state}, 'no "state_dict" in it; hand in final_model.pt of a run'),
        ({"state_dict": {"a": 1}}, "a not a named tensor; hand in final_model.pt of a run"),
    ]:
        finding, _ = checks.check_checkpoint(saved(tmp_path, content))
        assert str(finding) == f"✗ checkpoint: {line}"


def test_a_checkpoint_that_would_run_code(tmp_path):
    finding, state = checks.check_checkpoint(saved(tmp_path, {"state_dict": Path("a")}))
    assert not finding.ok and state is None
    assert finding.detail.startswith(f"{CHECKPOINT}: not a checkpoint that can be loaded")


def with_discriminator(state):
    return state | {f"disc.{i}.weight": torch.zeros(1) for i in range(4)}


def with_nan(state):
    key = "network.head.weight"
    return state | {key: torch.full_like(state[key], float("nan"))}


def in_half_precision(state):
    return {key: value.half() if "head" in key else value for key, value in state.items()}


def without_bias(state):
    return {key: value for key, value in state.items() if key != "network.head.bias"}


def of_another_width(state):
    return state | {"network.head.bias": torch.zeros(7)}


@pytest.mark.parametrize(
    "change, line",
    [
        (
            with_discriminator,
            "holds disc.0.weight, disc.1.weight, disc.2.weight, ..., not the student's; save the"
            " student alone",
        ),
        (with_nan, "network.head.weight not finite; use an earlier checkpoint"),
        (
            in_half_precision,
            "network.head.bias, network.head.weight not float32; save the student as float32",
        ),
        (
            without_bias,
            "lacks network.head.bias; save the model that checkpoints/model_config.json describes",
        ),
        (
            of_another_width,
            "shape of network.head.bias not that of checkpoints/model_config.json; use the two of"
            " one run",
        ),
    ],
)
def test_weights(state, model_shapes, change, line):
    finding = checks.check_weights(change(state), model_shapes["model"])
    assert str(finding) == f"✗ weights: {line}"


def test_the_network_is_the_challenges():
    shapes = json.loads((ROOT / "tests/data/unet_state_dict.json").read_text())
    for tag, condition in (("full", False), ("full_cond", True)):
        full = {name: list(shape) for name, shape in dict(shapes[tag]).items()}
        state = {f"network.{name}": torch.empty(shape) for name, shape in full.items()}
        assert checks.check_network(state, full, condition).ok
        assert not checks.check_network(state, full, not condition).ok
    state["network.extra"] = torch.zeros(17)
    assert str(checks.check_network(state, full, True)) == (
        "✗ network: 59,934,996 parameters, 59,934,979 are fixed, and 1 tensors differ, e.g. extra;"
        " train with --network full"
    )


def test_a_network_of_another_size(state, model_shapes):
    assert str(checks.check_network(state, model_shapes["full"], False)) == (
        "✗ network: 395,971 parameters, 58,753,283 are fixed, and 563 tensors differ,"
        " e.g. downblocks.0.block1.0.bias; train with --network full"
    )


def test_the_probe_knows_the_challenges_network(model_shapes):
    shapes = json.loads((ROOT / "tests/data/unet_state_dict.json").read_text())
    assert model_shapes["full"] == {
        name: list(shape) for name, shape in dict(shapes["full"]).items()
    }


def test_a_rectified_flow_has_no_levels(tmp_path):
    config = {"model_type": "rectified_flow", "network": "full"}
    finding, content = checks.check_config(saved(tmp_path, {}, config))
    assert str(finding) == "✓ config: of a rectified_flow" and content == config


@pytest.mark.parametrize(
    "config, line",
    [
        (
            TINY | {"sampler": "heun"},
            'sampler "heun": this is the teacher; hand in the student (final_model.pt) with its'
            " model_config.json",
        ),
        (
            TINY | {"few_step_sigmas": {"1": [2.5], "4": [4, 3, 2, 1]}},
            "few_step_sigmas has no levels for NFE 2; take the model_config.json that lies beside"
            " the student",
        ),
        ([], "checkpoints/model_config.json: a JSON object was expected"),
    ],
)
def test_configurations(tmp_path, config, line):
    finding, _ = checks.check_config(saved(tmp_path, {}, config))
    assert str(finding) == f"✗ config: {line}"


# What runs


def test_only_the_grading_environment_can_be_imported(tmp_path, monkeypatch):
    packages = grading_packages()
    assert {"torch", "sympy", "networkx", "jinja2", "PIL", "dateutil", "dotmap"} <= packages
    assert not {"timm", "huggingface_hub", "pytest", "_pytest", "fewstep"} & packages
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where the whole project lies
    (tmp_path / "local.py").write_text("here = True\n")
    (tmp_path / "script.py").write_text(
        "import importlib.util, sys, PIL.Image, numpy, yaml, local\n"
        "from importlib.metadata import version\n"
        "assert local.here and version('numpy') == numpy.__version__ and sys.argv[1:] == ['7']\n"
        "for name in ('timm', 'pytest', 'fewstep', 'custom_model', 'train'):\n"
        "    assert importlib.util.find_spec(name) is None, name\n"
        "import timm\n"
    )
    process = run_restricted(tmp_path, "script.py", 7)
    assert failure_of(process) == "exit code 1, ModuleNotFoundError: No module named 'timm'"


NEEDED = (
    "; the graders' sampler has custom_model.py, what that imports of the project save training"
    " code, and the grading environment's packages"
)
ENDED = SimpleNamespace(returncode=1, stderr="Traceback:\n  ...\nValueError: no such thing\n")


def test_a_model_that_imports_what_is_not_there(tmp_path):
    (tmp_path / "torch.py").write_text("")  # in place of the real one, which takes seconds
    (tmp_path / "custom_model.py").write_text("import timm\n")
    process, report = trial.run_graders(tmp_path, tmp_path, 2, CPU, [])
    assert report is None
    assert str(trial.check_model(process, report, tmp_path)) == (
        "✗ model: custom_model.py cannot build it (exit code 1, ModuleNotFoundError: No module"
        f" named 'timm'){NEEDED}"
    )


def test_a_model_that_imports_more_than_it_should(tmp_path):
    report = {"modules": ["custom_model", "src", "kagglehub", "torch", "fewstep"]}
    assert str(trial.check_model(None, report, tmp_path)) == (
        "✗ model: importing custom_model also imports fewstep, kagglehub; sampling must not need"
        " that"
    )


def test_a_sampler_that_fails(tmp_path):
    (finding,) = trial.check_sampler(ENDED, {"runs": []}, tmp_path, 2)
    assert str(finding) == (
        f"✗ sampler: fails as the graders run it (exit code 1, ValueError: no such thing){NEEDED}"
    )


def test_a_sampler_that_takes_more_evaluations():
    run = {str(nfe): {"evaluations": [nfe, nfe]} for nfe in (1, 2, 4)}
    assert trial.check_evaluations(run).ok
    run["1"]["evaluations"][1] = 2.0
    assert str(trial.check_evaluations(run)) == (
        "✗ evaluations: NFE 1 takes 2 evaluations of the network per image; sample() must take"
        " exactly num_inference_timesteps"
    )


OTHER_SEED = (
    "✗ other seed: seeds 42 and 43 give the same images; draw all noise from torch's global"
    " generator, without a seed of the model's own"
)


def test_a_sampler_with_a_seed_of_its_own(graders_folder, tmp_path, monkeypatch):
    draw = CustomScheduler.draw_noise

    def draw_the_same(self, shape, device="cpu", generator=None):
        return draw(self, shape, device, torch.Generator().manual_seed(0))

    monkeypatch.setattr(CustomScheduler, "draw_noise", draw_the_same)
    monkeypatch.setattr(trial, "run_restricted", run_here)
    process, report = trial.run_graders(graders_folder, tmp_path, 2, CPU, [trial.FIRST])
    findings = trial.check_sampler(process, report, tmp_path, 2)
    assert all(finding.ok for finding in findings)
    findings = list(trial.check_seeds(graders_folder, tmp_path, 2, CPU))
    assert [finding.ok for finding in findings] == [True, False] and str(findings[1]) == OTHER_SEED


@pytest.mark.parametrize(
    "again, other, lines",
    [
        (b"a", b"b", ["✓ same seed: the same bytes", "✓ other seed: other images"]),
        (
            b"c",
            b"b",
            [
                "✗ same seed: two runs with seed 42 differ; draw all noise from torch's global"
                " generator",
                "✓ other seed: other images",
            ],
        ),
        (b"a", b"a", ["✓ same seed: the same bytes", OTHER_SEED]),
        (
            b"a",
            None,
            [
                "✓ same seed: the same bytes",
                "✗ other seed: a run with seed 43 fails (exit code 1, ValueError: no such thing)",
            ],
        ),
        (
            None,
            None,
            [
                "✗ same seed: the second run fails (exit code 1, ValueError: no such thing); run it"
                " again",
                "✗ other seed: a run with seed 43 fails (exit code 1, ValueError: no such thing)",
            ],
        ),
    ],
)
def test_seeds(tmp_path, monkeypatch, again, other, lines):
    images = {"first": b"a", "again": again, "other": other}
    for name, content in images.items():
        if content:
            (tmp_path / name / "nfe=1").mkdir(parents=True)
            (tmp_path / name / "nfe=1" / "0000.png").write_bytes(content)
    report = {"runs": [content for content in (again, other) if content]}
    monkeypatch.setattr(trial, "run_graders", lambda *arguments: (ENDED, report))
    assert [str(finding) for finding in trial.check_seeds(tmp_path, tmp_path, 1, CPU)] == lines


def test_images_of_the_wrong_kind(tmp_path):
    from PIL import Image

    def write(nfe, number, size=(64, 64), mode="RGB", seed=None):
        folder = tmp_path / f"nfe={nfe}"
        folder.mkdir(exist_ok=True)
        noise = os.urandom(64 * 64 * 3) if seed is None else bytes([seed]) * 64 * 64 * 3
        image = Image.frombytes("RGB", (64, 64), noise).resize(size).convert(mode)
        image.save(folder / f"{number:04d}.png")

    report = {str(nfe): {"range": [-1.0, 1.0]} for nfe in (1, 2, 4)}
    for nfe in (1, 2, 4):
        write(nfe, 0)
        write(nfe, 1)
    assert trial.check_images(tmp_path, 2, report).ok
    images = trial.image_bytes(tmp_path)
    assert trial.check_nfes_differ(images).ok
    images["nfe=4"] = [images["nfe=2"][1], b""]
    assert str(trial.check_nfes_differ(images)) == (
        "✗ NFEs: NFE 2 and 4 give the same images; use num_inference_timesteps"
    )

    def line(report=report):
        return str(trial.check_images(tmp_path, 2, report))

    nan = report | {"1": {"range": None}}
    assert line(nan) == "✗ sampler: NFE 1 gives values that are not finite; use other weights"
    wide = report | {"4": {"range": [-1.0, 1.5]}}
    assert line(wide) == "✗ sampler: NFE 4 gives values from -1.00 to 1.50; clamp to [-1, 1]"
    write(2, 1, seed=7)
    assert line() == "✗ sampler: NFE 2: 0001.png of one colour; use other weights"
    shutil.copy(tmp_path / "nfe=2/0000.png", tmp_path / "nfe=2/0001.png")
    assert line() == "✗ sampler: NFE 2 gives an image twice; draw noise for each image"
    write(2, 1, size=(32, 32))
    assert line().startswith("✗ sampler: nfe=2/0001.png is ('PNG', 'RGB', (32, 32)), not a 64x64")
    write(2, 1, mode="L")
    assert line().startswith("✗ sampler: nfe=2/0001.png is ('PNG', 'L', (64, 64)), not a 64x64")
    (tmp_path / "nfe=2/0001.png").unlink()
    assert line() == "✗ sampler: NFE 2 gives 1 files, not 0000.png to the last"


@pytest.mark.parametrize("count, batch", [(2, 2), (4, 4), (32, 32), (33, 31), (65, 31), (1000, 32)])
def test_no_image_is_left_over_for_a_batch_of_one(count, batch):
    assert trial.batch_size_for(count) == batch and count % batch != 1


def test_an_official_sampler_that_fails(tmp_path):
    (tmp_path / "sampling.py").write_text("import sys\nsys.exit('no model: ' + sys.argv[2])\n")
    assert str(trial.try_official(tmp_path, tmp_path, 2, CPU)) == (
        "✗ official sampling.py: fails (exit code 1, no model: checkpoints/best_model.pt); the"
        " graders' sampler has custom_model.py, what that imports of the project save training"
        " code, and the grading environment's packages"
    )
    (tmp_path / "sampling.py").write_text("")
    assert str(trial.try_official(tmp_path, tmp_path, 2, CPU)) == (
        "✗ official sampling.py: NFE 1 gives 0 files, not 0000.png to the last; NFE 2 gives 0"
        " files, not 0000.png to the last; NFE 4 gives 0 files, not 0000.png to the last"
    )
