"""A folder of published weights, written: one safetensors file, and a model card that knows its
SHA-256. `src/published.py` reads it."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path

from fewstep.handin.recipe import recipe
from fewstep.handin.rounding import encode
from fewstep.runs.flag_values import as_arguments
from fewstep.runs.presets import DEFAULT_PRESET, PRESETS
from fewstep.runs.run_folder import machine_of
from fewstep.runs.settings import PHASES, Network
from fewstep.studies.evaluate.tables import markdown, without_folders
from src.errors import package_for
from src.model_config import ODE_SAMPLERS
from src.published import CARD, PURPOSE, WEIGHTS
from src.utils import file_digest, whole_file

NETWORK = asdict(Network())


def is_teacher(config):
    """Whether a `model_config.json` is of a denoiser that is sampled in many steps."""
    return config.get("sampler") in ODE_SAMPLERS


def distil_command(config, path):
    """The command that distils the teacher of that `model_config.json` at `path`, with the flags of
    its network."""
    values = {key: config[key] for key in NETWORK if key in config}
    name = values.get("network")
    preset = name if name in PRESETS else DEFAULT_PRESET
    usual = NETWORK | {key: PRESETS[preset][key] for key in NETWORK if key in PRESETS[preset]}
    flags = as_arguments({key: value for key, value in values.items() if value != usual[key]})
    words = ["--preset", preset, *flags, "--phase add --teacher_ckpt", shlex.quote(str(path))]
    return f"python train.py {' '.join(words)}"


def write_published(folder, state, kind, about, card):
    """Write a finite state dict and its model card `card` to `folder`.

    kind: `MODEL` or `DISCRIMINATOR` of `src/published.py`. about: {"dtype": ..., what rebuilds it},
    for the file's metadata.
    """
    metadata = {kind: json.dumps(about)}
    content = package_for(PURPOSE, "safetensors.torch").save(
        encode(state, about["dtype"]), metadata
    )
    with whole_file(Path(folder) / WEIGHTS) as temporary:
        temporary.write_bytes(content)
    digest = file_digest(Path(folder) / WEIGHTS).hex()
    with whole_file(Path(folder) / CARD) as temporary:
        text = f"{card}\nSHA-256 of {WEIGHTS}: `{digest}`\n"
        temporary.write_text(text, encoding="utf-8")


def model_card(config, parameters, record, rounding, scores=None):
    """The text of a model card, without its checksum.

    record: the run's training_config.json, or the average.json of a mean; {} where neither is
    known. rounding: lines on what it changed. scores: the content of a scores.json of the model
    before rounding.
    """
    title, use, nfe = "A few-step generator of 64×64 images", "", 1
    if is_teacher(config):
        title, nfe = "A diffusion teacher of 64×64 images", 35
        use = f"\n`{distil_command(config, 'DIR')}` distils it."
    table = "Not recorded."
    if scores:
        table = markdown(scores | {"reference": without_folders(scores["reference"])})
    return f"""# {title}

{parameters:,} parameters, network `{config.get("network", "full")}`, trained from random weights.
`python -m fewstep publish unpack --input_dir DIR` expands it to an ordinary checkpoint.
`import fewstep; fewstep.load(DIR).sample(16, nfe={nfe})` gives pictures as they are.{use}

{origins(record, is_teacher(config), scores)}

## Rounding

{chr(10).join(rounding)}

## Scores before rounding

{table}

## Limits

It knows 64×64 images of its training data alone, may repeat some of them and whatever is one-sided
in them, and is for research, not for decisions about people.
"""


def origins(record, of_teacher, scores):
    """`origin` of a model and its step; of the mean of several, that of each with its share."""
    if "models" not in record:
        return origin(record, of_teacher, scores) + exported_step(record, of_teacher)
    lines = [f"The mean of the weights of {len(record['models'])} models (`fewstep average`):"]
    for part in record["models"]:
        own = origin(part["record"], of_teacher, scores) + exported_step(part["record"], of_teacher)
        if digest := part["published"]:
            own = f"- The published `{WEIGHTS}` of SHA-256 `{digest}`"
        lines += ["", f"{100 * part['share']:.3g} % of it:", "", own]
    return "\n".join(lines)


def origin(record, of_teacher=False, scores=None):
    """Lines on the data, the recipe and the time of a run, from its training_config.json.
    of_teacher: of its teacher alone. scores: the content of a scores.json, which counts the images.
    """
    # Without training_seconds, which is their sum.
    names = ["teacher"] if of_teacher else PHASES
    seconds = sum(record.get(f"{name}_seconds", 0.0) for name in names)
    groups = record.get("settings", {})
    words = f"`{recipe(record, of_teacher)}`" if groups else "not recorded"
    data = groups.get("data", {}).get("data", "not recorded")
    if scores and data == "folder":
        data += f" of {scores['training_count']:,} images"
    trained = [name for name in names if f"{name}_seconds" in record]
    machines = filter(None, dict.fromkeys(machine_of(record, name)[0] for name in trained))
    machine = " and ".join(machines) or "a machine that is not recorded"
    starts = any(record.get(f"{name}_start") for name in names)
    starts |= "teacher_file" in record and not of_teacher
    before = ", after those of what it started from" if starts else ""
    hours = f"{seconds / 3600:.2f} hours on {machine}" if trained else "unknown hours"
    return f"""- Data: {data}
- Recipe: {words}
- Training: {hours}{before}"""


def exported_step(record, of_teacher):
    """Which step a run exported, if not its last: the end of a line. "" for a teacher: in a run of
    both phases it is the student's that is recorded."""
    exported = record.get("exported", {})
    if of_teacher or exported.get("kind") != "best":
        return ""
    return f"; it exported its step {exported['step']:,}, the best by {exported['by']}"
