"""All scores of a set of images against held-out ones, in feature spaces and in pixels."""

from functools import partial

import numpy as np

from fewstep.scores.channels import channel_difference
from fewstep.scores.feature_cache import cached_features, pixels_digest
from fewstep.scores.frechet import feature_statistics, frechet_distance
from fewstep.scores.kernel import kernel_distance
from fewstep.scores.neighbours import density_coverage, memorisation, nearest, precision_recall
from fewstep.scores.sliced import patch_wasserstein
from fewstep.scores.two_sample import classifier_auc

PIXELS = "pixels"  # the name of what is scored without a feature space
NEIGHBOURS = 5  # k of all manifold scores, so that they compare


class Comparison:
    """Scores images against `heldout`, and asks whether they copy `training`.

    spaces: feature spaces, the first of which ranks. heldout, training: uint8 `[N, H, W, 3]`;
    training is used for copies and `distance_to_training` alone. mirrored: the training saw mirror
    images too, so copies of those count. Features of both sets are kept in `cache_dir` (None: are
    not). classify: run the two-sample test, whose training costs most.
    """

    def __init__(self, spaces, heldout, training, cache_dir, device, mirrored=True, classify=True):
        self.spaces, self.device, self.classify = spaces, device, classify
        self.heldout, self.training, self.cache_dir = heldout, training, cache_dir
        if mirrored and training is not None:
            self.training = np.concatenate([training, training[:, :, ::-1]])
        self._results = {}  # of `_once`

    def _once(self, method, *arguments):
        """`method(*arguments)`, computed at the first call."""
        key = (method.__name__, *arguments)
        if key not in self._results:
            self._results[key] = method(*arguments)
        return self._results[key]

    def _features(self, set_name, name):
        """Features of "heldout" or "training" images in the space `name`, or their thumbnails."""
        images = getattr(self, set_name)
        if name == PIXELS:
            return thumbnails(images)
        (space,) = [space for space in self.spaces if space.name == name]
        embed = partial(self.embed, space, images)
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

    def embed(self, space, images):
        """Features `[N, D]` of uint8 images."""
        return space.embed(images, device=self.device)

    def scores(self, images, seed=0, generated=True):
        """uint8 images -> {space: {score: value}}, with `PIXELS` for what needs no feature space.

        `generated` images are searched for copies of training images.
        """
        scores = {}
        for space in self.spaces:
            features = self.embed(space, images)
            scores[space.name] = self._feature_scores(space.name, features)
            if generated:
                scores[space.name] |= self._copies(space.name, features)
        pixels = channel_difference(images, self.heldout)
        for size, value in patch_wasserstein(images, self.heldout, seed=seed).items():
            pixels[f"swd_{size}"] = value
        if self.classify:
            pixels["auc"] = classifier_auc(images, self.heldout, seed=seed, device=self.device)
        if generated:
            pixels |= self._copies(PIXELS, thumbnails(images))
        return scores | {PIXELS: pixels}

    def distance_to_training(self, images):
        """Fréchet distance in the first space to the training images."""
        space = self.spaces[0]
        return self._distance(space.name, self.embed(space, images), "training")

    def nearest_training(self, images):
        """[(name, training image of each)]: the nearest ones in the first space and in pixels."""
        space = self.spaces[0]
        embeddings = {space.name: self.embed(space, images), PIXELS: thumbnails(images)}
        return [
            (name, self.training[self._nearest(name, features)[1]])
            for name, features in embeddings.items()
        ]

    def _feature_scores(self, name, features):
        target = self._once(self._features, "heldout", name)
        k = min(NEIGHBOURS, len(features) - 1, len(target) - 1)
        precision, recall = precision_recall(target, features, k)
        density, coverage = density_coverage(target, features, k)
        return {
            "frechet": self._distance(name, features, "heldout"),
            "kid": kernel_distance(features, target),
            "precision": precision,
            "recall": recall,
            "density": density,
            "coverage": coverage,
        }

    def _copies(self, name, features):
        heldout = self._once(self._heldout_to_training, name)
        return memorisation(self._nearest(name, features)[0], heldout)


def thumbnails(images):
    """uint8 images `[N, H, W, 3]` -> `[N, D]`, averaged over 2x2 pixels so that a shift by one
    pixel is no other image, and scaled so that distances are RMS differences in grey levels."""
    count, height, width, channels = images.shape
    small = images[:, : height // 2 * 2, : width // 2 * 2]
    small = small.reshape(count, height // 2, 2, width // 2, 2, channels)
    small = small.mean(axis=(2, 4), dtype=np.float32).reshape(count, -1)
    return small / np.float32(np.sqrt(small.shape[1]))
