"""Which model is exported, and that it is the run's student wherever that is looked for."""

from types import SimpleNamespace

import pytest
import torch

from custom_model import create_custom_model
from fewstep.runs.results import Results
from fewstep.runs.settings import method_of
from src.model_config import MODEL_DEFAULTS
from src.utils import torch_load
from tests.students import tiny_settings

CONFIG = MODEL_DEFAULTS | {"network": "tiny", "sampler": "few_step"}
BEST = {"step": 1, "value": 12.5}


def model_of(value):
    model = create_custom_model(**CONFIG)
    with torch.no_grad():
        model.network.tail[2].bias.fill_(value)
    return model


def value_of(path):
    return float(torch_load(path)["state_dict"]["network.tail.2.bias"][0])


def trained(folder, choice):
    """Results of two checkpoints, of which the first was the best."""
    settings = tiny_settings(dict(export=choice, export_dir=str(folder / "export")))
    name = method_of(settings).phase.name
    phase = SimpleNamespace(
        learns_levels=False, name=name, ema=model_of(1), config=CONFIG, total=2, best_by=None
    )
    results = Results(settings, folder, phase)
    results.publish()
    results.publish_best()
    phase.ema = model_of(2)
    results.publish()
    return results


@pytest.mark.parametrize(("choice", "value"), [("last", 2), ("best", 1)])
def test_the_export_is_the_runs_student_and_is_called_what_it_is(tmp_path, capsys, choice, value):
    results = trained(tmp_path, choice)
    facts = results.export(BEST)["exported"]
    exported = tmp_path / "export" / "best_model.pt"
    assert value_of(exported) == value_of(tmp_path / "final_model.pt") == value
    assert facts["kind"] == choice and facts["step"] == value
    out = capsys.readouterr().out
    assert f"{exported}: the {choice} student, of step {value}" in out
    assert "by distance to training images (12.5)" in out and ("--export best" in out) == (
        value > 1
    )


def test_the_choice_may_change_in_a_finished_run(tmp_path):
    for choice, value in (("last", 2), ("best", 1), ("last", 2)):
        trained(tmp_path, choice).export(BEST)
        assert value_of(tmp_path / "export" / "best_model.pt") == value


def test_without_a_best_one_the_last_is_exported(tmp_path):
    settings = tiny_settings(dict(export="best", export_dir=str(tmp_path / "export")))
    phase = SimpleNamespace(
        learns_levels=False, name="student", ema=model_of(3), config=CONFIG, total=2, best_by=None
    )
    results = Results(settings, tmp_path, phase)
    results.publish()
    assert results.export(None)["exported"] == {"kind": "last", "step": 2}
    assert value_of(tmp_path / "export" / "best_model.pt") == 3
