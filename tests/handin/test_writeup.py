"""The write-up: what it says, what it lacks, and that it fits its pages."""

import json
import re
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fewstep.engine.curves import curves_of
from fewstep.handin import submit
from fewstep.handin.writeup import records
from fewstep.handin.writeup.curves import LOSSES
from fewstep.handin.writeup.document import contents, make_writeup
from fewstep.handin.writeup.records import early_step, read_records
from src.model_config import FLOW_DEFAULTS
from src.sheets import picture_sheet
from src.utils import UserError, read_json, save_picture, torch_load, torch_save, write_json
from tests.handin.records import INCEPTION, SPACE, make_run, random_sheet, save_scored, settings_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def own_run(run, tmp_path):
    """A copy of that run to change."""
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture(scope="module")
def output(run, tmp_path_factory):
    return make_writeup(run, tmp_path_factory.mktemp("pdf") / "new" / "a.pdf", "Ada Example")


def texts_of(pdf):
    """The text of each page, with the page sizes checked."""
    pdfium = pytest.importorskip("pypdfium2")
    document = pdfium.PdfDocument(pdf)
    for page in document:
        assert page.get_size() == pytest.approx((595.276, 841.89), abs=0.5)
    texts = [page.get_textpage().get_text_range() for page in document]
    document.close()
    return [" ".join(text.replace("\u00a0", " ").split()) for text in texts]


def numbers_cited(text):
    """The numbers of citations in a PDF's text, in order."""
    return [int(number) for number in re.findall(r"\[(\d+)\]", text)]


def test_two_pages_and_one_of_references(output):
    first, second, third = texts_of(output)
    assert "Adversarial diffusion distillation" in first and "Ada Example" in first
    assert "Total training time: 1 h 3 min" in first and "1 h 2 min" in first
    assert "Quick Processor, 2 threads" in first and "torch 2.6.0" in first
    assert (
        "395,971 parameters" in first
        and "1,154 training images of 64×64 pixels (drawn faces)" in first
    )
    assert "Command: python train.py --preset tiny --data=synthetic." in first
    assert "step 200" in second and "after 200 of 1,400 steps" in second
    assert "after 200 of 600 steps" in second
    assert "35.72 ± 0.50" in second and "0.876" in second and "0, 1 and 2" in second
    assert "random-conv-v1" in second and "n = 1,000" in second
    assert "/home" not in second and "faces" in second
    assert third.startswith("References")


def test_citations_are_numbered_as_they_come_and_all_are_listed(output):
    first, second, third = texts_of(output)
    numbers = numbers_cited(first + second)
    assert list(dict.fromkeys(numbers)) == list(range(1, max(numbers) + 1))
    assert list(dict.fromkeys(numbers_cited(third))) == sorted(set(numbers))
    assert "Adversarial Diffusion Distillation" in third and "arXiv:2311.17042" in third


def change(run, file="training_config", **facts):
    """Other facts in a JSON file of a run; None takes one out."""
    path = run / f"{file}.json"
    content = read_json(path) | facts
    write_json(path, {key: value for key, value in content.items() if value is not None})


def without(pattern):
    def remove(run):
        for path in run.glob(pattern):
            path.unlink()

    return remove


def train_on(run):
    """As if its student had learnt more after it was scored."""
    content = torch_load(run / "final_model.pt")
    next(iter(content["state_dict"].values())).add_(1)
    torch_save(content, run / "final_model.pt")


LACKS = {
    "early samples of the teacher (samples/teacher_*.png)": without("samples/teacher*"),
    "early samples of the student": without("samples/student*"),
    "final samples (evaluation/student_nfe=K.png": without("evaluation/student*"),
    "the teacher's loss curves": without("log.jsonl"),
    "scores (evaluation/scores.json)": without("evaluation/scores.json"),
    "the student (final_model.pt)": without("final_model.pt"),
    "the student (model_config.json)": without("model_config.json"),
    "the settings (training_config.json)": without("training_config.json"),
    "the run is not finished": lambda run: change(run, finished=False),
    "the training time of the teacher": lambda run: change(run, teacher_seconds=None),
    "the training time of the student": lambda run: change(run, student_seconds=None),
    "the hardware": lambda run: change(run, device=None),
    "scores of the student at NFE 1, 2, 4": lambda run: change(run, "evaluation/scores", rows=[]),
    "scores.json: not what fewstep evaluate writes": lambda run: change(
        run, "evaluation/scores", rows=[{"images": "student, NFE 1"}]
    ),
    "scores.json: not what": lambda run: change(run, "evaluation/scores", rows=None),
    "scores.json: of other weights or noise levels": lambda run: change(
        run, "model_config", few_step_sigmas={"1": [7.5]}
    ),
    "scores.json: not what fewstep": lambda run: change(run, "evaluation/scores", spaces=[{}]),
    "scores.json: it calls FID what is of weights other": lambda run: change(
        run,
        "evaluation/scores",
        spaces=[{"name": "Inception", "sha256": "ab" * 32, "is_fid": True}],
    ),
    "scores.json: of other weights": train_on,
}


@pytest.mark.parametrize("lack", LACKS)
def test_what_is_missing_is_named(own_run, tmp_path, lack):
    LACKS[lack](own_run)
    with pytest.raises(UserError, match=re.escape(lack)) as caught:
        make_writeup(own_run, tmp_path / "writeup.pdf")
    assert str(own_run) in str(caught.value) and not (tmp_path / "writeup.pdf").exists()
    assert f"python -m fewstep evaluate --run_dir {own_run}" in str(caught.value)


def test_the_absent_typesetter_is_one_line(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "typst", None)
    with pytest.raises(UserError, match="^the write-up needs .* pip install typst$"):
        make_writeup(run, tmp_path / "writeup.pdf")


def test_everything_missing_is_named_at_once(tmp_path):
    with pytest.raises(UserError) as caught:
        make_writeup(tmp_path, tmp_path / "writeup.pdf")
    for name in ("settings", "early samples", "loss curves", "final samples", "scores"):
        assert name in str(caught.value)


def test_a_teacher_of_another_run_brings_its_own_records(own_run, tmp_path):
    teacher, run = make_run(tmp_path / "teacher", batch_size=16), own_run
    change(run, teacher_file=str(teacher / "teacher" / "model.pt"), teacher_seconds=None)
    without("samples/teacher*")(run)
    change(teacher, device="Other Processor", teacher_seconds=50.0)
    texts = contents(read_records(run), tmp_path)
    assert "1,400 steps of 16 images" in texts["technical"]
    assert "1,000 steps of 8 images" in texts["technical"]
    assert "1\u00a0min 51\u00a0s" in texts["training"] and "Other Processor" in texts["training"]
    moved = teacher.rename(tmp_path / "moved")
    with pytest.raises(UserError, match="the settings of the teacher's run"):
        read_records(run)
    assert read_records(run, teacher_dir=moved).phases[0].facts["device"] == "Other Processor"


def test_the_flow_that_a_reflow_straightens_may_be_of_another_run(own_run, tmp_path, monkeypatch):
    settings = read_json(own_run / "training_config.json")["settings"]
    settings["run"]["method"] = "reflow"
    change(own_run, settings=settings, teacher_file=str(tmp_path / "flow" / "teacher" / "model.pt"))
    places = {}

    def phase(folder, name, lacks, is_elsewhere):
        places[name] = folder, is_elsewhere

    monkeypatch.setattr(records, "_phase", phase)
    read_records(own_run)
    assert places == {"flow": (tmp_path / "flow", True), "reflow": (own_run, False)}
    for flow in (tmp_path / "flow", tmp_path / "flow" / "teacher"):
        flow.mkdir()
        (flow / "training_config.json").touch()
        change(own_run, teacher_file=str(flow / "final_model.pt"))
        read_records(own_run)
        assert places["flow"] == (flow, True)
    read_records(own_run, teacher_dir=tmp_path)
    assert places["flow"] == (tmp_path, True)


LONGEST = {
    "distill": "sid",
    "disc": "timm:convnextv2_atto.fcmae_ft_in22k_in1k_with_a_long_name",
    "disc_heads": "16,8",
    "disc_spectral": "on",
    "warm_start": 100,
    "warm_pairs": 8192,
    "disc_lead": 0.2,
    "disc_lead_most": 0.8,
    "preconditioning": "flow",
    "augment": "translation,color,cutout",
    "augment_p": 0.0,
    "ada_target": 0.6,
    "penalty": "r1r2",
    "penalty_interval": 16,
    "freeze_convs": True,
    "student_dropout": 0.1,
    "use_additional_condition": True,
    "disc_steps": 2,
}


def test_the_longest_configuration_fits_and_an_author_is_text_and_no_markup(tmp_path):
    run = make_run(tmp_path / "run", [SPACE, INCEPTION], **LONGEST)
    with open(run / "log.jsonl", "a") as log:
        for key in ("warm_loss", "fake_score_loss", "distill_loss"):
            log.write(json.dumps({"phase": "student", "step": 60, key: -0.2}) + "\n")
    author = "A_b_ *c* #d $e$ f@g " + "Name " * 20
    first, second, third = texts_of(make_writeup(run, tmp_path / "writeup.pdf", author))
    curves = curves_of(read_records(run).phases[1].rows, LOSSES)
    assert "student: fake score's denoising loss" in curves
    assert author.strip() in first and "KID" in second and third.startswith("References")


def test_what_cannot_fit_or_be_drawn_is_an_error(run, tmp_path):
    output = tmp_path / "c.pdf"
    for author, match in [("Name " * 800, "page 1 does not fit at 8pt"), ("김 Example", "김")]:
        with pytest.raises(UserError, match=match) as caught:
            make_writeup(run, output, author=author)
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_is_no_sheet_is_named(own_run, tmp_path):
    path = own_run / "samples" / "teacher_0000200.png"
    save_picture(picture_sheet(np.zeros((8, 60, 60, 3), np.uint8)), path)
    with pytest.raises(UserError, match="teacher_0000200.png: not a sheet"):
        make_writeup(own_run, tmp_path / "writeup.pdf")
    path.write_bytes(b"no picture")
    with pytest.raises(UserError, match="teacher_0000200.png: not readable as a picture"):
        make_writeup(own_run, tmp_path / "writeup.pdf")


def test_curves_are_those_of_losses_and_logits():
    rows = [{"phase": "flow", "step": step, "loss": 1 / step} for step in (1, 2)]
    rows += [{"phase": "student", "step": 5, "disc_loss": None, "logits_real": 1, "spread": 1.0}]
    assert curves_of(rows, LOSSES) == {
        "flow: velocity loss": {"loss": [(1, 1.0), (2, 0.5)]},
        "student: discriminator logits": {"logits_real": [(5, 1)]},
    }


def test_a_rectified_flow_has_one_phase(own_run, tmp_path, monkeypatch):
    monkeypatch.setattr("fewstep.handin.writeup.document._parameters", lambda config: 395971)
    flow = settings_of(method="rectified_flow").as_dict()
    change(own_run, settings=flow, flow_seconds=70.0, teacher_seconds=None, student_seconds=None)
    save_scored(own_run, FLOW_DEFAULTS | {"network": "tiny"})
    rows = [{"phase": "flow", "step": step, "loss": 1 / step} for step in (50, 100, 1400)]
    (own_run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"early samples of the flow \(samples/flow_"):
        make_writeup(own_run, tmp_path / "a.pdf")
    (own_run / "samples" / "teacher_0000200.png").rename(own_run / "samples" / "flow_0000300.png")
    first, second, third = texts_of(make_writeup(own_run, tmp_path / "a.pdf"))
    assert "A rectified flow from scratch" in first and "Total training time: 1 min 10 s." in first
    assert "after 300 of 1,400 steps" in second and "Flow Straight and Fast" in third
    for text in (first, second):
        assert "teacher" not in text.replace("teacher, NFE 15", "") and "discriminator" not in text


def test_submit_makes_the_same_file_and_hands_it_in_with_that_runs_student(
    own_run, output, tmp_path, monkeypatch
):
    monkeypatch.setattr(submit, "inspect", lambda *arguments: [])  # tested elsewhere
    flags = ["--run_dir", own_run, "--writeup", "--author", "Ada Example"]
    assert submit.main([*map(str, flags), "--output", str(tmp_path / "a.zip")]) == 0
    assert (own_run / "writeup.pdf").read_bytes() == output.read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        student = (own_run / "final_model.pt").read_bytes()
        assert archive.read("checkpoints/best_model.pt") == student
        assert archive.read("writeup.pdf") == (own_run / "writeup.pdf").read_bytes()
        config = archive.read("checkpoints/model_config.json")
    assert config == (own_run / "model_config.json").read_bytes()


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--writeup", "--writeup: name the run"),
        ("--run_dir run --writeup --writeup_pdf a.pdf", "--writeup and --writeup_pdf"),
        ("--author Ada", "give --writeup too"),
        ("--run_dir nowhere", "--run_dir nowhere: no such folder"),
        ("--run_dir . --writeup", "final_model.pt: no such file"),
        ("--run_dir . --ckpt_path a.pt", "leave out --ckpt_path"),
        ("--teacher_dir a", "give --writeup too"),
    ],
)
def test_mistakes_with_submit(tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        submit.main(flags.split())
    assert list(tmp_path.iterdir()) == []


def shorten(run, **last):
    """A log that ends at these steps of the phases."""
    rows = [{"phase": phase, "step": step, "loss": 1.0} for phase, step in last.items()]
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_early_samples_of_a_short_run_are_early(tmp_path):
    run = make_run(tmp_path / "run", num_iterations=100, student_iterations=200, disc_warmup=20)
    for step in (10, 20, 50):
        random_sheet(run / "samples" / f"teacher_{step:07d}.png", 8, 8)
    shorten(run, teacher=100, student=200)
    early = {phase.name: phase.sheet_step for phase in read_records(run).phases}
    assert early == {"teacher": 50, "student": 50}


@pytest.mark.parametrize(
    "steps, last, alone, expected",
    [
        ([10, 20, 50, 100, 200, 500, 1400], 1400, 0, 200),
        ([50, 200, 600], 600, 50, 200),
        ([10, 20, 50, 100], 100, 0, 50),
        ([10, 5000, 10000], 10000, 0, 5000),
        ([10, 20, 8000, 10000], 10000, 0, 20),  # small, but early
        ([100, 200], 200, 100, None),  # the one before it learns, the other its end
        ([600], 600, 0, None),
        ([], 0, 0, None),
    ],
)
def test_what_is_early(steps, last, alone, expected):
    assert early_step(steps, last, alone) == expected


def test_samples_that_are_not_early_are_left_out(own_run, tmp_path):
    for path in (own_run / "samples").glob("student_*.png"):
        path.rename(path.with_name("student_0000600.png"))
    _, second, _ = texts_of(make_writeup(own_run, tmp_path / "a.pdf"))
    assert "Early samples" in second and "after 200 of 1,400 steps" in second
    assert "student's average" not in second and "step 600" not in second
    for path in (own_run / "samples").glob("teacher_*.png"):
        path.rename(path.with_name("teacher_0001400.png"))
    _, second, _ = texts_of(make_writeup(own_run, tmp_path / "b.pdf"))
    assert "Early" not in second and "Final samples" in second
