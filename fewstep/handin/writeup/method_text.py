"""The sentences of each method's technical details, composed from the settings that ran.

`s` and `taught` hold settings by their flags' names; a word `@key` cites a source of
`citations.yaml`. The paragraph says what the method consists of; the rest is a list of the flags
that differ from their defaults. docs/method.md has the equations.
"""

from discriminator import check_name
from fewstep.handin.writeup.wording import listed, normal, number, percent, plural
from fewstep.methods.adversarial_settings import student_sigmas
from fewstep.methods.score_distillation import NEEDS_FAKE_SCORE, OWN_WEIGHTING
from fewstep.methods.student_inputs import nfe_table

DISTILLATIONS = {
    "add": "Score distillation@add minimises the squared distance of its output x from P",
    "sds": "Score distillation@add@dreamfusion minimises the squared distance of its output x"
    " from P",
    "dmd": "Distribution matching@dmd moves its output x against F − P",
    "sid": "Score identity distillation@sid minimises (P − F)·((P − x) − α(P − F)) for its output"
    " x",
}
WEIGHTINGS = {
    "exponential": "weighted by 1/√(1\u00a0+\u00a0s²)",
    "sds": "weighted by s/(2\u00a0+\u00a02s²)",
    "normalised": "divided by the mean of |x\u00a0−\u00a0P|",
    "uniform": "with equal weight at all levels",
}
ARCHITECTURES = {
    "patch": "a PatchGAN at full, half and quarter size@pix2pix@pix2pixhd",
    "resnet": "a residual network after StyleGAN2@stylegan2",
    "unet": "the encoder of the same U-Net",
    "timm": "a network of timm@timm",
}
GAN_LOSSES = {
    "hinge": "the hinge loss@hinge",
    "nonsaturating": "the non-saturating loss@gan",
    "least_squares": "the least-squares loss@least_squares",
    "relativistic": "the relativistic pairing loss@relativistic@r3gan",
}
PENALTIES = {
    "approx_r1": "an approximate R1 penalty@approx_r1",
    "r1": "an R1 penalty@r1",
    "r1r2": "R1 and R2 penalties@r1@r3gan",
    "none": "no gradient penalty",
}


def adversarial(s, taught, config, parameters):
    """(title, sentences) of a teacher and the student distilled from it.

    s, taught: settings of the student's and of the teacher's run; config: the student's
    `model_config.json`; parameters: how many the network has.
    """
    title = "Adversarial diffusion distillation from scratch"
    if s.distill == "none":
        title = "Adversarial training of a few-step generator from scratch"
    if s.disc == "none":
        title = "Score distillation of a diffusion model from scratch"
    return title, [
        "No pre-trained network is used. Teacher and student are denoisers over the same"
        f" U-Net@ddpm of {parameters:,} parameters, preconditioned as in EDM@edm with the"
        f" standard deviation {number(config['sigma_data'])} of the training pixels; the network is"
        " told an arctan of the noise level σ.",
        *_teacher(taught),
        *_student(s, config),
        *_distillation(s),
        *_discriminator(s),
        *_optimisers(s),
    ]


def rectified_flow(s, taught, config, parameters):
    """(title, sentences) of a network that learns the velocity along straight lines."""
    return "A rectified flow from scratch", [
        f"No pre-trained network is used. A U-Net@ddpm of {parameters:,} parameters learns the mean"
        " velocity of the straight lines between images and noise, with the squared error at"
        f" uniform times@rectified_flow: {_training(s.num_iterations, s)}, Adam@adam, peak learning"
        f" rate {number(s.lr)}{_warm_up(s.warmup)}, weights averaged with a half-life of"
        f" {percent(s.ema_share)} of the steps so far@edm2.",
        "Sampling takes Euler steps of equal length, one evaluation each.",
    ]


def _training(steps, s):
    seen = f"{steps * s.batch_size:,} seen{', half of them mirrored' if s.x_flip else ''}"
    return f"{plural(steps, 'step')} of {s.batch_size} images ({seen})"


def _warm_up(steps):
    return f" after {plural(steps, 'step')} of linear warm-up" if steps else ""


def _teacher(s):
    yield (
        "The teacher starts from random weights and learns to denoise at levels with"
        f" ln\u00a0σ\u00a0~\u00a0{normal(s.p_mean, s.p_std)} under EDM's loss weight:"
        f" {_training(s.num_iterations, s)}, Adam@adam with β\u00a0=\u00a0(0.9,\u00a00.99), peak"
        f" learning rate {number(s.lr)}{_warm_up(s.warmup)} and a cosine to 0, gradients clipped to"
        f" norm 1, weights averaged with a half-life of {percent(s.ema_share)} of the steps so"
        " far@edm2."
    )
    if s.noise_offset:
        std = number(s.noise_offset)
        yield f"Each channel of the noise shares a part of standard deviation {std}@offset."
    yield "Sampling from it follows the ODE by Heun's method@edm."


def _student(s, config):
    trained, sampled = nfe_table(student_sigmas(s)), config["few_step_sigmas"]
    yield (
        "The student starts as the teacher's average. It denoises pure noise and, where more"
        " evaluations are granted, re-noises its answer to the next level and denoises"
        f" again@consistency@add, at σ\u00a0=\u00a0{_paths(trained)}."
    )
    first = round(s.batch_size * s.level_shares[0] / sum(s.level_shares))
    own = round((s.batch_size - first) * s.self_input_share)
    kinds = {
        "pure noise at the first level": first,
        "its own outputs re-noised along these paths@dmd2": own,
        "training images noised to a later level@add": s.batch_size - first - own,
    }
    parts = [f"{count} of {kind}" for kind, count in kinds.items() if count]
    yield f"A training batch has {s.batch_size} inputs: {listed(parts)}."
    if sampled != trained:  # by `fewstep evaluate --tune`
        yield (
            "After its training the levels of sampling were chosen anew, by the distance of samples"
            f" to training images: {_paths(sampled)}."
        )
    if s.freeze_convs:
        yield "Its inner 3×3 convolutions stay as they were@frozen."
    if s.warm_start:
        yield f"Its first {plural(s.warm_start, 'step')} regress on the teacher's ODE samples."


def _paths(levels):
    arrows = {nfe: "\u00a0→\u00a0".join(map(number, path)) for nfe, path in levels.items()}
    return listed([f"{path} for {plural(int(nfe), 'evaluation')}" for nfe, path in arrows.items()])


def _distillation(s):
    """What the student is pulled to and at which weight, and the fake score where there is one."""
    if s.distill == "none":
        yield "No score distillation is used: the student learns from a discriminator alone."
        return
    weighting = OWN_WEIGHTING[s.distill] if s.distill_weighting == "auto" else s.distill_weighting
    yield (
        f"{DISTILLATIONS[s.distill]}, {WEIGHTINGS[weighting]}, where P is the frozen teacher's"
        f" denoising of x re-noised to"
        f" ln\u00a0s\u00a0~\u00a0{normal(s.distill_mean, s.distill_std)}."
    )
    if s.distill in NEEDS_FAKE_SCORE:
        yield (
            "F is that of a fake score, which starts as the teacher and learns to denoise the"
            f" student's outputs, {plural(s.fake_steps, 'update')} a step@dmd2."
        )


def _discriminator(s):
    """What it is, sees and learns, and how its loss is balanced."""
    if s.disc == "none":
        return
    kind, _, argument = s.disc.partition(":")
    text = f"The discriminator is {ARCHITECTURES.get(kind, s.disc)}"
    text += f", {argument}," if argument else ""
    is_taught = s.disc_start == "teacher"
    text += " with the teacher's weights@dmd2@ladd" if is_taught else " from random weights"
    if s.disc_spectral == "on" or (s.disc_spectral == "auto" and check_name(s.disc)[0].spectral):
        text += ", spectrally normalised@spectral"
    text += ", shown the spread of the minibatch@progan" if s.disc_stddev else ""
    yield f"{text}."
    text = "It sees clean images"
    if s.disc_noise:
        levels = normal(s.disc_mean, s.disc_std)
        text = f"It sees images noised to ln\u00a0σ\u00a0~\u00a0{levels}@diffusion_gan"
        text += " and is told the level@projection" if s.disc_condition else ""
    if s.augment:
        text += f", augmented ({s.augment})@diff_augment"
        text += " with an adaptive probability@ada" if s.ada_target else ""
    yield f"{text}."
    weight = f" of weight {number(s.penalty_weight)}" if s.penalty != "none" else ""
    yield (
        f"It and the student train with {GAN_LOSSES[s.gan_loss]}, and it has"
        f" {PENALTIES[s.penalty]}{weight}."
    )
    if s.distill != "none" and s.balance == "ratio":
        yield (
            "At the image, the adversarial gradient is scaled to"
            f" {number(s.adv_weight)}\u00a0times the norm of the distillation gradient (cf.@vqgan)."
        )


def _optimisers(s):
    critics = {"discriminator": s.disc_lr} if s.disc != "none" else {}
    critics |= {"fake score": s.fake_lr} if s.distill in NEEDS_FAKE_SCORE else {}
    rates = [f"{number(s.student_lr)} (student{_warm_up(s.student_warmup)}, cosine)"]
    rates += [f"{number(rate)} ({name})" for name, rate in critics.items()]
    if critics and s.disc_warmup:
        alone = listed([f"the {name}" for name in critics])
        yield f"The first {plural(s.disc_warmup, 'step')} of distillation train {alone} alone."
    kept = "the student's last weights are kept"
    if s.student_ema_images:
        half_life = number(s.student_ema_images)
        kept = f"the student's weights are averaged with a half-life of {half_life} images"
    yield (
        f"This phase has {_training(s.student_iterations, s)}, Adam with"
        f" β\u00a0=\u00a0(0,\u00a00.99)@stylegan2 and learning rates of {listed(rates)}, gradients"
        f" clipped to norm 1; {kept}."
    )


SENTENCES = {"adversarial": adversarial, "rectified_flow": rectified_flow}
