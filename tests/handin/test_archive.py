"""Which files an archive holds, that it is the same each time, and the checks of its files."""

import os
import zipfile
from pathlib import Path

import pytest

from fewstep.handin.archive import checks
from fewstep.handin.archive.archive import copy_part, unpack, write_archive
from fewstep.handin.archive.contents import CONFIG, PROVIDED, collect
from src.utils import UserError


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
