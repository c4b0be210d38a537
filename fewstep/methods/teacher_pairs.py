"""What the teacher's ODE makes of noise: the student's start (`warm_start`) is regression on it.
Pairs of noise and image may be drawn once and kept on disk, and serve beside the GAN too
(`pair_weight`)."""

import hashlib
from functools import partial

import numpy as np
import torch

from fewstep.engine.batches import to_float
from fewstep.engine.microbatch import hashed_seed
from fewstep.images.cache import cached_images
from fewstep.methods.edm import ode_images
from src.feedback import Progress
from src.samplers import IMAGE_SHAPE, noise_source
from src.utils import to_uint8, weights_digest

DRAWN_AT_ONCE = 32
SEED = 3_000_003  # of the first pair's noise, apart from those of sampling


class OdeLoss:
    """Regress what comes of pure noise on what the teacher's ODE makes of it, and what comes of
    noised images on these: a network that learns the first level alone forgets the others.

    settings: the run's. learner: the student's; teacher: a denoiser; inputs: `StudentInputs`.
    """

    def __init__(self, settings, learner, teacher, inputs, execution):
        self.settings, self.learner, self.teacher = settings, learner, teacher
        self.inputs, self.execution = inputs, execution
        levels = learner.module.scheduler.few_step_table
        self.first_level = next(iter(levels.values()))[0]  # that of every path
        self.pairs = None  # the `TeacherPairs`

    def __call__(self, micro_batch):
        micro_batch.begin("inputs")
        images = micro_batch.images
        count = self.inputs.parts(len(images)).pure.stop
        seed = hashed_seed(micro_batch.seed, "levels")
        x, sigma, next_sigma = self.inputs.draw(images, seed, with_own=False)
        if self.settings.student.warm_pairs:
            first, target = self.draw_pairs(count, micro_batch)
        else:
            first, target = x[:count], self._images(x[:count])
        x = torch.cat([first, x[count:]])
        target = torch.cat([target, images[count:]])
        micro_batch.begin("output")  # dropout, if any, draws the same each time
        loss = (self.learner(x, sigma, next_sigma) - target).square().mean()
        return loss, {"warm_loss": loss.detach()}

    @property
    def evaluations(self):
        """How many of the teacher, of one image each, all pairs take; 0 where none are kept."""
        student = self.settings.student
        are_used = student.warm_start or student.pair_weight
        return student.warm_pairs * student.warm_nfe if are_used else 0

    def draw_first(self):
        """Make the pairs that are kept, if any are used, or find them."""
        if self.evaluations and not self.pairs:
            self.pairs = self._pairs_of(IMAGE_SHAPE)

    def _pairs_of(self, shape):
        return TeacherPairs(self.settings, self.teacher, self.first_level, shape, self.execution)

    def rehearse(self):
        """Draw zeros in place of pairs: steps will only be counted or timed."""
        self.pairs = StandIn(self.teacher.device)

    def draw_pairs(self, count, micro_batch):
        """(noise at the first level, the teacher's images), `[count, 3, H, W]` each, of pairs that
        are kept."""
        if not self.pairs:
            self.pairs = self._pairs_of(tuple(micro_batch.images.shape[1:]))
        return self.pairs.draw(count, hashed_seed(micro_batch.seed, "pairs"))

    def _images(self, x):
        denoise = partial(self.execution.run, self.teacher.denoise)
        levels = self.first_level, self.settings.student.warm_nfe
        return ode_images(denoise, self.teacher.scheduler, x, *levels)


class TeacherPairs:
    """The `warm_pairs` of a run's settings, from level `sigma`, `warm_nfe` evaluations each.

    An image is kept as bytes in `cache_dir`, under a name of all that it depends on, so it is
    drawn once for all runs with this teacher; its noise is drawn anew from the pair's number.
    Where training images are mirrored, so are pairs, noise and image. shape: (3, H, H) of an image.
    """

    def __init__(self, settings, teacher, sigma, shape, execution):
        student, one, self.shape = settings.student, teacher.scheduler, shape
        self.scheduler, self.device = one, teacher.device
        self.sigma, self.evaluations = sigma, student.warm_nfe
        self.count, self.mirror = student.warm_pairs, settings.data.x_flip
        which = sigma, self.evaluations, self.count, shape, execution.choices.precision
        ode = one.sigma_data, one.sigma_min, one.rho, one.noise_offset
        facts = f"teacher's pairs {weights_digest(teacher)} {ode} {which} from {SEED}"
        digest = hashlib.sha256(facts.encode()).hexdigest()
        denoise = partial(execution.run, teacher.denoise)
        make = partial(self._images, partial(ode_images, denoise, one))
        folder = settings.data.cache_dir
        self.images = execution.processes.first_then_all(
            lambda: cached_images(folder, digest, self.count, make, shape[-1])
        )

    def noise(self, numbers):
        """The noise of these pairs, `[B, 3, H, H]` of unit variance."""
        seeds = [SEED + int(number) for number in numbers]
        shape = len(seeds), *self.shape
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


class StandIn:
    """What `TeacherPairs` draw, but for zeros: for steps that are only counted or timed."""

    def __init__(self, device):
        self.device = device

    def draw(self, count, seed):
        return torch.zeros(2, count, *IMAGE_SHAPE, device=self.device).unbind()
