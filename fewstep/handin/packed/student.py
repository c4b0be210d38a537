"""A student to compact form and back."""

from custom_model import create_custom_model
from fewstep.handin.packed.errors import output_errors, weight_errors
from fewstep.handin.packed.folder import describe_parts
from fewstep.handin.packed.manifest import make_manifest
from fewstep.handin.packed.parts import count_values, decode, divide, encode, from_bytes, to_bytes
from fewstep.runs.identity import weights_digest
from src.utils import UserError, load_model, read_json


def check_student(model, path):
    """Raise `UserError` unless `model`, of the file `path`, is a student with finite weights."""
    if model.sampler != "few_step":
        raise UserError(
            f"{path}: its sampler is {model.sampler}, so it is a teacher; name a student"
            " (final_model.pt of a run, or best_model.pt)"
        )
    broken = [name for name, value in model.state_dict().items() if not value.isfinite().all()]
    if broken:
        raise UserError(f"{path}: {broken[0]} is not finite; use an earlier checkpoint")


def levels_of(model):
    """The student's noise levels by NFE, as JSON holds them."""
    return {str(nfe): levels for nfe, levels in model.scheduler.few_step_table.items()}


def rounded(model, config):
    """A copy of a student of `config` with its weights as compact form gives them back."""
    return _copy_of(encode(model.state_dict()), config).to(model.device)


def compress(model, config, part_count, notes, check_images=4):
    """A student of `config` -> (manifest, contents of the parts as bytes, {name: relative error}).

    check_images: how many images the change of the output is measured on; 0 for none. The result
    was expanded again from its bytes, and compared. Raises `ValueError` for more parts than
    tensors.
    """
    state = model.state_dict()
    encoded = encode(state)
    contents = [to_bytes(arrays) for arrays in divide(encoded, part_count)]
    copy = _copy_of(encoded, config)
    each, overall = weight_errors(state, copy.state_dict())
    errors = {"weights": _short(overall), "outputs": {}}
    if check_images:
        for sigma, (relative, grey) in output_errors(model, copy, count=check_images).items():
            row = {"relative": _short(relative), "grey_levels": _short(grey)}
            errors["outputs"][str(sigma)] = row
    manifest = make_manifest(
        parts=describe_parts(contents),
        parameters=count_values(state),
        original_sha256=weights_digest(model),
        expanded_sha256=weights_digest(copy),
        model_config=config,
        errors=errors,
        notes=notes,
    )
    expand(manifest, contents, "the packed student")
    return manifest, contents, each


def expand(manifest, contents, source):
    """A manifest and the contents of its parts -> the student, in evaluation mode on the CPU.

    Raises `UserError`, naming `source`, for parts that are no arrays of numbers, do not fit the
    network of the manifest, or make other weights than it says.
    """
    state = {}
    for entry, content in zip(manifest["parts"], contents, strict=True):
        try:
            part = decode(from_bytes(content))
        except ValueError as error:
            raise UserError(f"{source}: {entry['file']}: {error}") from error
        twice = state.keys() & part.keys()
        if twice:
            raise UserError(f"{source}: {entry['file']}: {min(twice)} is in two parts")
        state |= part
    model = _with_weights(state, manifest["model_config"], source)
    if weights_digest(model) != manifest["expanded_sha256"]:
        raise UserError(f"{source}: its parts make other weights than the manifest says")
    return model


def same_student(path, model, config):
    """Whether the checkpoint at `path` with the `model_config.json` beside it is that student;
    False for one that cannot be loaded."""
    try:
        present = load_model(path, create_custom_model)
        present_config = read_json(path.with_name("model_config.json"))
    except UserError:
        return False
    return present_config == config and weights_digest(present) == weights_digest(model)


def _copy_of(encoded, config):
    """The model of `config` with weights of `encode`."""
    arrays = {key: array for group in encoded.values() for key, array in group.items()}
    return _with_weights(decode(arrays), config, "the student")


def _short(number):
    """Four digits of a measured number."""
    return float(f"{number:.4g}")


def _with_weights(state, config, source):
    """The model of `config` with a state dict. Raises `UserError` where they do not fit."""
    try:
        model = create_custom_model(**config)
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{source}: model_config: {error}") from error
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    for name in sorted(shapes.keys() | state):
        if name not in state:
            raise UserError(f"{source}: {name} is missing")
        if name not in shapes:
            raise UserError(f"{source}: {name} is not in the network that model_config describes")
        if state[name].shape != shapes[name]:
            is_now, expected = tuple(state[name].shape), tuple(shapes[name])
            raise UserError(f"{source}: {name} has shape {is_now}, the network {expected}")
    model.load_state_dict(state, strict=True)
    return model.eval().requires_grad_(False)
