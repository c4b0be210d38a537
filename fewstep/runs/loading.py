"""Saved and published networks for use in Python, as `fewstep.load` and its sister give them."""

import operator
import warnings

import torch
from PIL import Image

from custom_model import create_custom_model
from fewstep.runs.discriminators import built, of_published
from src.arguments import LARGEST_BATCH, MOST_EVALUATIONS, MOST_IMAGES, check_range
from src.published import (
    is_published,
    read_published,
    weights_file,
)
from src.samplers import tensor_batches, untrained_note
from src.utils import checkpoint_in, load_model, pick_device, read_model_config, to_uint8


class Generator:
    """A model that samples. path: the file of its weights; config: its `model_config.json`; model:
    the network in evaluation mode."""

    def __init__(self, path, config, model):
        self.path, self.config, self.model = path, config, model

    def __repr__(self):
        kind = self.config.get("sampler", self.config.get("model_type"))
        return f"Generator({self.path}, network {self.config.get('network')}, {kind})"

    def sample(self, count, nfe=1, seed=None, as_tensor=False, batch_size=64):
        """`count` images of `nfe` network evaluations each, as a list of PIL images.

        seed: a whole number that makes the same images again, image i by it and i alone, as
        `sampling.py --batch_independent --seed` does; None: others each time. as_tensor: give
        floats `[count, 3, 64, 64]` in [-1, 1] on the CPU. Warns of an `nfe` that a student was not
        trained for. Raises `UserError` for numbers out of range.
        """
        limits = (count, MOST_IMAGES), (nfe, MOST_EVALUATIONS), (batch_size, LARGEST_BATCH)
        for name, (value, most) in zip(("count", "nfe", "batch_size"), limits):
            check_range(name, operator.index(value), 1, most)
        if note := untrained_note(self.model, [nfe]):
            warnings.warn(note, stacklevel=2)
        seed = None if seed is None else operator.index(seed)
        batches = tensor_batches(self.model, nfe, count, batch_size, seed)
        images = torch.cat([batch.float().cpu() for batch in batches])
        if as_tensor:
            return images
        return [Image.fromarray(pixels) for pixels in to_uint8(images).numpy()]


def load(path, device=None):
    """The `Generator` at `path`: a checkpoint with its `model_config.json`, a run's folder, or a
    published folder or its file.

    device: "cuda", "cuda:N" or "cpu"; None: a GPU where there is one. Raises `UserError`.
    """
    device = _device(device)
    if is_published(path):
        model, config = read_published(path, create_custom_model, device)
        return Generator(weights_file(path), config, model)
    weights = checkpoint_in(path)
    model = load_model(weights, create_custom_model, device).eval().requires_grad_(False)
    return Generator(weights, read_model_config(weights.with_name("model_config.json")), model)


def load_discriminator(path, device=None):
    """`disc(x, sigma) -> logits [B, N]` of a published folder or its file, in evaluation mode.

    x: images `[B, 3, 64, 64]` in [-1, 1] with noise of level sigma `(B,)` (0: none); its card says
    which levels it has learnt, and whether it asks for `level` too, the noise level of the
    evaluation that made an image (`--disc_level`). Augmentation is of its training and off.
    device: as for `load`.
    Raises `UserError`.
    """
    return built(of_published(path)).to(_device(device))


def _device(name):
    return pick_device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
