"""The measuring command: reference folder, results file, and errors before any work."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import measure_fid
from fewstep.scores import inception
from fewstep.scores.comparison import Comparison
from fewstep.scores.folders import load_like_cleanfid
from fewstep.scores.inception import InceptionSpace
from fewstep.scores.random_features import RandomFeatureSpace, random_feature_space
from src.utils import UserError
from tests.stand_in import save_stand_in, trust_stand_in


def write_pictures(folder, count, seed, size=64):
    folder.mkdir(parents=True)
    random = np.random.RandomState(seed)
    pixels = random.randint(0, 256, (count, size, size, 3)).astype(np.uint8)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i:04d}.png")
    return pixels


@pytest.fixture
def folders(tmp_path):
    generated = write_pictures(tmp_path / "generated", 6, seed=0)
    reference = write_pictures(tmp_path / "reference", 5, seed=1)
    return SimpleNamespace(path=tmp_path, generated=generated, reference=reference)


def run(path, *more, reference="reference"):
    measure_fid.main(
        [
            *("--generated_dir", str(path / "generated")),
            *("--reference_dir", str(path / reference)),
            *("--output_path", str(path / "out" / "result.json")),
            *("--device", "cpu"),
            *("--cache_dir", str(path / "cache")),
            *more,
        ]
    )
    return json.loads((path / "out" / "result.json").read_text())


def fake_data_module(images, seen, fail_at=None):
    class ValidationSet:
        def __len__(self):
            return len(images)

        def __getitem__(self, i):
            if i == fail_at:
                raise KeyboardInterrupt
            return torch.from_numpy(images[i]).permute(2, 0, 1) / 127.5 - 1

    def build(root):
        seen.append(root)
        return SimpleNamespace(val_ds=ValidationSet())

    return SimpleNamespace(SimpsonsDataModule=build)


def test_random_features_are_never_called_fid(folders, capsys):
    result = run(folders.path, "--features", "random")
    space = random_feature_space()
    assert result == {
        "frechet_distance": pytest.approx(
            Comparison([space], folders.reference).distance(folders.generated), rel=1e-4
        ),
        "feature_space": space.name,
        "feature_space_sha256": space.digest,
        "generated_dir": str(folders.path / "generated"),
        "reference_dir": str(folders.path / "reference"),
        "num_generated": 6,
        "num_reference": 5,
    }
    output = capsys.readouterr().out
    assert space.name in output and "not FID" in output


def test_inception_result(folders, tmp_path, monkeypatch):
    weights = trust_stand_in(monkeypatch, save_stand_in(tmp_path / "weights.pt"))
    result = run(folders.path, "--fid_weights", str(weights))
    space = InceptionSpace(weights)
    assert result.pop("fid_score") == pytest.approx(
        Comparison([space], folders.reference).distance(folders.generated), rel=1e-6
    )
    assert result == {
        "feature_space": "Inception",
        "feature_space_sha256": space.digest,
        "generated_dir": str(folders.path / "generated"),
        "reference_dir": str(folders.path / "reference"),
        "num_generated": 6,
        "num_reference": 5,
    }


def test_another_networks_distance_is_not_called_fid(folders, tmp_path, monkeypatch, capsys):
    weights = trust_stand_in(monkeypatch, save_stand_in(tmp_path / "weights.pt"))
    as_fid = run(folders.path, "--fid_weights", str(weights))
    monkeypatch.setattr(inception, "FID_SHA256", "0" * 64)
    capsys.readouterr()
    result = run(folders.path, "--fid_weights", str(weights))
    digest = result["feature_space_sha256"]
    assert digest == as_fid["feature_space_sha256"] and "fid_score" not in result
    assert result["frechet_distance"] == as_fid["fid_score"]
    assert result["feature_space"] == f"weights-{digest[:12]}"
    first, *_, second, _ = capsys.readouterr().out.splitlines()
    assert "not clean-fid's Inception" in first and digest in first
    assert second.startswith(f"Fréchet distance in weights-{digest[:12]} (not FID): ")


def test_reference_is_written_in_order_when_absent(folders, monkeypatch):
    seen = []
    monkeypatch.setitem(sys.modules, "dataset", fake_data_module(folders.reference, seen))
    monkeypatch.setattr(measure_fid, "REFERENCE", str(folders.path / "new" / "val"))
    root = str(folders.path)
    with pytest.raises(UserError, match="--data_root absent: no such folder"):
        run(folders.path, "--data_root", "absent", reference="new/val")
    result = run(folders.path, "--features", "random", "--data_root", root, reference="new/val")
    assert seen == [root] and result["num_reference"] == 5
    written = sorted((folders.path / "new" / "val").iterdir())
    assert [file.name for file in written] == [f"{i:04d}.png" for i in range(5)]
    for file, pixels in zip(written, folders.reference, strict=True):
        assert np.array_equal(np.asarray(Image.open(file)), pixels)
    # there now: the data set is not touched again
    run(folders.path, "--features", "random", reference="new/val")
    assert len(seen) == 1


@pytest.mark.parametrize("given", ["refs_typo", "new/vall"])
def test_a_named_reference_that_is_not_there_is_never_made(folders, monkeypatch, given):
    seen = []
    monkeypatch.setitem(sys.modules, "dataset", fake_data_module(folders.reference, seen))
    monkeypatch.setattr(measure_fid, "REFERENCE", str(folders.path / "new" / "val"))
    with pytest.raises(UserError, match=f"--reference_dir .*{given}: no such folder"):
        run(folders.path, "--features", "random", reference=given)
    assert seen == [] and not (folders.path / given).exists()
    assert not (folders.path / "new").exists()


def test_an_interrupted_reference_does_not_count(folders, monkeypatch):
    fake = fake_data_module(folders.reference, [], fail_at=3)
    monkeypatch.setitem(sys.modules, "dataset", fake)
    with pytest.raises(KeyboardInterrupt):
        measure_fid.write_reference("somewhere", folders.path / "new" / "val")
    assert list((folders.path / "new").iterdir()) == []


def test_the_second_call_does_not_embed_the_reference_again(folders, monkeypatch):
    embedded = []
    embed = RandomFeatureSpace.embed

    def counted(self, images, *more):
        embedded.append(len(images))
        return embed(self, images, *more)

    monkeypatch.setattr(RandomFeatureSpace, "embed", counted)
    first = run(folders.path, "--features", "random")
    again = run(folders.path, "--features", "random")
    assert again == first and sorted(embedded) == [5, 6, 6]


def test_a_damaged_cache_is_made_anew(folders):
    first = run(folders.path, "--features", "random")
    (kept,) = (folders.path / "cache").iterdir()
    content = kept.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (content[: len(content) // 2], flipped, b""):
        kept.write_bytes(damaged)
        assert run(folders.path, "--features", "random") == first
    assert kept.read_bytes() == content


def test_absent_weights_stop_before_the_reference_is_written(folders, monkeypatch, tmp_path):
    monkeypatch.setenv("FID_WEIGHTS", str(tmp_path / "nowhere.pt"))
    monkeypatch.setattr(measure_fid, "REFERENCE", str(folders.path / "new"))
    with pytest.raises(UserError, match="nowhere.pt is not there: --download_weights"):
        run(folders.path, reference="new")
    assert not (folders.path / "new").exists()


def test_mistakes_are_named(folders, tmp_path):
    with pytest.raises(UserError, match="--generated_dir"):
        measure_fid.main(["--generated_dir", str(tmp_path / "absent"), "--features", "random"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        UserError, match="--reference_dir .*empty: no images in it .looked for .png"
    ):
        run(folders.path, "--features", "random", reference="empty")
    with pytest.raises(UserError, match="--batch_size 0"):
        run(folders.path, "--batch_size", "0")
    with pytest.raises(UserError, match="--output_path"):
        run(folders.path, "--features", "random", "--output_path", str(tmp_path))
    write_pictures(tmp_path / "small", 3, seed=0, size=32)
    with pytest.raises(UserError, match="32x32"):
        run(folders.path, "--features", "random", "--generated_dir", str(tmp_path / "small"))


def test_mistakes_with_random_features(folders, tmp_path):
    write_pictures(tmp_path / "tiny", 3, seed=0, size=8)
    with pytest.raises(UserError, match="8x8; sides of 16 pixels"):
        run(folders.path, "--features", "random", "--generated_dir", str(tmp_path / "tiny"))
    with pytest.raises(UserError, match="needs no such weights"):
        run(folders.path, "--features", "random", "--fid_weights", "a.pt")


def test_any_damage_is_one_line_that_names_the_file(folders):
    path = folders.path / "generated" / "0003.png"
    whole, random = path.read_bytes(), np.random.RandomState(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        for place in random.randint(0, 60, 3):
            damaged[place] = random.randint(256)
        path.write_bytes(damaged)
        try:
            load_like_cleanfid(path)
        except UserError as error:
            assert "0003.png: not readable" in str(error)
            refused += 1
    assert refused > 100


def test_unreadable_and_uneven_images_are_named(folders):
    bad = folders.path / "generated" / "0003.png"
    Image.new("RGB", (32, 64)).save(bad)
    with pytest.raises(UserError, match="0003.png: its size differs"):
        run(folders.path, "--features", "random")
    bad.write_bytes(b"\x89PNG half")
    with pytest.raises(UserError, match="0003.png: cannot be used as an image"):
        run(folders.path, "--features", "random")


def test_few_images_are_said(folders, capsys):
    run(folders.path, "--features", "random")
    said = capsys.readouterr().out
    for count, name in ((6, "generated"), (5, "reference")):
        place = folders.path / name
        assert f"only {count} images are in {place}: distances to them mean little" in said


def test_hidden_files_do_not_count_and_subfolders_do(folders):
    (folders.path / "generated" / ".0000.1.tmp.png").write_bytes(b"half a picture")
    write_pictures(folders.path / "generated" / "more", 2, seed=3)
    assert run(folders.path, "--features", "random")["num_generated"] == 8


def test_generated_dir_is_required():
    with pytest.raises(UserError, match="--generated_dir"):
        measure_fid.main([])


def test_every_space_reads_by_the_rules_for_training_images(folders, tmp_path):
    """16-bit grey and transparency came out other than in training, a linked folder not at all."""
    plain, deep = tmp_path / "plain", tmp_path / "deep"
    (plain / "more").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    deep.mkdir()
    (deep / "more").symlink_to(tmp_path / "elsewhere")
    random = np.random.RandomState(4)
    for i in range(6):
        name = f"more/{i}" if i > 2 else str(i)
        grey = random.randint(0, 256, (64, 64)).astype(np.uint8)
        Image.fromarray(grey).convert("RGB").save(plain / f"{name}.png")
        if i % 2:
            Image.fromarray(grey.astype(np.uint16) << 8).save(deep / f"{name}.PNG")
        else:
            Image.fromarray(grey).save(deep / f"{name}.Gif")
    alike = run(folders.path, "--features", "random", "--generated_dir", str(plain))
    result = run(folders.path, "--features", "random", "--generated_dir", str(deep))
    assert result["num_generated"] == 6
    assert result["frechet_distance"] == pytest.approx(alike["frechet_distance"], rel=1e-6)


def test_where_fid_reads_otherwise_it_is_said(folders, tmp_path, monkeypatch, capsys):
    weights = trust_stand_in(monkeypatch, save_stand_in(tmp_path / "weights.pt"))
    generated = folders.path / "generated"
    Image.fromarray(np.full((64, 64), 9000, np.uint16)).save(generated / "deep.png")
    Image.new("RGBA", (64, 64), (9, 9, 9, 0)).save(generated / "clear.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (64, 64)).save(generated / "turned.jpg", exif=turned)
    assert run(folders.path, "--fid_weights", str(weights))["num_generated"] == 9
    said = capsys.readouterr().out
    for text in (
        "1 of 9 images of 16 bits are read with all above 255 as white, as clean-fid does: deep",
        "1 of 9 images are read without their transparency, as clean-fid does: clear.png",
        "1 of 9 images are not turned as their EXIF data say, as clean-fid does: turned.jpg",
    ):
        assert text in said
    assert said.count("as clean-fid does") == 3
