"""The real run: its limits and mistakes, stopped and failing parts, a trial end to end."""

import importlib
import json
import os
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import evaluation.tuning
import headline.run
from custom_model import MODEL_DEFAULTS, create_custom_model
from evaluation.level_search import search_levels
from headline import carry, score
from headline.__main__ import MORE_TO_DO, main
from headline.children import run_until
from headline.collect import collect
from headline.command_line import parse_arguments
from headline.limits import broken_limits, limits_line
from headline.programs import screening_cells, winner, write_screening
from headline.recipe import levels_from
from headline.run import RealRun
from imagesets.opening import open_image_sets
from imagesets.synthetic import draw_face
from src.utils import UserError, read_json, save_model, write_json
from tests.test_headline_plan import measured
from training.command_line import parse_settings

# -- limits, commands --------------------------------------------------------------------------


def test_each_limit_of_the_results_folder_is_told(tmp_path):
    for name in "abcdefgh":
        (tmp_path / f"{name}.txt").write_text("x")
    assert broken_limits(tmp_path) == [] and "within the limits" in limits_line(tmp_path)
    (tmp_path / "large.bin").write_bytes(b"")
    os.truncate(tmp_path / "large.bin", 16 * 2**20 + 1)
    deep = tmp_path / "1" / "2" / "3"
    deep.mkdir(parents=True)
    (deep / "odd name.txt").write_text("x")
    told = " ".join(broken_limits(tmp_path))
    for part in ("10 files", "large.bin: 16.0 MiB", "more than 2 folders", "odd name.txt: a name"):
        assert part in told
    assert "in all" not in told and "BEYOND" in limits_line(tmp_path)
    for index in range(4):
        os.truncate(tmp_path / f"{'abcd'[index]}.txt", 15 * 2**20)
    assert "in all" in " ".join(broken_limits(tmp_path))


def command(folder, *more):
    flags = ["--data_root", str(folder), "--work", str(folder / "work")]
    flags += ["--out", str(folder / "out"), "--device=cpu", "--preset=tiny"]
    return [*flags, *more]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--parts=teacher,flo"], "did you mean flow"),
        (["--parts=,"], "name some of"),
        (["--parts=score,weights"], "command of its own"),
        (["--base", "lr=much"], "lr"),
        (["--base", "seed=3"], "set by the run itself"),
        (["--student", "disc=resent"], "resent"),
        (["--screen_discs", "resent"], "resent"),
        (["--screen_sigmas", "0.3"], "--screen_sigmas 0.3"),
        (["--minutes=0"], "--minutes"),
        (["--device=gpu"], "--device gpu"),
        (["--train_split=nowhere.txt"], "nowhere.txt"),
        (["--measured=nowhere.json"], "nowhere.json"),
    ],
)
def test_mistakes_are_said_before_anything_is_made(tmp_path, flags, told):
    with pytest.raises(UserError, match=told):
        parse_arguments(command(tmp_path, *flags))
    assert not list(tmp_path.iterdir())


def test_weights_want_an_empty_folder(tmp_path):
    (tmp_path / "out").mkdir()
    assert parse_arguments(command(tmp_path, "--parts=weights")).parts == ["weights"]
    for name in ("results.md", "weights_1_abc.npz", "manifest.json"):
        (tmp_path / "out" / name).write_text("x")
    assert parse_arguments(command(tmp_path, "--parts=weights")).parts == ["weights"]
    (tmp_path / "out" / "log.jsonl").write_text("x")
    with pytest.raises(UserError, match="holds log.jsonl"):
        parse_arguments(command(tmp_path, "--parts=weights"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_no_reason_to_train_for_days(tmp_path):
    with pytest.raises(UserError, match="--device cuda: is not there"):
        main([*command(tmp_path, "--minutes=300"), "--device=cuda"])
    assert not list(tmp_path.iterdir())


def test_a_plan_is_printed_and_nothing_is_made(tmp_path, capsys):
    assert main(command(tmp_path, "--dry_run", "--minutes=300", "--num_samples=50")) == 0
    told = capsys.readouterr().out
    assert all(f"{part}: about" in told for part in ("speed", "teacher", "screening", "disc_only"))
    assert "command 2 (minutes)" in told and "guessed" in told
    for flags, message in (("--minutes=1", "--minutes 1"), ("--command_minutes=0.2", "at least")):
        with pytest.raises(UserError, match=message):
            main(command(tmp_path, "--dry_run", flags))
    assert not list(tmp_path.iterdir())


# -- parts that are stopped and that fail --------------------------------------------------------


class Programs:
    """In the place of `run_until`: remembers what was run and answers as told."""

    def __init__(self, monkeypatch, **answers):
        self.ran, self.answers = [], answers
        monkeypatch.setattr(headline.run, "run_until", self)

    def __call__(self, arguments, output, stop_at, kill_at, environment):
        self.ran.append((output.stem, arguments))
        answer = self.answers.get(output.stem, True)
        if isinstance(answer, UserError):
            raise answer
        return answer

    @property
    def names(self):
        return [name for name, _ in self.ran]


def run_of(folder, *more, minutes=300):
    flags = [f"--minutes={minutes}", "--parts=teacher,student,flow,halves"]
    run = RealRun(vars(parse_arguments(command(folder, *flags, *more))), time.monotonic())
    run.state.begin_command([])
    return run


def test_a_stopped_training_goes_on_with_the_same_flags(tmp_path, monkeypatch):
    first = Programs(monkeypatch, student=False)
    assert not run_of(tmp_path).work_off()
    assert first.names == ["teacher", "student"]
    again = Programs(monkeypatch)
    run = run_of(tmp_path, minutes=500)
    assert run.work_off()
    assert again.names == ["student", "flow", "disc_only", "distill_only"]
    assert dict(again.ran)["student"] == dict(first.ran)["student"]
    steps = run.state.steps
    assert steps["flow"] == steps["teacher"] + steps["student"]
    assert steps["disc_only"] == steps["distill_only"] == steps["student"]
    assert Programs(monkeypatch).names == [] and run_of(tmp_path).work_off()


def test_a_failing_part_takes_nothing_else_with_it_and_is_tried_again(tmp_path, monkeypatch):
    first = Programs(monkeypatch, flow=UserError("no room"), disc_only=UserError("odd"))
    run = run_of(tmp_path)
    assert run.work_off() and run.failed == ["flow", "disc_only"]
    assert run.state.content["failed"] == {"flow": "no room", "disc_only": "odd"}
    assert first.names == ["teacher", "student", "flow", "disc_only", "distill_only"]
    again = Programs(monkeypatch)
    run = run_of(tmp_path)
    assert run.work_off() and run.failed == [] and run.state.content["failed"] == {}
    assert again.names == ["flow", "disc_only"]


def test_nothing_is_distilled_or_settled_without_a_teacher(tmp_path, monkeypatch):
    programs = Programs(monkeypatch, teacher=UserError("no room"))
    run = run_of(tmp_path)
    assert run.work_off() and "no finished teacher" in run.state.content["failed"]["student"]
    assert programs.names == ["teacher"] and set(run.state.steps) == {"teacher"}


def test_a_command_begins_nothing_that_it_has_no_time_for(tmp_path, monkeypatch, capsys):
    programs = Programs(monkeypatch)
    run = run_of(tmp_path)
    run.stop_at = time.monotonic()
    assert not run.work_off()  # the first task always runs, or no command would get anywhere
    assert programs.names == ["teacher"] and "student: no time" in capsys.readouterr().out


def test_another_runs_flags_are_refused(tmp_path, monkeypatch):
    Programs(monkeypatch)
    run_of(tmp_path, "--student", "disc=unet").work_off()
    with pytest.raises(UserError, match="batch_size"):
        run_of(tmp_path, "--batch_size=6")
    with pytest.raises(UserError, match="has begun with unet"):
        run_of(tmp_path, "--student", "disc=patch")
    flags = dict(Programs(monkeypatch).ran)
    assert flags == {} and run_of(tmp_path).forecast.disc() == "unet"


def test_the_screenings_best_cell_is_distilled(tmp_path, monkeypatch):
    write_screening(tmp_path / "work", "tiny", [5.0, 2.5], {"patch": 40, "unet": 30}, 8, {}, 16)
    assert winner(tmp_path / "work") == {}
    cells = screening_cells(tmp_path / "work")
    assert [(flags["sigmas"][0], flags["disc"]) for flags, _ in cells] == [
        (5.0, "patch"),
        (5.0, "unet"),
        (2.5, "patch"),
        (2.5, "unet"),
    ]
    for distance, (_, folder) in zip((30, 20, 25), cells):  # one has failed
        write_json(folder / "score.json", {"distance": {"1": distance, "4": -distance}})
    programs = Programs(monkeypatch)
    assert run_of(tmp_path, "--student", "student_lr=0.001").work_off()
    for name in ("student", "disc_only"):
        settings = parse_settings(dict(programs.ran)[name][1:])[0]
        assert settings.discriminator.disc == "unet" and settings.student.sigmas[0] == 5.0
        assert settings.student.student_lr == 0.001


def test_speed_is_taken_from_an_earlier_run(tmp_path):
    told = tmp_path / "results.json"
    for lacking in ({}, {"speed": [{"what": "teacher"}]}, {"speed": [3]}):
        write_json(told, lacking)
        with pytest.raises(UserError, match="holds no speed"):
            run_of(tmp_path, f"--measured={told}")
    rows = measured(teacher={"eager": 777}, patch={"eager": 55})["rows"]
    write_json(told, {"hardware": "a card", "speed": rows})
    run = run_of(tmp_path, f"--measured={told}")
    run.take_measured()
    found = collect(run.work, run.state.content, run.flags)
    assert found["hardware"] is None and found["speed_measured_on"] == "a card"
    assert run.forecast.rate("teacher").images == 777 and run.state.is_done("speed")


# -- scores ------------------------------------------------------------------------------------


class Cache:
    """A set of images with its digest."""

    def __init__(self, digest):
        self.images, self.digest = np.zeros((8, 64, 64, 3), np.uint8), digest

    def __len__(self):
        return len(self.images)

    def take(self, picks):
        return torch.from_numpy(self.images[picks])


def small_model(folder, seed, sampler):
    torch.manual_seed(seed)
    config = MODEL_DEFAULTS | {"network": "tiny", "sampler": sampler}
    save_model(create_custom_model(**config), folder, config)


def test_rows_are_scored_once_for_their_weights_and_levels(tmp_path, monkeypatch):
    subjects = score.subjects_of(tmp_path)
    files = {subject.name: subject.weights for subject in subjects}
    small_model(files["teacher"], 0, "heun")
    small_model(files["student"], 1, "few_step")
    samplers, scored = {}, []

    def sample_images(model, nfe, count, batch, seed, title, levels):
        samplers[title] = (model.sampler, levels)
        return np.zeros((count, 64, 64, 3), np.uint8)

    def score_series(series, comparison, seeds):
        scored.append(series[0].title)
        return [{"images": series[0].title}], {series[0].title: series[0].sample(seeds[0])}

    monkeypatch.setattr(score, "sample_images", sample_images)
    monkeypatch.setattr(score, "score_series", score_series)
    images = SimpleNamespace(train=Cache("a"), val=Cache("b"))

    def run(tuned):
        scored.clear()
        rows = score.rows_of(subjects, [35, 4, 1], tuned)
        told = images, SimpleNamespace(classify=True), tmp_path, 4, [1], torch.device("cpu")
        score.score_rows(rows, *told)
        return [row.title for row in rows]

    titles = run({})
    teacher = ["teacher, NFE 35", "teacher, NFE 4 (Euler)", "teacher, NFE 1"]
    student = [f"student, NFE {nfe}" for nfe in (1, 2, 4)]
    assert titles == ["real training images", *teacher, *student]
    assert scored == ["real training images", *student, *teacher]
    assert [samplers[title][0] for title in teacher] == ["heun", "euler", "euler"]
    run({})
    assert scored == []
    run({"1": {"before": [80.0], "after": [5.0]}})
    assert scored == ["student, NFE 1", "student, NFE 1, before tuning"]
    assert samplers["student, NFE 1"] == ("few_step", [5.0])
    assert samplers["student, NFE 1, before tuning"] == ("few_step", [80.0])
    small_model(files["teacher"], 2, "heun")
    run({"1": {"before": [80.0], "after": [5.0]}})
    assert scored == teacher


# -- all of it ---------------------------------------------------------------------------------


def draw_folder(folder, count):
    folder.mkdir()
    for index in range(count):
        Image.fromarray(draw_face(index, 0, 64)).save(folder / f"{index:03d}.png")
    names = [f"{index:03d}" for index in range(count)]
    (folder / "val.txt").write_text("\n".join(names[::4]))
    return folder


def test_carried_images_decode_to_the_same_pixels(tmp_path, capsys):
    source = draw_folder(tmp_path / "images", 12)
    flags = [f"--data_root={source}", f"--val_split={source / 'val.txt'}"]
    flags += [f"--cache_dir={tmp_path / 'cache'}", f"--to={tmp_path / 'small'}"]
    carry.main(flags)
    assert "9 + 3 images" in capsys.readouterr().out
    small = tmp_path / "small"
    splits = [small / "train_split.txt", small / "val_split.txt"]
    first = open_image_sets("folder", source, None, source / "val.txt", tmp_path / "a")
    again = open_image_sets("folder", small, *splits, tmp_path / "b")
    assert np.array_equal(first.train.images, again.train.images)
    assert np.array_equal(first.val.images, again.val.images)
    with pytest.raises(UserError, match="not empty"):
        carry.main(flags)


def run_here(arguments, output, stop_at, kill_at, environment):
    """In the place of `run_until`: each start of a program costs seconds, so that all but the
    flow's, and that of the screening's cell, run in this process."""
    output.parent.mkdir(exist_ok=True)
    if output.stem == "flow":
        return run_until(arguments, output, stop_at, kill_at, environment)
    is_module = arguments[0] == "-m"
    module = arguments[1] if is_module else Path(arguments[0]).stem
    given = list(map(str, arguments[2 if is_module else 1 :]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *given])
        code = importlib.import_module(module).main()
    assert not code
    return True


def test_a_trial_goes_through_all_parts_in_two_commands(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(headline.run, "run_until", run_here)
    short = partial(search_levels, rounds=[(2**0.5,)])  # the whole search takes 40 trials
    monkeypatch.setattr(evaluation.tuning, "search_levels", short)
    images = draw_folder(tmp_path / "images", 40)
    flags = command(tmp_path, f"--data_root={images}", f"--val_split={images / 'val.txt'}")
    flags += ["--batch_size=4", "--max_steps=4", "--minutes=100", "--command_minutes=60"]
    flags += "--base teacher_steps=1 --screen_sigmas 2.5 --screen_discs patch".split()
    flags += "--num_samples 8 --seeds 1 --tune_samples 4 --teacher_nfe_list 2 1 --no_auc".split()
    assert main([*flags, "--parts=speed,teacher,screening"]) == 0
    out = tmp_path / "out"
    assert "all parts are done" in capsys.readouterr().out
    assert not (out / "sheet.png").exists() and len(read_json(out / "results.json")["speed"]) == 2
    assert main([*flags, "--parts=student,flow,halves,score", "--note", "A trial."]) == 0
    told = capsys.readouterr().out
    assert "8 files" in told and "within the limits" in told and "student at NFE 1" in told
    content = read_json(out / "results.json")
    seen = {name: found["images_seen"] for name, found in content["trainings"].items()}
    assert seen == dict(teacher=16, student=16, flow=32, disc_only=16, distill_only=16)
    titles = [row["images"] for row in content["scores"]["rows"]]
    assert len(titles) == 1 + 3 + 2 + 6 + 6 and "student, NFE 4, before tuning" in titles
    assert len(content["targets"]) == 7 and len(content["commands"]) == 2
    assert content["student_flags"] == {"sigmas": levels_from(2.5, "tiny"), "disc": "patch"}
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {row["training"] for row in rows} == {*seen, "screening: from 2.5, patch"}
    page = (out / "results.md").read_text()
    assert "A trial." in page and "not Inception" in page and str(tmp_path) not in page
    assert "30 images" in page and "10 held-out" in page
    assert str(tmp_path) not in (out / "results.json").read_text()


def test_a_command_with_more_to_do_says_so(tmp_path, monkeypatch, capsys):
    Programs(monkeypatch, teacher=False)
    (tmp_path / "images").mkdir()
    flags = command(tmp_path, "--minutes=300", "--parts=teacher,student")
    assert main(flags) == MORE_TO_DO and "run the same command again" in capsys.readouterr().out
    Programs(monkeypatch, teacher=UserError("no room"))
    assert main(flags) == 1 and "failed: teacher" in capsys.readouterr().out
    content = read_json(tmp_path / "out" / "results.json")
    assert content["failed"]["teacher"] == "no room" and len(content["commands"]) == 2
