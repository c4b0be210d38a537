"""Checks of an unpacked submission's files and weights: nothing of it is run."""

import sys
from dataclasses import dataclass
from math import prod

import torch

from fewstep.handin.archive import contents
from fewstep.handin.archive.contents import CHECKPOINT, CONFIG, PROVIDED, REQUIREMENTS, SPLITS
from fewstep.handin.archive.environment import (
    grading_packages,
    import_names,
    required_distributions,
)
from src.formatting import first_names, size_text
from src.model_config import LEVEL_SAMPLERS
from src.utils import UserError, read_json, torch_load

SIZE_LIMIT = 1e9  # bytes, our own limit; the student alone has 235 MB
# The challenge's fixed values, and the number of parameters they make.
NETWORK = dict(ch=128, ch_mult=[1, 2, 2, 2], attn=[1], num_res_blocks=4, dropout=0.1)
PARAMETERS = {False: 58_753_283, True: 59_934_979}  # of the fixed network, with the condition: True
REQUIRED = {*contents.ENTRIES, *PROVIDED, REQUIREMENTS, CHECKPOINT, CONFIG, "src/utils.py"}


@dataclass(frozen=True)
class Finding:
    """One line of the checklist. `detail`: what is so, or what is wrong and what to do."""

    name: str
    ok: bool
    detail: str

    def __str__(self):
        return f"{'✓' if self.ok else '✗'} {self.name}: {self.detail}"


def verdict(name, problems, fine):
    """A finding from a list of problems: none is ✓ with the detail `fine`."""
    return Finding(name, not problems, "; ".join(problems) or fine)


def some(names):
    """The first few of `names` in order."""
    return first_names(sorted(names), 3)


def check_files(folder, names):
    """Whether the archive's `names`, unpacked in `folder`, are all that is needed and no more."""
    # What is imported inside a function is an extra, which only the command that asks for it needs.
    problems = []
    missing = REQUIRED - set(names)
    if missing:
        return Finding("files", False, f"{some(missing)} missing; hand in a whole checkout")
    code = contents.reachable(contents.ENTRIES, folder) | {*contents.module_files("src", folder)}
    foreign = set(names) - code - REQUIRED - {*SPLITS, contents.WRITEUP}
    if foreign:
        problems.append(f"{some(foreign)} not part of a submission; remove them")
    known = grading_packages() | set(sys.stdlib_module_names)
    known |= import_names(required_distributions(folder / REQUIREMENTS))
    for name in sorted(code - set(PROVIDED)):
        for package in sorted(contents.imported_packages(folder / name, lazily=False) - known):
            if not contents.module_files(package, folder):
                problems.append(
                    f"{name} imports {package}, which is neither in the archive nor in"
                    f" {REQUIREMENTS}; add it"
                )
    fine = f"{len(names)}, all that the commands import and nothing else"
    absent = [name for name in SPLITS if name not in names]
    if absent:
        fine += f" (without {', '.join(absent)}, which the challenge provides)"
    return verdict("files", problems, fine)


def check_size(archive_size, checkpoint_size):
    """Whether the archive (sizes in bytes) is one that can be handed in."""
    sizes = size_text(archive_size, "MB"), size_text(checkpoint_size, "MB")
    detail = f"archive {sizes[0]}, checkpoint {sizes[1]}"
    if archive_size > SIZE_LIMIT:
        detail += (
            f"; over {size_text(SIZE_LIMIT, 'MB')}: hand in the student alone (final_model.pt of a"
            " run), not a checkpoint to resume from"
        )
    return Finding("size", archive_size <= SIZE_LIMIT, detail)


def check_provided(folder, official=None):
    """Whether the provided files in `folder` equal those of the checkout `official`."""
    name = "provided files"
    if official is None:
        return Finding(name, True, "ours, not compared: give --official DIR")
    files = contents.official_files(official)
    changed = [key for key in files if (folder / key).read_bytes() != files[key].read_bytes()]
    problems = [f"{some(changed)} not as in {official}; put theirs back"] if changed else []
    return verdict(name, problems, f"{len(files)} as in {official}, byte for byte")


def check_checkpoint(folder):
    """(finding, state dict or None): whether the checkpoint is tensors in `state_dict`, alone."""
    name, remedy = "checkpoint", "hand in final_model.pt of a run"
    try:
        content = torch_load(folder / CHECKPOINT)
    except UserError as error:
        return Finding(name, False, _without(folder, error)), None
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state:
        return Finding(name, False, f'no "state_dict" in it; {remedy}'), None
    odd = [
        str(key)
        for key, value in state.items()
        if not (isinstance(key, str) and isinstance(value, torch.Tensor))
    ]
    if odd:
        return Finding(name, False, f"{some(odd)} not a named tensor; {remedy}"), None
    extra = [str(key) for key in content if key != "state_dict"]
    problems = [f'holds {some(extra)} beside "state_dict"; {remedy}'] if extra else []
    fine = f'loads with weights_only; "state_dict" alone, {len(state)} tensors'
    return verdict(name, problems, fine), state


def check_weights(state, model_shapes):
    """Whether the state dict is the student's alone, in finite float32.

    model_shapes: name -> shape of the model that the submission builds.
    """
    problems = []
    extra, absent = set(state) - set(model_shapes), set(model_shapes) - set(state)
    if extra:
        problems.append(f"holds {some(extra)}, not the student's; save the student alone")
    if absent:
        problems.append(f"lacks {some(absent)}; save the model that {CONFIG} describes")
    shared = set(state) & set(model_shapes)
    misfits = [key for key in shared if list(state[key].shape) != model_shapes[key]]
    if misfits:
        problems.append(f"shape of {some(misfits)} not that of {CONFIG}; use the two of one run")
    other = [key for key, value in state.items() if value.dtype != torch.float32]
    if other:
        problems.append(f"{some(other)} not float32; save the student as float32")
    broken = [key for key, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        problems.append(f"{some(broken)} not finite; use an earlier checkpoint")
    return verdict("weights", problems, "the student's alone, all finite, float32")


def check_network(state, full_shapes, condition):
    """Whether the network is the challenge's: names and shapes of `full_shapes` (name -> shape),
    and the known number of parameters with or without the condition."""
    network = {
        key.removeprefix("network."): list(value.shape)
        for key, value in state.items()
        if key.startswith("network.")
    }
    count = sum(map(prod, network.values()))
    expected = PARAMETERS[condition]
    problems = []
    if network != full_shapes or count != expected:
        fixed = f"{expected:,} of fixed names and shapes are needed"
        problems.append(f"{count:,} parameters, {fixed}; train with --network full")
    return verdict("network", problems, f"the challenge's, {count:,} parameters")


def check_config(folder):
    """(finding, settings): whether `model_config.json` is a student's with all levels."""
    try:
        config = read_json(folder / CONFIG)
    except UserError as error:
        return Finding("config", False, _without(folder, error)), {}
    if config.get("model_type", "edm_denoiser") != "edm_denoiser":
        return Finding("config", True, f"of a {config['model_type']}"), config
    sampler = config.get("sampler")
    if sampler not in LEVEL_SAMPLERS:
        detail = f'sampler "{sampler}": this is the teacher; hand in the student (final_model.pt)'
        return Finding("config", False, f"{detail} with its model_config.json"), config
    levels = config.get("few_step_sigmas")
    absent = [nfe for nfe in "124" if not isinstance(levels, dict) or nfe not in levels]
    if not absent:
        return Finding("config", True, f"{sampler} sampler with levels for NFE 1, 2, 4"), config
    detail = f"few_step_sigmas has no levels for NFE {', '.join(absent)}"
    detail += "; take the model_config.json that lies beside the student"
    return Finding("config", False, detail), config


def _without(folder, error):
    """The message of an error with paths as they are in the archive."""
    return str(error).replace(f"{folder}/", "")
