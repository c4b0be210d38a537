"""The helpers every command shares: pictures, whole files, saving and loading, one-line errors."""

import json
import os
import pickle
import random
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from src import utils
from src.utils import UserError


def make_linear(device="cpu", width=3, **others):
    if others:
        raise TypeError(f"unknown keys {sorted(others)}")
    return nn.Linear(width, 2).to(device)


@pytest.fixture
def saved(tmp_path):
    model = make_linear(width=5)
    utils.save_model(model, tmp_path / "model.pt", {"width": 5})
    return model, tmp_path / "model.pt"


def test_several_images_give_a_list_and_one_gives_a_bare_image():
    images = utils.tensor_to_pil_image(torch.zeros(3, 3, 4, 6))
    assert [type(image) for image in images] == [Image.Image] * 3
    assert images[0].size == (6, 4)
    assert isinstance(utils.tensor_to_pil_image(torch.zeros(1, 3, 4, 6)), Image.Image)
    assert isinstance(utils.tensor_to_pil_image(torch.zeros(3, 4, 6)), Image.Image)


def test_pixels_are_rounded_clamped_and_ordered():
    level = torch.tensor([-1.0, 1.0, -3.0, 3.0, 0.0, 2 * 100.4 / 255 - 1, 2 * 100.6 / 255 - 1])
    pixels = utils.to_uint8(level.expand(3, 1, 7))[0, :, 0]
    assert pixels.tolist() == [0, 255, 0, 255, 128, 100, 101]
    red = torch.stack([torch.ones(2, 2), -torch.ones(2, 2), -torch.ones(2, 2)])
    assert utils.tensor_to_pil_image(red).getpixel((0, 0)) == (255, 0, 0)


def test_every_8_bit_value_survives_the_round_trip():
    values = torch.arange(256, dtype=torch.uint8)
    x = (values / 255 * 2 - 1).expand(3, 1, 256)
    assert torch.equal(utils.to_uint8(x)[0, :, 1], values)
    assert torch.equal(utils.to_uint8(x.half())[0, :, 1], values)


def test_whole_file_appears_only_on_success(tmp_path):
    path = tmp_path / "folder" / "file.txt"
    with utils.whole_file(path) as temporary:
        temporary.write_text("first")
        assert not path.exists() and temporary.suffix == ".txt"
    assert path.read_text() == "first"
    with pytest.raises(RuntimeError), utils.whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "first"
    assert os.listdir(path.parent) == ["file.txt"]


def test_whole_file_has_the_usual_mode(tmp_path):
    (tmp_path / "usual").write_text("")
    utils.write_json(tmp_path / "ours.json", {})
    assert (tmp_path / "ours.json").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_save_and_load(saved):
    model, path = saved
    loaded = utils.load_model(path, make_linear)
    assert loaded is not model and torch.equal(loaded.weight, model.weight)
    assert torch.load(path, weights_only=True).keys() == {"state_dict"}
    assert json.loads((path.parent / "model_config.json").read_text()) == {"width": 5}


def test_config_may_lie_elsewhere(tmp_path):
    config = tmp_path / "elsewhere" / "config.json"
    utils.save_model(make_linear(width=4), tmp_path / "model.pt", {"width": 4}, config)
    assert not (tmp_path / "model_config.json").exists()
    assert utils.load_model(tmp_path / "model.pt", make_linear, "cpu", config).in_features == 4


def test_loading_is_strict(saved):
    _, path = saved
    utils.write_json(path.with_name("model_config.json"), {"width": 6})
    with pytest.raises(UserError, match="do not fit"):
        utils.load_model(path, make_linear)
    state = {"state_dict": {"weight": torch.zeros(2, 5)}}  # the bias is missing
    utils.torch_save(state, path)
    utils.write_json(path.with_name("model_config.json"), {"width": 5})
    with pytest.raises(UserError, match="do not fit"):
        utils.load_model(path, make_linear)


def test_unknown_config_key_is_a_user_error(saved):
    _, path = saved
    utils.write_json(path.with_name("model_config.json"), {"width": 5, "colour": 1})
    with pytest.raises(UserError, match="colour"):
        utils.load_model(path, make_linear)


def test_every_flipped_bit_of_the_weights_is_found(saved):
    _, path = saved
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        weights = next(i for i in archive.infolist() if i.filename.endswith("data/0"))
    # the record's bytes follow its local header (30 bytes, the name, the extra field)
    header = whole[weights.header_offset : weights.header_offset + 30]
    skip = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = weights.header_offset + 30 + skip
    for bit in range(0, 8 * weights.file_size, 7):
        damaged = bytearray(whole)
        damaged[start + bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            utils.torch_load(path)
    path.write_bytes(whole)
    utils.torch_load(path)


def test_truncated_and_foreign_files_are_user_errors(saved):
    _, path = saved
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="model.pt"):
            utils.load_model(path, make_linear)
    with pytest.raises(UserError, match="no such file"):
        utils.load_model(path.with_name("absent.pt"), make_linear)
    utils.torch_save({"weights": [torch.zeros(1)]}, path)
    with pytest.raises(UserError, match="state_dict"):
        utils.load_model(path, make_linear)


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_code_in_a_checkpoint_does_not_run(tmp_path):
    torch.save({"state_dict": Attack(tmp_path / "was_run")}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Attack(tmp_path / "was_run")))
    for name in ("zip.pt", "plain.pt"):
        with pytest.raises(UserError, match=name):
            utils.torch_load(tmp_path / name)
    assert not (tmp_path / "was_run").exists()
    torch.load(tmp_path / "zip.pt", weights_only=False)  # the attack itself works
    assert (tmp_path / "was_run").exists()


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_bad_config_is_a_user_error(saved, content):
    _, path = saved
    config = path.with_name("model_config.json")
    config.unlink()
    if content is not None:
        config.write_text(content)
    with pytest.raises(UserError, match="model_config.json"):
        utils.load_model(path, make_linear)


def test_json_round_trip_keeps_letters(tmp_path):
    utils.write_json(tmp_path / "a.json", {"Fréchet": [1, 2.5, None]})
    assert "Fréchet" in (tmp_path / "a.json").read_text()
    assert utils.read_json(tmp_path / "a.json") == {"Fréchet": [1, 2.5, None]}


def test_seeds_cover_all_generators():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    utils.seed_everything(7)
    first = draw()
    utils.seed_everything(7)
    assert draw() == first
    utils.seed_everything(8)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_devices(capsys):
    assert utils.pick_device("cpu") == torch.device("cpu")
    missing = f"cuda:{torch.cuda.device_count()}"
    assert utils.pick_device(missing) == torch.device("cpu")
    assert missing in capsys.readouterr().out
    with pytest.raises(UserError, match="--device toaster"):
        utils.pick_device("toaster")
    with pytest.raises(UserError, match="--device mps: .*float64.*use --device cpu"):
        utils.pick_device("mps")


def test_user_error_is_one_line_and_exit_code_2(capsys):
    def fail():
        raise UserError("--flag 3: at most 2")

    with pytest.raises(SystemExit) as caught:
        utils.run_command(fail)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: --flag 3: at most 2\n"
    with pytest.raises(SystemExit) as caught:
        utils.run_command(lambda: None)
    assert not caught.value.code


def test_memory_that_runs_out_is_one_line(capsys):
    for work in (lambda: torch.empty(1 << 50), lambda: np.empty(1 << 50)):
        with pytest.raises(SystemExit) as caught:
            utils.run_command(work)
        assert caught.value.code == 2
        assert capsys.readouterr().err == "error: out of memory; give a smaller --batch_size\n"
    with pytest.raises(RuntimeError, match="size"):  # a mistake of ours stays one
        utils.run_command(lambda: torch.zeros(2) + torch.zeros(3))


def test_of_several_processes_the_first_does_the_work(monkeypatch, capsys):
    """torchrun would have all of them write, and delete, the same files."""
    seen = []

    def work():
        seen.append({name: os.environ.get(name) for name in ("RANK", "WORLD_SIZE")})

    def start(rank, **options):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        with pytest.raises(SystemExit) as ended:
            utils.run_command(work, **options)
        assert not ended.value.code

    start("1")
    assert seen == [] and capsys.readouterr().err == (
        "process 1 of 2: process 0 does the work alone\n"
    )
    start("0")  # and what it starts itself is one process too
    assert seen.pop() == {"RANK": None, "WORLD_SIZE": None}
    start("1", in_parallel=True)
    assert seen == [{"RANK": "1", "WORLD_SIZE": "2"}]


def test_time_makes_a_folder_name():
    name = utils.get_current_time()
    assert len(name) == 19 and not set(name) & set(' /\\:*?"<>|')
