"""Files that were cut off, changed, forged, or made by something else: seen, said, never used."""

import io
import pickle
import random
import shutil
import zipfile

import numpy as np
import pytest
import torch

from custom_model import create_custom_model
from fewstep.engine.checkpoints import (
    VERSION,
    checkpoint_path,
    list_checkpoints,
    load_newest,
    save_checkpoint,
)
from fewstep.engine.fit import first_misfit, first_not_finite
from fewstep.images.cache import cached_images
from fewstep.runs.weights import same_weights
from fewstep.scores.feature_cache import cached_features
from fewstep.scores.random_features import random_feature_space
from src.model_config import LATER, MODEL_DEFAULTS
from src.utils import UserError, load_model, read_json, torch_load, torch_save, write_json
from tests.faults.comparing import assert_same_results
from tests.faults.jobs import finish

TRUNCATIONS, FLIPS = 50, 200


def content(step):
    weights = {"model": {"w": torch.full((300,), float(step))}, "note": "a"}
    return {"identity": {}, "seconds": 0.0, "window": {}, "phase": weights}


def two_checkpoints(folder):
    for step in (5, 10):
        save_checkpoint(folder, step, content(step), keep=2)
    return checkpoint_path(folder, 10)


def assert_previous_is_used(folder, path, capsys):
    found = load_newest(folder)
    assert found["step"] == 5 and found["phase"]["model"]["w"].eq(5).all()
    said = capsys.readouterr().out
    assert said.startswith("skipping a checkpoint: ") and str(path) in said
    path.with_suffix(".damaged").unlink()


def test_every_truncation_is_seen_and_the_previous_one_used(tmp_path, capsys):
    path = two_checkpoints(tmp_path)
    whole, chance = path.read_bytes(), random.Random(1)
    # Lengths at random, and those that end within the last record and the checksum.
    lengths = [chance.randrange(len(whole)) for _ in range(TRUNCATIONS)]
    for length in [*lengths, 0, 1, *(len(whole) - cut for cut in (1, 10, 64, 71, 73, 93, 94))]:
        path.write_bytes(whole[:length])
        assert_previous_is_used(tmp_path, path, capsys)


def test_every_flipped_bit_is_seen_and_the_previous_one_used(tmp_path, capsys):
    path = two_checkpoints(tmp_path)
    whole, chance = path.read_bytes(), random.Random(2)
    bits = [chance.randrange(8 * len(whole)) for _ in range(FLIPS)]
    bits += [8 * len(whole) - 1 - back for back in range(0, 8 * 100, 3)]  # the checksum itself
    for bit in bits:
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        assert_previous_is_used(tmp_path, path, capsys)


def test_bytes_added_or_swapped_are_seen(tmp_path, capsys):
    path = two_checkpoints(tmp_path)
    whole = path.read_bytes()
    other = checkpoint_path(tmp_path, 5).read_bytes()
    half = len(whole) // 2
    for changed in (whole + b"\0", whole[:half] + other[half:], b"\0" * len(whole)):
        path.write_bytes(changed)
        assert_previous_is_used(tmp_path, path, capsys)


def test_a_whole_file_is_loaded_by_torch_itself(tmp_path):
    torch_save({"state_dict": {"w": torch.arange(5)}}, tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=True)["state_dict"]["w"].tolist() == [
        *range(5)
    ]
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert archive.comment.startswith(b"sha256:")


def test_a_file_of_another_program_is_loaded_and_its_records_are_checked(tmp_path):
    path = tmp_path / "a.pt"
    torch.save({"w": torch.arange(1000)}, path)
    assert torch_load(path)["w"].sum() == 499500
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(UserError, match="damaged"):
        torch_load(path)


def test_what_could_not_be_loaded_again_is_not_saved(tmp_path):
    for value in (np.float32(1), tmp_path, {1, 2}, [{"a": np.zeros(1)}]):
        with pytest.raises(TypeError, match="plain values"):
            torch_save({"value": value}, tmp_path / "a.pt")
    assert list(tmp_path.iterdir()) == []


class Evil:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def as_pickle(evil):
    return pickle.dumps(evil)


def as_torch(evil):
    stream = io.BytesIO()
    torch.save({"state_dict": evil, "step": 5}, stream)
    return stream.getvalue()


def as_legacy_torch(evil):
    stream = io.BytesIO()
    torch.save({"state_dict": evil}, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def as_numpy(evil):
    stream = io.BytesIO()
    np.save(stream, np.array([evil], dtype=object), allow_pickle=True)
    return stream.getvalue()


def as_numpy_archive(evil):
    stream = io.BytesIO()
    np.savez(stream, features=np.array([evil], dtype=object))
    return stream.getvalue()


FORMS = [as_pickle, as_torch, as_legacy_torch, as_numpy, as_numpy_archive]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_no_file_that_is_loaded_can_run_code(tmp_path, form):
    mark = tmp_path / "mark"
    evil = form(Evil(mark))
    config = tmp_path / "model_config.json"
    write_json(config, MODEL_DEFAULTS | {"network": "tiny"})

    # Weights: best_model.pt, final_model.pt, teacher/model.pt are all loaded so.
    weights = tmp_path / "best_model.pt"
    weights.write_bytes(evil)
    with pytest.raises(UserError, match="best_model.pt"):
        load_model(weights, create_custom_model)
    assert not same_weights(weights, torch.nn.Linear(1, 1))

    checkpoint_path(tmp_path, 5).write_bytes(evil)
    with pytest.raises(UserError, match="no checkpoint there is readable"):
        load_newest(tmp_path)

    config.write_bytes(evil)
    with pytest.raises(UserError, match="model_config.json"):
        read_json(config)

    # Caches: what is in them is made anew.
    pixels = np.zeros((2, 64, 64, 3), np.uint8)
    made = cached_images(tmp_path / "images", "d" * 64, 2, lambda: pixels)
    made.path.write_bytes(evil)
    again = cached_images(tmp_path / "images", "d" * 64, 2, lambda: pixels + 7)
    assert again.images[0, 0, 0, 0] == 7
    space, embed = random_feature_space(), lambda: np.ones((2, 3))
    cached_features(tmp_path / "features", space, "c", "cpu", embed)
    (path,) = (tmp_path / "features").iterdir()
    path.write_bytes(evil)
    assert cached_features(tmp_path / "features", space, "c", "cpu", embed).sum() == 6
    assert not mark.exists()


def test_the_forgeries_would_work(tmp_path):
    """Else the test above would show nothing."""
    for place, form in enumerate(FORMS):
        mark = tmp_path / f"mark{place}"
        stream = io.BytesIO(form(Evil(mark)))
        if form is as_pickle:
            pickle.load(stream)
        elif form in (as_numpy, as_numpy_archive):
            loaded = np.load(stream, allow_pickle=True)
            loaded["features"] if form is as_numpy_archive else loaded
        else:
            torch.load(stream, weights_only=False)
        assert mark.exists(), form.__name__


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"ch": 1e9}, "'ch'"),
        ({"channels": 1_000_000_000}, "'channels'"),
        ({"networks": "tiny"}, "did you mean 'network'"),
        ({"network": "huge"}, "network 'huge'"),
        ({"network": {"ch": 1e9}}, "network"),
        ({"network": None}, "network None"),
        ({"sigma_data": None}, "sigma_data None"),
        ({"sigma_data": "0.5"}, "sigma_data '0.5'"),
        ({"sigma_data": -1}, "sigma_data -1"),
        ({"sigma_data": float("nan")}, "sigma_data nan"),
        ({"sigma_data": float("inf")}, "sigma_data inf"),
        ({"sigma_data": True}, "sigma_data True"),
        ({"sigma_max": 1e300}, "sigma_max"),
        ({"sigma_min": 100.0, "sigma_max": 1.0}, "sigma_min 100.0"),
        ({"rho": 0}, "rho 0"),
        ({"num_train_timesteps": 10**15}, "num_train_timesteps"),
        ({"num_train_timesteps": 1.5}, "num_train_timesteps 1.5"),
        ({"use_additional_condition": "yes"}, "use_additional_condition 'yes'"),
        ({"sampler": "magic"}, "sampler 'magic'"),
        ({"sampler": []}, "sampler"),
        ({"model_type": "vae"}, "model_type 'vae'"),
        ({"scheduler_type": 7}, "scheduler_type 7"),
        ({"few_step_sigmas": []}, "few_step_sigmas"),
        ({"few_step_sigmas": {}}, "few_step_sigmas"),
        ({"few_step_sigmas": {"1": 80.0}}, "few_step_sigmas"),
        ({"few_step_sigmas": {"1": []}}, "few_step_sigmas"),
        ({"few_step_sigmas": {"2": [1.0, 2.0]}}, "few_step_sigmas"),
        ({"few_step_sigmas": {"1": [float("inf")]}}, "few_step_sigmas"),
        ({"few_step_sigmas": {"1": ["80"]}}, "few_step_sigmas"),
        ({"few_step_sigmas": {"-1": [80.0]}}, "few_step_sigmas"),
        ({"few_step_sigmas": {"one": [80.0]}}, "few_step_sigmas"),
        ({"few_step_sigmas": {"1000000000": [80.0]}}, "few_step_sigmas"),
        ({"norm_groups": 12}, "norm_groups 12"),
        ({"norm_groups": []}, "norm_groups"),
        *(({key: ...}, repr(key)) for key in MODEL_DEFAULTS if key not in ("model_type", *LATER)),
    ],
)
def test_a_model_config_that_cannot_be_is_one_error_that_names_the_key(tmp_path, change, named):
    """`...` stands for a key that is left out."""
    network = create_custom_model(network="tiny").state_dict()
    torch_save({"state_dict": network}, tmp_path / "a.pt")
    config = MODEL_DEFAULTS | {"network": "tiny"} | change
    config = {key: value for key, value in config.items() if value is not ...}
    write_json(tmp_path / "model_config.json", config)
    with pytest.raises(UserError) as caught:
        load_model(tmp_path / "a.pt", create_custom_model)
    text = str(caught.value)
    assert "model_config.json" in text and named in text and "\n" not in text


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": 1', "[" * 100000, "\x00", "{1: 2}"])
def test_a_model_config_that_is_no_json_object_is_one_error(tmp_path, text):
    path = tmp_path / "model_config.json"
    path.write_text(text)
    with pytest.raises(UserError, match="model_config.json") as caught:
        read_json(path)
    assert "\n" not in str(caught.value)


def changed_checkpoint(folder, phase, change):
    """Rewrite the newest checkpoint of a phase with `change(content)`."""
    newest = checkpoint_path(folder / "run" / phase, max(list_checkpoints(folder / "run" / phase)))
    stored = torch_load(newest)
    change(stored)
    torch_save(stored, newest)
    return newest


def other_shape(stored):
    weights = stored["phase"]["teacher"]
    key = next(iter(weights))
    weights[key] = weights[key][:1]


def other_moments(stored):
    moments = stored["phase"]["teacher_optimizer"]["state"][0]
    moments["exp_avg"] = moments["exp_avg"][:1]


def fewer_parameters(stored):
    stored["phase"]["teacher_optimizer"]["param_groups"][0]["params"].pop()


def no_average(stored):
    del stored["phase"]["teacher_average"]


def other_names(stored):
    weights = stored["phase"]["teacher_average"]
    weights["elsewhere"] = weights.pop(next(iter(weights)))


def newer_version(stored):
    stored["version"] = VERSION + 1


def earlier_version(stored):
    stored["version"] = VERSION - 1


def other_network(stored):
    stored["identity"]["network"] = "full"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_shape, "does not fit these settings"),
        (other_moments, "exp_avg of parameter 0"),
        (fewer_parameters, "parameters, not"),
        (no_average, "does not fit these settings"),
        (other_names, "on one side only"),
        (newer_version, "newer version of this program"),
        (earlier_version, "earlier version of this program"),
        (other_network, "network = full, not tiny"),
    ],
)
def test_a_checkpoint_of_something_else_is_one_error_and_stays(whole, tmp_path, change, reason):
    shutil.copytree(whole, tmp_path / "copy")
    path = changed_checkpoint(tmp_path / "copy", "teacher", change)
    before = path.read_bytes()
    code, text = finish(tmp_path / "copy")
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and reason in lines[0] and "Traceback" not in text
    assert "--save_dir" in lines[0] and path.read_bytes() == before


def test_a_damaged_newest_checkpoint_costs_its_steps_and_nothing_else(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "copy")
    newest = tmp_path / "copy" / "run" / "student" / "checkpoint_iter_6.pt"
    newest.write_bytes(newest.read_bytes()[:-1000])
    code, text = finish(tmp_path / "copy")
    assert code == 0 and "skipping a checkpoint" in text
    assert "going on with the student at step 4" in text
    newest.with_suffix(".damaged").unlink()
    assert_same_results(tmp_path / "copy", whole)


def test_the_best_checkpoint_outlives_the_newest_ones(tmp_path):
    for step in range(1, 7):
        save_checkpoint(tmp_path, step, content(step), keep=2, best=min(step, 2))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"checkpoint_iter_{step}.pt" for step in (2, 5, 6)
    ]


def test_what_fits_fits_and_numbers_that_are_lost_are_found():
    network = torch.nn.Linear(2, 3)
    adam = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    adam.step()
    kept = {"network": network, "adam": adam}
    state = {name: part.state_dict() for name, part in kept.items()}
    assert first_misfit(kept, state) is None and first_not_finite(state) is None
    state["adam"]["state"][1]["exp_avg_sq"][2] = float("inf")
    assert first_not_finite(state) == "adam.state.1.exp_avg_sq"
