"""`fewstep evaluate` on a run of `train.py`: what it writes, and its report in a real browser."""

import io
import re
import shutil
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

from fewstep.images.synthetic import draw_face
from fewstep.scores import inception, two_sample
from fewstep.scores.folders import common_count
from fewstep.studies.evaluate import main as evaluate
from fewstep.studies.evaluate.main import shown_source, summary
from fewstep.studies.evaluate.report import _write_page
from fewstep.studies.evaluate.subjects import open_subjects
from src.utils import UserError, file_digest, read_json, state_digest, torch_load, write_json
from tests.stand_in import save_stand_in, trust_stand_in
from tests.studies.programs import run_fewstep, train_in_process

TRAIN = (
    "--preset tiny --data synthetic --synthetic_count 32 --batch_size 4 --device cpu"
    " --num_iterations 5 --student_iterations 5 --warmup 1 --disc_warmup 1 --disc_channels 8"
    " --log_interval 2 --best_images 4 --teacher_steps 2 --save_dir run --export_dir run/export"
    " --cache_dir cache"
).split()
RESULTS = Path(__file__).parents[2] / "docs" / "results" / "small"
BOTTOM = "e => e.getBoundingClientRect().bottom"


@pytest.fixture(scope="module")
def folder(few_pictures, tmp_path_factory):
    """A folder with a finished run, evaluated with all that can be asked for."""
    folder = tmp_path_factory.mktemp("evaluate")
    assert train_in_process(TRAIN, folder=folder)[0] == 0
    common = "--run_dir run --nfe_list 1 2 --device cpu --features random"
    code, output = run_fewstep(f"tune {common} --num_samples 4".split(), folder)
    assert code == 0, output
    (folder / "output.txt").write_text(output)
    flags = f"evaluate {common} --teacher --teacher_nfe_list 2 --num_samples 8 --seeds 1 2"
    with patch.object(two_sample, "LEAST_STEPS", 2):  # how well it learns is tested elsewhere
        code, output = run_fewstep(flags.split(), folder)
    assert code == 0, output
    (folder / "evaluated.txt").write_text(output)
    return folder


def test_what_is_printed_fits_a_terminal(folder):
    _, printed = (folder / "evaluated.txt").read_text().split("\nimages  ")
    lines = f"images  {printed}".splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["images", "random-conv-v1", "AUC", "coverage", "images/s"]
    assert [line.split("  ")[0] for line in lines[1:5]] == [
        "real training images", "teacher, NFE 2", "student, NFE 1", "student, NFE 2"
    ]  # fmt: skip
    assert "lies at" in printed and lines[-1].endswith("report.html, scores.md, scores.json")


@pytest.mark.parametrize("width", [80, 100])
def test_the_longest_scores_fit_a_terminal(width):
    text = summary(wide_content(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "efficientnet-lite0    AUC  coverage" in text and "student, NFE 4" in text


def test_rows_and_scores(folder):
    content = read_json(folder / "run" / "evaluation" / "scores.json")
    assert [row["images"] for row in content["rows"]] == [
        "real training images", "teacher, NFE 2", "student, NFE 1", "student, NFE 2"
    ]  # fmt: skip
    for row in content["rows"]:
        assert row["count"] == 8 and set(row["scores"]) == {"random-conv-v1", "pixels"}
        assert 0 <= row["scores"]["pixels"]["auc"]["mean"] <= 1
        assert len(row["scores"]["random-conv-v1"]["frechet"]["values"]) == 2
        generated = row["model"] != "real"
        assert ("nearest_median" in row["scores"]["pixels"]) == generated
        assert (row["images_per_second"] or 0 > 0) == (row["images_per_second"] if generated else 0)


def test_tuned_levels_are_those_that_sampling_uses(folder):
    tuning = read_json(folder / "run" / "evaluation" / "tuning.json")
    for place in ("run", "run/export"):
        config = read_json(folder / place / "model_config.json")
        for nfe, levels in tuning["levels"].items():
            assert config["few_step_sigmas"][nfe] == levels["after"]
    assert tuning["feature_space"] == "random-conv-v1"
    scores = read_json(folder / "run" / "evaluation" / "scores.json")
    assert scores["few_step_sigmas"] == config["few_step_sigmas"]
    assert scores["weights_sha256"] == state_digest(
        torch_load(folder / "run" / "final_model.pt")["state_dict"]
    )
    assert "run/export/model_config.json: levels of NFE 1, 2 written" in (
        folder / "output.txt"
    ).read_text().replace(str(folder) + "/", "")


@pytest.mark.parametrize("known", [True, False])
def test_inception_and_random_features_side_by_side(folder, monkeypatch, known):
    """Without the known file's hash, nothing is called FID, nor KID."""
    trust_stand_in(monkeypatch, save_stand_in(folder / "weights.pt"))
    if not known:
        monkeypatch.setattr(inception, "FID_SHA256", "0" * 64)
    name = "Inception" if known else f"weights-{file_digest(folder / 'weights.pt').hex()[:12]}"
    flags = "--run_dir run --num_samples 6 --nfe_list 1 --seeds 1 --device cpu --no_auc"
    flags += " --features inception random --fid_weights weights.pt --output_dir both"
    code, output = run_fewstep(["evaluate", *flags.split()], folder)
    assert code == 0, output
    table, random, *_ = (folder / "both" / "scores.md").read_text().split("\n\n**")[1:]
    distance, kernel = ("FID", "KID") if known else (
        f"Fréchet distance in {name} (not FID)", "kernel distance"
    )  # fmt: skip
    columns = f"| {distance} | {kernel} × 1000, 95 %"  # too few images to extrapolate from
    assert columns in table
    for written in ("report.html", "scores.md"):
        text = re.sub('"data:[^"]*"', "", (folder / "both" / written).read_text())
        assert bool(re.search(r"(?<!not )\b[FK]ID\b", text)) == known, written
    assert "| Fréchet distance in random-conv-v1 (not FID) |" in random
    assert "| kernel distance, 95 % interval |" in random
    spaces = read_json(folder / "both" / "scores.json")["spaces"]
    assert [(space["name"], space["is_fid"]) for space in spaces] == [
        (name, known), ("random-conv-v1", False)
    ]  # fmt: skip


def test_a_second_evaluation_takes_what_the_first_has_scored(folder):
    place = folder / "run" / "evaluation" / "scores.json"
    before = read_json(place)
    flags = "evaluate --run_dir run --nfe_list 1 2 --device cpu --features random"
    flags += " --teacher --teacher_nfe_list 2 --num_samples 8 --seeds 1 2"
    code, output = run_fewstep(flags.split(), folder)
    assert code == 0 and "kept: 8 of 8 sets of images are scored already" in output
    assert read_json(place)["rows"] == before["rows"]


def test_no_path_of_the_machine_is_in_what_is_shared(tmp_path):
    place = tmp_path / "jane doe" / "faces"
    text = shown_source(f"folder {place}: 9 images for training, 1 for validation", str(place))
    assert text == "folder faces: 9 images for training, 1 for validation"


def test_as_many_images_of_each_are_scored_as_there_are(capsys):
    folders = {"mine": [None] * 30, "other": [None] * 20}
    assert common_count(20, folders, 100) == 20 and not capsys.readouterr().out
    assert common_count(25, folders, 100) == 20
    assert "--folder other: it has 20 images, so 20 of each are scored, not 25" in (
        capsys.readouterr().out
    )
    assert common_count(1000, {}, 300) == 300  # the floor is of the training images
    assert "the training set has 300 images" in capsys.readouterr().out


def test_held_out_images_without_a_colour_are_refused_before_the_work(tmp_path):
    faces, random = tmp_path / "faces", np.random.RandomState(0)
    faces.mkdir()
    for number in range(50):
        pixels = random.randint(0, 256, (64, 64, 3)) * [1, 1, 0]
        Image.fromarray(pixels.astype(np.uint8)).save(faces / f"{number}.png")
    flags = {"data_root": str(faces), "cache_dir": str(tmp_path / "cache")}
    with pytest.raises(UserError, match="one value throughout in blue"):
        open_subjects(None, None, None, flags, "cpu")


def test_the_report_is_one_file(folder):
    page = (folder / "run" / "evaluation" / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) > 8 and all(source.startswith("data:") for source in sources)
    assert "http" not in re.sub(r'"data:[^"]*"', "", page)
    for wanted in ("student, NFE 2", "student_iterations", "Nearest training images", "curves"):
        assert wanted in page


def test_real_images_can_be_kept_out(folder):
    flags = "--run_dir run --num_samples 4 --nfe_list 1 --seeds 1 --device cpu --hide_real"
    flags += " --features random --no_auc --output_dir shared"
    assert run_fewstep(["evaluate", *flags.split()], folder)[0] == 0
    names = {path.name for path in (folder / "shared").iterdir()}
    assert "real.png" not in names and not any(name.startswith("nearest") for name in names)
    page = (folder / "shared" / "report.html").read_text()
    assert "Nearest training images" not in page
    titles = re.findall(r'alt="([^"]*)"', page)
    expected = ["The same noise at each NFE", "Distance over NFE", "Samples", "Training"]
    assert [title.split(":")[0] for title in titles] == expected


def test_another_training_gives_rows_and_a_spread(folder):
    """The same run copied under another seed: its rows are the same, so the spread is 0."""
    shutil.copytree(folder / "run", folder / "again", ignore=shutil.ignore_patterns("evaluation"))
    record = read_json(folder / "again" / "training_config.json")
    record["settings"]["run"]["seed"] = 7
    write_json(folder / "again" / "training_config.json", record)
    flags = "--run_dir run --seed_runs again --num_samples 4 --nfe_list 1 --seeds 1 --device cpu"
    flags += " --features random --no_auc --output_dir trainings"
    code, output = run_fewstep(["evaluate", *flags.split()], folder)
    assert code == 0, output
    *_, student, other, mean = read_json(folder / "trainings" / "scores.json")["rows"]
    assert other["images"] == "student of seed 7, NFE 1"
    assert mean["images"] == "student, NFE 1, mean of 2 trainings"
    distance = mean["scores"]["random-conv-v1"]["frechet"]
    assert distance["sd"] == 0 and len(distance["values"]) == 2
    assert student["scores"] == other["scores"]


def test_a_later_evaluation_leaves_no_picture_of_an_earlier_one(folder):
    flags = "--run_dir run --num_samples 4 --seeds 1 --device cpu --features random --no_auc"
    flags += " --output_dir twice"
    assert run_fewstep(["evaluate", *flags.split(), "--nfe_list", "1", "2"], folder)[0] == 0
    (folder / "twice" / "mine.png").write_bytes(b"not of this program")
    hidden = [*flags.split(), "--nfe_list", "1", "--hide_real"]
    assert run_fewstep(["evaluate", *hidden], folder)[0] == 0
    pictures = {path.name for path in (folder / "twice").glob("*.png")}
    assert pictures == {"sheet.png", "student_nfe=1.png", "training_curves.png", "mine.png"}
    page = (folder / "twice" / "report.html").read_text()
    assert str(folder) not in page and "thread" in page.split("trained with")[1]


def test_what_cannot_end_well_is_said_before_the_work(folder):
    (folder / "file").write_text("in the way")
    flags = "--run_dir run --num_samples 1000 --device cpu --output_dir file".split()
    code, output = run_fewstep(["evaluate", *flags], folder)
    assert code == 2 and "file" in output and "NFE" not in output


def test_a_model_without_levels_cannot_be_tuned(folder):
    flags = "tune --ckpt_path run/teacher/model.pt --data synthetic --synthetic_count 32"
    flags += " --device cpu --features random"
    code, output = run_fewstep(flags.split(), folder)
    assert code == 2 and output.splitlines()[-1] == (
        "error: run/teacher/model.pt: not a few-step student, so it has no noise levels to tune"
    )


def test_another_kind_of_model_is_scored_too(folder):
    """The teacher's ODE sampler in the place of any model that has no few-step levels."""
    flags = "evaluate --ckpt_path run/teacher/model.pt --data synthetic --synthetic_count 32"
    flags += " --num_samples 4 --nfe_list 2 --seeds 1 --device cpu --features random --no_auc"
    code, output = run_fewstep([*flags.split(), "--output_dir", "other_kind"], folder)
    assert code == 0, output
    rows = read_json(folder / "other_kind" / "scores.json")["rows"]
    assert [row["images"] for row in rows] == ["real training images", "model, NFE 2"]


def test_tune_alone_writes_levels_and_prints_before_and_after(folder):
    shutil.copytree(folder / "run" / "export", folder / "tuned")
    flags = "tune --ckpt_path tuned/best_model.pt --data synthetic --synthetic_count 32"
    flags += " --num_samples 4 --nfe_list 1 --device cpu --features random --output_dir tuned"
    code, output = run_fewstep(flags.split(), folder)
    assert code == 0 and "NFE 1: levels" in output and "->" in output, output
    levels = read_json(folder / "tuned" / "tuning.json")["levels"]["1"]["after"]
    assert read_json(folder / "tuned" / "model_config.json")["few_step_sigmas"]["1"] == levels
    assert not (folder / "tuned" / "tuning_trials.json").exists()  # all is in tuning.json


def test_training_again_keeps_levels_that_belong_to_the_weights(folder):
    tuned = read_json(folder / "run" / "model_config.json")
    assert train_in_process(TRAIN, folder=folder)[0] == 0
    for place in ("run", "run/export"):
        assert read_json(folder / place / "model_config.json") == tuned
    # another student has the levels that it was trained at
    longer = [*TRAIN, "--student_iterations", "6", "--phase", "add", "--save_dir", "longer"]
    longer += ["--teacher_ckpt", "run/teacher/model.pt"]
    shutil.copytree(folder / "run" / "export", folder / "other")
    assert train_in_process([*longer, "--export_dir", "other"], folder=folder)[0] == 0
    assert read_json(folder / "other" / "model_config.json")["few_step_sigmas"]["1"] == [5.0]


def test_a_checkpoint_alone(folder):
    flags = "--ckpt_path run/export/best_model.pt --data synthetic --synthetic_count 32"
    flags += " --num_samples 4 --nfe_list 2 --seeds 1 --device cpu --features random"
    flags += " --no_auc --cache_dir cache"
    code, output = run_fewstep(["evaluate", *flags.split()], folder)
    assert code == 0, output
    content = read_json(folder / "results" / "evaluation" / "scores.json")
    assert [row["images"] for row in content["rows"]] == ["real training images", "student, NFE 2"]


def test_published_weights_are_scored_and_gone_on_with_as_they_are_and_not_tuned(folder):
    pack = "publish pack --ckpt_path run/export/best_model.pt --output_dir packed"
    unpack = "publish unpack --input_dir packed --ckpt_path unpacked/best_model.pt"
    for command in (pack, unpack):
        code, output = run_fewstep(command.split(), folder)
        assert code == 0, output
    flags = "--data synthetic --synthetic_count 32 --num_samples 4 --device cpu --features random"
    flags += " --cache_dir cache --nfe_list 2 --output_dir scored"
    for place in ("packed", "unpacked/best_model.pt"):
        words = ["--ckpt_path", place, "--seeds", "1", "--no_auc"]
        code, output = run_fewstep(["evaluate", *flags.split(), *words], folder)
        assert code == 0, output
        content = read_json(folder / "scored" / "scores.json")
        distances = {
            row["scores"]["random-conv-v1"]["frechet"]["mean"] for row in content["rows"][1:]
        }
        if place == "packed":
            published, levels = distances, content["few_step_sigmas"]
            assert content["checkpoint"] == "packed/model.safetensors"
    assert distances == published and content["few_step_sigmas"] == levels
    pack = "publish pack --ckpt_path run/teacher/model.pt --output_dir packed_teacher"
    assert run_fewstep(pack.split(), folder)[0] == 0
    again = ["--phase", "add", "--teacher_ckpt", "packed_teacher", "--student_ckpt", "packed"]
    again += ["--save_dir", "second"]
    assert train_in_process([*TRAIN, *again], folder=folder)[0] == 0
    record = read_json(folder / "second" / "training_config.json")
    assert record["finished"] and record["teacher_file"].endswith(
        "packed_teacher/model.safetensors"
    )
    words = "--run_dir second --num_samples 4 --device cpu --features random --nfe_list 1 --no_auc"
    words += " --seeds 1 --teacher --teacher_nfe_list 2"
    code, output = run_fewstep(["evaluate", *words.split()], folder)
    assert code == 0, output
    code, output = run_fewstep(["tune", *flags.split(), "--ckpt_path", "packed"], folder)
    assert code == 2 and "published weights stay as they are" in output


def test_a_folder_may_have_the_sign_between_name_and_folder_in_its_own_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples" / "nfe=1").mkdir(parents=True)
    place = "samples/nfe=1"
    assert evaluate.named_folder(place) == (place, place)
    assert evaluate.named_folder(f"mine={place}") == ("mine", place)
    assert evaluate.named_folder(f"a=b={place}") == ("a=b", place)
    assert evaluate.named_folder("mine=absent") == ("mine", "absent")
    assert evaluate.named_folder("absent") == ("absent", "")


def test_folders_of_others_are_scored_in_the_same_table(tmp_path):
    for name, count in (("mine", 9), ("theirs", 7)):
        (tmp_path / name).mkdir()
        for index in range(count):
            face = Image.fromarray(draw_face(index, 5, 80))  # of another size
            face.save(tmp_path / name / f"{index}.png")
    flags = "--folder mine=mine A=theirs --data synthetic --synthetic_count 32 --cache_dir cache"
    flags += " --num_samples 8 --seeds 1 2 --device cpu --features random --no_auc"
    code, output = run_fewstep(["evaluate", *flags.split()], tmp_path)
    assert code == 0, output
    assert "--folder A: it has 7 images, so 7 of each are scored, not 8" in output
    content = read_json(tmp_path / "results" / "evaluation" / "scores.json")
    rows = {row["images"]: row for row in content["rows"]}
    assert set(rows) == {"real training images", "mine", "A"} and content["num_samples"] == 7
    assert all(row["count"] == 7 for row in rows.values())
    assert len(rows["mine"]["scores"]["random-conv-v1"]["frechet"]["values"]) == 2  # of 9 images
    assert len(rows["A"]["scores"]["random-conv-v1"]["frechet"]["values"]) == 1  # always all
    assert "nearest_median" in rows["A"]["scores"]["pixels"]
    page = (tmp_path / "results" / "evaluation" / "report.html").read_text()
    assert page.count("lies at") == 1 and '<td data-title="images">A</td>' in page


@pytest.mark.parametrize(
    "flags, message",
    [
        ("--folder nothing", "--folder nothing: no such folder; name one, or NAME=DIR"),
        ("--folder a=absent", "--folder a absent: no such folder"),
        ("--run_dir absent", "--run_dir absent: no such folder"),
        ("--run_dir a --ckpt_path b", "--run_dir and --ckpt_path: give one"),
        ("--ckpt_path absent.pt --data synthetic", "absent.pt: no such file"),
        ("--ckpt_path absent.pt --teacher", "--teacher FILE"),
        ("--teacher_nfe_list 1", "--teacher_nfe_list: give --teacher too"),
        ("--seeds -1", "--seeds -1: at least 0"),
        ("--fid_weights absent.pt", "absent.pt is not there"),
        ("--features random --fid_weights a.pt", "--features random needs no such weights"),
        ("--nfe_list 0", "--nfe_list 0: at least 1"),
        ("--num_samples 1", "at least 4"),
        ("--features inception --fid_weights absent.pt", "absent.pt is not there"),
        ("", "checkpoints/best_model.pt: no such file"),
        ("--data clouds", "--data: invalid choice: 'clouds'"),
    ],
)
def test_mistakes_are_named(tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        evaluate.main([*flags.split(), "--device", "cpu"])
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def wide_content():
    """The numbers in docs/results, which are long and in two spaces, and a classifier's."""
    content = read_json(RESULTS / "scores.json")
    for row in content["rows"]:
        row["scores"]["pixels"]["auc"] = {"mean": 0.98878, "sd": 0.001303, "values": [0.98878] * 3}
    return content


def wide_report(folder):
    """Their report."""
    path = folder / "wide.html"
    _write_page(wide_content(), [("Sheet", "", [("samples", RESULTS / "student.png")])], {}, path)
    return path


@pytest.mark.parametrize("width, scheme", [(1280, "light"), (800, "light"), (360, "dark")])
@pytest.mark.parametrize("report", ["of a run", "wide"])
def test_the_report_in_a_browser(folder, browser, report, width, scheme):
    path = folder / "run" / "evaluation" / "report.html"
    path = wide_report(folder) if report == "wide" else path
    context = browser.new_context(
        viewport={"width": width, "height": 800}, offline=True, color_scheme=scheme
    )
    page = context.new_page()
    messages, requests = [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri())
    # How good, compared with what and whether to trust it is there without scrolling, on a phone
    # at least how good.
    seen = ".verdict, .cards > div" if width > 400 else ".verdict, .cards > div:first-child b"
    lowest = f"Math.max(...[...document.querySelectorAll('{seen}')].map({BOTTOM}))"
    assert page.evaluate(lowest) <= 800
    # the first picture is near them, above all tables
    top = "document.querySelector('{}').getBoundingClientRect().top"
    first = page.evaluate(top.format("img"))
    assert first < page.evaluate(top.format("table")) and (first <= 800 or width < 400)
    for group in page.query_selector_all("summary"):
        group.click()
    images = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.width])")
    assert images and all(done and own > 0 and wide > 0 for done, own, wide in images)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    overflowing = page.evaluate(
        """[...document.querySelectorAll('body *')]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1
            || e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX != 'visible')
        .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert overflowing == [] and messages == []
    # every number is shown, on a phone under the name of its column
    hidden = "[...document.querySelectorAll('td')].filter(e => e.innerText && !e.offsetHeight)"
    assert page.evaluate(f"{hidden}.length") == 0
    # and on a usual screen as a table with all its columns
    seen = "[...document.querySelectorAll('th')].map(e => e.getBoundingClientRect())"
    heads = page.evaluate(f"{seen}.filter(e => e.height > 0 && e.right <= {width}).length")
    assert width < 1280 or heads == page.locator("th").count() > 20
    assert all(url.startswith(("file:", "data:")) for url in requests)
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    assert shot.width == width and len(shot.getcolors(2**24)) > 100
    assert (max(shot.getpixel((2, 2))) < 100) == (scheme == "dark")
    context.close()
