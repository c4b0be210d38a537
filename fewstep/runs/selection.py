"""Which checkpoint of a phase is the best: the one that is kept whatever comes after it."""

import math
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np

from fewstep.scores.frechet import feature_distance
from fewstep.scores.random_features import random_feature_space
from src.samplers import image_batches

MOST_TRAINING_IMAGES = 1000
BATCH = 64
SEED = 2_000_003  # apart from any that scores are given for


class Selection(NamedTuple):
    """score() -> a number of the present networks, smaller is better, or None; publish() is called
    when it was the best so far, after its checkpoint is saved."""

    score: Callable
    publish: Callable


NO_SELECTION = Selection(lambda: None, lambda: None)


def better(best, step, value):
    """The better of `best`, {"step": ..., "value": ...} or None, and `value` at `step`; a `value`
    that is None or not finite is never better."""
    if value is None or not math.isfinite(value):
        return best
    return {"step": step, "value": value} if best is None or value < best["value"] else best


class DistanceToTraining:
    """Fréchet distance of one-step samples to training images in the random feature space: nothing
    is chosen on the held-out images, which scores are given for.

    cache: training images (`ImageCache`); count: of generated ones, the same noise each time.
    """

    def __init__(self, cache, count, device):
        self.cache, self.count, self.device = cache, count, device

    @cached_property
    def _target(self):
        picks = np.linspace(0, len(self.cache) - 1, min(MOST_TRAINING_IMAGES, len(self.cache)))
        return self._embed(self.cache.take(picks.astype(np.int64)).numpy())

    def _embed(self, images):
        return random_feature_space().embed(images, device=self.device)

    def __call__(self, model):
        """The distance of `model` at one evaluation."""
        images = np.concatenate(list(image_batches(model, 1, self.count, BATCH, SEED)))
        return float(feature_distance(self._embed(images), self._target))
