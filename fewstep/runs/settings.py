"""Every setting of a run, once: name, default, range and meaning. Flags and JSON come from here.

Those of a method stand in its file; here are those that all share, and `Settings`, which has all.
"""

from dataclasses import asdict, dataclass, field, fields, make_dataclass

from fewstep.engine.compiling import MODES
from fewstep.engine.fields import setting, steps
from fewstep.methods import METHODS
from fewstep.methods.edm import Scratch, Teacher, TeacherPhase
from fewstep.methods.method import with_settings
from fewstep.scores.spaces import SELECTING
from src.arguments import LARGEST_BATCH
from src.model_config import NETWORKS


@dataclass(frozen=True)
class Run:
    """What to run and where to write."""

    method: str = setting("adversarial", "way to a few-step generator", list(METHODS))
    phase: str = setting(
        "all", "teacher, the method's own phase (add), or both", ["teacher", "add", "all"]
    )
    teacher_ckpt: str = setting(
        "",
        "teacher to distil; empty: the teacher of this run; for --phase teacher: one to start from",
    )
    student_ckpt: str = setting(
        "", "generator to start from, of an earlier run; empty: the teacher, or random weights"
    )
    save_dir: str = setting("", "run folder; empty: results/TIMESTAMP, or the unfinished run of it")
    export_dir: str = setting("./checkpoints", "where the finished student is put for sampling")
    export: str = setting(
        "last",
        "which student that is, and the run's final_model.pt: the last one, or the best one by its"
        " distance to training images (--best_images; without a teacher: by held-out loss)",
        ["last", "best"],
    )
    device: str = setting("cuda", "cuda, cuda:N or cpu; one that is not there falls back to cpu")
    seed: int = setting(42, "seed of everything drawn", low=0, high=2**31 - 1)
    log_interval: int = steps(100, "steps between rows of log.jsonl")
    save_interval: int = steps(10000, "steps between checkpoints")
    save_minutes: float = setting(
        10.0, "minutes after which a checkpoint is due in any case; 0: never", low=0, high=1e6
    )
    sample_interval: int = steps(5000, "steps between picture sheets, beside early ones")
    best_images: int = setting(
        256, "generated images that tell the best student so far (0: not told)", low=0, high=10000
    )
    best_features: str = setting(
        "random", "feature space of --best_images; efficientnet needs its package", SELECTING
    )
    max_minutes: float = setting(
        0.0, "stop after so many minutes with all saved, exit code 75; 0: no limit", low=0, high=1e6
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

    network: str = setting(
        "full",
        "full is the challenge's; small for hours on a CPU; tiny a first look",
        list(NETWORKS),
    )
    use_additional_condition: bool = setting(
        False, "tell the network the level that its output will be re-noised to"
    )
    num_train_timesteps: int = setting(1000, "range of the network's time input", low=1, high=10**6)


@dataclass(frozen=True)
class Speed:
    """How it is computed: changes rounding, and --micro_batch which random numbers are drawn."""

    precision: str = setting(
        "auto",
        "of the networks; auto: bf16 on a GPU, and on a processor with AMX, or with AVX512-BF16"
        " where a trial finds it faster",
        ["auto", "bf16", "fp32"],
    )
    tf32: bool = setting(True, "TF32 for what stays fp32 on a GPU")
    compile: str = setting(
        "auto",
        "mode of torch.compile for U-Net and discriminator; auto: default on a GPU, and on a CPU"
        " with AMX for --network small",
        ["auto", "off", *MODES],
    )
    attention: str = setting(
        "fused", "torch's fused kernel, or the U-Net's own matrices", ["fused", "explicit"]
    )
    channels_last: str = setting(
        "auto",
        "memory layout of images; auto: on a GPU, and where a CPU with AMX computes in bf16",
        ["auto", "on", "off"],
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
    threads: int = setting(
        0, "threads of an operation on a CPU; 0: as many as torch takes", low=0, high=1024
    )


def _as_dict(self):
    """Nested plain values, as written to `training_config.json`."""
    return asdict(self)


# {name in `Settings`: the dataclass}; field names are unique over all of them.
GROUPS = {"run": Run, "data": Data, "network": Network, "scratch": Scratch, "teacher": Teacher}
for _method in METHODS.values():
    GROUPS |= _method.groups
GROUPS["speed"] = Speed

Settings = make_dataclass(
    "Settings",
    [(name, group, field(default_factory=group)) for name, group in GROUPS.items()],
    frozen=True,
    namespace={"as_dict": _as_dict, "__doc__": "All groups of one run."},
)

PHASES = {"teacher": TeacherPhase} | {m.phase.name: m.phase for m in METHODS.values()}

# {name of a phase: the setting that is its length}
STEPS_FLAGS = {"teacher": "num_iterations"} | {m.phase.name: m.steps_flag for m in METHODS.values()}

# The same of phases that can be taken further.
GROWING_FLAGS = {key: STEPS_FLAGS[key] for key in PHASES if not PHASES[key].has_fixed_length}

# Of the curves picture: {phase: {title: keys of its rows in the log}}.
PANELS = {name: phase.panels for name, phase in PHASES.items()}
HEALTHY = {key: band for phase in PHASES.values() for key, band in phase.healthy.items()}

# Where the data lies may change between runs; which images it holds is checked by their digest.
NOT_IDENTITY = ("data_root", "train_split", "val_split", "cache_dir")
NOT_IDENTITY += ("skip_bad_images",)  # what is left out is not in that digest
NOT_IDENTITY += ("teacher_steps",)  # of pictures only


def flat(groups):
    """{group: {field: value}}, as of `Settings.as_dict`, -> {field: value}; names are unique."""
    return {key: value for group in groups.values() for key, value in group.items()}


def method_of(settings):
    """The `Method` of these settings, as it is with them."""
    return with_settings(METHODS[settings.run.method], flat(settings.as_dict()))


def phases_of(settings):
    """Names of the phases that these settings run, in their order."""
    names, chosen = list(method_of(settings).phases), settings.run.phase
    return {"teacher": names[:1], "add": names[-1:], "all": names}[chosen]


def distils(settings, name):
    """Whether the phase of that name starts from a teacher."""
    method = method_of(settings)
    return method.needs_teacher and name == method.phase.name


def unused_settings(method):
    """Names of the settings that a `Method` has no use for."""
    groups = {name for other in METHODS.values() for name in other.groups} | {"scratch", "teacher"}
    used = {group for name in method.phases for group in PHASES[name].identity}
    names = {item.name for name in groups - used for item in fields(GROUPS[name])}
    return names | (set() if "teacher" in used else {"use_additional_condition"})
