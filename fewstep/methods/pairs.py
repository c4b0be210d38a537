"""Pairs of noise and an image of it, which the teacher's ODE makes or, where a student begins with
another one, that one (`pairs_of`). The student's start is regression on them (`warm_start`); kept
on disk, they serve beside the GAN too (`pair_weight`)."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from fewstep.engine.batches import to_float
from fewstep.engine.microbatch import hashed_seed
from fewstep.images.cache import cached_images
from fewstep.methods.adversarial_settings import uses_pairs
from fewstep.methods.edm import ode_images
from src.feedback import Progress
from src.samplers import IMAGE_SHAPE, few_step_states, noise_source
from src.utils import to_uint8, weights_digest

DRAWN_AT_ONCE = 32
PART = 1024  # pairs in a file: what a process that is stopped may lose
SEED = 3_000_003  # of the first pair's noise, apart from those of sampling


class Maker(NamedTuple):
    """Who makes the images of pairs. name: in words; facts: text of all that they depend on, beside
    noise and shape; model: the denoiser, frozen; sigma: the first level, `evaluations` an image;
    images: a function of a source of noise (each call draws some, of unit variance) that gives
    `[B, 3, H, W]`, made of what it draws first."""

    name: str
    facts: str
    model: torch.nn.Module
    sigma: float
    evaluations: int
    images: Callable


def of_teacher(teacher, sigma, evaluations, execution):
    """The `Maker` of the ends of a teacher's ODE from level `sigma`."""
    one = teacher.scheduler
    ode = one.sigma_data, one.sigma_min, one.rho, one.noise_offset
    denoise = partial(execution.run, teacher.denoise)

    def images(randn):
        return ode_images(denoise, one, sigma * randn(), sigma, evaluations)

    facts = f"teacher's pairs {weights_digest(teacher)} {ode}"
    return Maker("teacher", facts, teacher, sigma, evaluations, images)


def of_student(student, execution, nfe=0):
    """The `Maker` of a student's images of so many evaluations; 0: of its longest path."""
    levels = student.scheduler.few_step_table[nfe or longest_path(student)]
    denoise = partial(execution.run, student.denoise)

    @torch.no_grad()
    def images(randn):
        *_, last = few_step_states(denoise, levels, randn)
        return last

    facts = f"student's pairs {weights_digest(student)} {levels} {student.scheduler.noise_offset}"
    return Maker("student", facts, student, levels[0], len(levels), images)


def longest_path(student):
    """The most evaluations that a student has levels of its own for."""
    return max(student.scheduler.few_step_table)


class WarmStart:
    """The student's start: regress what comes of pure noise on the image that the source has of it,
    and what comes of noised images on these, since a network that learns the first level alone
    forgets the others.

    source: the `PairSource`. learner: the student's; inputs: `StudentInputs`.
    """

    def __init__(self, source, learner, inputs, execution):
        self.source, self.learner = source, learner
        self.inputs, self.execution = inputs, execution

    def __call__(self, micro_batch):
        micro_batch.reseed("inputs")
        images = micro_batch.images
        count = self.inputs.parts(len(images)).pure.stop
        seed = hashed_seed(micro_batch.seed, "levels")
        x, sigma, next_sigma = self.inputs.draw(images, seed, with_own=False)
        first, target = self.source.pairs_for(x[:count], micro_batch)
        x = self.execution.lay_out(torch.cat([first, x[count:]]))
        target = torch.cat([target, images[count:]])
        micro_batch.reseed("output")  # dropout, if any, draws the same each time
        loss = (self.learner(x, sigma, next_sigma) - target).square().mean()
        return loss, {"warm_loss": loss.detach()}


class PairSource:
    """Where pure noise and an image of it come from: `Pairs` that are kept, or the teacher's ODE.

    settings: the run's. teacher: a denoiser; first_level: sigma of the noise; earlier: the frozen
    student whose images take the place of the teacher's, or None.
    """

    def __init__(self, settings, teacher, first_level, execution, earlier=None):
        self.settings, self.teacher, self.first_level = settings, teacher, first_level
        self.execution, self.earlier = execution, earlier
        self.kept = None  # the `Pairs`

    @property
    def evaluations(self):
        """How many, of one image each, all pairs take; 0 where none are kept."""
        student = self.settings.student
        each = student.warm_nfe
        if self.earlier:
            each = student.pairs_nfe or longest_path(self.earlier)
        return student.warm_pairs * each if uses_pairs(student) else 0

    def prepare(self, check):
        """Make the pairs that are kept, if any are used, or find them. check: of `Pairs`."""
        if self.evaluations and not self.kept:
            self.kept = self._pairs(IMAGE_SHAPE, check)

    def rehearse(self):
        """Give zeros in place of pairs: steps will only be counted or timed."""
        self.kept = StandIn(self.teacher.device)

    def draw(self, count, micro_batch):
        """(noise at the first level, images), `[count, 3, H, W]` each, of pairs that are kept."""
        if not self.kept:  # nobody has prepared them: as large as these images
            self.kept = self._pairs(tuple(micro_batch.images.shape[1:]))
        return self.kept.draw(count, hashed_seed(micro_batch.seed, "pairs"))

    def pairs_for(self, x, micro_batch):
        """(noise, images) as `draw` gives them, as many as `x` has; where none are kept `x` itself,
        pure noise `[B, 3, H, W]`, and the ends of the teacher's ODE from it."""
        if self.settings.student.warm_pairs:
            return self.draw(len(x), micro_batch)
        denoise = partial(self.execution.run, self.teacher.denoise)
        levels = self.first_level, self.settings.student.warm_nfe
        return x, ode_images(denoise, self.teacher.scheduler, x, *levels)

    def _pairs(self, shape, check=lambda: None):
        student = self.settings.student
        if self.earlier:
            maker = of_student(self.earlier, self.execution, student.pairs_nfe)
        else:
            levels = self.first_level, student.warm_nfe
            maker = of_teacher(self.teacher, *levels, self.execution)
        return Pairs(self.settings, maker, shape, self.execution, check)


class Pairs:
    """The `warm_pairs` of a run's settings, whose images a `Maker` makes.

    Images are kept as bytes in `cache_dir`, `PART` in a file, under a name of all that they depend
    on, so they are drawn once for all runs with this maker, by all processes together; noise is
    drawn anew from the pair's number.
    Where training images are mirrored, so are pairs, noise and image. shape: (3, H, H) of an image.
    check: called between two files that are drawn, may raise; those that are there stay.
    """

    def __init__(self, settings, maker, shape, execution, check=lambda: None):
        self.maker, self.shape = maker, shape
        self.scheduler, self.device = maker.model.scheduler, maker.model.device
        self.count, self.mirror = settings.student.warm_pairs, settings.data.x_flip
        which = maker.sigma, maker.evaluations, shape, execution.choices.precision
        self.facts = f"{maker.facts} {which} from {SEED}"
        self.check, self.has_drawn = check, False
        self.folder, self.shown = settings.data.cache_dir, execution.processes.is_first
        starts = range(0, self.count, PART)
        parts = [range(start, min(start + PART, self.count)) for start in starts]
        self.parts = execution.processes.share_out(self._part, parts)

    def noise(self, numbers):
        """The noise of these pairs, `[B, 3, H, H]` of unit variance."""
        return self._source(numbers)()

    def _source(self, numbers):
        """A function whose first call gives that noise, and later ones give more for the same."""
        seeds = [SEED + int(number) for number in numbers]
        shape = len(seeds), *self.shape
        return noise_source(self.scheduler.draw_noise, shape, self.device, seeds)

    def draw(self, count, seed):
        """(noise at the maker's level, images), each `[count, 3, H, W]`, of pairs that `seed`
        picks."""
        rng = np.random.default_rng(seed)
        numbers = rng.integers(self.count, size=count)
        mirrored = torch.from_numpy(rng.random(count) < 0.5 * self.mirror).to(self.device)
        noise, images = self.noise(numbers), to_float(self.take(numbers).to(self.device))
        pairs = torch.stack([self.maker.sigma * noise, images])
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
        doing, total = f"pairs of the {self.maker.name}'s", len(numbers)
        if self.count > PART:
            doing += f", {numbers[0] + 1:,} to {numbers[-1] + 1:,}"
        with Progress(doing, total, "pair", stays=True, shown=self.shown) as bar:
            for start in range(0, total, DRAWN_AT_ONCE):
                some = numbers[start : start + DRAWN_AT_ONCE]
                images = self.maker.images(self._source(some))
                yield from to_uint8(images).cpu().numpy()
                bar.update(len(some))
        self.has_drawn = True


class StandIn:
    """What `Pairs` draw, but for zeros: for steps that are only counted or timed."""

    def __init__(self, device):
        self.device = device

    def draw(self, count, seed):
        return torch.zeros(2, count, *IMAGE_SHAPE, device=self.device).unbind()
