"""The sampling command with a real tiny model: counts, seeds, batch sizes, folders, errors."""

import numpy as np
import pytest
import torch
from PIL import Image

import sampling
import src.samplers as samplers
from custom_model import create_custom_model
from src.utils import UserError, image_seeds, save_model

CONFIG = {"network": "tiny", "sampler": "few_step", "few_step_sigmas": {"1": [2.5], "2": [2.5, 1]}}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "best_model.pt"
    torch.manual_seed(0)
    model = create_custom_model(device="cpu", **CONFIG)
    with torch.no_grad():  # a fresh tail is nearly zero; these images should depend on the network
        model.network.tail[2].weight.normal_(0, 0.05)
    save_model(model, path, CONFIG)
    return path


@pytest.fixture(autouse=True)
def small_images(monkeypatch):
    """The network takes any size; 16x16 takes a sixteenth of the time."""
    monkeypatch.setattr(samplers, "IMAGE_SHAPE", (3, 16, 16))


def run(checkpoint, save_dir, *more):
    sampling.main(
        ["--ckpt_path", str(checkpoint), "--save_dir", str(save_dir), "--device", "cpu", *more]
    )


def read(folder):
    files = sorted(folder.iterdir())
    assert [file.name for file in files] == [f"{i:04d}.png" for i in range(len(files))]
    return np.stack([np.asarray(Image.open(file)) for file in files]).astype(int)


def test_one_image_left_over_for_the_last_batch(checkpoint, tmp_path, capsys):
    run(checkpoint, tmp_path, "--num_samples", "5", "--batch_size", "2", "--nfe_list", "1", "2")
    output = capsys.readouterr().out
    assert "nfe=1: 5 images" in output and "nfe=2: 5 images" in output
    for nfe in (1, 2):
        images = read(tmp_path / f"nfe={nfe}")
        assert images.shape == (5, 16, 16, 3)
        assert len(np.unique(images.reshape(5, -1), axis=0)) == 5
        sheet = Image.open(tmp_path / f"sheet_nfe={nfe}.png")
        label, below = np.asarray(sheet)[:16], np.asarray(sheet)[16:]
        assert label.min() < 100, "each row has a label"
        assert np.array_equal(below[2:34:2, 2:34:2], images[0])


def test_equals_the_graders_loop(checkpoint, tmp_path):
    """Seed once, then batch after batch and NFE after NFE from the one stream of noise."""
    run(checkpoint, tmp_path, "--num_samples", "3", "--batch_size", "2", "--nfe_list", "1", "2")
    from src.utils import load_model, seed_everything, tensor_to_pil_image

    seed_everything(42)
    model = load_model(checkpoint, create_custom_model, "cpu").eval()
    for nfe in (1, 2):
        expected = []
        for count in (2, 1):
            with torch.no_grad():
                x = model.sample((count, 3, 16, 16), num_inference_timesteps=nfe, verbose=False)
            images = tensor_to_pil_image(x)
            expected += images if count > 1 else [images]
        assert np.array_equal(read(tmp_path / f"nfe={nfe}"), np.stack(expected))


def test_official_image_size(checkpoint, tmp_path, monkeypatch):
    monkeypatch.undo()
    run(checkpoint, tmp_path, "--num_samples", "1", "--nfe_list", "1")
    assert read(tmp_path / "nfe=1").shape == (1, 64, 64, 3)


def test_seeds(checkpoint, tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        run(checkpoint, tmp_path / name, "--num_samples", "2", "--nfe_list", "1", "--seed", seed)
    a, b, c = (read(tmp_path / name / "nfe=1") for name in "abc")
    assert np.array_equal(a, b) and np.abs(a - c).max() > 10


def test_batch_independent(checkpoint, tmp_path):
    for size in ("1", "3", "5"):
        more = ("--batch_size", size, "--nfe_list", "2", "--batch_independent")
        run(checkpoint, tmp_path / size, "--num_samples", "5", *more)
    one, three, five = (read(tmp_path / size / "nfe=2") for size in ("1", "3", "5"))
    assert np.abs(one - five).max() <= 1 and np.abs(three - five).max() <= 1
    assert len(np.unique(five.reshape(5, -1), axis=0)) == 5
    run(checkpoint, tmp_path / "other", "--num_samples", "5", "--nfe_list", "2",
        "--batch_independent", "--seed", "43")  # fmt: skip
    assert np.abs(read(tmp_path / "other" / "nfe=2") - five).max() > 10


def test_image_seeds_are_distinct_and_do_not_depend_on_the_batch():
    assert image_seeds(5, 0, 6)[4:] == image_seeds(5, 4, 2)
    both = image_seeds(5, 0, 1000) + image_seeds(6, 0, 1000)
    assert len(set(both)) == 2000
    # torch's CPU generator ignores what is above 32 bits
    assert all(0 <= seed < 2**32 for seed in both + image_seeds(-1, 0, 3))


def test_a_shorter_rerun_leaves_no_old_images(checkpoint, tmp_path, capsys):
    run(checkpoint, tmp_path, "--num_samples", "4", "--nfe_list", "1")
    (tmp_path / "nfe=1" / ".0002.77.tmp.png").write_bytes(b"half a picture of a killed run")
    (tmp_path / "nfe=1" / "notes.txt").write_text("mine")
    run(checkpoint, tmp_path, "--num_samples", "2", "--nfe_list", "1")
    assert "removed 5 images of an earlier run" in capsys.readouterr().out
    assert sorted(file.name for file in (tmp_path / "nfe=1").iterdir()) == [
        "0000.png", "0001.png", "notes.txt"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["face.png", "face.jpg", "more/0000.png"])
def test_foreign_images_are_refused_and_kept(checkpoint, tmp_path, name):
    foreign = tmp_path / "nfe=2" / name
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"theirs")
    with pytest.raises(UserError, match=name):
        run(checkpoint, tmp_path, "--num_samples", "2", "--nfe_list", "1", "2")
    assert foreign.exists() and not (tmp_path / "nfe=1").exists()


def test_a_killed_write_leaves_no_half_picture(tmp_path):
    class Killed:
        def save(self, path):
            path.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sampling.save_picture(Killed(), tmp_path / "0000.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "flags",
    [
        ("--num_samples", "0"),
        ("--batch_size", "-1"),
        ("--nfe_list", "1", "0"),
        ("--config_path", "absent.json"),
        ("--device", "toaster"),
        ("--seed", str(2**70)),
        ("--ckpt_path", "absent.pt"),
    ],
)
def test_mistakes_are_named_before_any_work(checkpoint, tmp_path, flags):
    with pytest.raises(UserError, match=flags[0]):
        run(checkpoint, tmp_path / "out", *flags)
    assert not (tmp_path / "out").exists()


def test_a_runs_folder_is_its_student_and_another_folder_is_refused(checkpoint, tmp_path):
    assert sampling.parse_arguments(["--ckpt_path", str(checkpoint.parent)]).ckpt_path == str(
        checkpoint
    )
    with pytest.raises(UserError, match=f"--ckpt_path {tmp_path}: has no final_model.pt"):
        run(tmp_path, tmp_path / "out")


def test_levels_that_no_training_used_are_told(checkpoint, tmp_path, capsys):
    flags = ("--num_samples", "1", "--nfe_list", "1")
    run(checkpoint, tmp_path, *flags)
    assert "note" not in capsys.readouterr().out
    run(checkpoint, tmp_path, *flags, "3")
    told = "note: NFE 3 was not trained; its noise levels are interpolated (trained: NFE 1, 2)\n"
    assert capsys.readouterr().out.count(told) == 1


def test_images_that_are_not_finite_are_refused(tmp_path):
    class Broken:
        def sample(self, shape, num_inference_timesteps, verbose):
            return torch.full(shape, float("nan"))

    with pytest.raises(UserError, match="not finite"):
        sampling.sample_to_folder(Broken(), 1, tmp_path, num_samples=2, batch_size=2)
    assert list((tmp_path / "nfe=1").iterdir()) == []


def test_official_defaults(checkpoint, monkeypatch):
    args = sampling.parse_arguments(["--ckpt_path", str(checkpoint)])
    assert (args.config_path, args.save_dir, args.batch_size) == (None, "./samples", 32)
    assert (args.num_samples, args.nfe_list, args.seed) == (1000, [1, 2, 4], 42)
    assert (args.device, args.batch_independent) == ("cuda", False)
    monkeypatch.chdir(checkpoint.parent)
    with pytest.raises(UserError, match="checkpoints/best_model.pt"):
        sampling.parse_arguments([])
