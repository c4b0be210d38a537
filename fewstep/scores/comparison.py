"""All scores of a set of images against held-out ones, in feature spaces and in pixels."""

from functools import partial

import numpy as np

from fewstep.scores.feature_cache import cached_features, pixels_digest
from fewstep.scores.frechet import feature_statistics, frechet_distance, unbiased_distance
from fewstep.scores.kernel import kernel_distance, kernel_interval
from fewstep.scores.neighbours import density_coverage, memorisation, nearest, precision_recall
from fewstep.scores.pixels import channel_difference, thumbnails
from fewstep.scores.sliced import patch_wasserstein
from fewstep.scores.two_sample import classifier_auc
from src.feedback import Progress

PIXELS = "pixels"  # the name of what is scored without a feature space
NEIGHBOURS = 5  # k of all manifold scores, so that they compare


class Comparison:
    """Scores images against `heldout`, and asks whether they copy `training`.

    spaces: feature spaces, the first of which ranks. heldout, training: uint8 `[N, H, W, 3]`;
    training (None: there is none) is used for copies and `distance(images, "training")` alone.
    cache_dir: keeps the features of both sets; None keeps none. mirrored: the training saw mirror
    images too, so copies of those count. classify: run the two-sample test, whose training costs
    most. Values depend on the sets' sizes: compare numbers with equal sizes only.
    """

    def __init__(
        self, spaces, heldout, training=None, cache_dir=None, device="cpu", mirrored=True,
        classify=True,
    ):  # fmt: skip
        if mirrored and training is not None:
            training = np.concatenate([training, training[:, :, ::-1]])
        self.spaces, self.device, self.classify = spaces, device, classify
        self.heldout, self.training, self.cache_dir = heldout, training, cache_dir
        self._results = {}  # of `_once`

    def distance(self, images, set_name="heldout"):
        """Fréchet distance of uint8 images in the first space to those of a set, "heldout" or
        "training"."""
        space = self.spaces[0]
        return self._distance(space.name, self._embed(space, images), set_name)

    def distances(self, images):
        """{space: Fréchet distance of uint8 images to the held-out ones in it}."""
        return {
            space.name: self._distance(space.name, self._embed(space, images), "heldout")
            for space in self.spaces
        }

    def scores(self, images, seed=0, generated=True):
        """uint8 images -> {space: {score: value}}, with `PIXELS` for what needs no feature space.

        `generated` images are searched for copies of training images.
        """
        scores = {}
        for space in self.spaces:
            features = self._embed(space, images)
            with Progress(f"scores in {space.name}"):
                scores[space.name] = self._feature_scores(space.name, features)
                if generated:
                    scores[space.name] |= self._copies(space.name, features)
        with Progress("scores in pixels"):
            pixels = channel_difference(images, self.heldout)
            for size, value in patch_wasserstein(images, self.heldout, seed=seed).items():
                pixels[f"swd_{size}"] = value
        if self.classify:
            pixels["auc"] = classifier_auc(images, self.heldout, seed=seed, device=self.device)
        if generated:
            with Progress("copies of training images"):
                pixels |= self._copies(PIXELS, thumbnails(images))
        return scores | {PIXELS: pixels}

    def nearest_training(self, images):
        """[(name, training image of each)]: the nearest ones in the first space and in pixels."""
        space = self.spaces[0]
        embeddings = {space.name: self._embed(space, images), PIXELS: thumbnails(images)}
        return [
            (name, self.training[self._nearest(name, features)[1]])
            for name, features in embeddings.items()
        ]

    def _feature_scores(self, name, features):
        target = self._once(self._features, "heldout", name)
        k = min(NEIGHBOURS, len(features) - 1, len(target) - 1)
        precision, recall = precision_recall(target, features, k)
        density, coverage = density_coverage(target, features, k)
        low, high = kernel_interval(features, target)
        extrapolated = unbiased_distance(features, target)
        return ({} if extrapolated is None else {"frechet_unbiased": extrapolated}) | {
            "frechet": self._distance(name, features, "heldout"),
            "kid": kernel_distance(features, target),
            "kid_low": low,
            "kid_high": high,
            "precision": precision,
            "recall": recall,
            "density": density,
            "coverage": coverage,
        }

    def _copies(self, name, features):
        heldout = self._once(self._heldout_to_training, name)
        return memorisation(self._nearest(name, features)[0], heldout)

    def _embed(self, space, images):
        return space.embed(images, device=self.device)

    def _once(self, method, *arguments):
        """`method(*arguments)`, computed at the first call."""
        key = (method.__name__, *arguments)
        if key not in self._results:
            self._results[key] = method(*arguments)
        return self._results[key]

    def _features(self, set_name, name):
        """Features of a set in the space `name`, or its thumbnails for `PIXELS`."""
        images = getattr(self, set_name)
        if name == PIXELS:
            return thumbnails(images)
        (space,) = [space for space in self.spaces if space.name == name]
        embed = partial(self._embed, space, images)
        return cached_features(self.cache_dir, space, pixels_digest(images), self.device, embed)

    def _statistics(self, set_name, name):
        return feature_statistics(self._once(self._features, set_name, name))

    def _distance(self, name, features, set_name):
        statistics = self._once(self._statistics, set_name, name)
        return frechet_distance(*feature_statistics(features), *statistics)

    def _nearest(self, name, features):
        training = self._once(self._features, "training", name)
        return nearest(features, training, device=self.device)

    def _heldout_to_training(self, name):
        return self._nearest(name, self._once(self._features, "heldout", name))[0]
