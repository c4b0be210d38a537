"""Every setting of a run, once: name, default, range and meaning. Flags and JSON come from here."""

from dataclasses import asdict, dataclass, field, fields

from custom_model import MODEL_DEFAULTS, NETWORKS
from discriminator import known_names
from discriminator.augment import POLICIES
from fewstep.engine.compiling import MODES
from fewstep.methods.gan_losses import GAN_LOSSES, PENALTIES
from fewstep.methods.score_losses import DISTILLATIONS, WEIGHTINGS
from src.arguments import LARGEST_BATCH, MOST_EVALUATIONS, MOST_STEPS

HIGHEST_SIGMA = 1e4


def setting(default, text, choices=None, low=None, high=None):
    """A dataclass field with its help text, allowed values, and inclusive range."""
    meta = dict(text=text, choices=choices, low=low, high=high)
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=meta)
    return field(default=default, metadata=meta)


def steps(default, text, low=1):
    """A `setting` that is counted in steps."""
    return setting(default, text, low=low, high=MOST_STEPS)


def log_sigma(mean, text):
    """A `setting`: the mean of ln sigma. With it and `spread` at their ends, levels and what
    divides by their squares stay finite and above 0 as fp32."""
    return setting(mean, text, low=-6, high=6)


def spread(std, text):
    """A `setting`: the standard deviation of ln sigma."""
    return setting(std, text, low=0, high=3)


def weight(default, text):
    """A `setting`: the weight of a loss."""
    return setting(default, text, low=0, high=1e6)


@dataclass(frozen=True)
class Run:
    """What to run and where to write."""

    phase: str = setting("all", "teacher, add, or both", ["teacher", "add", "all"])
    save_dir: str = setting("", "run folder; empty: results/TIMESTAMP, or the unfinished run of it")
    export_dir: str = setting("./checkpoints", "where the finished student is put for sampling")
    device: str = setting("cuda", "cuda, cuda:N or cpu; one that is not there falls back to cpu")
    seed: int = setting(42, "seed of everything drawn", low=0, high=2**31 - 1)
    log_interval: int = steps(100, "steps between rows of log.jsonl")
    save_interval: int = steps(10000, "steps between checkpoints")
    sample_interval: int = steps(5000, "steps between picture sheets, beside early ones")
    best_images: int = setting(
        256, "generated images that tell the best student so far (0: not told)", low=0, high=10000
    )
    max_skips: int = steps(
        50, "dropped updates in a row (gradients not finite) after which training ends"
    )
    keep_checkpoints: int = setting(
        2, "how many checkpoints of a phase are kept, beside the best one", low=1, high=10**6
    )


@dataclass(frozen=True)
class Data:
    """Which images to learn."""

    data: str = setting("simpsons", "image source", ["simpsons", "folder", "synthetic"])
    data_root: str = setting("", "a folder of images of your own (implies --data folder)")
    train_split: str = setting("", "file with one image id a line; empty: the source's own split")
    val_split: str = setting("", "likewise for the held-out images")
    skip_bad_images: bool = setting(
        False, "leave out images that cannot be used, and say which; else they are an error"
    )
    cache_dir: str = setting("./data/cache", "where decoded images are kept")
    synthetic_count: int = setting(4000, "training images of --data synthetic", low=16, high=10**6)
    data_seed: int = setting(
        42, "seed of drawn faces and of the part held out", low=0, high=2**63 - 1
    )
    batch_size: int = setting(32, "images a step, of all processes, both phases", low=2, high=2**16)
    x_flip: bool = setting(True, "mirror half of the training images")


@dataclass(frozen=True)
class Network:
    """The denoiser that teacher and student share."""

    network: str = setting("full", "full is the challenge's; tiny a first look", list(NETWORKS))
    use_additional_condition: bool = setting(
        False, "tell the network the level that its output will be re-noised to"
    )
    num_train_timesteps: int = setting(1000, "range of the network's time input", low=1, high=10**6)


@dataclass(frozen=True)
class Teacher:
    """Phase 1: denoising (EDM)."""

    num_iterations: int = steps(100000, "steps of the teacher")
    lr: float = setting(1e-4, "peak learning rate of the teacher", low=0, high=1)
    warmup: int = steps(500, "steps of linear warm-up of the learning rate", low=0)
    p_mean: float = log_sigma(MODEL_DEFAULTS["p_mean"], "mean of ln sigma in teacher training")
    p_std: float = spread(MODEL_DEFAULTS["p_std"], "standard deviation of ln sigma")
    noise_offset: float = setting(
        MODEL_DEFAULTS["noise_offset"],
        "standard deviation of the part of the noise that a whole channel shares",
        low=0,
        high=10,
    )
    ema_share: float = setting(
        0.05, "half-life of the teacher's EMA as a share of the steps so far", low=0, high=1
    )
    teacher_steps: int = setting(
        35, "network evaluations of the teacher's samples", low=1, high=MOST_EVALUATIONS
    )


@dataclass(frozen=True)
class Student:
    """Phase 2: the few-step student."""

    teacher_ckpt: str = setting("", "teacher to distil; empty: the teacher of this run")
    student_iterations: int = steps(20000, "steps of the student")
    student_lr: float = setting(5e-5, "peak learning rate of the student", low=0, high=1)
    student_warmup: int = steps(100, "steps of linear warm-up of the student", low=0)
    student_dropout: float = setting(0.0, "dropout of the student", low=0, high=0.9)
    student_ema_images: float = setting(
        22000.0, "half-life of the student's EMA, in images; 0: no averaging", low=0, high=1e12
    )
    freeze_convs: bool = setting(False, "keep the teacher's inner 3x3 convolutions")
    sigmas: list = setting(
        [80.0, 4.0, 1.5, 0.54],
        "the four noise levels: NFE 1 uses the first, NFE 2 first and third, NFE 4 all",
        low=1e-4,
        high=HIGHEST_SIGMA,
    )
    first_sigma: float = setting(
        0.0, "replaces the first of --sigmas; 0: does not", low=0, high=HIGHEST_SIGMA
    )
    level_shares: list = setting(
        [0.5, 0.125, 0.25, 0.125],
        "how often each level is trained, in any unit; the first rounded to whole images",
        low=0,
        high=1e6,
    )
    self_input_share: float = setting(
        0.5, "share of self-generated inputs at the lower levels (rest: real)", low=0, high=1
    )
    warm_start: int = steps(0, "first steps that regress on the teacher's ODE samples", low=0)
    warm_nfe: int = setting(
        9, "network evaluations of each of those samples", low=1, high=MOST_EVALUATIONS
    )


@dataclass(frozen=True)
class Distillation:
    """Phase 2: score distillation and its balance with the adversary."""

    distill: str = setting("add", "loss of score distillation", DISTILLATIONS)
    distill_weighting: str = setting(
        "auto",
        "weight of each level; auto: as that loss was published",
        ["auto", *WEIGHTINGS],
    )
    distill_mean: float = log_sigma(-0.4, "mean of ln sigma at which the teacher is asked")
    distill_std: float = spread(1.2, "its standard deviation")
    distill_final: float = setting(
        0.1, "distillation weight at the end, from 1 at the start", low=0, high=1
    )
    distill_decay_from: float = setting(
        0.667, "share of the steps after which it falls", low=0, high=0.999
    )
    sid_alpha: float = setting(1.0, "alpha of --distill sid", low=0, high=2)
    fake_lr: float = setting(1e-4, "learning rate of the fake score (dmd, sid)", low=0, high=1)
    fake_steps: int = setting(2, "updates of the fake score a step (dmd, sid)", low=1, high=1000)
    balance: str = setting(
        "ratio",
        "adv_weight is a ratio of gradient norms at the image, or a constant factor",
        ["ratio", "constant"],
    )
    adv_weight: float = weight(1.0, "weight of the adversarial loss, see --balance")
    adv_ramp: int = steps(500, "steps over which it rises from 0", low=0)


@dataclass(frozen=True)
class Discriminator:
    """Phase 2: the discriminator, from random weights."""

    disc: str = setting("resnet", f"none, {', '.join(known_names())}")
    disc_channels: int = setting(0, "width; 0: derived from the U-Net's", low=0, high=512)
    disc_depth: int = setting(
        0, "blocks a resolution; 0: the architecture's own number", low=0, high=8
    )
    disc_heads: str = setting("", "resolutions that are judged, e.g. 16,8,4; empty: all up to 16")
    disc_stddev: bool = setting(True, "show it the spread of the minibatch")
    disc_condition: bool = setting(True, "tell it the noise level of its input")
    disc_spectral: str = setting(
        "auto", "spectral normalisation; auto: for patch", ["auto", "on", "off"]
    )
    disc_start: str = setting(
        "random",
        "teacher: with --disc unet, start from the teacher's encoder (not from scratch)",
        ["random", "teacher"],
    )
    disc_lr: float = setting(2e-4, "learning rate of the discriminator", low=0, high=1)
    disc_warmup: int = steps(200, "steps in which it (and the fake score) learns alone", low=0)
    disc_steps: int = setting(1, "steps of the critics for each of the student", low=1, high=1000)
    disc_noise: bool = setting(True, "show it noised images; else clean ones")
    disc_mean: float = log_sigma(-1.5, "mean of ln sigma of that noise")
    disc_std: float = spread(1.0, "standard deviation of it")
    gan_loss: str = setting("hinge", "adversarial loss", list(GAN_LOSSES))
    penalty: str = setting("approx_r1", "gradient penalty", list(PENALTIES))
    penalty_weight: float = weight(10.0, "weight of the penalty")
    penalty_sigma: float = setting(
        0.1, "perturbation of approx_r1; scale of the gradient in r1 and r1r2", low=1e-6, high=100
    )
    penalty_interval: int = steps(1, "steps between penalties, as much stronger each")
    augment: str = setting("", f"operations on its inputs: {','.join(POLICIES)}; empty: none")
    augment_p: float = setting(1.0, "probability of each, or where ADA starts from", low=0, high=1)
    ada_target: float = setting(
        0.0, "steer that probability so that E[sign D(real)] is this (0.6); 0: fixed", low=0, high=1
    )
    ada_images: float = setting(50000.0, "images in which ADA can go from 0 to 1", low=1, high=1e12)


@dataclass(frozen=True)
class Speed:
    """How it is computed: changes rounding, and --micro_batch which random numbers are drawn."""

    precision: str = setting(
        "auto", "of the networks; auto: bf16 on a GPU", ["auto", "bf16", "fp32"]
    )
    tf32: bool = setting(True, "TF32 for what stays fp32 on a GPU")
    compile: str = setting(
        "auto",
        "mode of torch.compile for U-Net and discriminator; auto: default on a GPU",
        ["auto", "off", *MODES],
    )
    attention: str = setting(
        "fused", "torch's fused kernel, or the U-Net's own matrices", ["fused", "explicit"]
    )
    channels_last: str = setting(
        "auto", "memory layout of images; auto: on a GPU", ["auto", "on", "off"]
    )
    data_on_device: str = setting(
        "auto",
        "decoded images in the GPU's memory; auto: where a quarter of it is enough",
        ["auto", "on", "off"],
    )
    updates: str = setting(
        "fused", "kernels of Adam and the average, fewest first", ["fused", "foreach", "loop"]
    )
    joint_disc: bool = setting(True, "real, generated and perturbed images in one batch")
    micro_batch: int = setting(
        0,
        "images taken at once, a divisor of a process's share of the batch; 0: all",
        low=0,
        high=LARGEST_BATCH,
    )
    checkpointing: bool = setting(
        False, "recompute the U-Net's activations: less memory, more time"
    )


@dataclass(frozen=True)
class Settings:
    """All groups of one run."""

    run: Run = field(default_factory=Run)
    data: Data = field(default_factory=Data)
    network: Network = field(default_factory=Network)
    teacher: Teacher = field(default_factory=Teacher)
    student: Student = field(default_factory=Student)
    distillation: Distillation = field(default_factory=Distillation)
    discriminator: Discriminator = field(default_factory=Discriminator)
    speed: Speed = field(default_factory=Speed)

    def as_dict(self):
        """Nested plain values, as written to `training_config.json`."""
        return asdict(self)


def flat(groups):
    """{group: {field: value}}, as of `Settings.as_dict`, -> {field: value}; names are unique."""
    return {key: value for group in groups.values() for key, value in group.items()}


GROUPS = {group.name: group.default_factory for group in fields(Settings)}

# What a finished or unfinished phase depends on: resuming with other values would be another run.
PHASE_GROUPS = {
    "teacher": ("data", "network", "teacher"),
    "student": ("data", "network", "student", "distillation", "discriminator"),
}

# Where the data lies may change between runs; which images it holds is checked by their digest.
NOT_IDENTITY = ("data_root", "train_split", "val_split", "cache_dir", "teacher_ckpt")
NOT_IDENTITY += ("skip_bad_images",)  # what is left out is not in that digest
NOT_IDENTITY += ("teacher_steps",)  # of pictures only
