"""Distances of several sets of images to one reference, whose features are taken once."""

from metrics.frechet import feature_statistics, frechet_distance


class Scorer:
    """`scorer.distance(images)`: the Fréchet distance in `space` to the reference images.

    Images are uint8 `[N, H, W, 3]`; `space` has `embed(images) -> [N, D]`.
    """

    def __init__(self, space, reference):
        self.space = space
        self.target = feature_statistics(space.embed(reference))

    def distance(self, images):
        return frechet_distance(*feature_statistics(self.space.embed(images)), *self.target)
