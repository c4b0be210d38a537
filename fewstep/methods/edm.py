"""The teacher, phase 1 of every method that distils: a denoiser from scratch (EDM)."""

from dataclasses import dataclass

from custom_model import create_custom_model
from fewstep.engine.fields import log_sigma, setting, spread, steps
from fewstep.engine.learner import Learner
from fewstep.engine.phase import Phase, Turn
from fewstep.engine.schedules import ema_decay, warmup_cosine
from src.arguments import MOST_EVALUATIONS
from src.model_config import MODEL_DEFAULTS


@dataclass(frozen=True)
class Scratch:
    """Training from random weights: the teacher, or a method that needs none."""

    num_iterations: int = steps(100000, "steps of the network that is trained from scratch")
    lr: float = setting(1e-4, "its peak learning rate", low=0, high=1)
    warmup: int = steps(500, "steps of linear warm-up of that learning rate", low=0)
    ema_share: float = setting(
        0.05, "half-life of its EMA as a share of the steps so far", low=0, high=1
    )


@dataclass(frozen=True)
class Teacher:
    """Phase 1: denoising (EDM)."""

    p_mean: float = log_sigma(MODEL_DEFAULTS["p_mean"], "mean of ln sigma in teacher training")
    p_std: float = spread(MODEL_DEFAULTS["p_std"], "standard deviation of ln sigma")
    noise_offset: float = setting(
        MODEL_DEFAULTS["noise_offset"],
        "standard deviation of the part of the noise that a whole channel shares",
        low=0,
        high=10,
    )
    teacher_steps: int = setting(
        35, "network evaluations of the teacher's samples", low=1, high=MOST_EVALUATIONS
    )


PRESETS = {
    "tiny": dict(
        num_iterations=1400,
        lr=2e-3,
        warmup=30,
        p_mean=-0.3,
        p_std=1.5,
        noise_offset=0.15,
        teacher_steps=15,
    )
}


class ScratchPhase(Phase):
    """A network from random weights that learns what its model's `compute_loss` says.

    settings: the run's. config: its `model_config.json`. execution: see `engine.execution`.
    """

    best_by = "heldout_loss"

    def __init__(self, settings, config, execution):
        scratch, name = settings.scratch, self.name
        model = execution.prepare(create_custom_model(execution.device, **config)).train()
        total = scratch.num_iterations
        learner = Learner(
            name,
            model,
            "compute_loss",
            execution,
            lr=lambda step: scratch.lr * warmup_cosine(step, total, scratch.warmup),
            betas=(0.9, 0.99),
            decay=lambda step: ema_decay(step, scratch.ema_share),
        )
        super().__init__([learner], total, config)
        execution.compile({f"the {name}": model.network})
        self.remedies = {f"{name}_skipped": "lower --lr, or --precision fp32"}

    def turns(self, step):
        yield Turn(self.learners[0], self._loss)

    def _loss(self, micro_batch):
        micro_batch.begin(self.name)
        noise = self.model.scheduler.noise_like(micro_batch.images)
        loss = self.learners[0](micro_batch.images, noise)
        return loss, {"loss": loss.detach()}

    def heldout_metrics(self, images):
        noise = self.ema.scheduler.draw_noise(images.shape, images.device)
        return {"heldout_loss": self.ema.compute_loss(images, noise).item()}


class TeacherPhase(ScratchPhase):
    """Phase 1: a denoiser from scratch."""

    name = "teacher"
    identity = ("data", "network", "scratch", "teacher")
    panels = {"teacher: denoising loss": ["loss", "heldout_loss"]}

    @classmethod
    def build(cls, settings, execution, sigma_data):
        phase = cls(settings, teacher_config(settings, sigma_data), execution)
        phase.nfe_rows = (settings.teacher.teacher_steps,)
        return phase


def network_config(settings):
    """What every `model_config.json` of a run has of its network."""
    network = settings.network
    return dict(
        network=network.network,
        use_additional_condition=network.use_additional_condition,
        num_train_timesteps=network.num_train_timesteps,
    )


def teacher_config(settings, sigma_data):
    """The teacher's `model_config.json`: every key of `MODEL_DEFAULTS`, none else."""
    return (
        MODEL_DEFAULTS
        | network_config(settings)
        | dict(
            sigma_data=sigma_data,
            p_mean=settings.teacher.p_mean,
            p_std=settings.teacher.p_std,
            noise_offset=settings.teacher.noise_offset,
            sampler="heun",
        )
    )
