"""Which folder a command means, and what may go on in it."""

import os

import pytest

from fewstep.engine.checkpoints import checkpoint_path
from fewstep.runs.command_line import parse_settings
from fewstep.runs.finding import choose_run_folder, other_images
from fewstep.runs.run_folder import add_facts, add_training, begin_run, machine_of, own_teacher
from src.utils import UserError, read_json, torch_save, write_json


def settings_for(*arguments):
    return parse_settings(["--data", "synthetic", *arguments])[0]


def settings_of(folder, *arguments):
    return parse_settings(["--data_root", str(folder), *arguments])[0]


def start(folder, settings, phases=("teacher", "student"), **facts):
    identities = {phase: identity_of(settings, phase) for phase in phases}
    begin_run(folder, settings, identities, own_teacher(folder), **facts)


def identity_of(settings, phase):
    lengths = {
        "teacher": {"num_iterations": settings.scratch.num_iterations},
        "student": {"student_iterations": settings.student.student_iterations},
    }
    return {"seed": settings.run.seed, "lr": settings.scratch.lr} | lengths[phase]


def train(folder, settings, phase, step=1):
    """Leave a checkpoint as of a training."""
    content = {"version": 2, "step": step, "identity": identity_of(settings, phase)}
    content |= {"seconds": 1.0, "window": {}, "phase": {}}
    torch_save(content, checkpoint_path(folder / phase, step))


def test_the_same_command_finds_its_unfinished_run(tmp_path, capsys):
    settings = settings_for("--lr", "0.01")
    folder, teacher = choose_run_folder(settings, tmp_path)
    assert folder.parent == tmp_path and not folder.exists()
    assert teacher == folder / "teacher" / "model.pt"
    unfinished = tmp_path / "2026-01-01_00-00-00"
    start(unfinished, settings)
    assert choose_run_folder(settings, tmp_path)[0] == unfinished
    capsys.readouterr()
    assert choose_run_folder(settings_for("--lr", "0.02"), tmp_path)[0] != unfinished
    assert (
        f"{unfinished}, which is unfinished: it has lr = 0.01, not 0.02" in capsys.readouterr().out
    )
    assert choose_run_folder(settings_for("--lr", "0.01", "--seed", "1"), tmp_path)[0] != unfinished
    add_facts(unfinished, finished=True)
    assert choose_run_folder(settings, tmp_path)[0] != unfinished
    named = settings_for("--save_dir", str(tmp_path / "mine"))
    assert choose_run_folder(named, tmp_path)[0] == tmp_path / "mine"


def test_a_phase_is_of_the_machine_that_trained_it(tmp_path):
    settings, places = settings_for(), dict(torch="2.6.0")
    start(tmp_path, settings, device="A GPU", **places)
    add_training(tmp_path, "teacher", 5.04)
    start(tmp_path, settings, device="A laptop", **places)  # goes on with the student there
    add_training(tmp_path, "teacher", 5.04)
    add_training(tmp_path, "student", 3.0)
    record = read_json(tmp_path / "training_config.json")
    assert machine_of(record, "teacher") == ("A GPU", "2.6.0")
    assert machine_of(record, "student") == ("A laptop", "2.6.0")
    earlier = {"device": "A GPU", "torch": "2.6.0", "teacher_seconds": 5.0}
    write_json(tmp_path / "training_config.json", earlier)
    start(tmp_path, settings, device="A laptop", **places)
    add_training(tmp_path, "teacher", 5.0)
    record = read_json(tmp_path / "training_config.json")
    assert machine_of(record, "teacher") == ("A GPU", "2.6.0")


def test_an_unfinished_run_of_other_defaults_is_named_with_the_way_back(tmp_path, capsys):
    earlier, settings = tmp_path / "earlier", settings_for("--lr", "0.01")
    start(earlier, settings)
    flags = ["--lr", "0.02", "--seed", "1", "--warmup", "9", "--p_mean", "0.5"]
    assert choose_run_folder(settings_for(*flags), tmp_path)[0] != earlier
    said = capsys.readouterr().out
    assert "unfinished: 4 settings differ, such as" in said
    assert f"--config {earlier / 'training_config.json'} --save_dir {earlier}" in said
    again = ["--config", str(earlier / "training_config.json"), "--save_dir", str(earlier)]
    assert parse_settings(again)[0].scratch.lr == 0.01
    choose_run_folder(settings_for(*flags, "--data_seed", "5"), tmp_path)
    assert "earlier" not in capsys.readouterr().out  # of other images


def test_a_run_of_before_a_setting_was_there_is_found(tmp_path):
    settings, folder = settings_for("--no-disc_level"), tmp_path / "earlier"
    start(folder, settings)
    record = read_json(folder / "training_config.json")
    for name in ("disc_level", "disc_lead", "disc_lead_most"):
        del record["settings"]["discriminator"][name]
    write_json(folder / "training_config.json", record)
    same = settings_for("--no-disc_level", "--disc_lead", "0", "--disc_lead_most", "1")
    assert choose_run_folder(same, tmp_path)[0] == folder
    assert choose_run_folder(settings, tmp_path)[0] != folder


def test_a_finished_run_that_could_be_taken_further_is_named(tmp_path, capsys):
    start(tmp_path / "run", settings_for())
    add_facts(tmp_path / "run", finished=True)
    choose_run_folder(settings_for("--student_iterations", "30000"), tmp_path)
    out = capsys.readouterr().out
    assert "has student_iterations = 20000, not 30000" in out
    assert f"--save_dir {tmp_path / 'run'}" in out


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A folder of images in the current folder, and a link to it."""
    (tmp_path / "imgs").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to("imgs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "imgs"


@pytest.mark.parametrize("spelled", ["imgs/", "./imgs", "other/../imgs", "link", "absolute"])
def test_a_folder_spelled_otherwise_is_the_same(images, spelled):
    runs = images.parent / "results"
    start(runs / "unfinished", settings_of("imgs"))
    spelled = str(images) if spelled == "absolute" else spelled
    assert choose_run_folder(settings_of(spelled), runs)[0] == runs / "unfinished"
    assert choose_run_folder(settings_of("other"), runs)[0] != runs / "unfinished"
    add_facts(runs / "unfinished", teacher_seconds=1.0, finished=True)
    chosen = choose_run_folder(settings_of(spelled, "--phase", "add"), runs)
    assert chosen == (runs / "unfinished", own_teacher(runs / "unfinished"))


def test_a_run_of_another_working_folder_is_found_by_its_own_paths(images, monkeypatch):
    runs = images.parent / "results"
    start(runs / "unfinished", settings_of("imgs"))
    monkeypatch.chdir(images.parent / "other")
    assert choose_run_folder(settings_of("../imgs"), runs)[0] == runs / "unfinished"


def test_a_teacher_that_may_have_seen_what_is_held_out_is_told(images, tmp_path):
    splits = ["--train_split", str(tmp_path / "a.txt"), "--val_split", str(tmp_path / "b.txt")]
    for path in splits[1::2]:
        open(path, "w").close()
    with_splits, without = settings_of("imgs", *splits), settings_of("imgs")
    teacher = own_teacher(tmp_path / "run")
    assert other_images(without, teacher, "now") == "", "there is no record"
    start(tmp_path / "run", with_splits)
    assert other_images(with_splits, teacher, "now") == ""
    told = other_images(without, teacher, "now")
    assert told.startswith(
        f"the teacher {teacher} learnt from other images (other --train_split, --v"
    )
    begin_run(tmp_path / "run", with_splits, {"teacher": {"images": "then"}}, teacher)
    assert other_images(without, teacher, "then") == "", "they are the same after all"
    assert "(other files)" in other_images(with_splits, teacher, "now")
    (tmp_path / "run" / "training_config.json").write_text("{")
    assert other_images(without, teacher, "now") == ""


def test_phase_add_finds_the_newest_finished_teacher_of_its_kind(tmp_path):
    add = settings_for("--phase", "add", "--batch_size", "128")
    with pytest.raises(UserError, match="--teacher_ckpt"):
        choose_run_folder(add, tmp_path)
    for day, network in ((1, "full"), (2, "full"), (3, "tiny"), (4, "full")):
        folder = tmp_path / f"run{day}"
        start(folder, settings_for("--phase", "teacher", "--network", network), ["teacher"])
        if day != 4:  # the fourth is still in training
            add_facts(folder, teacher_seconds=1.0)
        os.utime(folder / "training_config.json", (day, day))
    folder = tmp_path / "run2"
    assert choose_run_folder(add, tmp_path) == (folder, folder / "teacher" / "model.pt")
    # Another student has its place there: the teacher is taken, the folder is not.
    start(folder, add, ["student"])
    train(folder, add, "student")
    other = settings_for("--phase", "add", "--adv_weight", "3")
    add_facts(folder, finished=True)
    chosen, teacher = choose_run_folder(other, tmp_path)
    assert chosen != folder and teacher == folder / "teacher" / "model.pt"
    chosen, _ = choose_run_folder(settings_for("--phase", "add", "--method", "ld3"), tmp_path)
    assert chosen != folder, "the student of one method is not replaced by another's"
    elsewhere = settings_for("--phase", "add", "--teacher_ckpt", "x.pt")
    assert str(choose_run_folder(elsewhere, tmp_path)[1]) == "x.pt"


def test_reflow_takes_a_flow_that_is_there(tmp_path):
    add = settings_for("--phase", "add", "--method", "reflow")
    teacher = settings_for("--phase", "teacher")
    start(tmp_path / "teacher", teacher, ["teacher"], teacher_seconds=1)
    with pytest.raises(UserError, match="no finished flow.*--teacher_ckpt"):
        choose_run_folder(add, tmp_path)
    flow, settings = tmp_path / "flow", settings_for("--method", "rectified_flow")
    begin_run(flow, settings, {"flow": {}}, own_teacher(flow), flow_seconds=1)
    add_facts(flow, finished=True)
    chosen, teacher = choose_run_folder(add, tmp_path)
    assert chosen != flow and teacher == flow / "final_model.pt"


def test_a_named_folder_goes_on_with_the_teacher_of_its_record(tmp_path):
    folder, foreign = tmp_path / "run", tmp_path / "elsewhere" / "model.pt"
    add = settings_for("--phase", "add", "--save_dir", str(folder))
    assert choose_run_folder(add) == (folder, own_teacher(folder))
    begin_run(folder, add, {"student": identity_of(add, "student")}, foreign)
    assert choose_run_folder(add) == (folder, foreign)


def test_teachers_of_other_images_are_named(tmp_path):
    start(tmp_path / "run", settings_for("--phase", "teacher", "--data_seed", "7"), ["teacher"])
    with pytest.raises(UserError) as caught:
        choose_run_folder(settings_for("--phase", "add"), tmp_path)
    assert "run (data_seed = 7, not 42, no finished teacher)" in str(caught.value)


def test_nothing_is_locked_before_anything_is_trained(tmp_path):
    start(tmp_path, settings_for("--lr", "0.01"))
    start(tmp_path, settings_for("--lr", "0.02"))  # no checkpoint: as if it had never been
    assert read_json(tmp_path / "training_config.json")["identities"]["teacher"]["lr"] == 0.02
    train(tmp_path, settings_for("--lr", "0.02"), "teacher")
    with pytest.raises(UserError, match="lr = 0.02, not 0.01"):
        start(tmp_path, settings_for("--lr", "0.01"))
    checkpoint_path(tmp_path / "teacher", 1).rename(tmp_path / "teacher/checkpoint_iter_1.damaged")
    with pytest.raises(UserError, match="lr = 0.02, not 0.01"):
        start(tmp_path, settings_for("--lr", "0.01"))


def test_a_length_that_was_asked_for_and_never_trained_locks_nothing(tmp_path):
    train(tmp_path, settings_for(), "teacher")
    for steps in ("100000", "300000", "200000"):
        start(tmp_path, settings_for("--num_iterations", steps), ["teacher"])
    with pytest.raises(
        UserError, match="num_iterations = 100000, not 50000; give the same or more"
    ):
        start(tmp_path, settings_for("--num_iterations", "50000"), ["teacher"])


def test_a_teacher_is_taken_further_alone_where_it_has_a_student(tmp_path, capsys):
    settings, longer = settings_for(), settings_for("--num_iterations", "200000")
    start(tmp_path, settings)
    for phase in ("teacher", "student"):
        train(tmp_path, settings, phase)
    before = (tmp_path / "training_config.json").read_bytes()
    with pytest.raises(UserError, match="its student comes from the teacher as it was.*NEW"):
        start(tmp_path, longer)
    assert (tmp_path / "training_config.json").read_bytes() == before
    start(tmp_path, longer, ["teacher"])
    assert "cannot be taken further from here on" in capsys.readouterr().out


def test_the_flow_of_reflow_is_its_teacher(tmp_path, capsys):
    settings = settings_for("--method", "reflow")
    first, longer = {"num_iterations": 1}, {"num_iterations": 2}
    begin_run(tmp_path, settings, {"flow": first, "reflow": {}}, own_teacher(tmp_path))
    for phase, identity in (("flow", first), ("reflow", {})):
        content = {"version": 2, "step": 1, "identity": identity, "seconds": 1.0}
        torch_save(content | {"window": {}, "phase": {}}, checkpoint_path(tmp_path / phase, 1))
    with pytest.raises(UserError, match="its reflow comes from the teacher as it was.*NEW"):
        begin_run(tmp_path, settings, {"flow": longer, "reflow": {}}, own_teacher(tmp_path))
    begin_run(tmp_path, settings, {"flow": longer}, own_teacher(tmp_path))
    assert "its reflow comes from" in capsys.readouterr().out


def test_other_settings_are_for_another_folder_and_a_teacher_is_named_where_there_is_one(tmp_path):
    teacher = "--save_dir NEW --phase add --teacher_ckpt"
    for method, told in (
        ("shortcut", "--save_dir NEW, and --student_ckpt"),
        ("consistency", teacher),
        ("ld3", teacher),
    ):
        folder, settings = tmp_path / method, settings_for("--method", method)
        begin_run(folder, settings, {method: {"seed": 1}}, own_teacher(folder))
        content = {"version": 2, "step": 1, "identity": {"seed": 1}, "seconds": 1.0}
        torch_save(content | {"window": {}, "phase": {}}, checkpoint_path(folder / method, 1))
        with pytest.raises(UserError, match="seed = 1, not 2") as caught:
            begin_run(folder, settings, {method: {"seed": 2}}, own_teacher(folder))
        assert told in str(caught.value)
        assert ("--student_ckpt" in str(caught.value)) is (method != "ld3")


def test_another_precision_is_said(tmp_path, capsys):
    for computes in ("bf16 (avx512_bf16)", "bf16 (avx512_bf16)", "fp32"):
        assert "computes in" not in capsys.readouterr().out
        begin_run(tmp_path, settings_for(), {}, own_teacher(tmp_path), computes_in=computes)
    said = capsys.readouterr().out
    assert "computes in fp32 now, in bf16 (avx512_bf16) before" in said and "--precision" in said


def test_a_refused_run_leaves_the_record_and_says_how_it_is_done(tmp_path):
    start(tmp_path, settings_for("--lr", "0.01"), finished=True)
    train(tmp_path, settings_for("--lr", "0.01"), "student")
    before = (tmp_path / "training_config.json").read_bytes()
    with pytest.raises(UserError, match="seed = 42, not 1") as caught:
        start(tmp_path, settings_for("--seed", "1", "--lr", "0.01"), ["student"])
    assert "--teacher_ckpt" in str(caught.value) and "--student_ckpt" in str(caught.value)
    assert (tmp_path / "training_config.json").read_bytes() == before
