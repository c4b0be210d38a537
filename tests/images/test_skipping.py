"""`--skip_bad_images`: what is left out, what that leaves, what is remembered and what is said."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fewstep.images.contents
import fewstep.images.folder
from fewstep.images import open_image_sets
from fewstep.images.decode import UnreadableImage, decode_image
from src.listing import list_images
from src.utils import UserError


@pytest.fixture
def root(tmp_path):
    """Eight images, 1.png and 6.png of which are none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(8):
        save(folder / f"{k}.png", 10 * k)
    for k in (1, 6):
        (folder / f"{k}.png").write_bytes(b"no image %d" % k)
    return folder


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (value, value, value)).save(path)


def opened(root, **options):
    options = {"skip_bad_images": True, "cache_dir": root.parent / "cache", **options}
    return open_image_sets(data_root=root, **options)


def without(root, *names):
    """A copy of the folder with files deleted, and a cache of its own."""
    copy = Path(tempfile.mkdtemp(dir=root.parent)) / "images"
    shutil.copytree(root, copy, symlinks=True)
    for name in names:
        (copy / name).unlink()
    return copy


@pytest.fixture
def split(tmp_path):
    def write(*ids):
        path = tmp_path / f"{'_'.join(ids)}.txt"
        path.write_text("\n".join(ids) + "\n")
        return path

    return write


def values(cache):
    return cache.images[:, 0, 0, 0].tolist()


def same(one, other):
    return all(a.digest == b.digest for a, b in zip(one[:2], other[:2], strict=True))


def refuse(*_):
    raise AssertionError("called although the verdict is known")


def counted(monkeypatch):
    tried = []
    real = fewstep.images.folder.decode_image
    monkeypatch.setattr(
        fewstep.images.folder,
        "decode_image",
        lambda path, size: tried.append(path) or real(path, size),
    )
    return tried


def test_listed_bad_images_are_left_out_as_if_not_listed(root, split, capsys):
    sets = opened(root, train_split=split("7", "1", "0"), val_split=split("6", "5"))
    assert values(sets.train) == [70, 0] and values(sets.val) == [50]
    assert "2 of 5 images cannot be used: 1.png (not one of" in capsys.readouterr().out
    plain = without(root, "1.png", "6.png")
    assert same(sets, opened(plain, train_split=split("7", "0"), val_split=split("5")))


def test_images_in_no_list_do_not_matter(root, split, capsys):
    options = dict(train_split=split("7"), val_split=split("5"))
    assert same(opened(root, **options), opened(root, **options, skip_bad_images=False))
    assert "cannot be used" not in capsys.readouterr().out


def test_one_list_leaves_the_usable_rest(root, split):
    sets = opened(root, val_split=split("1", "2"))
    assert values(sets.val) == [20] and values(sets.train) == [0, 30, 40, 50, 70]


def test_another_file_of_the_same_id_takes_its_place(root, split):
    save(root / "1.bmp", 200)
    sets = opened(root, train_split=split("0", "1"), val_split=split("5"))
    assert values(sets.train) == [0, 200]


def test_ids_of_no_image_stay_an_error(root, split):
    with pytest.raises(UserError, match=r"2 of 3 ids have no image in .*: 8, a\\tb;"):
        opened(root, train_split=split("1", "8", "a\tb"), val_split=split("5"))


@pytest.mark.parametrize(
    ("lists", "empty"),
    [
        ({"train": "16"}, "training"),
        ({"train": "0", "val": "61"}, "validation"),
        ({"val": "023457"}, "training"),
        ({}, "training"),
    ],
)
def test_nothing_left_for_a_set_is_one_error(root, split, lists, empty):
    if not lists:
        for path in root.iterdir():
            path.write_bytes(b"x")
    options = {f"{name}_split": split(*ids) for name, ids in lists.items()}
    with pytest.raises(UserError, match=f"no image is left for {empty}, because") as caught:
        opened(root, **options)
    assert "cannot be used: " in str(caught.value)
    assert not list(root.parent.glob("cache/splits"))


def test_one_usable_image_is_not_enough(root):
    for k in (0, 2, 3, 4, 5):
        (root / f"{k}.png").unlink()
    with pytest.raises(UserError, match="left for validation, because 2 of 3 images"):
        opened(root)


def test_lists_and_split_do_not_know_the_bad_ones(root):
    sets = opened(root)
    assert same(sets, opened(without(root, "1.png", "6.png"), skip_bad_images=False))
    lists = {p.stem: p for p in root.parent.glob("cache/splits/*/*.txt")}
    names = lists["train_split"].read_text() + lists["val_split"].read_text()
    assert sorted(names.split()) == [f"{k}.png" for k in (0, 2, 3, 4, 5, 7)]
    assert same(sets, opened(root, **lists, skip_bad_images=False))


def test_verdicts_follow_the_content(root, monkeypatch):
    opened(root)
    save(root / "1.png", 111)  # mended
    (root / "6.png").rename(root / "66.png")  # the same bytes elsewhere are known
    tried = counted(monkeypatch)
    sets = opened(root)
    assert 111 in values(sets.train) + values(sets.val)
    assert root / "1.png" in tried and root / "66.png" not in tried


@pytest.mark.parametrize("known", [False, True])
def test_without_the_flag_those_of_both_sets_are_one_error(root, split, known):
    lists = dict(train_split=split("0", "1"), val_split=split("5", "6"))
    if known:
        opened(root, **lists)
    expected = "2 of 4 images cannot be used: 1.png .*, 6.png .*--skip_bad_images"
    with pytest.raises(UserError, match=expected):
        opened(root, **lists, skip_bad_images=False)
    assert list(root.parent.glob("cache/*.npy")) == [] or known


@pytest.mark.parametrize("damage", ["another decoder", "other content", "lost"])
def test_verdicts_that_do_not_count_are_made_anew(root, monkeypatch, damage):
    before = opened(root)
    verdicts = root.parent / "cache" / "undecodable.json"
    if damage == "another decoder":
        monkeypatch.setattr(fewstep.images.contents, "DECODER", "a later one")
    elif damage == "other content":
        verdicts.write_text('{"decoder": 1}')
    else:
        verdicts.unlink()
    tried = counted(monkeypatch)
    assert same(before, opened(root)) and root / "1.png" in tried
    monkeypatch.setattr(fewstep.images.folder, "decode_image", refuse)
    assert same(before, opened(root))


def test_what_may_pass_is_left_out_but_not_remembered(root, monkeypatch, capsys):
    def forgetful(path, size):
        if path.name == "3.png":
            raise UnreadableImage(path, "MemoryError", lasting=False)
        return decode_image(path, size)

    with monkeypatch.context() as patch:
        patch.setattr(fewstep.images.folder, "decode_image", forgetful)
        sets = opened(root)
    assert "3 of 8 images cannot be used: 1.png" in capsys.readouterr().out
    assert 30 not in values(sets.train) + values(sets.val)
    sets = opened(root)
    assert 30 in values(sets.train) + values(sets.val)
    assert "2 of 8 images" in capsys.readouterr().out


def test_verdicts_that_cannot_be_written_are_one_error(root):
    (root.parent / "cache" / "undecodable.json").mkdir(parents=True)
    with pytest.raises(UserError, match="undecodable.json: cannot be written .*--cache_dir"):
        opened(root)


@contextmanager
def ordinary_user():
    """The administrator may read everything: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_and_folders_without_permission(capsys):
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        for k in range(5):
            save(top / "images" / f"{k}.png", 10 * k)
        save(top / "images" / "closed" / "5.png", 50)
        decode_image(top / "images" / "0.png")  # Pillow's own files are read
        (top / "cache").mkdir()
        for path, mode in ((top, 0o755), (top / "cache", 0o777)):
            path.chmod(mode)
        (top / "images" / "3.png").chmod(0)
        (top / "images" / "closed").chmod(0)
        try:
            with ordinary_user():
                if not os.access(top, os.R_OK, effective_ids=True):
                    pytest.skip("temporary folders are closed to other users here")
                with pytest.raises(UserError, match="2 of 6 images cannot be used: ") as caught:
                    opened(top / "images", skip_bad_images=False)
                sets = opened(top / "images")
        finally:
            (top / "images" / "closed").chmod(0o755)
    assert "3.png (Permission denied)" in str(caught.value)
    assert "closed/ (cannot be listed: Permission denied)" in str(caught.value)
    assert sorted(values(sets.train) + values(sets.val)) == [0, 10, 20, 40]
    assert "3.png (Permission denied)" in capsys.readouterr().out


def test_a_folder_is_searched_whatever_its_name(root):
    save(root / "frames.gif" / "a.png", 1)
    (root / "empty.gif" / "deeper.png").mkdir(parents=True)
    names, closed = list_images(root)
    assert {"frames.gif/a.png", "empty.gif", "empty.gif/deeper.png"} < set(names) and not closed
    assert "frames.gif" not in names


def test_folders_nested_deeper_than_calls_can_be(root, monkeypatch):
    monkeypatch.chdir(root)
    made = 0
    try:
        for made in range(1, 1101):  # noqa: B007
            os.mkdir("d")
            os.chdir("d")
        Path("a.png").touch()
        names, closed = list_images(root)
    finally:  # here, for neither shutil nor pytest can delete them
        Path("a.png").unlink(missing_ok=True)
        for _ in range(made):
            os.chdir("..")
            os.rmdir("d")
    assert "d/" * 1100 + "a.png" in names and not closed


def test_links_between_folders_end(root, tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        save(root / one / "x.png", 1)
        (root / one / "across").symlink_to(root / other, target_is_directory=True)
        (root / one / "up").symlink_to("..", target_is_directory=True)
    (tmp_path / "me").symlink_to("me")
    names, closed = list_images(root)
    assert len([name for name in names if name.endswith("x.png")]) == 2 and not closed
    with pytest.raises(UserError, match="me: no such folder"):
        opened(tmp_path / "me")


def test_a_folder_whose_own_name_is_hostile(tmp_path, capsys):
    root = tmp_path / os.fsdecode(b"line\nbreak \xff")
    for k in range(4):
        save(root / f"{k}.png", k)
    (root / "bad.png").touch()
    sets = opened(root)
    out = capsys.readouterr().out
    assert sets.description.isprintable() and all(line.isprintable() for line in out.splitlines())
    assert "line\\nbreak \\udcff" in sets.description
    with pytest.raises(UserError) as caught:
        opened(root, skip_bad_images=False)
    assert str(caught.value).isprintable()


def test_split_files_name_images_with_odd_names(root):
    names = [" 0.png", "0 .png", "a\rb.png", "\x85.png", "\u2028 \u00e9.png"]
    names.append(os.fsdecode(b"\xff.png"))
    for k, name in enumerate(names):
        save(root / name, 100 + k)
    sets = opened(root)
    lists = {p.stem: p for p in root.parent.glob("cache/splits/*/*.txt")}
    again = opened(root, **lists)
    assert same(sets, again)
    assert np.array_equal(sets.train.images, again.train.images)
    windows = root.parent / "windows.txt"
    windows.write_bytes(b"0\r\n 2.png  \r\n\r\n")
    assert values(opened(root, val_split=windows).val) == [0, 20]
