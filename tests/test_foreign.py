"""Weights that other programs saved, or checkpoints of a run hold, and our own files in the wrong
place: read, or told apart."""

import shutil

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

import sampling
import train
from custom_model import MODEL_DEFAULTS, create_custom_model
from fewstep.__main__ import main as fewstep
from fewstep.engine.checkpoints import checkpoint_path, save_checkpoint
from fewstep.engine.microbatch import split
from src.utils import UserError, load_model, save_model, write_json
from tests.commands import run_here
from tests.students import build_teacher, tiny_settings

TINY = MODEL_DEFAULTS | {"network": "tiny", "sampler": "few_step"}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return create_custom_model(**TINY)


@pytest.fixture
def path(model, tmp_path):
    save_model(model, tmp_path / "model.pt", TINY)
    return tmp_path / "model.pt"


def prefixed(state, *prefixes):
    return {"".join(prefixes) + name: value for name, value in state.items()}


def averaged(model):
    return AveragedModel(model).state_dict()


def compiled_network(model):
    return {k.replace("network.", "network._orig_mod."): v for k, v in model.state_dict().items()}


# How a file holds the weights, and what must be said of that.
FORMS = {
    "ours": (lambda m: {"state_dict": m.state_dict()}, ""),
    "bare": (lambda m: m.state_dict(), "taken from the file itself"),
    "DDP": (lambda m: {"state_dict": prefixed(m.state_dict(), "module.")}, "without module."),
    "compiled": (lambda m: prefixed(m.state_dict(), "_orig_mod."), "without _orig_mod."),
    "both": (lambda m: prefixed(m.state_dict(), "_orig_mod.", "module."), "without _orig_mod."),
    "inside": (lambda m: {"state_dict": compiled_network(m)}, "without _orig_mod."),
    "lightning": (lambda m: {"state_dict": prefixed(m.state_dict(), "model."), "epoch": 3},
                  "names without model."),
    "averaged": (lambda m: {"ema": averaged(m)}, "n_averaged left out"),
    "under model": (lambda m: {"model": m.state_dict(), "step": 3}, "taken from model"),
    "nested": (lambda m: {"ema": {"state_dict": m.state_dict()}}, "taken from ema.state_dict"),
    "the network": (lambda m: {"model": m.network.state_dict()}, "names with network. before"),
    "average first": (
        lambda m: {"model": {k: v + 1 for k, v in m.state_dict().items()}, "ema": m.state_dict()},
        "taken from ema (beside it: model)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("old", [False, True], ids=["zip", "old format"])
def test_harmless_forms_are_read_and_what_was_done_is_said(model, path, form, old, capsys):
    make, said = FORMS[form]
    torch.save(make(model), path, _use_new_zipfile_serialization=not old)
    loaded = load_model(path, create_custom_model).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())
    output = capsys.readouterr().out
    assert said in output and ("damage cannot be seen" in output) == old
    assert bool(output) == bool(said or old)


def test_what_does_not_fit_is_named_with_the_network_that_it_seems_to_be(model, path):
    def refusal(**changed):
        write_json(path.with_name("model_config.json"), TINY | changed)
        with pytest.raises(UserError) as refused:
            load_model(path, create_custom_model)
        message = str(refused.value)
        assert message.startswith(f"{path}: its weights do not fit the model of")
        assert message.endswith("put the model_config.json beside the weights that was saved with"
                                " them")  # fmt: skip
        return message

    message = refusal(network="small")
    assert "network.head" not in message and "they seem to be of network tiny;" in message
    assert "is missing; it has network." in message or " in the model [" in message
    assert "network.condition_embedding" in refusal(use_additional_condition=True)
    torch.save({"state_dict": model.state_dict() | {"more.bias": torch.ones(1)}}, path)
    assert "the model has no more.bias" in refusal()
    conditioned = create_custom_model(**TINY | {"use_additional_condition": True})
    torch.save({"state_dict": conditioned.state_dict()}, path)
    assert "of network tiny, with use_additional_condition" in refusal()
    torch.save({"state_dict": {"network.head.bias": torch.ones(7)}}, path)
    assert "is missing" in refusal() and "seem to be" not in refusal()


def test_a_cut_off_file_of_the_old_format_is_refused(model, path):
    torch.save({"state_dict": model.state_dict()}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    for length in (20, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="model.pt: not a checkpoint that can be loaded"):
            load_model(path, create_custom_model)


def test_of_a_checkpoint_that_a_run_goes_on_from_the_average_is_taken(tmp_path, capsys):
    torch.manual_seed(0)
    phase = build_teacher(tiny_settings(dict(warmup=0, num_iterations=100, ema_share=0.5)))
    for step in range(3):
        phase.step(split(torch.rand(4, 3, 64, 64) * 2 - 1, [step]), step)
    content = {"identity": {}, "seconds": 0.0, "window": {}, "phase": phase.state_dict()}
    save_checkpoint(tmp_path, 3, content, keep=2)
    write_json(tmp_path / "model_config.json", phase.config)
    loaded = load_model(checkpoint_path(tmp_path, 3), create_custom_model).state_dict()
    average, learning = phase.ema.state_dict(), phase.model.state_dict()
    assert all(torch.equal(loaded[name], average[name]) for name in average)
    assert any(not torch.equal(loaded[name], learning[name]) for name in average)
    assert "taken from teacher_average" in capsys.readouterr().out


COMMANDS = {
    "sampling": (sampling.main, "sampling.py --device cpu --ckpt_path {path} --save_dir out"),
    "teacher": (train.main, "train.py --preset tiny --data synthetic --device cpu --phase add"
                            " --save_dir out --teacher_ckpt {path}"),
    "publish": (fewstep, "fewstep publish pack --ckpt_path {path} --output_dir out"),
    "evaluate": (fewstep, "fewstep evaluate --ckpt_path {path} --data synthetic --device cpu"
                          " --output_dir out --features random"),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_which_file_would_be_right(model, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, (main, words) = tmp_path / "run", COMMANDS[command]
    config = TINY | {"sampler": "heun" if command == "teacher" else "few_step"}
    save_model(model, run / "teacher" / "model.pt", config)
    save_model(model, run / "final_model.pt", config)
    content = {"identity": {}, "seconds": 0.0, "window": {}, "phase": {"student": {}}}
    save_checkpoint(run / "teacher", 7, content, keep=2)

    def refusal(path):
        ended = run_here(main, *words.format(path=path).split())
        assert ended.code == 2 and len(ended.err.splitlines()) == 1, ended
        assert not (tmp_path / "out").exists()
        return ended.err

    message = refusal(run / "teacher" / "checkpoint_iter_7.pt")
    assert f"name {run / 'final_model.pt'} or {run / 'teacher' / 'model.pt'}" in message
    (run / "model_config.json").unlink()
    message = refusal(run / "final_model.pt")
    assert "model_config.json" in message and "beside" in message
    assert str(run / "final_model.pt") in message or str(run / "model_config.json") in message
    write_json(run / "model_config.json", {"settings": {}, "preset": "tiny"})
    assert "holds the settings of a run, not of a model" in refusal(run / "final_model.pt")
    shutil.copy(run / "final_model.pt", run / "teacher" / "torn.pt")
    (run / "teacher" / "torn.pt").write_bytes(b"PK" + b"\0" * 500)
    assert "torn.pt" in refusal(run / "teacher" / "torn.pt")
