"""Pairs of noise and the image that the teacher's ODE makes of it, drawn once and kept on disk."""

import hashlib
from functools import partial

import numpy as np
import torch

from fewstep.engine.batches import to_float
from fewstep.images.cache import cached_images
from fewstep.methods.edm import ode_images
from src.feedback import Progress
from src.samplers import IMAGE_SHAPE, noise_source
from src.utils import to_uint8, weights_digest

DRAWN_AT_ONCE = 32
SEED = 3_000_003  # of the first pair's noise, apart from those of sampling


class TeacherPairs:
    """which: (level of the noise, evaluations of the teacher an image, number of pairs).

    An image is kept as bytes in `cache_dir`, under a name of all that it depends on, so it is
    drawn once for all runs with this teacher; its noise is drawn anew from the pair's number.
    mirror: also use each pair mirrored, noise and image.
    """

    def __init__(self, teacher, denoise, which, cache_dir, mirror, processes):
        self.scheduler, self.device = teacher.scheduler, teacher.device
        (self.sigma, self.evaluations, self.count), self.mirror = which, mirror
        one = teacher.scheduler
        ode = [one.sigma_data, one.sigma_min, one.rho, one.noise_offset]
        facts = f"teacher's pairs {weights_digest(teacher)} {ode} {which} from {SEED}"
        digest = hashlib.sha256(facts.encode()).hexdigest()
        make = partial(self._images, partial(ode_images, denoise, one))
        self.images = processes.first_then_all(
            lambda: cached_images(cache_dir, digest, self.count, make, IMAGE_SHAPE[-1])
        )

    def noise(self, numbers):
        """The noise of these pairs, `[B, 3, H, W]` of unit variance."""
        seeds, shape = [SEED + int(number) for number in numbers], (len(numbers), *IMAGE_SHAPE)
        return noise_source(self.scheduler.draw_noise, shape, self.device, seeds)()

    def draw(self, count, seed):
        """(noise at level `sigma`, images), each `[count, 3, H, W]`, of pairs picked by `seed`."""
        rng = np.random.default_rng(seed)
        numbers = rng.integers(self.count, size=count)
        mirrored = torch.from_numpy(rng.random(count) < 0.5 * self.mirror).to(self.device)
        noise, images = self.noise(numbers), to_float(self.images.take(numbers).to(self.device))
        pairs = torch.stack([self.sigma * noise, images])
        noise, images = torch.where(mirrored[:, None, None, None], pairs.flip(-1), pairs)
        return noise, images

    def _images(self, ode):
        with Progress("pairs of the teacher's", self.count, "pair", stays=True) as bar:
            for start in range(0, self.count, DRAWN_AT_ONCE):
                numbers = range(start, min(start + DRAWN_AT_ONCE, self.count))
                images = ode(self.sigma * self.noise(numbers), self.sigma, self.evaluations)
                yield from to_uint8(images).cpu().numpy()
                bar.update(len(numbers))
