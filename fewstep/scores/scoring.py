"""Distances of several sets of images to one reference, whose features are taken once."""

from fewstep.scores.frechet import feature_distance


def distance_name(space_name, is_fid):
    """What a Fréchet distance in a feature space may be called: FID in that of FID alone."""
    return "FID" if is_fid else f"Fréchet distance in {space_name} (not FID)"


class Scorer:
    """`scorer.distance(images)`: the Fréchet distance in `space` to the reference images.

    Images are uint8 `[N, H, W, 3]`; `space` has `embed(images, batch_size, device) -> [N, D]`.
    The value depends on both sets' sizes: compare only numbers with equal sizes.
    """

    def __init__(self, space, reference, device="cpu", batch_size=256):
        self.space, self.device, self.batch_size = space, device, batch_size
        self.target = self.embed(reference)

    def distance(self, images):
        return feature_distance(self.embed(images), self.target)

    def embed(self, images):
        return self.space.embed(images, batch_size=self.batch_size, device=self.device)
