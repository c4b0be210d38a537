"""From `Settings` to images, batches, teacher and phases."""

from dataclasses import asdict, fields
from pathlib import Path

import numpy as np

from custom_model import create_custom_model
from fewstep.engine.batches import StepBatches, fits_on_device
from fewstep.engine.execution import execution_of, run_choices
from fewstep.engine.loop import Selection, measure_heldout
from fewstep.images import ImageSource, evenly, open_image_sets, with_splits
from fewstep.runs.settings import PHASES, method_of
from fewstep.runs.variety import check_variety
from fewstep.scores.frechet import feature_distance
from fewstep.scores.spaces import feature_space
from src.arguments import check_input_file
from src.model_config import LEVEL_SAMPLERS, MODEL_DEFAULTS
from src.published import is_published, read_published
from src.samplers import image_batches
from src.utils import UserError, load_model, read_model_config

MOST_TRAINING_IMAGES = 1000
SELECTION_BATCH = 64
SELECTION_SEED = 2_000_003  # apart from any that scores are given for


def open_images(settings):
    """The training and held-out images that the settings name. Raises `UserError` for such that
    nothing can be learnt from."""
    images = open_image_sets(settings.data.batch_size, **_source_of(settings))
    check_variety(images)
    return images


def check_source(settings):
    """Raise `UserError` where `open_images` would for a file that is not there; reads no image."""
    with_splits(ImageSource(**_source_of(settings)))


def _source_of(settings):
    return {item.name: getattr(settings.data, item.name) for item in fields(ImageSource)}


def build_batches(settings, cache, device, processes):
    """step -> images of this process, see `StepBatches`."""
    data, speed = settings.data, settings.speed
    return StepBatches(
        cache,
        data.batch_size,
        settings.run.seed,
        data.x_flip,
        device,
        on_device=fits_on_device(speed.data_on_device, cache, device),
        channels_last=run_choices(settings, device).channels_last,
        processes=processes,
    )


def build_scratch(name, settings, sigma_data, device, processes):
    """The phase of that name, from random weights."""
    return PHASES[name].build(settings, execution_of(settings, device, processes), sigma_data)


def build_distilled(settings, teacher, config, device, processes):
    """The method's own phase, from a teacher; config: of the generator, see `load_teacher`."""
    execution = execution_of(settings, device, processes)
    return method_of(settings).phase.build(settings, execution, teacher, config)


def load_teacher(settings, path, device="cpu"):
    """The teacher at `path`, and the `model_config.json` of the generator that is made of it.

    Raises `UserError` when what is there is no teacher, or has another network than the settings
    describe.
    """
    teacher, config = load_weights("--teacher_ckpt", path, device)
    for key, value in asdict(settings.network).items():
        if config.get(key, MODEL_DEFAULTS[key]) != value:
            raise UserError(
                f"--teacher_ckpt {path}: it has {key} = {config.get(key)}, the flags say"
                f" {value}; give the teacher's --{key}"
            )
    method = method_of(settings)
    check_teacher(method, path, config)
    return teacher, method.config(config, settings)


def check_teacher(method, path, config):
    """Raise `UserError` unless the `model_config.json` `config` of the weights at `path` is of what
    a method starts from."""
    if not method.teacher.makes(config):
        kind = config.get("model_type", "a model without a sampler")
        kind = "a student" if config.get("sampler") in LEVEL_SAMPLERS else kind
        wanted = "a teacher's" if method.teacher.name == "teacher" else f"a {method.teacher.name}'s"
        raise UserError(f"--teacher_ckpt {path}: it is {kind}; name {wanted} model.pt")


def load_weights(flag, path, device="cpu"):
    """(model, `model_config.json`) of the weights that a flag names: a file that train.py saved, or
    published ones, their folder or file. Raises `UserError`."""
    if is_published(path):
        return read_published(path, create_custom_model, device)
    check_input_file(flag, path, "name weights that train.py saved")
    config = Path(path).with_name("model_config.json")
    if not config.exists():
        raise UserError(
            f"{flag} {path}: has no model_config.json beside it, as weights that train.py saves"
            " have; name such weights, with that file"
        )
    return load_model(path, create_custom_model, device), read_model_config(config)


def distance_to_training(space, cache, count, device, model):
    """A function that gives the Fréchet distance of `count` one-step samples of `model`, of the
    same noise each time, to training images in a feature space: nothing is chosen on the held-out
    images, which scores are given for."""
    picks = evenly(len(cache), MOST_TRAINING_IMAGES)
    features = []  # of the training images, when they are first asked for

    def distance():
        if not features:
            features.append(space.embed(cache.take(picks).numpy(), device=device))
        batches = image_batches(model, 1, count, SELECTION_BATCH, SELECTION_SEED)
        generated = space.embed(np.concatenate(list(batches)), device=device)
        return float(feature_distance(generated, features[0]))

    return distance


def selection_of(settings, phase, cache, heldout, publish):
    """Which checkpoint of a phase is its best: by one of its held-out metrics where it names one,
    else by the distance of its samples to training images, and by nothing for --best_images 0."""
    metric, count = phase.best_by, settings.run.best_images
    if metric:
        seed = settings.run.seed
        return Selection(lambda: measure_heldout(phase, heldout, seed).get(metric), publish, metric)
    if not count:
        return None
    space = feature_space(settings.run.best_features)
    distance = distance_to_training(space, cache, count, heldout.device, phase.ema)
    return Selection(lambda: None if phase.is_start else distance(), publish, space.name)
