"""FID: the number that clean-fid itself gives, and clear errors where its weights are not."""

import hashlib
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import measure_fid
from fewstep.scores import inception
from fewstep.scores.feature_cache import cached_features, files_digest
from fewstep.scores.folders import image_files
from fewstep.scores.frechet import feature_distance
from src.suffixes import CLEANFIDS
from src.utils import UserError, read_json
from tests.stand_in import CLEANFIDS_GRID, save_stand_in, trust_stand_in

cleanfid_fid = pytest.importorskip("cleanfid.fid")

SIMPSONS = Path(__file__).parents[2].parent / "shared" / "simpsons"


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """The stand-in lies where both clean-fid and we look by default."""
    from cleanfid import features as cleanfid_features

    path = save_stand_in(tmp_path / inception.WEIGHTS_NAME, grid=CLEANFIDS_GRID)
    # On "Windows" clean-fid looks in the working folder; a real file in /tmp stays untouched.
    windows = SimpleNamespace(system=lambda: "Windows")
    monkeypatch.setattr(cleanfid_features, "platform", windows)
    monkeypatch.setattr(inception, "platform", windows)
    monkeypatch.delenv("FID_WEIGHTS", raising=False)
    monkeypatch.chdir(tmp_path)
    return trust_stand_in(monkeypatch, path, CLEANFIDS_GRID)


def cleanfids(folder_a, folder_b):
    """clean-fid called as graders call it."""
    return cleanfid_fid.compute_fid(
        str(folder_a), str(folder_b),
        device=torch.device("cpu"), num_workers=0, verbose=False, use_dataparallel=False,
    )  # fmt: skip


def ours(folder_a, folder_b, *more):
    arguments = ["--generated_dir", str(folder_a), "--reference_dir", str(folder_b)]
    measure_fid.main([*arguments, "--device", "cpu", "--output_path", "result.json", *more])
    return read_json(Path("result.json"))["fid_score"]


def smooth(random, height, width, channels=3):
    coarse = random.randint(0, 256, (6, 6, channels)).astype(np.uint8).squeeze()
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_mixed(folder):
    """Odd sizes, grey, grey with alpha, colour with alpha, a palette, JPEG, a subfolder."""
    random = np.random.RandomState(1)
    (folder / "more").mkdir(parents=True)
    sizes = [(64, 64), (37, 91), (200, 13), (299, 299), (1, 1), (64, 65)] * 3
    for i, (height, width) in enumerate(sizes):
        smooth(random, height, width).save(folder / f"{i:04d}.png")
    for i in range(6):
        smooth(random, 64, 50, 1).save(folder / f"grey_{i}.png")
        alpha = smooth(random, 48, 64, 4)
        assert alpha.mode == "RGBA"
        alpha.save(folder / f"alpha_{i}.png")
        alpha.convert("LA").save(folder / "more" / f"grey_alpha_{i}.png")
        smooth(random, 64, 64).quantize(9).save(folder / f"palette_{i}.png")
        smooth(random, 64, 64).save(folder / "more" / f"photograph_{i}.JPEG")
    (folder / "not_a_picture.txt").write_text("left out by both")
    return folder


def write_real(folder, first, last, side=None):
    """Real images where there are any, else smooth pictures that stand for them."""
    folder.mkdir()
    names = SIMPSONS / "val_split.txt"
    if names.is_file():
        for name in names.read_text().split()[first:last]:
            with Image.open(SIMPSONS / "cropped" / f"{name}.png") as image:
                (image.resize((side, side)) if side else image).save(folder / f"{name}.png")
    else:
        random = np.random.RandomState(first)
        for i in range(first, last):
            smooth(random, side or 200, side or 200).save(folder / f"{i}.png")
    return folder


def test_equals_cleanfid_on_real_images_odd_sizes_grey_and_alpha(weights, tmp_path):
    real = write_real(tmp_path / "real", 0, 30, side=64)
    mixed = write_mixed(tmp_path / "mixed")
    write_real(mixed / "originals", 50, 60)
    theirs = cleanfids(mixed, real)
    assert theirs > 1
    assert ours(mixed, real) == pytest.approx(theirs, rel=1e-6)


def test_the_same_files_count(tmp_path, capsys):
    from cleanfid.utils import EXTENSIONS

    assert {suffix[1:] for suffix in CLEANFIDS} == EXTENSIONS - {"npy"}
    mixed = write_mixed(tmp_path / "mixed")
    Image.new("RGB", (8, 8)).save(tmp_path / "mixed" / ".hidden.png")
    (tmp_path / "mixed" / "upper.PNG").write_bytes((mixed / "0000.png").read_bytes())
    (tmp_path / "mixed" / "Mixed.Png").write_bytes((mixed / "0000.png").read_bytes())
    write_real(tmp_path / "elsewhere", 0, 5, 64)
    (mixed / "linked").symlink_to(tmp_path / "elsewhere")
    features = cleanfid_fid.get_folder_features(
        str(mixed), lambda x: x[:, :, 0, 0], num_workers=0, device=torch.device("cpu"),
        verbose=False,
    )  # fmt: skip
    assert len(features) == len(image_files(mixed, "--generated_dir", like_cleanfid=True))
    said = capsys.readouterr().out
    assert f"1 of {len(features) + 1} images do not count for FID" in said and said.endswith(
        " .webp alone: Mixed.Png\n"
    )
    assert len(image_files(mixed, "--generated_dir")) == len(features) + 1


def test_features_equal_cleanfids_and_do_not_need_files(weights, tmp_path):
    from cleanfid.features import build_feature_extractor

    folder = write_real(tmp_path / "real", 0, 9, side=64)
    files = image_files(folder, "--generated_dir")
    space = inception.InceptionSpace()
    from_files = space.embed_files(files, batch_size=4)
    extractor = build_feature_extractor("clean", torch.device("cpu"), use_dataparallel=False)
    theirs = cleanfid_fid.get_files_features(
        [str(file) for file in files], extractor, 0, device=torch.device("cpu"), verbose=False
    )
    np.testing.assert_allclose(from_files, theirs, rtol=1e-5, atol=1e-6)
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    np.testing.assert_array_equal(space.embed(pixels, batch_size=4), from_files)
    assert space.digest == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_a_scipy_without_what_cleanfid_calls(weights, tmp_path, monkeypatch):
    """Newer SciPy has no `disp` in its matrix root, and clean-fid fails with it; we do not."""
    import scipy.linalg

    a, b = write_real(tmp_path / "a", 0, 3, 64), write_real(tmp_path / "b", 3, 6, 64)
    root = scipy.linalg.sqrtm
    monkeypatch.setattr(scipy.linalg, "sqrtm", lambda matrix: root(matrix))
    with pytest.raises(TypeError):
        cleanfids(a, b)
    assert ours(a, b) > 0


def test_the_reference_is_embedded_once(weights, tmp_path, monkeypatch):
    reference = write_real(tmp_path / "reference", 0, 8, side=64)
    embedded = []
    embed = inception.InceptionSpace.embed_files

    def counted(self, files, *more):
        embedded.append(files[0].parent.name)
        return embed(self, files, *more)

    monkeypatch.setattr(inception.InceptionSpace, "embed_files", counted)

    def features(folder):
        files, space = image_files(folder, "--reference_dir"), inception.InceptionSpace()
        content = files_digest(files)
        embed = partial(space.embed_files, files)
        return cached_features(tmp_path / "kept", space, content, "cpu", embed)

    first = features(reference)
    reference.rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(features(tmp_path / "elsewhere"), first)
    assert embedded == ["reference"]
    # other weights are another space, and another content is another reference
    save_stand_in(weights, seed=1, grid=CLEANFIDS_GRID)
    assert not np.array_equal(features(tmp_path / "elsewhere"), first)
    Image.new("RGB", (64, 64)).save(next((tmp_path / "elsewhere").iterdir()))
    features(tmp_path / "elsewhere")
    assert embedded == ["reference", "elsewhere", "elsewhere"]


def test_weights_are_found_by_flag_environment_or_habit(weights, tmp_path, monkeypatch):
    assert inception.weights_path() == Path(inception.WEIGHTS_NAME)
    monkeypatch.setenv("FID_WEIGHTS", "named.pt")
    assert inception.weights_path() == Path("named.pt")
    assert inception.weights_path("given.pt") == Path("given.pt")
    monkeypatch.delenv("FID_WEIGHTS")
    monkeypatch.setattr(inception, "platform", SimpleNamespace(system=lambda: "Linux"))
    assert inception.weights_path() == Path("/tmp") / inception.WEIGHTS_NAME


def test_absent_weights_name_the_ways_out_and_download_nothing(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("no download may be tried")

    monkeypatch.setattr("torch.hub.urlopen", refuse)
    with pytest.raises(UserError) as caught:
        inception.InceptionSpace(tmp_path / "absent.pt")
    message = str(caught.value)
    assert str(tmp_path / "absent.pt") in message and "\n" not in message
    for way in ("--download_weights", "--fid_weights", "--features random"):
        assert way in message


def test_damaged_or_foreign_weights_are_refused(weights, tmp_path):
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="not a whole file of weights: move it away"):
        inception.InceptionSpace()
    torch.save({"weights": 1}, weights)
    with pytest.raises(UserError, match="not clean-fid's Inception"):
        inception.InceptionSpace()
    save_stand_in(weights, grid=3)
    with pytest.raises(UserError, match="gives 288 features an image, not 2048"):
        inception.InceptionSpace()


def test_only_the_network_that_cleanfid_fetches_gives_fid(weights):
    space = inception.InceptionSpace()
    assert space.is_fid and space.name == "Inception"
    save_stand_in(weights, seed=1, grid=CLEANFIDS_GRID)
    foreign = inception.InceptionSpace()
    assert not foreign.is_fid and foreign.digest != space.digest
    assert foreign.digest[:12] in foreign.name and foreign.name != "Inception"


def test_weights_are_fetched_only_when_asked_and_whole(weights, tmp_path, capsys):
    source, target = tmp_path / "server" / "weights.pt", tmp_path / "deep" / "inception.pt"
    source.parent.mkdir()
    source.write_bytes(weights.read_bytes())
    inception.download_weights(target, source.as_uri())
    assert target.read_bytes() == source.read_bytes()
    assert f"downloading Inception's weights from {source.as_uri()}" in capsys.readouterr().out
    inception.download_weights(target, "file:///nowhere")  # there already
    target.unlink()
    save_stand_in(source, seed=1)
    with pytest.raises(UserError, match="not Inception's file"):
        inception.download_weights(target, source.as_uri())
    source.write_bytes(source.read_bytes()[:3000])
    with pytest.raises(UserError, match="not whole"):
        inception.download_weights(target, source.as_uri())
    with pytest.raises(UserError, match="cannot be downloaded"):
        inception.download_weights(target, (tmp_path / "absent").as_uri())
    assert list(target.parent.iterdir()) == []


def test_missing_cleanfid_is_a_user_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "cleanfid", None)
    with pytest.raises(UserError, match="pip install clean-fid"):
        inception.check_weights(Path("anywhere"))


def test_rank_deficient_features_in_doubles_and_singles_agree(weights, tmp_path):
    """clean-fid averages in single precision, we in double: the distance must not show it."""
    random = np.random.RandomState(0)
    a = (5 + random.standard_normal((40, 300))).astype(np.float32)
    b = (5 + random.standard_normal((30, 300)) * 1.1).astype(np.float32)
    assert feature_distance(a, b) == pytest.approx(cleanfid_fid.fid_from_feats(a, b), rel=1e-6)
