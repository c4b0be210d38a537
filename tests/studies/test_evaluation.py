"""Evaluation in parts: samples in memory and on disk, tables, tuned levels, what is opened."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import measure_fid
import sampling
from custom_model import MODEL_DEFAULTS, create_custom_model
from fewstep.images.synthetic import draw_face
from fewstep.runs.settings import Data, Run, Settings
from fewstep.scores.comparison import PIXELS, Comparison
from fewstep.scores.inception import InceptionSpace
from fewstep.scores.random_features import random_feature_space
from fewstep.studies.compare.report import order
from fewstep.studies.evaluate.main import summary
from fewstep.studies.evaluate.pictures import sample_images
from fewstep.studies.evaluate.series import Series, score_series
from fewstep.studies.evaluate.subjects import recorded_places
from fewstep.studies.evaluate.tables import (
    distance_title,
    markdown,
    merge_rows,
    notes,
    order_sentence,
    ranking,
    score_row,
    tables,
)
from fewstep.studies.evaluate.tune import tune
from src.utils import UserError, read_json, save_model
from tests.stand_in import save_stand_in, trust_stand_in


def faces(count, first=0):
    return np.stack([draw_face(i, first) for i in range(count)])


@pytest.fixture
def comparison(tmp_path):
    space = random_feature_space()
    cpu = torch.device("cpu")
    return Comparison([space], faces(40), faces(50, 1), tmp_path / "cache", cpu, classify=False)


@pytest.fixture
def student(tiny_model):
    tiny_model.sampler = "few_step"
    tiny_model.scheduler.few_step_table = {1: [5.0], 2: [5.0, 1.0], 4: [5.0, 2.0, 1.0, 0.5]}
    return tiny_model


@pytest.mark.parametrize("features", ["random", "inception"])
def test_scores_in_memory_equal_those_of_pngs(student, tmp_path, features, monkeypatch):
    config = MODEL_DEFAULTS | dict(network="tiny", sigma_data=0.6, sampler="few_step")
    config["few_step_sigmas"] = {"1": [5.0]}
    save_model(student, tmp_path / "best_model.pt", config)
    weights = trust_stand_in(monkeypatch, save_stand_in(tmp_path / "weights.pt"))
    from PIL import Image

    (tmp_path / "reference").mkdir()
    for i, face in enumerate(faces(9)):
        Image.fromarray(face).save(tmp_path / "reference" / f"{i:04d}.png")
    sampling.main(
        ["--ckpt_path", str(tmp_path / "best_model.pt"), "--save_dir", str(tmp_path / "png")]
        + "--num_samples 10 --batch_size 4 --nfe_list 1 --device cpu --batch_independent".split()
        + ["--seed", "7"]
    )
    places = {"generated_dir": "png/nfe=1", "reference_dir": "reference"}
    places |= {"cache_dir": "cache", "output_path": "result.json"}
    arguments = [part for key, value in places.items() for part in (f"--{key}", tmp_path / value)]
    arguments += ["--features", features, "--device", "cpu"]
    arguments += ["--fid_weights", weights] if features == "inception" else []
    measure_fid.main([str(part) for part in arguments])
    result = read_json(tmp_path / "result.json")
    from_pngs = result["fid_score" if features == "inception" else "frechet_distance"]

    space = InceptionSpace(weights) if features == "inception" else random_feature_space()
    images = sample_images(student, 1, 10, 4, 7, "student")
    assert Comparison([space], faces(9)).distance(images) == pytest.approx(from_pngs, rel=1e-6)


def test_samples_depend_on_seed_and_index_alone(student):
    whole = sample_images(student, 2, 5, 5, 7, "student")
    parts = sample_images(student, 2, 5, 2, 7, "student")
    assert np.abs(whole.astype(int) - parts).max() <= 1
    assert np.abs(whole.astype(int) - sample_images(student, 2, 5, 5, 8, "student")).max() > 5


def test_a_diverged_model_is_named(student):
    with torch.no_grad():
        student.network.tail[2].bias.fill_(float("nan"))
    with pytest.raises(UserError, match="student, NFE 1: .*not finite"):
        sample_images(student, 1, 2, 2, 0, "student, NFE 1")


def test_levels_may_be_given(student):
    own = sample_images(student, 2, 3, 3, 7, "student")
    same = sample_images(student, 2, 3, 3, 7, "student", [5.0, 1.0])
    other = sample_images(student, 2, 3, 3, 7, "student", [5.0, 3.0])
    assert np.array_equal(own, same) and not np.array_equal(own, other)


def test_copies_are_found_and_real_images_are_not_called_copies(tmp_path):
    space = random_feature_space()
    comparison = Comparison([space], faces(110), faces(50, 1), None, "cpu", classify=False)
    copies = comparison.scores(comparison.training[50:90])  # mirrored ones
    for part in (space.name, PIXELS):
        assert copies[part]["share_closer"] == 1 and copies[part]["nearest_median"] == 0
        new = comparison.scores(comparison.heldout)[part]
        assert new["share_closer"] <= 0.02
        assert new["nearest_median"] == new["nearest_median_heldout"] > 0
    assert "nearest_median" not in comparison.scores(faces(9), generated=False)[space.name]


def test_few_heldout_images_have_no_first_percentile(comparison):
    scores = comparison.scores(faces(9))
    assert "nearest_median" in scores[PIXELS] and "share_closer" not in scores[PIXELS]


def test_equal_sets_have_perfect_scores(comparison):
    scores = comparison.scores(comparison.heldout)
    features, pixels = scores[random_feature_space().name], scores[PIXELS]
    assert features["frechet"] == pytest.approx(0, abs=1e-6)
    assert features["precision"] == features["recall"] == features["coverage"] == 1
    assert pixels["swd_64"] == pixels["mean_r"] == 0 and pixels["contrast_g"] == 1
    assert "auc" not in pixels


def test_the_classifier_is_asked_unless_told_not_to(tmp_path):
    space = random_feature_space()
    comparison = Comparison([space], faces(24), faces(24, 1), tmp_path, "cpu")
    noise = np.random.RandomState(0).randint(0, 256, (24, 64, 64, 3)).astype(np.uint8)
    assert comparison.scores(noise)[PIXELS]["auc"] > 0.9


def test_means_over_seeds():
    scores = [{"space": {"frechet": 1.0}}, {"space": {"frechet": 3.0}}]
    row = score_row("student, NFE 1", "student", 1, 9, scores)
    assert row["scores"]["space"] == {
        "frechet": {"mean": 2.0, "sd": pytest.approx(2**0.5), "values": [1.0, 3.0]}
    }
    alone = score_row("student, NFE 1", "student", 1, 9, scores[:1])
    assert alone["scores"]["space"]["frechet"]["sd"] is None
    assert merge_rows([alone, row])["scores"]["space"]["frechet"]["values"] == [1.0, 2.0]


@pytest.fixture
def content(comparison):
    def sample(seed):
        return faces(20, 10 + seed)

    series = [Series("real training images", "real", None, sample, {})]
    series += [Series(f"student, NFE {nfe}", "student", nfe, sample, {}) for nfe in (1, 2)]
    rows, first_images = score_series(series, comparison.spaces, comparison.scores, [0, 1])
    assert np.array_equal(first_images["student, NFE 2"], faces(20, 10))
    space = comparison.spaces[0]
    return {
        "reference": "forty drawn faces", "reference_count": 40, "num_samples": 20,
        "seeds": [0, 1], "date": "2026-01-31", "hardware": "a processor", "rows": rows,
        "spaces": [{"name": space.name, "sha256": space.digest, "is_fid": False}],
    }  # fmt: skip


def test_tables_say_what_the_numbers_are(content):
    (_, header, rows), (title, _, pixel_rows), (_, colours, _), _ = tables(content)
    assert header[2] == "Fréchet distance in random-conv-v1 (not FID)"
    assert [row[0] for row in rows] == [row["images"] for row in content["rows"]] + ["*best*"]
    assert " ± " in rows[1][2] and "images/s" not in header
    assert title.startswith("In pixels") and "red, grey levels" in colours
    assert all(len(row) == len(pixel_rows[0]) for row in pixel_rows)
    assert pixel_rows[0][-1] == "" and float(pixel_rows[1][-1]) > 0
    text = markdown(content)
    assert "20 images against 40 held-out ones, mean ± standard deviation over 2 seeds" in text
    assert "AUC" not in text  # nobody asked the classifier
    assert "forty drawn faces" in text and "a processor, 2026-01-31" in text
    assert distance_title({"name": "Inception", "is_fid": True}) == "FID"
    json.dumps(content)  # plain values only


def subjects_of(student, folder, exported):
    config = MODEL_DEFAULTS | dict(network="tiny", sigma_data=0.6, sampler="few_step")
    config["few_step_sigmas"] = {str(k): v for k, v in student.scheduler.few_step_table.items()}
    save_model(student, folder / "final_model.pt", config)
    save_model(exported, folder / "export" / "best_model.pt", config)
    settings = Settings(run=Run(export_dir=str(folder / "export")))
    return SimpleNamespace(
        checkpoint=folder / "final_model.pt",
        student=student,
        settings=settings,
        record={"a": 1},
        images=SimpleNamespace(train=SimpleNamespace(digest="a"), val=SimpleNamespace(digest="b")),
    )


def test_tuning_looks_at_training_images_and_writes_the_levels(
    student, comparison, tmp_path, monkeypatch
):
    subjects = subjects_of(student, tmp_path, student)
    asked = []
    monkeypatch.setattr(comparison, "heldout", None)

    def distance(images, set_name):
        assert set_name == "training"
        asked.append(True)
        return float(np.abs(images.mean() - 90))

    monkeypatch.setattr(comparison, "distance", distance)
    results = tune(subjects, comparison, [2, 1], 4, tmp_path / "out")
    assert all(asked) and len(asked) == sum(len(results[nfe]["tried"]) for nfe in (1, 2))
    tuning = read_json(tmp_path / "out" / "tuning.json")
    for folder in (tmp_path, tmp_path / "export"):
        config = read_json(folder / "model_config.json")
        levels = config["few_step_sigmas"]
        for nfe in (1, 2):
            assert levels[str(nfe)] == results[nfe]["after"]
            tried = {tuple(row[0]): row[1] for row in tuning["levels"][str(nfe)]["tried"]}
            assert tried[tuple(levels[str(nfe)])] == min(tried.values())
        assert levels["4"] == [5.0, 2.0, 1.0, 0.5]  # not asked for
        create_custom_model(**config)
    assert any(results[nfe]["after"] != results[nfe]["before"] for nfe in (1, 2))


def test_a_search_that_is_stopped_goes_on_from_its_trials(
    student, comparison, tmp_path, monkeypatch
):
    subjects, asked = subjects_of(student, tmp_path, student), []

    def distance(images, set_name):
        if len(asked) == 3:
            asked.append("stopped")
            raise KeyboardInterrupt
        asked.append("scored")
        return float(np.abs(images.mean() - 90))

    monkeypatch.setattr(comparison, "distance", distance)
    with pytest.raises(KeyboardInterrupt):
        tune(subjects, comparison, [1], 4, tmp_path / "out")
    results = tune(subjects, comparison, [1], 4, tmp_path / "out")
    assert asked.count("scored") == len(results[1]["tried"]) > 3  # each once


def test_a_foreign_students_levels_are_left_alone(student, comparison, tmp_path):
    subjects = subjects_of(student, tmp_path, create_custom_model(network="tiny"))
    before = read_json(tmp_path / "export" / "model_config.json")
    tune(subjects, comparison, [1], 4, tmp_path / "out")
    assert read_json(tmp_path / "export" / "model_config.json") == before


def test_only_differences_beyond_noise_in_all_spaces_are_called_so():
    def row(title, first, second):
        pairs = zip(first, second)
        scores = [{"a": {"frechet": x}, "b": {"frechet": y}} for x, y in pairs]
        return score_row(title, "student", 1, 10, scores)

    rows = [
        row("floor", [1.0], [5.0]),
        row("near", [2.0, 2.1, 2.05], [9.0, 9.1, 9.05]),
        row("noisy", [2.0, 2.9, 1.5], [9.0, 9.9, 8.5]),
        row("odd", [4.0, 4.1, 4.05], [7.0, 7.1, 7.05]),
        row("far", [8.0, 8.1, 8.05], [7.0, 7.1, 7.05]),
    ]
    spaces = [{"name": "a", "is_fid": False}, {"name": "b", "is_fid": False}]
    line = ranking({"rows": rows[::-1], "spaces": spaces})
    assert line == "floor < near ≈ noisy ≈ odd ≈ far"
    assert ranking({"rows": [rows[1], rows[3]], "spaces": spaces}) == "near ? odd"
    assert ranking({"rows": [rows[1], rows[3]], "spaces": spaces[:1]}) == "near < odd"
    assert order_sentence({"rows": rows, "spaces": spaces}).startswith(f"Nearest first: {line} (")


def test_of_one_seed_no_order_is_told():
    rows = [
        score_row(title, kind, 1, 10, [{"a": {"frechet": distance}, "pixels": {}}])
        for title, kind, distance in (("real", "real", 3.43), ("student, NFE 1", "student", 210.23))
    ]
    content = {"rows": rows, "spaces": [{"name": "a", "sha256": "", "is_fid": False}]}
    content |= dict(seeds=[1], num_samples=10, reference_count=9, hardware="", date="")
    text = "One seed: no order can be tested"
    assert order_sentence(content) == text
    assert f"{text}." in notes(content) and "≈" not in summary(content, 80)
    family = {"rows": rows[1:], "seeds": 1, "title": "cell"}
    assert order([family], content["spaces"], rows[:1]) == [text]


def test_a_path_of_a_runs_record_is_the_records(tmp_path, monkeypatch):
    """It may be relative to where the run was started; one that is not there is not called the
    user's."""
    (tmp_path / "begun" / "imgs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    record, data = {"started_in": str(tmp_path / "begun")}, Data(data="folder", data_root="imgs")
    assert recorded_places("run", record, data, {}) == {"data_root": str(tmp_path / "begun/imgs")}
    assert recorded_places("run", record, data, {"data_root": "other"}) == {}
    (tmp_path / "begun" / "imgs").rmdir()
    with pytest.raises(UserError) as caught:
        recorded_places("run", record, data, {})
    text = str(caught.value)
    assert text.startswith("run/training_config.json: its data_root imgs") and "--data_root" in text
    assert str(tmp_path / "begun") in text
