"""From `Settings` to models and stages, the one place that knows both."""

from dataclasses import asdict, replace
from pathlib import Path

import torch

from custom_model import MODEL_DEFAULTS, NETWORKS, create_custom_model
from discriminator import build_discriminator
from fewstep.engine.batches import StepBatches, fits_on_device
from fewstep.engine.compiling import compile_networks
from fewstep.engine.learner import runner
from fewstep.engine.networks import leave_unused, prepare_network
from fewstep.engine.precision import autocast_for, is_wanted
from fewstep.images import open_image_sets
from fewstep.methods.adversarial import StudentStage
from fewstep.methods.adversary import Adversary
from fewstep.methods.distiller import Distiller
from fewstep.methods.edm import TeacherStage
from fewstep.methods.fake_score import FakeScore
from fewstep.methods.score_losses import NEEDS_FAKE_SCORE
from fewstep.runs.derived import head_resolutions, nfe_table, policy_names, student_sigmas
from src.utils import UserError


def open_images(settings):
    """The training and held-out images that the settings name."""
    data = settings.data
    return open_image_sets(
        data=data.data,
        data_root=data.data_root or None,
        train_split=data.train_split or None,
        val_split=data.val_split or None,
        cache_dir=data.cache_dir,
        seed=data.data_seed,
        synthetic_count=data.synthetic_count,
        batch_size=data.batch_size,
        skip_bad_images=data.skip_bad_images,
    )


def teacher_config(settings, sigma_data):
    """The teacher's `model_config.json`: every key of `MODEL_DEFAULTS`, none else."""
    return MODEL_DEFAULTS | dict(
        network=settings.network.network,
        use_additional_condition=settings.network.use_additional_condition,
        num_train_timesteps=settings.network.num_train_timesteps,
        sigma_data=sigma_data,
        p_mean=settings.teacher.p_mean,
        p_std=settings.teacher.p_std,
        noise_offset=settings.teacher.noise_offset,
        sampler="heun",
    )


def build_batches(settings, cache, device, processes):
    """step -> images of this process, see `StepBatches`."""
    data, speed = settings.data, settings.speed
    return StepBatches(
        cache,
        data.batch_size,
        settings.run.seed,
        data.x_flip,
        device,
        on_device=fits_on_device(speed.data_on_device, cache, device),
        channels_last=is_wanted(speed.channels_last, device),
        rank=processes.rank,
        count=processes.count,
    )


def build_teacher(settings, sigma_data, device, processes):
    """The stage of phase 1, from random weights."""
    model = create_custom_model(device, **teacher_config(settings, sigma_data))
    teacher, speed = settings.teacher, settings.speed
    stage = TeacherStage(
        prepare_network(model, speed, device),
        total=teacher.num_iterations,
        lr=teacher.lr,
        warmup=teacher.warmup,
        ema_share=teacher.ema_share,
        **_how_to_learn(speed, device, processes),
    )
    _compile({"the teacher": stage.model.network}, settings, device)
    return stage


def build_student(settings, teacher, config, device, processes):
    """The stage of phase 2: a student of `config` that starts with the weights of `teacher`, what
    distils it, and its adversary with random weights."""
    student, loss, speed = settings.student, settings.distillation, settings.speed
    model = _copy_of(teacher, config, device)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = student.student_dropout
    how = _how_to_learn(speed, device, processes)
    teacher = prepare_network(teacher.eval().requires_grad_(False), speed, device)
    half_life = student.student_ema_images / settings.data.batch_size
    stage = StudentStage(
        prepare_network(model, speed, device),
        teacher=teacher,
        distiller=_build_distiller(settings, teacher, config, device, how),
        adversary=_build_adversary(settings, teacher, config, device, how),
        total=student.student_iterations,
        **how,
        lr=student.student_lr,
        warmup=student.student_warmup,
        ema=0.5 ** (1 / half_life) if half_life else 0.0,
        freeze_convs=student.freeze_convs,
        level_shares=student.level_shares,
        self_input_share=student.self_input_share,
        warm_start=student.warm_start,
        warm_nfe=student.warm_nfe,
        distill_final=loss.distill_final,
        distill_decay_from=loss.distill_decay_from,
        balance=loss.balance,
        adv_weight=loss.adv_weight,
        adv_ramp=loss.adv_ramp,
        disc_warmup=settings.discriminator.disc_warmup,
        disc_steps=settings.discriminator.disc_steps,
    )
    networks = {"the student": stage.model.network, "the teacher": teacher.network}
    if stage.distiller and stage.distiller.fake_score:
        networks["the fake score"] = stage.distiller.fake_score.model.network
    if stage.adversary:
        networks["the discriminator"] = stage.adversary.disc.trunk
    _compile(networks, settings, device)
    return stage


def _compile(networks, settings, device):
    folder = Path(settings.data.cache_dir) / "compiled"
    compile_networks(networks, settings.speed.compile, device, folder)


def _how_to_learn(speed, device, processes):
    autocast = autocast_for(device, speed.precision)
    return dict(autocast=autocast, processes=processes, kernels=speed.updates)


def _copy_of(teacher, config, device):
    """Another network of `config` with the teacher's weights."""
    model = create_custom_model(device, **config)
    model.load_state_dict(teacher.state_dict())
    return model


def _build_distiller(settings, teacher, config, device, how):
    loss = settings.distillation
    if loss.distill == "none":
        return None
    noise_like = teacher.scheduler.noise_like
    levels = dict(mean=loss.distill_mean, std=loss.distill_std)
    fake_score = None
    if loss.distill in NEEDS_FAKE_SCORE:
        model = prepare_network(_copy_of(teacher, config, device), settings.speed, device)
        updates = dict(lr=loss.fake_lr, updates=loss.fake_steps)
        fake_score = FakeScore(model, noise_like, **updates, **levels, **how)
    return Distiller(
        teacher,
        fake_score,
        runner(how["autocast"]),
        noise_like,
        kind=loss.distill,
        weighting=loss.distill_weighting,
        sid_alpha=loss.sid_alpha,
        **levels,
    )


def _build_adversary(settings, teacher, config, device, how):
    disc, speed = settings.discriminator, settings.speed
    if disc.disc == "none":
        return None
    start = teacher if disc.disc_start == "teacher" else None
    network = _discriminator(disc, config["network"], config["sigma_data"], start)
    if network.replaced_norms:
        print(
            f"--disc {disc.disc}: {network.replaced_norms} batch normalisations replaced by group"
            " normalisation (batch statistics would tell real from generated)"
        )
    # Its passes are short, and penalties differentiate them twice, which recomputing does not bear.
    plain = replace(speed, checkpointing=False)
    network = prepare_network(network.to(device), plain, device)
    leave_unused(network, device)
    return Adversary(
        network,
        device,
        **how,
        joint=speed.joint_disc,
        lr=disc.disc_lr,
        gan_loss=disc.gan_loss,
        noised=disc.disc_noise,
        mean=disc.disc_mean,
        std=disc.disc_std,
        penalty=disc.penalty,
        penalty_weight=disc.penalty_weight,
        penalty_sigma=disc.penalty_sigma,
        penalty_interval=disc.penalty_interval,
        ada_target=disc.ada_target,
        ada_images=disc.ada_images,
    )


def check_discriminator(settings):
    """Raise `UserError` now for a discriminator that could not be built when its turn comes."""
    disc, network = settings.discriminator, settings.network
    if disc.disc == "none" or settings.run.phase == "teacher":
        return
    start = None
    if disc.disc_start == "teacher":
        start = create_custom_model(network=network.network)
    _discriminator(disc, network.network, MODEL_DEFAULTS["sigma_data"], start)


def _discriminator(disc, network, sigma_data, start):
    return build_discriminator(
        disc.disc,
        network=NETWORKS[network],
        sigma_data=sigma_data,
        channels=disc.disc_channels,
        depth=disc.disc_depth,
        heads=head_resolutions(disc.disc_heads),
        stddev=disc.disc_stddev,
        condition=disc.disc_condition,
        spectral=disc.disc_spectral,
        policy=policy_names(disc.augment),
        p=disc.augment_p,
        teacher=start,
    )


def student_config(teacher_config, settings, path):
    """The student's `model_config.json`: its teacher's, with the few-step sampler and its levels.

    Raises `UserError` when the teacher at `path` is a student, or has another network than the
    settings describe.
    """
    for key, value in asdict(settings.network).items():
        if teacher_config.get(key, MODEL_DEFAULTS[key]) != value:
            raise UserError(
                f"--teacher_ckpt {path}: it has {key} = {teacher_config.get(key)}, the flags say"
                f" {value}; give the teacher's --{key}"
            )
    if teacher_config.get("sampler") == "few_step":
        raise UserError(f"--teacher_ckpt {path}: it is a student; name a teacher's model.pt")
    levels = nfe_table(student_sigmas(settings.student))
    return teacher_config | {"sampler": "few_step", "few_step_sigmas": levels}
