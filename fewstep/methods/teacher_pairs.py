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
PART = 1024  # pairs in a file: what a process that is stopped may lose
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
        micro_batch.reseed("inputs")
        images = micro_batch.images
        count = self.inputs.parts(len(images)).pure.stop
        seed = hashed_seed(micro_batch.seed, "levels")
        x, sigma, next_sigma = self.inputs.draw(images, seed, with_own=False)
        if self.settings.student.warm_pairs:
            first, target = self.draw_pairs(count, micro_batch)
        else:
            first, target = x[:count], self._images(x[:count])
        x = self.execution.lay_out(torch.cat([first, x[count:]]))
        target = torch.cat([target, images[count:]])
        micro_batch.reseed("output")  # dropout, if any, draws the same each time
        loss = (self.learner(x, sigma, next_sigma) - target).square().mean()
        return loss, {"warm_loss": loss.detach()}

    @property
    def evaluations(self):
        """How many of the teacher, of one image each, all pairs take; 0 where none are kept."""
        student = self.settings.student
        are_used = student.warm_start or student.pair_weight
        return student.warm_pairs * student.warm_nfe if are_used else 0

    def draw_first(self, check):
        """Make the pairs that are kept, if any are used, or find them. check: of `TeacherPairs`."""
        if self.evaluations and not self.pairs:
            self.pairs = self._pairs_of(IMAGE_SHAPE, check)

    def _pairs_of(self, shape, check=lambda: None):
        level, execution = self.first_level, self.execution
        return TeacherPairs(self.settings, self.teacher, level, shape, execution, check)

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

    Images are kept as bytes in `cache_dir`, `PART` in a file, under a name of all that they depend
    on, so they are drawn once for all runs with this teacher, by all processes together; noise is
    drawn anew from the pair's number.
    Where training images are mirrored, so are pairs, noise and image. shape: (3, H, H) of an image.
    check: called between two files that are drawn, may raise; those that are there stay.
    """

    def __init__(self, settings, teacher, sigma, shape, execution, check=lambda: None):
        student, one, self.shape = settings.student, teacher.scheduler, shape
        self.scheduler, self.device = one, teacher.device
        self.sigma, self.evaluations = sigma, student.warm_nfe
        self.count, self.mirror = student.warm_pairs, settings.data.x_flip
        which = sigma, self.evaluations, shape, execution.choices.precision
        ode = one.sigma_data, one.sigma_min, one.rho, one.noise_offset
        self.facts = f"teacher's pairs {weights_digest(teacher)} {ode} {which} from {SEED}"
        self.ode = partial(ode_images, partial(execution.run, teacher.denoise), one)
        self.check, self.has_drawn = check, False
        self.folder, self.shown = settings.data.cache_dir, execution.processes.is_first
        starts = range(0, self.count, PART)
        parts = [range(start, min(start + PART, self.count)) for start in starts]
        self.parts = execution.processes.share_out(self._part, parts)

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
        noise, images = self.noise(numbers), to_float(self.take(numbers).to(self.device))
        pairs = torch.stack([self.sigma * noise, images])
        noise, images = torch.where(mirrored[:, None, None, None], pairs.flip(-1), pairs)
        return noise, images

    def take(self, numbers):
        """Images of these pairs, uint8 `[B, H, H, 3]`."""
        numbers = np.asarray(numbers)
        images = torch.empty(len(numbers), *self.parts[0].images.shape[1:], dtype=torch.uint8)
        for place, part in enumerate(self.parts):
            is_here = numbers // PART == place
            images[torch.from_numpy(is_here)] = part.take(numbers[is_here] % PART)
        return images

    def _part(self, numbers):
        """The images of these pairs on disk, drawn where they are not there."""
        digest = hashlib.sha256(f"{self.facts} {numbers}".encode()).hexdigest()
        make = partial(self._images, numbers)
        return cached_images(self.folder, digest, len(numbers), make, self.shape[-1])

    def _images(self, numbers):
        if self.has_drawn:  # else a run with a short limit of time would never get further
            self.check()
        doing, total = "pairs of the teacher's", len(numbers)
        if self.count > PART:
            doing += f", {numbers[0] + 1:,} to {numbers[-1] + 1:,}"
        with Progress(doing, total, "pair", stays=True, shown=self.shown) as bar:
            for start in range(0, total, DRAWN_AT_ONCE):
                some = numbers[start : start + DRAWN_AT_ONCE]
                images = self.ode(self.sigma * self.noise(some), self.sigma, self.evaluations)
                yield from to_uint8(images).cpu().numpy()
                bar.update(len(some))
        self.has_drawn = True


class StandIn:
    """What `TeacherPairs` draw, but for zeros: for steps that are only counted or timed."""

    def __init__(self, device):
        self.device = device

    def draw(self, count, seed):
        return torch.zeros(2, count, *IMAGE_SHAPE, device=self.device).unbind()
