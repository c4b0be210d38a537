"""`train.py --config FILE`: files of flags, and records of runs."""

import json
import sys
from pathlib import Path

import pytest

from fewstep.runs.command_line import parse_settings
from fewstep.runs.run_folder import FACTS, add_facts, begin_run, own_teacher
from fewstep.runs.settings import flat
from src.utils import UserError, read_json, write_json

FLAGS = """
preset: tiny
data: synthetic
lr: 1e-3
batch_size: 4
x_flip: no
sigmas: [5, 2, 1, 0.5]
augment: translation+color
"""


def settings_of(path, *arguments):
    return flat(parse_settings(["--config", str(path), *arguments])[0].as_dict())


def test_a_file_of_flags_is_as_the_flags_and_those_given_win(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(FLAGS)
    by_flags = "--preset tiny --data synthetic --lr 0.001 --batch_size 4 --no-x_flip".split()
    by_flags += "--sigmas 5 2 1 0.5 --augment translation+color".split()
    chosen = parse_settings(["--config", str(path)])
    assert chosen == parse_settings(by_flags) and chosen[1] == "tiny"
    more = ["--lr", "0.5", "--x_flip", "--preset", "small"]
    chosen = parse_settings(["--config", str(path), *more])
    assert chosen == parse_settings([*by_flags, *more])
    assert chosen[0].scratch.lr == 0.5 and chosen[0].data.x_flip and chosen[1] == "small"


def test_json_is_read_too_and_needs_no_package(tmp_path, monkeypatch):
    content = {"preset": "tiny", "data": "synthetic", "lr": 0.001, "batch_size": 4}
    content |= {"x_flip": False, "sigmas": [5, 2, 1, 0.5], "augment": "translation+color"}
    write_json(tmp_path / "mine.json", content)
    (tmp_path / "mine.yaml").write_text(FLAGS)
    assert settings_of(tmp_path / "mine.json") == settings_of(tmp_path / "mine.yaml")
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert settings_of(tmp_path / "mine.json")["lr"] == 0.001
    with pytest.raises(UserError, match="mine.yaml: .*pip install pyyaml$"):
        settings_of(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bathc_size: 4", "unknown key 'bathc_size'; did you mean batch_size?"),
        ("device: cpu\ntorch: 2.6", "unknown key 'torch'"),
        ("preset: tny", "tny"),
        ("lr: fast", "--lr: 'fast': a number is needed"),
        ("seed: -1", "--seed -1: at least 0"),
        ("x_flip: maybe", "x_flip 'maybe'"),
        ("sigmas: [3, 2]", "--sigmas"),
        ("lr: {a: 1}", "lr .*texts and numbers are expected"),
        ("lr: 1\nlr: 2", "line 2: lr is there twice"),
        ("lr: [", "not readable as YAML"),
        ("words", "keys and values are expected, such as batch_size: 64"),
        ("settings: 3", "its settings are not those of a run"),
        ("settings: {run: 3}", "its settings are not those of a run"),
        ("settings: {rnu: {seed: 1}}", "unknown key 'rnu'; did you mean run?"),
        ("settings: {run: {sed: 1}}", "unknown key 'sed'; did you mean seed?"),
        ("settings: {run: {seed: 1}}\ntorhc: 2", "unknown key 'torhc'; did you mean torch?"),
    ],
)
def test_mistakes_name_the_file_and_the_key(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as refused:
        settings_of(path)
    assert "mine.yaml" in str(refused.value) and "\n" not in str(refused.value)


def test_flags_of_a_file_that_change_nothing_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("method: consistency\ndata: synthetic\ndisc: patch")
    with pytest.raises(UserError, match="--disc: --method consistency has no use for it"):
        settings_of(tmp_path / "a.yaml")
    with pytest.raises(UserError, match="--config .*no such file"):
        settings_of(tmp_path / "b.yaml")


def record(folder, *arguments, **facts):
    """A run's record, with every fact that there is."""
    settings, preset, _ = parse_settings(["--data", "synthetic", *arguments])
    begin_run(folder, settings, {"student": {}}, own_teacher(folder), preset=preset, **facts)
    add_facts(folder, **{f: 1 for f in FACTS - {"started_in", "preset", "teacher_file", *facts}})
    return folder / "training_config.json"


def test_a_record_gives_all_settings_but_where_it_was_written(tmp_path):
    flags = ["--preset", "tiny", "--lr", "0.5", "--seed", "7"]
    path = record(tmp_path / "a", *flags, "--save_dir", str(tmp_path / "a"))
    assert read_json(path).keys() == {"settings", *FACTS} - {"teacher_file"}
    settings, name, _ = parse_settings(["--config", str(path)])
    assert (settings, name) == parse_settings(["--data", "synthetic", *flags])[:2]
    assert settings_of(path, "--lr", "0.25")["lr"] == 0.25
    # One of another method holds values that this one has no use for, and they are no mistake.
    other = record(tmp_path / "b", "--method", "rectified_flow")
    assert settings_of(other)["method"] == "rectified_flow"
    with pytest.raises(UserError, match="--preset: .* has a value for every setting"):
        settings_of(path, "--preset", "small")


def test_a_fact_that_nobody_knows_cannot_be_written(tmp_path):
    record(tmp_path)
    with pytest.raises(KeyError, match="colour"):
        add_facts(tmp_path, colour="red")
    content = read_json(tmp_path / "training_config.json")
    assert "colour" not in content


def test_a_record_of_a_distillation_names_its_teacher(tmp_path):
    path = record(tmp_path / "a", "--phase", "add")
    assert settings_of(path)["teacher_ckpt"] == str(tmp_path / "a" / "teacher" / "model.pt")
    write_json(path, read_json(path) | {"teacher_file": str(tmp_path / "b" / "model.pt")})
    assert settings_of(path)["teacher_ckpt"] == str(tmp_path / "b" / "model.pt")
    assert settings_of(path, "--phase", "all")["teacher_ckpt"] == ""
    assert settings_of(path, "--teacher_ckpt", "other.pt")["teacher_ckpt"] == "other.pt"


def test_paths_of_a_record_hold_where_the_run_was_started(tmp_path, monkeypatch):
    for name in ("there/faces", "here"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "there")
    path = record(tmp_path / "there" / "run")
    content = read_json(path)
    content["settings"]["data"] |= {"data": "folder", "data_root": "faces"}
    write_json(path, content)
    assert settings_of("run/training_config.json")["data_root"] == "faces"
    monkeypatch.chdir(tmp_path / "here")
    assert Path(settings_of(path)["data_root"]) == tmp_path / "there" / "faces"
    assert json.loads(path.read_text())["started_in"] == str(tmp_path / "there")
