"""A folder of published weights: one safetensors file, and a model card that knows its SHA-256."""

import json
import re
from pathlib import Path

from custom_model import create_custom_model
from fewstep.handin.rounding import decode, encode
from fewstep.handin.writeup.records import changed_settings
from fewstep.studies.evaluate.tables import markdown, without_folders
from src.errors import package_for
from src.model_config import ODE_SAMPLERS
from src.utils import UserError, file_digest, naming, reason_of, whole_file

WEIGHTS, CARD = "model.safetensors", "README.md"
HASH = re.compile(r"^SHA-256 of model\.safetensors: `([0-9a-f]{64})`$", re.MULTILINE)
PURPOSE = "a file of published weights"
FETCH = "fetch the folder again"
# Of a file with other content.
NOT_OURS = (RuntimeError, TypeError, KeyError, ValueError, AttributeError)


def is_teacher(config):
    """Whether a `model_config.json` is of a denoiser that is sampled in many steps."""
    return config.get("sampler") in ODE_SAMPLERS


def write_published(folder, state, config, dtype, card):
    """Write a finite state dict and its model card `card` to `folder`."""
    metadata = {"model": json.dumps({"dtype": dtype, "model_config": config})}
    content = package_for(PURPOSE, "safetensors.torch").save(encode(state, dtype), metadata)
    with whole_file(Path(folder) / WEIGHTS) as temporary:
        temporary.write_bytes(content)
    digest = file_digest(Path(folder) / WEIGHTS).hex()
    with whole_file(Path(folder) / CARD) as temporary:
        text = f"{card}\nSHA-256 of {WEIGHTS}: `{digest}`\n"
        temporary.write_text(text, encoding="utf-8")


def read_published(folder):
    """(model in evaluation mode on the CPU, its model_config) of a folder, its checksum verified.

    Raises `UserError` for what is missing, damaged, or does not fit the network. No code in the
    file is run: the format holds numbers and text alone.
    """
    package = package_for(PURPOSE, "safetensors")
    weights, card = Path(folder) / WEIGHTS, Path(folder) / CARD
    if not weights.exists():
        raise UserError(
            f"{folder}: there are no published weights (no {WEIGHTS}); train a student, or name"
            " another folder"
        )
    if not card.exists():
        raise UserError(f"{card}: missing, and with it the checksum of {WEIGHTS}; {FETCH}")
    with naming(card):
        digests = HASH.findall(card.read_text(encoding="utf-8", errors="replace"))
    if not digests:
        raise UserError(f"{card}: damaged (it has no SHA-256 of {WEIGHTS}); {FETCH}")
    with naming(weights):
        digest = file_digest(weights).hex()
    if digest != digests[-1]:
        raise UserError(f"{weights}: damaged (its checksum is not that of {CARD}); {FETCH}")
    try:
        with package.safe_open(weights, "pt") as file:
            config = json.loads(file.metadata()["model"])["model_config"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        model = create_custom_model(**config)
        model.load_state_dict(decode(tensors))
    except (*NOT_OURS, package.SafetensorError) as error:
        reason = f"not a model of ours, or its tensors do not fit its network ({reason_of(error)})"
        raise UserError(f"{weights}: {reason}") from error
    return model.eval().requires_grad_(False), config


def model_card(config, parameters, record, rounding, scores=None):
    """The text of a model card, without its checksum.

    record: the run's training_config.json, {} where it is not known. rounding: lines on what it
    changed. scores: the content of a scores.json of the model before rounding.
    """
    title, use = "A few-step generator of 64×64 images", ""
    if is_teacher(config):
        title = "A diffusion teacher of 64×64 images"
        use = "\n`python train.py --phase add --teacher_ckpt FILE` distils that."
    phases = {key: value for key, value in record.items() if key.endswith("_seconds")}
    phases.pop("training_seconds", None)  # their sum
    seconds = sum(phases.values())
    groups = record.get("settings", {})
    recipe = " ".join(f"--{key} {value}" for key, value in changed_settings(groups).items())
    if scores:
        scores = markdown(scores | {"reference": without_folders(scores["reference"])})
    return f"""# {title}

{parameters:,} parameters, network `{config.get("network", "full")}`, trained from random weights.
`python -m fewstep publish unpack --input_dir DIR` expands it to an ordinary checkpoint.{use}

- Data: {groups.get("data", {}).get("data", "not recorded")}
- Recipe: preset {record.get("preset", "not recorded")} {recipe}
- Training: {seconds / 3600:.2f} hours on {record.get("device", "a machine that is not recorded")}

## Rounding

{chr(10).join(rounding)}

## Scores before rounding

{scores or "Not recorded."}

## Limits

It knows 64×64 images of its training data alone, may repeat some of them and whatever is one-sided
in them, and is for research, not for decisions about people.
"""
