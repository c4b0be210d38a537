"""All scores of a set of images against held-out ones, in feature spaces and in pixels."""

import numpy as np

from metrics.channels import channel_difference
from metrics.feature_cache import cached_features, pixels_digest
from metrics.frechet import feature_distance
from metrics.kernel import kernel_distance
from metrics.neighbours import density_coverage, memorisation, nearest, precision_recall
from metrics.sliced import patch_wasserstein
from metrics.two_sample import classifier_auc

PIXELS = "pixels"  # the name of what is scored without a feature space
NEIGHBOURS = 5  # k of all manifold scores, so that they compare


class Comparison:
    """Scores images against `heldout`, and asks whether they copy `training`.

    spaces: feature spaces, the first of which ranks. heldout, training: uint8 `[N, H, W, 3]`.
    mirrored: the training saw mirror images too, so copies of those count. Features of both sets
    are kept in `cache_dir`. classify: run the two-sample test, whose training costs most.
    """

    def __init__(self, spaces, heldout, training, cache_dir, device, mirrored=True, classify=True):
        self.spaces, self.heldout, self.device, self.classify = spaces, heldout, device, classify
        self.training = np.concatenate([training, training[:, :, ::-1]]) if mirrored else training

        def embedded(space, images):
            digest = pixels_digest(images)
            return cached_features(cache_dir, space, digest, lambda: self.embed(space, images))

        self.heldout_features, self.training_features = {}, {}
        for space in spaces:
            self.heldout_features[space.name] = embedded(space, heldout)
            self.training_features[space.name] = embedded(space, self.training)
        self.heldout_features[PIXELS] = thumbnails(heldout)
        self.training_features[PIXELS] = thumbnails(self.training)
        self._heldout_nearest = {
            name: nearest(features, self.training_features[name])[0]
            for name, features in self.heldout_features.items()
        }

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
            scores[space.name] = self._of_features(space.name, features)
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

    def distance(self, images, to_training=False):
        """Fréchet distance in the first space to the held-out or to the training images."""
        space = self.spaces[0]
        sets = self.training_features if to_training else self.heldout_features
        return feature_distance(self.embed(space, images), sets[space.name])

    def nearest_training(self, images):
        """[(name, training image of each)]: the nearest ones in the first space and in pixels."""
        space = self.spaces[0]
        embeddings = {space.name: self.embed(space, images), PIXELS: thumbnails(images)}
        return [
            (name, self.training[nearest(features, self.training_features[name])[1]])
            for name, features in embeddings.items()
        ]

    def _of_features(self, name, features):
        target = self.heldout_features[name]
        k = min(NEIGHBOURS, len(features) - 1, len(target) - 1)
        precision, recall = precision_recall(target, features, k)
        density, coverage = density_coverage(target, features, k)
        return {
            "frechet": feature_distance(features, target),
            "kid": kernel_distance(features, target),
            "precision": precision,
            "recall": recall,
            "density": density,
            "coverage": coverage,
        }

    def _copies(self, name, features):
        distances, _ = nearest(features, self.training_features[name])
        return memorisation(distances, self._heldout_nearest[name])


def thumbnails(images):
    """uint8 images `[N, H, W, 3]` -> `[N, D]`, averaged over 2x2 pixels so that a shift by one
    pixel is no other image, and scaled so that distances are RMS differences in grey levels."""
    count, height, width, channels = images.shape
    small = images[:, : height // 2 * 2, : width // 2 * 2].astype(np.float64)
    small = small.reshape(count, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
    small = small.reshape(count, -1)
    return small / np.sqrt(small.shape[1])
