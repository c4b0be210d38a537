"""The command that makes one model of several."""

import pytest
import torch

import fewstep
from fewstep.runs.run_folder import CONFIG_NAME
from fewstep.studies import average
from src.published import CARD, WEIGHTS
from src.utils import UserError, file_digest, read_json, save_model, write_json
from tests.handin.student import LEVELS, TINY, pack, student


@pytest.fixture
def folders(tmp_path):
    """Two runs' folders, of students of the same kind."""
    for seed, name in enumerate(("a", "b")):
        save_model(student(seed), tmp_path / name / "final_model.pt", TINY)
    return tmp_path / "a", tmp_path / "b"


def averaged(target, *words):
    return average.main([str(word) for word in ("--output_dir", target, "--ckpt_path", *words)])


@pytest.mark.parametrize(
    "shares, wanted",
    [([], (0.5, 0.5)), (["--shares", 3, 1], (0.75, 0.25)), (["--shares", 0, 2], (0, 1))],
)
def test_the_weights_are_the_mean_by_share(folders, tmp_path, shares, wanted):
    assert averaged(tmp_path / "mean", *folders, *shares) == 0
    made = fewstep.load(tmp_path / "mean", "cpu")
    parts = [fewstep.load(folder, "cpu").model.state_dict() for folder in folders]
    for name, value in made.model.state_dict().items():
        expected = sum(share * part[name].double() for share, part in zip(wanted, parts))
        assert value.dtype == torch.float32
        assert torch.allclose(value.double(), expected, rtol=1e-6, atol=1e-8), name
    assert made.config == TINY
    record = read_json(tmp_path / "mean" / "average.json")
    assert [part["share"] for part in record["models"]] == list(wanted)
    assert made.sample(1, nfe=1, seed=0)


def test_a_checkpoint_and_published_weights_have_a_mean(folders, tmp_path):
    pack(folders[0] / "final_model.pt", tmp_path / "packed", "--dtype", "fp16")
    averaged(tmp_path / "mean", tmp_path / "packed", folders[1] / "final_model.pt")
    averaged(tmp_path / "plain", *folders)
    pack(tmp_path / "mean" / "final_model.pt", tmp_path / "again")
    digest = file_digest(tmp_path / "packed" / WEIGHTS).hex()
    card = (tmp_path / "again" / CARD).read_text()
    assert f"- The published `{WEIGHTS}` of SHA-256 `{digest}`" in card
    first, second = (fewstep.load(tmp_path / name, "cpu").model for name in ("mean", "plain"))
    for a, b in zip(first.parameters(), second.parameters()):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)


def test_what_has_no_mean_is_refused_and_nothing_is_written(folders, tmp_path):
    bad = student(2)
    with torch.no_grad():
        next(bad.parameters()).view(-1)[0] = float("nan")
    save_model(bad, tmp_path / "nan" / "final_model.pt", TINY)
    other = TINY | {"few_step_sigmas": LEVELS | {"2": [2.5, 0.7]}}
    save_model(student(3), tmp_path / "levels" / "final_model.pt", other)
    save_model(student(3), tmp_path / "teacher" / "model.pt", other | {"sampler": "heun"})
    for words, told in (
        (folders[:1], "one model; name two or more"),
        ([*folders, "--shares", 1], "--shares: 2 numbers are needed"),
        ([*folders, "--shares", 0, 0], "not all of them 0"),
        ([*folders, "--shares", 1, -1], "at least 0 is needed"),
        ([folders[0], tmp_path / "nan"], "is not finite"),
        ([folders[0], tmp_path / "teacher" / "model.pt"], "its sampler is heun, that of"),
        ([folders[0], tmp_path / "levels"], "its few_step_sigmas is .* models of one kind"),
        ([folders[0], tmp_path / "none"], "none"),
    ):
        with pytest.raises(UserError, match=told) as error:
            averaged(tmp_path / "mean", *words)
        assert "\n" not in str(error.value) and not (tmp_path / "mean").exists()


def test_a_model_that_is_there_is_replaced_only_when_asked(folders, tmp_path):
    before = (folders[1] / "final_model.pt").read_bytes()
    with pytest.raises(UserError, match="is there already; --force replaces it"):
        averaged(folders[1], *folders)
    assert (folders[1] / "final_model.pt").read_bytes() == before
    averaged(folders[1], *folders, "--force")
    assert (folders[1] / "final_model.pt").read_bytes() != before


def test_the_card_of_a_mean_has_the_recipe_of_each(folders, tmp_path):
    for folder, seconds in zip(folders, (3600, 7200)):
        groups = {"data": {"data": "folder", "batch_size": seconds}}
        record = {"settings": groups, "preset": "tiny", "student_seconds": seconds}
        write_json(folder / CONFIG_NAME, record)
    averaged(tmp_path / "mean", *folders, "--shares", 1, 2)
    pack(tmp_path / "mean" / "final_model.pt", tmp_path / "packed")
    card = (tmp_path / "packed" / CARD).read_text()
    assert "The mean of the weights of 2 models (`fewstep average`)" in card
    averaged(tmp_path / "nested", tmp_path / "mean", folders[1])
    nested = read_json(tmp_path / "nested" / "average.json")["models"]
    assert [round(part["share"], 4) for part in nested] == [0.1667, 0.3333, 0.5]
    assert [part["record"]["student_seconds"] for part in nested] == [3600, 7200, 7200]
    first, second = card.partition("33.3 % of it:")[2].split("66.7 % of it:")
    for part, size, hours in ((first, 3600, "1.00 hours"), (second, 7200, "2.00 hours")):
        assert f"--batch_size={size}`" in part and f"Training: {hours}" in part
