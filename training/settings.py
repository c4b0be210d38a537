"""Every setting of a run, once: name, default, range and meaning. Flags and JSON come from here."""

from dataclasses import asdict, dataclass, field, fields

from custom_model import MODEL_DEFAULTS, NETWORKS


def setting(default, text, choices=None, low=None, high=None):
    """A dataclass field with its help text, allowed values, and inclusive range."""
    meta = dict(text=text, choices=choices, low=low, high=high)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=meta)
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class Run:
    """What to run and where to write."""

    phase: str = setting("all", "teacher, add, or both", ["teacher", "add", "all"])
    save_dir: str = setting("", "run folder; empty: results/TIMESTAMP, or the unfinished run of it")
    export_dir: str = setting("./checkpoints", "where the finished student is put for sampling")
    device: str = setting("cuda", "cuda, cuda:N or cpu; one that is not there falls back to cpu")
    seed: int = setting(42, "seed of everything drawn", low=0, high=2**31 - 1)
    log_interval: int = setting(100, "steps between rows of log.jsonl", low=1)
    save_interval: int = setting(10000, "steps between checkpoints", low=1)
    sample_interval: int = setting(5000, "steps between picture sheets, beside early ones", low=1)
    keep_checkpoints: int = setting(2, "how many checkpoints of a phase are kept", low=1)


@dataclass(frozen=True)
class Data:
    """Which images to learn."""

    data: str = setting("simpsons", "image source", ["simpsons", "folder", "synthetic"])
    data_root: str = setting("", "a folder of images of your own (implies --data folder)")
    train_split: str = setting("", "file with one image id a line; empty: the source's own split")
    val_split: str = setting("", "likewise for the held-out images")
    cache_dir: str = setting("./data/cache", "where decoded images are kept")
    synthetic_count: int = setting(4000, "training images of --data synthetic", low=16)
    data_seed: int = setting(42, "seed of drawn faces and of the part held out", low=0)
    batch_size: int = setting(32, "images a step, both phases", low=2)
    x_flip: bool = setting(True, "mirror half of the training images")


@dataclass(frozen=True)
class Network:
    """The denoiser that teacher and student share."""

    network: str = setting("full", "full is the challenge's; tiny a first look", list(NETWORKS))
    use_additional_condition: bool = setting(
        False, "tell the network the level that its output will be re-noised to"
    )
    num_train_timesteps: int = setting(1000, "range of the network's time input", low=1)


@dataclass(frozen=True)
class Teacher:
    """Phase 1: denoising (EDM)."""

    num_iterations: int = setting(100000, "steps of the teacher", low=1)
    lr: float = setting(1e-4, "peak learning rate of the teacher", low=0, high=1)
    warmup: int = setting(500, "steps of linear warm-up of the learning rate", low=0)
    p_mean: float = setting(MODEL_DEFAULTS["p_mean"], "mean of ln sigma in teacher training")
    p_std: float = setting(MODEL_DEFAULTS["p_std"], "standard deviation of ln sigma", low=0)
    noise_offset: float = setting(
        MODEL_DEFAULTS["noise_offset"],
        "standard deviation of the part of the noise that a whole channel shares",
        low=0,
    )
    ema_share: float = setting(
        0.05, "half-life of the teacher's EMA as a share of the steps so far", low=0, high=1
    )
    teacher_steps: int = setting(35, "network evaluations of the teacher's samples", low=1)


@dataclass(frozen=True)
class Student:
    """Phase 2: adversarial diffusion distillation (ADD)."""

    teacher_ckpt: str = setting("", "teacher to distil; empty: the teacher of this run")
    student_iterations: int = setting(20000, "steps of the student", low=1)
    student_lr: float = setting(5e-5, "peak learning rate of the student", low=0, high=1)
    student_warmup: int = setting(100, "steps of linear warm-up of the student", low=0)
    student_dropout: float = setting(0.0, "dropout of the student", low=0, high=0.9)
    student_ema: float = setting(0.999, "EMA decay of the student", low=0, high=1)
    sigmas: list = setting(
        [80.0, 4.0, 1.5, 0.54],
        "the four noise levels: NFE 1 uses the first, NFE 2 first and third, NFE 4 all",
        low=1e-4,
    )
    first_level_share: float = setting(
        0.5, "share of inputs at the first level, rounded to whole images", low=0, high=1
    )
    self_input_share: float = setting(
        0.5, "share of self-generated inputs at the lower levels (rest: real)", low=0, high=1
    )
    distill_mean: float = setting(-0.4, "mean of ln sigma at which the teacher is asked")
    distill_std: float = setting(1.2, "its standard deviation", low=0)
    distill_final: float = setting(
        0.1, "distillation weight at the end; it falls over the last third", low=0, high=1
    )
    adv_weight: float = setting(
        1.0, "adversarial over distillation gradient norm at the image", low=0
    )
    adv_ramp: int = setting(500, "steps over which the adversarial weight rises from 0", low=0)


@dataclass(frozen=True)
class Discriminator:
    """The discriminator of phase 2, from random weights."""

    disc: str = setting("resnet", "architecture, see discriminator/", ["resnet"])
    disc_channels: int = setting(64, "channels at full resolution", low=8)
    disc_lr: float = setting(2e-4, "learning rate of the discriminator", low=0, high=1)
    disc_warmup: int = setting(200, "steps in which it alone learns", low=0)
    disc_mean: float = setting(-1.5, "mean of ln sigma of the noise on its inputs")
    disc_std: float = setting(1.0, "standard deviation of it", low=0)
    r1_weight: float = setting(10.0, "weight of the approximate R1 penalty", low=0)
    r1_sigma: float = setting(0.1, "standard deviation of that penalty's perturbation", low=0)


@dataclass(frozen=True)
class Settings:
    """All groups of one run."""

    run: Run = field(default_factory=Run)
    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    teacher: Teacher = field(default_factory=Teacher)
    student: Student = field(default_factory=Student)
    discriminator: Discriminator = field(default_factory=Discriminator)

    def as_dict(self):
        """Nested plain values, as written to `training_config.json`."""
        return asdict(self)


GROUPS = {group.name: group.default_factory for group in fields(Settings)}

# What a finished or unfinished phase depends on: resuming with other values would be another run.
PHASE_GROUPS = {
    "teacher": ("data", "network", "teacher"),
    "student": ("data", "network", "student", "discriminator"),
}

# Where the data lies may change between runs; which images it holds is checked by their digest.
NOT_IDENTITY = ("data_root", "train_split", "val_split", "cache_dir", "teacher_ckpt")
NOT_IDENTITY += ("teacher_steps",)  # of pictures only

PRESETS = {
    "full": {},
    # Minutes on two CPU cores: small network, short phases, everything scaled down with them.
    "tiny": dict(
        network="tiny",
        batch_size=8,
        num_iterations=1400,
        lr=2e-3,
        warmup=30,
        p_mean=-0.3,
        p_std=1.5,
        noise_offset=0.15,
        teacher_steps=15,
        student_iterations=600,
        student_lr=5e-4,
        student_warmup=20,
        student_ema=0.99,
        sigmas=[5.0, 2.0, 1.0, 0.5],
        disc_channels=16,
        disc_lr=2e-3,
        disc_warmup=30,
        adv_ramp=100,
        r1_weight=50.0,
        log_interval=50,
        save_interval=500,
        sample_interval=500,
    ),
}


def nfe_table(sigmas):
    """The levels of each number of evaluations, from the four: {"1": [s0], "2": [s0, s2], ...}."""
    return {"1": [sigmas[0]], "2": [sigmas[0], sigmas[2]], "4": list(sigmas)}
