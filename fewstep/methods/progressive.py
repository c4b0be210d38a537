"""Progressive distillation (Salimans and Ho 2022, arXiv:2202.00512, alg. 2): each stage's student
does in one step of the deterministic sampler what its teacher does in two.

Levels are sigma_0 > ... > sigma_2N = 0, those of the teacher's sampler. A student of k steps visits
each 2N/k-th. Of a step from sigma over sigma' to sigma'', x = x0 + sigma n:

    x''     = two steps of the teacher from x                 (DDIM; in the first stage EDM's, Heun)
    x~      = (x'' - r x) / (1 - r),  r = sigma'' / sigma                              (app. G)
    E max(1 / sigma^2, 1) || D(x, sigma, sigma'') - x~ ||^2                (truncated SNR, eq. 9)

so that one step with x~ ends in x''. Stages have N, N/2, ..., 4, 2, 1 steps; each teaches the next.

One network serves NFE 4, 2 and 1: it is told the level that its step ends at (the second time
input), by which it knows whose step it takes, and the stages of 2 and 1 steps go on learning what
the network that teaches them says on the longer paths.
"""

from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import torch

from custom_model import CustomScheduler, create_custom_model
from fewstep.engine.curves import Panel
from fewstep.engine.fields import average_share, setting, steps
from fewstep.engine.learner import steady_learner
from fewstep.engine.phase import Phase, Turn
from fewstep.methods.method import Method, check_share
from fewstep.methods.student_inputs import per_image
from src.utils import UserError

SERVED = (4, 2, 1)  # numbers of steps that the saved network must know
INFLECTION = 2.3994  # where SiLU is straight: its second derivative is 0
SCALE = 0.5  # of what goes through there: small enough for a straight line, large for bf16


@dataclass(frozen=True)
class Progressive:
    """Progressive distillation."""

    progressive_iterations: int = steps(
        50000, "steps of --method progressive: of all its stages, which are equally long"
    )
    progressive_start: int = setting(
        16,
        "sampling steps of the first stage's student, a power of two; the teacher takes twice as"
        " many",
        low=4,
        high=512,
    )
    progressive_lr: float = setting(1e-4, "peak learning rate in each stage", low=0, high=1)
    progressive_warmup: int = steps(
        100, "first steps of a stage, in which that learning rate rises to its peak", low=0
    )
    progressive_ema_share: float = average_share(0.05, "the stage's steps so far")
    progressive_keep: float = setting(
        0.5,
        "share of a batch on which the stages of two and of one sampling step keep what they know"
        " of more steps",
        low=0,
        high=0.9,
    )


class ProgressivePhase(Phase):
    """All stages. model: the student, which begins as the teacher; teacher: a frozen denoiser."""

    name = "progressive"
    identity = ("data", "network", "progressive")
    has_fixed_length = True  # its stages divide it
    panels = {
        "progressive: distillation loss": Panel(
            ["stage_loss", "kept_loss"], "falls within a stage; jumps up where the next one begins"
        )
    }

    def __init__(self, settings, model, config, teacher, execution):
        self.settings, self.teacher = settings.progressive, teacher
        own, total = self.settings, self.settings.progressive_iterations
        stages, self.device = stages_of(own), execution.device
        self.stages = torch.tensor(stages, device=self.device)
        self.stage_steps, self.last = total // len(stages), len(stages) - 1
        levels = teacher.scheduler.ode_sigmas(2 * own.progressive_start)
        self.levels = torch.tensor(levels, device=self.device)
        self.before = deepcopy(model).eval().requires_grad_(False)  # what the last stage learnt
        learner = steady_learner(
            self.name,
            model.eval(),  # dropout would blur what is one answer for one input
            "denoise",
            execution,
            own.progressive_lr,
            self.stage_steps,
            own.progressive_warmup,
            own.progressive_ema_share,
            since=lambda step: min(self.place(step)[1], self.stage_steps),
        )
        super().__init__([learner], total, config)
        self.run = execution.run
        self.remedies = {learner.drop_metric: "lower --progressive_lr, or --precision fp32"}

    @classmethod
    def build(cls, settings, execution, teacher, config):
        model = create_custom_model(execution.device, **config)
        begin_as(teacher, model)
        teacher = execution.prepare(teacher.eval().requires_grad_(False))
        phase = cls(settings, execution.prepare(model), config, teacher, execution)
        networks = {"the student": phase.model.network, "the teacher": teacher.network}
        execution.compile(networks | {"the stage before": phase.before.network})
        return phase

    def place(self, step):
        """(number of the stage, steps in it so far) of a step of the phase."""
        stage = min(step // self.stage_steps, self.last)
        return stage, step - stage * self.stage_steps

    def _stateful(self):
        return super()._stateful() | {"before": self.before}

    def turns(self, step):
        stage, since = self.place(step)
        if stage and not since:  # what the last stage has learnt, its average, teaches this one
            for network in (self.before, self.model):
                network.load_state_dict(self.ema.state_dict())
        yield Turn(self.learners[0], partial(self._loss, stage=stage))

    def _loss(self, micro_batch, stage):
        micro_batch.reseed("inputs")
        images, scheduler = micro_batch.images, self.teacher.scheduler
        kept = self.stages[self.last + 1 - len(SERVED) : stage]
        rest = round(len(images) * self.settings.progressive_keep) if len(kept) else 0
        count = len(images) - rest
        draws = [self._draw(self.stages[stage : stage + 1], count)]
        draws += [self._draw(kept, rest)] if rest else []
        sigma, middle, end = map(torch.cat, zip(*draws))
        x = scheduler.forward_process(images, scheduler.noise_like(images), sigma)
        with torch.no_grad():
            target = self._halved(x[:count], sigma[:count], middle[:count], end[:count], stage)
            if rest:
                same = self.run(self.before.denoise, x[count:], sigma[count:], end[count:])
                target = torch.cat([target, same])
        error = (self.learners[0](x, sigma, end) - target).square().mean(dim=(1, 2, 3))
        error = error * snr_weight(sigma)
        parts = {"stage_loss": error[:count], "kept_loss": error[count:]}
        metrics = {key: part.detach().mean() for key, part in parts.items() if len(part)}
        return error.mean(), metrics

    def _draw(self, paths, count):
        """Levels `(count,)` of steps of these paths: where they begin, their middle, their end."""
        path = paths[torch.randint(len(paths), (count,), device=self.device)]
        stride = (len(self.levels) - 1) // path
        begin = (torch.rand(count, device=self.device) * path).long() * stride
        return [self.levels[begin + far] for far in (0 * stride, stride // 2, stride)]

    def _halved(self, x, sigma, middle, end, stage):
        """What a student should answer at `sigma` to end where two steps of its teacher do."""
        if stage:
            step = partial(euler_step, partial(self.run, self.before.denoise))
        else:
            step = partial(heun_step, partial(self.run, self.teacher.denoise))
        return answer_for(x, sigma, end, step(step(x, sigma, middle), middle, end))


def stages_of(settings):
    """Numbers of steps of the stages: N, N/2, ..., 1."""
    return [settings.progressive_start >> i for i in range(settings.progressive_start.bit_length())]


def snr_weight(sigma):
    """max(SNR, 1), SNR = 1 / sigma^2 (eq. 9)."""
    return (sigma**-2).clamp_min(1)


def answer_for(x, sigma, end, x_end):
    """The denoised image x~ with which one Euler step from x at `sigma` ends at `end` in x_end."""
    ratio = per_image(end / sigma)
    return (x_end - ratio * x) / (1 - ratio)


def euler_step(denoise, x, sigma, end):
    """A step of DDIM from `sigma` to `end`, both `(B,)`; denoise(x, sigma, end) -> x0."""
    denoised = denoise(x, sigma, end)
    return denoised + per_image(end / sigma) * (x - denoised)


def heun_step(denoise, x, sigma, end):
    """A step of EDM's sampler (arXiv:2206.00364, alg. 1) for images of different levels; an end at
    0 is an Euler step. denoise(x, sigma) -> x0."""
    denoised = denoise(x, sigma)
    x_end = denoised + per_image(end / sigma) * (x - denoised)
    slope = (x - denoised) / per_image(sigma)
    at = torch.where(end > 0, end, sigma)  # any level, where there is no second evaluation
    slope_end = (x_end - denoise(x_end, at)) / per_image(at)
    corrected = x + per_image(end - sigma) * (slope + slope_end) / 2
    return torch.where(per_image(end > 0), corrected, x_end)


@torch.no_grad()
def begin_as(teacher, model):
    """Give a model that is told a second level the weights of a teacher. Of one without that input
    it answers as the teacher does, whatever the second level is; of one with it, where that is 0,
    the only one that a teacher learns.

    Without it, time features h go through two linear layers with a SiLU between that the teacher
    has not. About its point of inflection a SiLU is a line: h comes out as it went in, up to a
    third order.
    """
    has_input = teacher.use_additional_condition
    model.load_state_dict(teacher.state_dict(), strict=has_input)
    if has_input:
        return
    first, silu, last = model.network.condition_fusion
    width = first.out_features
    point = torch.tensor(INFLECTION)
    value, share = silu(point).item(), torch.sigmoid(point).item()
    slope = share * (1 + INFLECTION * (1 - share))
    same = torch.eye(width, device=first.weight.device)
    first.weight.zero_()
    first.weight[:, :width] = SCALE * same
    first.bias.fill_(INFLECTION)
    last.weight.copy_(same / (SCALE * slope))
    last.bias.fill_(-value / (SCALE * slope))


def progressive_config(teacher_config, settings):
    """The teacher's `model_config.json` with levels of 4, 2 and 1 steps and the second input."""
    keys = ("sigma_min", "sigma_max", "rho")
    scheduler = CustomScheduler(**{key: teacher_config[key] for key in keys})
    levels = scheduler.ode_sigmas(2 * settings.progressive.progressive_start)[:-1]
    table = {str(count): levels[:: len(levels) // count] for count in sorted(SERVED)}
    own = {"sampler": "ddim", "few_step_sigmas": table, "use_additional_condition": True}
    return teacher_config | own


def check(settings):
    """Raise `UserError` for stages that cannot be."""
    own = settings.progressive
    if own.progressive_start & (own.progressive_start - 1):
        raise UserError(f"--progressive_start {own.progressive_start}: a power of two is needed")
    if own.progressive_iterations < len(stages_of(own)):
        raise UserError(
            f"--progressive_iterations {own.progressive_iterations}: there are"
            f" {len(stages_of(own))} stages; give more, or less --progressive_start"
        )


def check_size(settings, size):
    """Raise `UserError` where micro-batches of `size` images would lose a part to rounding."""
    if settings.run.phase != "teacher":
        check_share("progressive_keep", settings.progressive.progressive_keep, size)


METHOD = Method(
    name="progressive",
    summary="a student of half the teacher's steps, then of half of those, down to one",
    phase=ProgressivePhase,
    groups={"progressive": Progressive},
    steps_flag="progressive_iterations",
    needs_teacher=True,
    config=progressive_config,
    check=check,
    check_size=check_size,
    warmups=(("progressive_warmup", "progressive_iterations"),),
    presets={
        "small": dict(progressive_iterations=20000, progressive_lr=3e-4),
        "tiny": dict(
            progressive_iterations=800,
            progressive_start=8,
            progressive_lr=1e-3,
            progressive_warmup=10,
        ),
    },
)
