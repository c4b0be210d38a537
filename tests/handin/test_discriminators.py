"""The discriminator of a run, published and loaded."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

import fewstep
from fewstep.engine.checkpoints import checkpoint_path, save_checkpoint
from fewstep.handin import publish
from fewstep.methods.adversary_settings import Discriminator
from fewstep.runs.discriminators import of_published, of_run
from fewstep.runs.run_folder import begin_run, own_teacher, phase_identity
from src.published import CARD, DISCRIMINATOR, read_tensors
from src.utils import UserError, save_model, torch_load
from tests.handin.student import refused, unpack
from tests.students import AT_ONCE, SIGMA_DATA, student_of, tiny_settings

KINDS = {
    "resnet": dict(disc="resnet", disc_level=True, augment="translation", gan_loss="relativistic"),
    # Of a long training: its time alone is longer than a default student's whole phase.
    "patch": dict(
        disc="patch",
        disc_noise=False,
        disc_heads="16",
        disc_warmup=30_000,
        student_iterations=40_000,
    ),
    "teacher": dict(disc="unet", disc_start="teacher", disc_channels=0, num_train_timesteps=500),
}


def leave_run(folder, **flags):
    """A run's folder with a checkpoint of its student, as training leaves it. Returns the phase."""
    settings = tiny_settings(AT_ONCE, flags)
    phase = student_of(settings)
    if phase.adversary.disc.level_embedding:  # as if it had learnt
        torch.nn.init.normal_(phase.adversary.disc.level_embedding.mlp[-1].weight)
    identity = phase_identity(settings, "student", {"images": "0"})
    content = {"identity": identity, "seconds": 1.0, "window": {}, "phase": phase.state_dict()}
    for step in (3, 12):
        save_checkpoint(folder / "student", step, content, keep=2)
    save_model(phase.ema, folder / "final_model.pt", phase.config)
    facts = dict(preset="tiny", student_seconds=3600.0, device="Some GPU")
    begin_run(folder, settings, {"student": identity}, own_teacher(folder), **facts)
    return phase


def pack(path, folder, *more):
    flags = ["pack", "--discriminator", "--ckpt_path", path, "--output_dir", folder, *more]
    return publish.main([str(flag) for flag in flags])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(folder, phase) of a run, not to be written to."""
    folder = tmp_path_factory.mktemp("run")
    return folder, leave_run(folder)


def test_one_that_starts_as_the_teacher_is_told_levels_as_the_teacher_is(tmp_path):
    """In the tiny network group normalisation hides that, so logits would not show it."""
    phase = leave_run(tmp_path / "run", **KINDS["teacher"])
    pack(tmp_path / "run", tmp_path / "packed")
    own = phase.adversary.disc.trunk.scheduler
    scheduler = fewstep.load_discriminator(tmp_path / "packed", "cpu").trunk.scheduler
    assert scheduler.num_train_timesteps == own.num_train_timesteps == 500
    assert scheduler.sigma_data == own.sigma_data == SIGMA_DATA


@pytest.mark.parametrize("kind", KINDS)
def test_it_judges_as_it_did_in_training(kind, tmp_path, capsys):
    phase = leave_run(tmp_path / "run", **KINDS[kind])
    pack(tmp_path / "run", tmp_path / "packed", "--dtype", "fp16")
    change = re.search(r"changed by ([\d.]+) % of their spread", capsys.readouterr().out)[1]
    assert 0 < float(change) < 2
    disc = fewstep.load_discriminator(tmp_path / "packed", "cpu")
    own = phase.adversary.disc.eval()
    own.augment.policy = []
    x, sigma = torch.randn(4, 3, 64, 64), torch.tensor([0.1, 0.5, 1.0, 4.0])
    level = sigma.flip(0) if kind == "resnet" else None
    with torch.no_grad():
        expected, logits = own(x, sigma, level=level), disc(x, sigma, level=level)
    assert logits.shape == expected.shape and not disc.training
    assert (logits - expected).abs().max() < 0.02 * expected.std() + 1e-3
    if kind == "resnet":
        assert not torch.allclose(logits, disc(x, sigma, level=sigma), atol=1e-3)
    # Without augmentation, which would be drawn anew.
    assert torch.equal(logits, disc(x, sigma, level=level))


def test_the_card_says_what_it_judges_and_how_it_is_built(run, tmp_path, capsys):
    folder, phase = run
    pack(folder, tmp_path)
    out = capsys.readouterr().out
    assert "- logits of 16 images of its student: changed by" in out and "read again" in out
    card = (tmp_path / CARD).read_text(encoding="utf-8")
    settings = phase.settings.discriminator
    for text in (
        "# A discriminator of 64×64 images",
        "up to step 12",
        "ln σ ~ N(-1.5, 1²)",
        "It tells these training images from this student's.",
        f"--disc={settings.disc} --disc_channels=8 --disc_depth=0",
        "--disc_stddev --disc_condition --no-disc_level",
        "then `disc(x, sigma)`.",
        "network `tiny`",
        "`--gan_loss hinge`",
        "1.00 hours on Some GPU",
        "- int8 weights: changed by",
    ):
        assert text in card
    count = sum(value.numel() for value in phase.adversary.disc.state_dict().values())
    assert f"{count:,} parameters, trained from random weights" in card


def test_one_that_is_told_of_the_evaluation_asks_for_it(tmp_path):
    leave_run(tmp_path / "run", **KINDS["resnet"])
    pack(tmp_path / "run", tmp_path / "packed")
    card = (tmp_path / "packed" / CARD).read_text(encoding="utf-8")
    assert "then `disc(x, sigma, level=level)`." in card
    assert "is the noise level of the evaluation that made an image" in card
    disc = fewstep.load_discriminator(tmp_path / "packed", "cpu")
    with pytest.raises(ValueError, match="level: this discriminator asks for the noise level"):
        disc(torch.zeros(2, 3, 64, 64), torch.ones(2))


def test_a_checkpoint_of_its_own_is_named_too(run, tmp_path):
    folder, _ = run
    pack(checkpoint_path(folder / "student", 3), tmp_path)
    assert "up to step 3." in (tmp_path / CARD).read_text(encoding="utf-8")


def test_by_default_it_has_a_folder_of_its_own(run):
    publish.main(["pack", "--discriminator", "--ckpt_path", str(run[0])])
    assert Path("checkpoints/pretrained/discriminator/model.safetensors").is_file()
    assert not Path("checkpoints/pretrained/model.safetensors").exists()


def test_what_has_none_or_is_another_is_refused(run, tmp_path):
    folder, phase = run
    packed = tmp_path / "packed"
    refused("has no student/checkpoint_iter_N.pt", pack, tmp_path, packed)
    refused("not a checkpoint of a run", pack, folder / "final_model.pt", packed)
    refused("no such file", pack, folder / "student" / "none.pt", packed)
    refused("--scores: are of a student", pack, folder, packed, "--scores", "s.json")
    path = checkpoint_path(folder / "student", 12)
    for change, message in (
        (lambda state: state.pop("disc"), "has no discriminator"),
        (lambda state: state["disc"].popitem(), "version"),
        (lambda state: next(iter(state["disc"].values())).fill_(float("nan")), "is not finite"),
    ):
        content = torch_load(path)
        change(content["phase"])
        content = {key: content[key] for key in ("identity", "seconds", "window", "phase")}
        save_checkpoint(tmp_path / "run" / "student", 1, content, keep=1)
        save_model(phase.ema, tmp_path / "run" / "final_model.pt", phase.config)
        refused(message, pack, tmp_path / "run", packed)
    assert not packed.exists()
    pack(folder, packed)
    refused("is there already; --force", pack, folder, packed)
    refused("holds a discriminator, not a model", fewstep.load, packed)
    refused("holds a discriminator, not a model", unpack, packed, tmp_path / "best_model.pt")
    with pytest.raises(UserError, match="damaged"):
        (packed / "model.safetensors").write_bytes(b"x")
        fewstep.load_discriminator(packed)


def test_one_from_before_levels_were_told_is_told_none(tmp_path, monkeypatch):
    """Of a checkpoint, and published: neither names a flag that was not there, `full` has it on."""
    assert Discriminator().disc_level
    leave_run(tmp_path / "run")
    path = checkpoint_path(tmp_path / "run" / "student", 12)
    content = torch_load(path)
    del content["identity"]["disc_level"]
    content = {key: content[key] for key in ("identity", "seconds", "window", "phase")}
    save_checkpoint(tmp_path / "run" / "student", 12, content, keep=1)
    assert not of_run(tmp_path / "run").settings.disc_level
    pack(tmp_path / "run", tmp_path / "packed")
    about, state = read_tensors(tmp_path / "packed", DISCRIMINATOR)
    del about["flags"]["disc_level"]
    about["flags"] |= {"disc_lead": 0.5, "disc_lead_most": 0.3}  # was allowed
    monkeypatch.setattr("fewstep.runs.discriminators.read_tensors", lambda *_: (about, state))
    assert not of_published(tmp_path / "packed").settings.disc_level


def test_all_flags_of_it_are_in_the_checkpoint(run):
    """What rebuilds it is read from the identity, which must have every flag."""
    folder, phase = run
    identity = torch_load(checkpoint_path(folder / "student", 12))["identity"]
    flags = asdict(phase.settings.discriminator)
    assert {key: identity[key] for key in flags} == flags
