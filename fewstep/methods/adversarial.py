"""Adversarial diffusion distillation (Sauer et al. 2023, arXiv:2311.17042): score distillation from
the teacher, and a discriminator with random first weights that learns beside the student."""

from functools import partial
from typing import NamedTuple

import torch

from fewstep.engine.learner import Learner
from fewstep.engine.microbatch import hashed_seed
from fewstep.engine.phase import Phase, Turn
from fewstep.engine.schedules import late_decay, ramp, warmed_decay
from fewstep.methods.adversarial_settings import (
    PRESETS,
    RECIPES,
    Student,
    check,
    check_size,
    idle,
    pairs_are_own,
    student_config,
)
from fewstep.methods.adversary import LEAD, build_adversary, try_to_build
from fewstep.methods.adversary_settings import Discriminator
from fewstep.methods.consistency import Consistency, ConsistencyLoss
from fewstep.methods.edm import copy_of, set_dropout
from fewstep.methods.method import Method
from fewstep.methods.pairs import PairSource, WarmStart
from fewstep.methods.score_distillation import (
    NEEDS_FAKE_SCORE,
    Distillation,
    Distiller,
    FakeScore,
    combined_gradient,
)
from fewstep.methods.sentinels import (
    HEALTHY,
    PANELS,
    REMEDIES,
    concerns,
    measure,
    measure_later,
)
from fewstep.methods.student_inputs import StudentInputs
from fewstep.methods.ties import Ties, identity_weight
from fewstep.methods.timeline import Timeline, has_discriminator, student_rate

HELDOUT_SEED = 0  # of which levels the discriminator is shown beside held-out images


class Weights(NamedTuple):
    """A step's weights of distillation (by which that of pairs is multiplied), of the adversarial
    loss, of `ties.distance_to_noise`."""

    distill: float
    adversarial: float
    identity: float


class StudentPhase(Phase):
    """A few-step generator that starts as the teacher, learning by score distillation and a GAN, in
    the order that its `Timeline` gives.

    settings: the run's. model: the student; the levels in its scheduler are the paths of sampling.
    teacher: frozen denoiser. distiller: a `Distiller` or None; adversary: an `Adversary` or None.
    earlier: with `pairs_of` "student" a frozen student, which `start_from` gives its weights.
    """

    name = "student"
    identity = ("data", "network", "student", "distillation", "discriminator", "consistency")
    panels, healthy = PANELS, HEALTHY
    remedies = REMEDIES

    def __init__(
        self, settings, model, config, teacher, distiller, adversary, execution, earlier=None
    ):
        self.settings, self.execution, self.earlier = settings, execution, earlier
        self.teacher, self.distiller, self.adversary = teacher, distiller, adversary
        student, self.timeline = settings.student, Timeline.of(settings)
        self.fixed_start, self.alone = self.timeline.start, self.timeline.alone
        self.fake_score = distiller.fake_score if distiller else None
        critics = [one.learner for one in (self.fake_score, adversary) if one]
        self.rate = student_rate(settings)
        half_life = student.student_ema_images / settings.data.batch_size
        decay = 0.5 ** (1 / half_life) if half_life else 0.0

        if student.freeze_convs:
            freeze_convolutions(model.network)
        learner = Learner(
            "student",
            model.train(),
            "denoise",
            execution,
            lr=self._rate,
            decay=lambda updates: warmed_decay(updates, decay),
        )
        super().__init__([learner, *critics], student.student_iterations, config)
        self.consistency_loss = ConsistencyLoss(settings.consistency, learner, teacher, execution)
        scheduler = model.scheduler
        self.inputs = StudentInputs(
            scheduler.few_step_table, model.device, self._sample, scheduler.noise_like, student
        )
        first_level = next(iter(scheduler.few_step_table.values()))[0]  # that of every path
        self.pairs = PairSource(settings, teacher, first_level, execution, earlier)
        self.warm_start = WarmStart(self.pairs, learner, self.inputs, execution)
        self.ties = Ties(student, self.inputs, self.pairs, scheduler.sigma_data)
        self.waits = False

    @classmethod
    def build(cls, settings, execution, teacher, config):
        """The phase from a frozen teacher, whose weights the student starts with, and the student's
        `model_config.json`; the discriminator's weights are random."""
        model = copy_of(teacher, config, execution)
        set_dropout(model, settings.student.student_dropout)
        teacher = execution.prepare(teacher.eval().requires_grad_(False))
        distiller = fake_score = None
        if settings.distillation.distill in NEEDS_FAKE_SCORE:
            copy = execution.prepare(copy_of(teacher, config, execution))
            fake_score = FakeScore(settings.distillation, copy, execution)
        if settings.distillation.distill != "none":
            distiller = Distiller(settings.distillation, teacher, fake_score, execution)
        adversary = earlier = None
        if has_discriminator(settings):
            progress = Timeline.of(settings).progress
            disc = settings.discriminator
            adversary = build_adversary(disc, teacher, config, execution, progress)
        if pairs_are_own(settings.student):
            earlier = copy_of(teacher, config, execution).eval().requires_grad_(False)
            earlier = execution.prepare(earlier)
        model = execution.prepare(model)
        beside = distiller, adversary, execution, earlier
        phase = cls(settings, model, config, teacher, *beside)
        networks = {"the student": model.network, "the teacher": teacher.network}
        if fake_score:
            networks["the fake score"] = fake_score.model.network
        if adversary:
            networks["the discriminator"] = adversary.disc.trunk
        execution.compile(networks)
        return phase

    @property
    def settled(self):
        """The step from which sentinels hold: all parts learn at their full weight, and the blur of
        the teacher's one-step answers has had time to go."""
        # In a phase that is too short for the whole ramp nothing is settled.
        updates = self.settings.distillation.adv_ramp if self.adversary else 0
        whole_ramp = updates * self.timeline.an_update
        return max(self.fixed_start + self.alone + whole_ramp, self.total // 3)

    @property
    def waited(self):
        """How many steps the student has waited."""
        return self.adversary.waited if self.adversary else 0

    def start_from(self, weights):
        super().start_from(weights)
        if self.earlier:
            self.earlier.load_state_dict(weights)

    def _rate(self, step):
        return self.rate(step, self.waited)

    def turns(self, step):
        timeline, loss = self.timeline, self.settings.distillation
        if step < timeline.consistency:
            progress = step / timeline.consistency
            yield Turn(self.learners[0], partial(self.consistency_loss, progress=progress))
            return
        if step < timeline.start:
            yield Turn(self.learners[0], self.warm_start)
            return
        learnt = timeline.learnt(step)
        self.waits = learnt >= 0 and self.adversary is not None and self.adversary.is_behind
        learns = learnt >= 0 and learnt % timeline.an_update == 0 and not self.waits
        fakes = partial(self.fakes, with_graph=learns)
        if self.fake_score:
            yield from self.fake_score.turns(fakes)
        if self.adversary:
            yield from self.adversary.turns(fakes, self.levels, step)
        if learns:
            progress, rise = timeline.progress(step), timeline.ramp(loss.adv_ramp)
            weights = Weights(
                distill=late_decay(progress, loss.distill_final, loss.distill_decay_from),
                adversarial=loss.adv_weight * ramp(learnt - self.waited, 0, rise),
                identity=identity_weight(self.settings.student, progress),
            )
            yield Turn(self.learners[0], partial(self._student_loss, weights=weights))
        elif self.waits:
            self.adversary.lead.waited += 1

    def fakes(self, micro_batch, with_graph=False):
        """The student's outputs `[B, 3, H, W]` without gradients, the same in all turns of a step.
        with_graph: its own turn comes, so the graph is kept for it; graphs of several
        micro-batches would fill the memory that those are there to save."""
        inputs = self._inputs(micro_batch)
        if with_graph and micro_batch.is_only:
            return micro_batch.once("output", partial(self._output, micro_batch, inputs)).detach()
        return micro_batch.once("fakes", partial(self._without_graph, micro_batch, inputs))

    def levels(self, micro_batch):
        """The noise levels `(B,)` of the evaluations that make `fakes`."""
        return self._inputs(micro_batch)[1]

    def _inputs(self, micro_batch):
        """(inputs, their levels, the levels that follow), the same in all turns of a step."""
        return micro_batch.once("inputs", partial(self._draw_inputs, micro_batch))

    def _draw_inputs(self, micro_batch):
        micro_batch.reseed("inputs")
        images, seed = micro_batch.images, hashed_seed(micro_batch.seed, "levels")
        x, sigma, next_sigma = self.inputs.draw(images, seed)
        if self.settings.student.pair_weight:
            noise, _ = self.ties.pairs(micro_batch)
            x[: len(noise)] = noise
        return x, sigma, next_sigma

    def _output(self, micro_batch, inputs):
        micro_batch.reseed("output")  # dropout, if any, draws the same each time
        return self.learners[0](*inputs)

    @torch.no_grad()
    def _without_graph(self, micro_batch, inputs):
        micro_batch.reseed("output")
        return self._denoise(*inputs)

    def _denoise(self, x, sigma, next_sigma):
        return self.execution.run(self.model.denoise, x, sigma, next_sigma)

    def _sample(self, x, sigma, next_sigma):
        """The same as in sampling, without dropout."""
        if not self.settings.student.student_dropout:
            return self._denoise(x, sigma, next_sigma)
        self.model.eval()
        denoised = self._denoise(x, sigma, next_sigma)
        self.model.train()
        return denoised

    def _student_loss(self, micro_batch, weights):
        """A scalar with the gradient of both losses, weighed against each other at the image, and
        of `Ties` as they are. Not the losses' sum: their gradients meet at the image, and go on
        from there. weights: a step's `Weights`."""
        inputs = self._inputs(micro_batch)
        output = micro_batch.once("output", partial(self._output, micro_batch, inputs))
        micro_batch.reseed("student")
        # Gradients at the image are cheap and tell both losses apart; the student is walked once.
        image, metrics = output.detach().requires_grad_(), {}
        distill_grad = adv_grad = None
        if self.distiller:
            loss = self.distiller.loss_of(image).mean()
            (distill_grad,) = torch.autograd.grad(loss, image)
            own = self.inputs.parts(len(image)).own
            distill_grad[own].mul_(self.settings.distillation.distill_self)
            metrics["distill_loss"] = loss.detach()
        if self.adversary:
            loss = self.adversary.loss_of(image, micro_batch.images, inputs[1]).mean()
            (adv_grad,) = torch.autograd.grad(loss, image)
            metrics["adv_loss"] = loss.detach()
        balance = self.settings.distillation.balance
        both = weights.distill, weights.adversarial
        grad, ratio = combined_gradient(distill_grad, adv_grad, *both, balance)
        if ratio is not None:
            metrics["grad_ratio"] = ratio
        for name, weight, distances in self.ties(image, inputs, micro_batch, weights):
            loss = distances.sum() / len(image)  # images that are not tied count 0
            (own_grad,) = torch.autograd.grad(loss, image)
            grad = grad + weight * own_grad
            metrics[name] = loss.detach()
        return (output * grad).sum(), metrics

    @property
    def drawn_first(self):
        return self.pairs.evaluations

    def draw_first(self, step, check):
        if step < self.timeline.start or self.settings.student.pair_weight:
            self.pairs.prepare(check)

    def evaluate_first(self, images):
        with torch.no_grad():
            self.execution.run(self.teacher.denoise, images, self.pairs.first_level)

    def rehearse(self):
        self.pairs.rehearse()
        if self.adversary:
            self.adversary.lead = None  # for which nobody waits: each step has all its turns

    def _stateful(self):
        return super()._stateful() | (self.adversary.stateful() if self.adversary else {})

    def load_state_dict(self, state):
        lead = state.get(LEAD) if isinstance(state, dict) else None
        if isinstance(lead, dict):  # earlier versions did not count the steps of waiting
            state = state | {LEAD: {"waited": torch.zeros((), dtype=torch.int64)} | lead}
        super().load_state_dict(state)

    def observe(self, micro_batch):
        fakes = micro_batch.results.get("output", micro_batch.results.get("fakes"))
        if fakes is None:
            return {}  # a step of the start
        parts = self.inputs.parts(len(fakes))
        metrics = measure(fakes[parts.pure].detach(), micro_batch.images)
        metrics |= measure_later(fakes[parts.own].detach(), micro_batch.images)
        lead = self.adversary.lead if self.adversary else None
        if lead and self.settings.discriminator.disc_lead:
            metrics["student_waits"] = torch.full((), float(self.waits), device=fakes.device)
        if lead and lead.most < 1:
            metrics["disc_pace"] = lead.pace.clone()
        if self.settings.discriminator.ada_target and self.adversary:
            metrics["ada_p"] = self.adversary.disc.augment.p.clone()
        return metrics

    def concerns(self, row):
        return concerns(row, self.settled)

    def heldout_metrics(self, images):
        if not self.adversary:
            return {}
        # As in training, but of another size, for which nothing should be compiled again.
        with torch.compiler.set_stance("force_eager"):
            x, sigma, next_sigma = self.inputs.draw(images, HELDOUT_SEED)
            fakes = self._sample(x, sigma, next_sigma)
            return self.adversary.judge(images, fakes, sigma)


def freeze_convolutions(network):
    """Stop the U-Net's inner 3x3 convolutions from learning: GAN distillation can do without most
    of them (Zheng and Yang 2024, arXiv:2405.20750). Normalisation, embeddings, attention and both
    ends still learn."""
    for part in (network.downblocks, network.middleblocks, network.upblocks):
        for layer in part.modules():
            if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size != (1, 1):
                layer.requires_grad_(False)


METHOD = Method(
    name="adversarial",
    summary="score distillation from a teacher, and a discriminator from random weights",
    phase=StudentPhase,
    groups={
        "student": Student,
        "distillation": Distillation,
        "discriminator": Discriminator,
        "consistency": Consistency,
    },
    steps_flag="student_iterations",
    needs_teacher=True,
    config=student_config,
    check=check,
    check_size=check_size,
    idle=idle,
    try_to_build=try_to_build,
    warmups=(("student_warmup", "student_iterations"),),
    start=("consistency_steps", "warm_start", "disc_warmup"),
    presets=PRESETS,
    recipes=RECIPES,
)
