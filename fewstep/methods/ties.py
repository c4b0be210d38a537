"""What ties some of a student's images to something of their own, beside the losses that judge all
of them: to their noise, to the image that was noised, to the image that a pair has of the noise."""

from functools import partial

from fewstep.engine.schedules import cosine_fall

IDENTITY_FINAL = 0.005 / 0.2  # of the weight of the distance to the noise, at the last step


class Ties:
    """Further losses of the student's turn, each of a part of its inputs.

    student: the `Student` settings. inputs: its `StudentInputs`. source: the `PairSource`.
    sigma_data: standard deviation of the data.
    """

    def __init__(self, student, inputs, source, sigma_data):
        self.student, self.inputs, self.source = student, inputs, source
        self.sigma_data = sigma_data

    def __call__(self, image, inputs, micro_batch, weights):
        """Yield (name of the loss, its weight, squared distances `(count,)`) of each that is asked
        for. image: the student's answers to `inputs`, (x, sigma, next sigma). weights: a step's.

        Pure noise to itself (`distance_to_noise`); real images that were noised to themselves, a
        denoising loss beside a GAN as in Consistency Trajectory Models (Kim et al. 2023,
        arXiv:2310.02279); images of later evaluations to their inputs (`distance_of_colours`);
        noise of a pair to the pair's image, DMD's regression loss (arXiv:2311.18828, sec. 4.3,
        there of LPIPS), which keeps the modes of whoever made it.
        """
        student, (x, sigma, _) = self.student, inputs
        pure, _, real = self.inputs.parts(len(image))
        if weights.identity:
            distances = distance_to_noise(image[pure], x[pure], sigma[pure], self.sigma_data)
            yield "identity_loss", weights.identity, distances
        if student.denoise_weight:
            distances = squared_distance(image[real], micro_batch.images[real])
            yield "denoising_loss", student.denoise_weight, distances
        if student.colour_weight:
            later = slice(pure.stop, None)
            distances = distance_of_colours(image[later], x[later])
            yield "colour_loss", student.colour_weight, distances
        if student.pair_weight:
            _, target = self.pairs(micro_batch)
            distances = squared_distance(image[: len(target)], target)
            yield "pair_loss", student.pair_weight * weights.distill, distances

    def pairs(self, micro_batch):
        """(noise, its image) of the first half of the inputs that are pure noise; the others' noise
        is new, so that that of the pairs is not learnt by heart."""
        count = (self.inputs.parts(len(micro_batch.images)).pure.stop + 1) // 2
        return micro_batch.once("pairs", partial(self.source.draw, count, micro_batch))


def identity_weight(student, progress):
    """That of `distance_to_noise` at this progress, in [0, 1], of the steps in which the student
    learns from its critics."""
    return student.identity_weight * cosine_fall(progress, IDENTITY_FINAL)


def distance_to_noise(image, x, sigma, sigma_data):
    """||G(sigma n) / sigma_data - n||^2, mean over pixels, `(B,)`: the transport cost of
    Adversarial Flow Models (Lin et al. 2025, arXiv:2511.22475), which picks one of the many maps
    from noise to images. Theirs is ||G(z) - z||^2 of z and images of unit variance; here noise is
    n = x / sigma, and images are brought to its scale.

    image: G's output; x: its input, pure noise at the levels sigma `(B,)`; `[B, C, H, W]`.
    """
    return squared_distance(image / sigma_data, x / sigma.reshape(-1, 1, 1, 1))


def distance_of_colours(image, x):
    """||mean G(x) - mean x||^2, of the means over pixels, mean over channels, `(B,)`: how much an
    evaluation changes an image's mean colour. The noise in x has a mean as well, of standard
    deviation sigma / H, 0.03 at level 2 and 64 pixels, so it is for levels that show the colour.

    image: G's output; x: its input, a noised image; `[B, C, H, W]`.
    """
    return (image.mean(dim=(2, 3)) - x.mean(dim=(2, 3))).square().mean(dim=1)


def squared_distance(image, target):
    """||image - target||^2, mean over pixels, `(B,)`, of `[B, C, H, W]`."""
    return (image - target).square().mean(dim=(1, 2, 3))
