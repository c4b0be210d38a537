"""The records of a finished run, made up: nothing is trained."""

import json

import numpy as np

from custom_model import MODEL_DEFAULTS, create_custom_model
from fewstep.methods.adversarial_settings import student_sigmas
from fewstep.methods.student_inputs import nfe_table
from fewstep.runs.command_line import make_settings
from fewstep.runs.presets import PRESETS
from fewstep.scores.inception import FID_SHA256
from fewstep.studies.evaluate.subjects import fingerprint
from src.sheets import picture_sheet
from src.utils import read_json, save_model, save_picture, write_json

SPACE = {"name": "random-conv-v1", "sha256": "ab" * 32, "is_fid": False}
INCEPTION = {"name": "Inception", "sha256": FID_SHA256, "is_fid": True}


def settings_of(**flags):
    return make_settings({**PRESETS["tiny"], "data": "synthetic", **flags})


def config_of(settings):
    levels = nfe_table(student_sigmas(settings.student))
    network = settings.network.network
    own = dict(network=network, sigma_data=0.57, sampler="few_step", few_step_sigmas=levels)
    own["preconditioning"] = settings.teacher.preconditioning
    return MODEL_DEFAULTS | own


def random_sheet(path, count, columns):
    pixels = np.random.RandomState(0).randint(0, 255, (count, 64, 64, 3)).astype(np.uint8)
    save_picture(picture_sheet(pixels, columns, scale=1), path)


def scores_of(spaces, sd=0.5):
    rows = []
    for model, nfe in [("real", None), ("teacher", 15), ("student", 1), ("student", 2)] + [
        ("student", 4)
    ]:
        value = {"mean": 35.716, "sd": sd}
        small = {"mean": 0.0312, "sd": sd and 0.001}
        of_space = {"frechet": value, "kid": small, "coverage": small}
        rows.append(
            {
                "images": model if nfe is None else f"{model}, NFE {nfe}",
                "model": model,
                "nfe": nfe,
                "count": 1000,
                "images_per_second": None if nfe is None else 81.25,
                "scores": {space["name"]: of_space for space in spaces}
                | {"pixels": {"auc": {"mean": 0.876, "sd": None}}},
            }
        )
    return {
        "reference": "images in /home/me/faces: 64 images for training, 64 for validation",
        "reference_count": 64,
        "training_count": 1154,
        "num_samples": 1000,
        "seeds": [0, 1, 2] if sd else [7],
        "date": "2026-11-23",
        "hardware": "Some CPU, 2 threads",
        "spaces": spaces,
        "rows": rows,
    }


def make_run(folder, spaces=(SPACE,), **flags):
    """A finished run's records, without its training."""
    settings = settings_of(**flags)
    facts = {
        "settings": settings.as_dict(),
        "preset": "tiny",
        "torch": "2.6.0",
        "device": "Quick Processor, 2 threads",
        "teacher_seconds": 3725.0,
        "student_seconds": 61.0,
        "finished": True,
    }
    write_json(folder / "training_config.json", facts)
    rows = []
    for step in range(50, 1401, 50):
        loss = {"loss": 20 / step, "heldout_loss": 21 / step}
        rows.append({"phase": "teacher", "step": step, "images_per_second": 1.0, **loss})
    for step in range(50, 601, 50):
        row = {"phase": "student", "step": step, "images_per_second": 1.0}
        row |= {"distill_loss": 0.01, "disc_loss": 2 - step / 1000, "logits_real": 0.1}
        rows.append(row | {"logits_fake": -0.1, "logits_heldout": None})
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for step in (100, 200, 500, 1400):
        random_sheet(folder / "samples" / f"teacher_{step:07d}.png", 8, 8)
    for step in (50, 200, 600):
        random_sheet(folder / "samples" / f"student_{step:07d}.png", 24, 8)
    for nfe in (1, 2, 4):
        random_sheet(folder / "evaluation" / f"student_nfe={nfe}.png", 40, 10)
    write_json(folder / "evaluation" / "scores.json", scores_of(list(spaces)))
    save_scored(folder, config_of(settings))
    return folder


def save_scored(folder, config):
    """Save random weights of this `model_config.json`; the run's scores are then theirs."""
    model, scores = create_custom_model(**config), folder / "evaluation" / "scores.json"
    save_model(model, folder / "final_model.pt", config)
    write_json(scores, read_json(scores) | fingerprint(model, config))
