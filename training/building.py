"""From `Settings` to models and stages, the one place that knows both."""

import hashlib
from dataclasses import asdict
from functools import partial

import torch

from custom_model import MODEL_DEFAULTS, create_custom_model
from discriminator import build_discriminator
from imagesets import open_image_sets
from src.utils import UserError
from training.settings import NOT_IDENTITY, PHASE_GROUPS, nfe_table
from training.student import StudentStage
from training.teacher import TeacherStage


def open_images(settings):
    """The training and held-out images that the settings name."""
    data = settings.data
    images = open_image_sets(
        data=data.data,
        data_root=data.data_root or None,
        train_split=data.train_split or None,
        val_split=data.val_split or None,
        cache_dir=data.cache_dir,
        seed=data.data_seed,
        synthetic_count=data.synthetic_count,
    )
    if len(images.train) < data.batch_size:
        raise UserError(f"--batch_size {data.batch_size}: there are {len(images.train)} images")
    return images


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


def phase_identity(settings, stage_name, digests):
    """What a checkpoint must share with the present settings to be gone on from, flat and plain."""
    values = {"seed": settings.run.seed, **digests}
    for group in PHASE_GROUPS[stage_name]:
        for key, value in asdict(getattr(settings, group)).items():
            if key not in NOT_IDENTITY:
                values[key] = value
    return values


def autocast_for(device):
    """bf16 on CUDA, where its range makes loss scaling needless; fp32 elsewhere. A factory."""
    return partial(torch.autocast, device.type, torch.bfloat16, enabled=device.type == "cuda")


def prepare_backends(device):
    """Fast defaults of a CUDA device: TF32 for what stays fp32, tuned convolutions."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True


def build_teacher(settings, sigma_data, device):
    """The stage of phase 1, from random weights."""
    model = create_custom_model(device, **teacher_config(settings, sigma_data))
    teacher = settings.teacher
    return TeacherStage(
        _laid_out(model, device),
        total=teacher.num_iterations,
        lr=teacher.lr,
        warmup=teacher.warmup,
        ema_share=teacher.ema_share,
        autocast=autocast_for(device),
    )


def build_student(settings, teacher, config, device):
    """The stage of phase 2: a student of `config` that starts with the weights of `teacher`, and a
    discriminator with random ones."""
    model = create_custom_model(device, **config)
    model.load_state_dict(teacher.state_dict())
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = settings.student.student_dropout
    student, disc = settings.student, settings.discriminator
    random_disc = build_discriminator(
        disc.disc, channels=disc.disc_channels, sigma_data=config["sigma_data"]
    )
    return StudentStage(
        _laid_out(model, device),
        teacher=_laid_out(teacher, device),
        disc=_laid_out(random_disc.to(device), device),
        total=student.student_iterations,
        autocast=autocast_for(device),
        lr=student.student_lr,
        warmup=student.student_warmup,
        ema=student.student_ema,
        first_level_share=student.first_level_share,
        self_input_share=student.self_input_share,
        distill_mean=student.distill_mean,
        distill_std=student.distill_std,
        distill_final=student.distill_final,
        adv_weight=student.adv_weight,
        adv_ramp=student.adv_ramp,
        disc_lr=disc.disc_lr,
        disc_warmup=disc.disc_warmup,
        disc_mean=disc.disc_mean,
        disc_std=disc.disc_std,
        r1_weight=disc.r1_weight,
        r1_sigma=disc.r1_sigma,
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
    levels = nfe_table(settings.student.sigmas)
    return teacher_config | {"sampler": "few_step", "few_step_sigmas": levels}


def weights_digest(model):
    """SHA-256 over names and values of a model's weights, hexadecimal."""
    digest = hashlib.sha256()
    for key, value in model.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _laid_out(module, device):
    if device.type == "cuda":
        return module.to(memory_format=torch.channels_last)
    return module
