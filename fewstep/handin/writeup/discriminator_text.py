"""The discriminator's sentences of the write-up; see `method_text.py`."""

from discriminator import check_name
from fewstep.handin.writeup.wording import listed, normal, number, percent, plural
from fewstep.runs.derived import head_resolutions, policy_names

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
}
ARCHITECTURES = {
    "patch": "a PatchGAN at full, half and quarter size@pix2pix@pix2pixhd",
    "resnet": "a residual network after StyleGAN2@stylegan2",
    "unet": "the encoder of the same U-Net",
}


def discriminator_sentences(s):
    """What the discriminator is, sees and learns, and how its loss is balanced; [] without one."""
    if s.disc == "none":
        return []
    return [_architecture(s), _views(s), _losses(s), *_balance(s)]


def _architecture(s):
    kind, _, argument = s.disc.partition(":")
    named = f"timm's {argument}@timm" if kind == "timm" else f"the architecture “{s.disc}”"
    text = ARCHITECTURES.get(kind, named)
    is_taught = s.disc_start == "teacher"
    text += " with the teacher's weights@dmd2@ladd" if is_taught else " from random weights"
    parts = []
    if s.disc_channels:
        parts.append(f"{s.disc_channels} channels wide")
    if s.disc_depth:
        parts.append(f"of depth {s.disc_depth}")
    if heads := head_resolutions(s.disc_heads):
        parts.append(f"judging maps of side {listed([str(side) for side in heads])}")
    if s.disc_spectral == "on" or (s.disc_spectral == "auto" and check_name(s.disc)[0].spectral):
        parts.append("spectrally normalised@spectral")
    if s.disc_stddev:
        parts.append("shown the minibatch's standard deviation@progan")
    return f"The discriminator is {', '.join([text, listed(parts)] if parts else [text])}."


def _views(s):
    text = "It sees clean images"
    if s.disc_noise:
        levels = normal(s.disc_mean, s.disc_std)
        told = " and is told the level@projection" if s.disc_condition else ""
        text = f"It sees images noised to ln\u00a0σ\u00a0~\u00a0{levels}@diffusion_gan{told}"
    policy = policy_names(s.augment)
    if not policy or not (s.augment_p or s.ada_target):
        return f"{text}."
    text += f", augmented by {listed(policy)}@diff_augment"
    if s.ada_target:
        return (
            f"{text} with a probability that starts at {number(s.augment_p)} and is steered so that"
            f" the mean sign of the logits of training images is {number(s.ada_target)}@ada."
        )
    return f"{text}, each with probability {number(s.augment_p)}."


def _losses(s):
    text = f"It and the student train with {GAN_LOSSES[s.gan_loss]}"
    if s.penalty == "none" or not s.penalty_weight:
        return f"{text}, and it has no gradient penalty."
    strength = f"weight {number(s.penalty_weight)} and perturbation {number(s.penalty_sigma)}"
    if s.penalty != "approx_r1":
        # The usual weight: gamma / 2 times the squared norm of the gradient.
        strength = f"γ\u00a0=\u00a0{number(2 * s.penalty_weight * s.penalty_sigma**2)}"
    rare = f", each {s.penalty_interval} steps and as much stronger@stylegan2"
    rare = rare if s.penalty_interval > 1 else ""
    return f"{text}, and it has {PENALTIES[s.penalty]} of {strength}{rare}."


def _balance(s):
    weight = number(s.adv_weight)
    learning = s.student_iterations - s.warm_start - s.disc_warmup
    if s.adv_ramp > learning:
        ramp = f"; it rises from 0 and ends at {percent(learning / s.adv_ramp)} of that"
    elif s.adv_ramp > 1:
        ramp = f"; it rises to that over {plural(s.adv_ramp, 'step')}"
    else:
        ramp = ""
    if s.distill == "none":
        is_plain = s.adv_weight == 1 and not ramp
        return [] if is_plain else [f"The adversarial loss has the weight {weight}{ramp}."]
    if s.balance == "constant":
        return [f"The adversarial loss has the weight {weight} beside the distillation's 1{ramp}."]
    times = "" if s.adv_weight == 1 else f"{weight} times "
    return [
        f"At the image, the adversarial gradient is scaled to {times}the norm of the distillation"
        f" gradient (cf.@vqgan){ramp}."
    ]
