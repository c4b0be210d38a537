"""Train the rectified flow as the teacher is trained: same network, optimiser, average, batches.

    python -m headline.flow --preset full --data_root DIR --save_dir DIR --num_iterations N

takes the flags of train.py that concern a teacher. Rerunning a command resumes it; SIGTERM saves
first. FOLDER/model.pt is the average, FOLDER/log.jsonl has a row a log step.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

import torch

from headline.rectified_flow import create_flow, flow_config
from speed.backends import autocast_for, prepare_backends
from speed.compiling import compile_networks
from src.utils import UserError, pick_device, run_command, save_model, write_json
from training.batches import to_float
from training.building import build_batches, open_images
from training.command_line import parse_settings
from training.hardware import hardware
from training.identity import phase_identity
from training.lock import sole_use
from training.loop import SHEET_IMAGES, train
from training.networks import prepare_network
from training.parts import parts_of
from training.presets import PRESETS
from training.processes import ALONE
from training.run_folder import CONFIG_NAME
from training.settings import Settings, flat
from training.stopping import Interrupted, StopSignals
from training.teacher import TeacherStage

PROGRAM = "python -m headline.flow"
HELDOUT_IMAGES = 64
# What a flow has no use for: levels of EDM, a second phase, a choice among phases.
UNUSED = ("phase", "export_dir", "best_images", "p_mean", "p_std", "noise_offset")
UNUSED += ("use_additional_condition", "joint_disc")
UNUSED_GROUPS = ("student", "distillation", "discriminator")


class FlowStage(TeacherStage):
    """Learns the velocity as a teacher learns to denoise: its model says what the loss is."""

    name = "flow"


def uses(key):
    """Whether a flow's training depends on the setting `key` of train.py."""
    groups = Settings().as_dict()
    return key not in UNUSED and not any(key in groups[group] for group in UNUSED_GROUPS)


def build_flow(settings, device):
    """The stage of a flow, from random weights."""
    model = create_flow(device, **_config(settings))
    teacher, speed = settings.teacher, settings.speed
    stage = FlowStage(
        prepare_network(model, speed, device),
        total=teacher.num_iterations,
        lr=teacher.lr,
        warmup=teacher.warmup,
        ema_share=teacher.ema_share,
        autocast=autocast_for(device, speed.precision),
        processes=ALONE,
        kernels=speed.updates,
    )
    compiled = Path(settings.data.cache_dir) / "compiled"
    compile_networks({"the flow": stage.model.network}, speed.compile, device, compiled)
    return stage


def flow_settings(arguments):
    """(`Settings`, name of the preset) of a command line. Raises `UserError`, naming the flag, for
    flags of train.py that would change nothing here."""
    settings, preset, dry_run = parse_settings(arguments, PROGRAM)
    if dry_run:
        raise UserError("--dry_run: not here; python -m headline --dry_run shows the whole run")
    name, _, recipe = preset.partition("+")
    if recipe:
        raise UserError(f"--recipe {recipe}: is for train.py's phase 2")
    values, usual = flat(settings.as_dict()), flat(Settings().as_dict()) | PRESETS[name]
    for key in values:
        if not uses(key) and values[key] != usual[key]:
            raise UserError(f"--{key}: a rectified flow has no use for it; leave it out")
    if not settings.run.save_dir:
        raise UserError("--save_dir: name the folder of the run")
    return settings, preset


def run(arguments, stop):
    settings, preset = flow_settings(arguments)
    device = pick_device(settings.run.device)
    prepare_backends(device, settings.speed.tf32)
    parts = parts_of(settings.data.batch_size, settings.speed.micro_batch, 1)
    images = open_images(settings)
    folder = Path(settings.run.save_dir)
    print(f"{images.description}; run folder {folder}")
    with ExitStack() as held:
        held.enter_context(sole_use(folder))
        seconds = train_flow(settings, images, folder, device, parts, stop)
        record = {"preset": preset, "torch": torch.__version__, "device": hardware(device)}
        record |= {"settings": settings.as_dict(), "flow_seconds": round(seconds, 1)}
        write_json(folder / CONFIG_NAME, record | {"finished": True})
    print(f"flow: {seconds:.0f} s of training; {folder / 'model.pt'}")
    return 0


def train_flow(settings, images, folder, device, parts, stop):
    """Take the flow in `folder` to its last step; returns the seconds trained in all. Writes
    FOLDER/model.pt with each checkpoint. Raises `Interrupted`."""
    torch.manual_seed(settings.run.seed)  # the random weights
    stage = build_flow(settings, device)
    count = min(HELDOUT_IMAGES, len(images.val))
    heldout = to_float(images.val.take(range(count))).to(device)

    def pictures():
        shape = (SHEET_IMAGES, 3, *heldout.shape[2:])
        return stage.ema.sample(shape, settings.teacher.teacher_steps, seeds=range(SHEET_IMAGES))

    @torch.no_grad()
    def heldout_loss():
        torch.manual_seed(settings.run.seed)  # the same noise each time, so that values compare
        noise = stage.ema.scheduler.noise_like(heldout)
        return {"heldout_loss": stage.ema.compute_loss(heldout, noise).item()}

    run = settings.run
    return train(
        stage,
        batch_of=build_batches(settings, images.train, device, ALONE),
        total=settings.teacher.num_iterations,
        folder=folder,
        identity=phase_identity(settings, "teacher", {"images": images.train.digest}),
        seed=run.seed,
        pictures=pictures,
        extra_metrics=heldout_loss,
        log_interval=run.log_interval,
        save_interval=run.save_interval,
        sample_interval=run.sample_interval,
        keep_checkpoints=run.keep_checkpoints,
        max_skips=run.max_skips,
        on_save=lambda: save_model(stage.ema, folder / "model.pt", _config(settings)),
        parts=parts,
        stop=stop,
    )


def _config(settings):
    return flow_config(settings.network.network, settings.network.num_train_timesteps)


def main(argv=None):
    stop = StopSignals()
    try:
        with stop:
            return run(sys.argv[1:] if argv is None else argv, stop)
    except Interrupted as interrupted:
        print(interrupted, file=sys.stderr)
        return interrupted.exit_code
    except torch.OutOfMemoryError as error:
        raise UserError(
            "out of GPU memory; checkpoints are kept: give a smaller --micro_batch,"
            " --checkpointing or --data_on_device off"
        ) from error


if __name__ == "__main__":
    run_command(main)
