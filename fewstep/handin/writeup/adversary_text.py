"""The discriminator's part of the write-up's technical details."""

from discriminator import check_name
from fewstep.handin.writeup.wording import listed, normal, number, percent, plural
from fewstep.runs.derived import alone_steps, head_resolutions, policy_names

# name in the settings -> (name in the text, its sources)
GAN_LOSSES = {
    "hinge": ("the hinge loss", "hinge"),
    "nonsaturating": ("the non-saturating loss", "gan"),
    "least_squares": ("the least-squares loss", "least_squares"),
    "relativistic": ("the relativistic pairing loss", "relativistic", "r3gan"),
}
PENALTIES = {
    "approx_r1": ("an approximate R1 penalty", "approx_r1"),
    "r1": ("an R1 penalty", "r1"),
    "r1r2": ("R1 and R2 penalties", "r1", "r3gan"),
}


def adversary_sentences(settings, cite):
    """What the discriminator is, sees and learns, and how its loss is balanced; [] without one."""
    if settings.discriminator.disc == "none":
        return []
    return [
        _architecture(settings.discriminator, cite),
        _views(settings.discriminator, cite),
        _losses(settings.discriminator, cite),
        *_balance(settings, cite),
    ]


def _architecture(disc, cite):
    kind, _, argument = disc.disc.partition(":")
    if kind == "patch":
        text = f"a PatchGAN at full, half and quarter size{cite('pix2pix', 'pix2pixhd')}"
    elif kind == "resnet":
        text = f"a residual network after StyleGAN2{cite('stylegan2')}"
    elif kind == "unet":
        text = "the encoder of the same U-Net"
    elif kind == "timm":
        text = f"timm's {argument}{cite('timm')}"
    else:
        text = f"the architecture “{disc.disc}”"
    if disc.disc_start == "teacher":
        text += f" with the teacher's weights{cite('dmd2', 'ladd')}"
    else:
        text += " from random weights"
    parts = []
    if disc.disc_channels:
        parts.append(f"{disc.disc_channels} channels wide")
    if disc.disc_depth:
        parts.append(f"of depth {disc.disc_depth}")
    heads = head_resolutions(disc.disc_heads)
    if heads:
        parts.append(f"judging maps of side {listed([str(side) for side in heads])}")
    own = check_name(disc.disc)[0].spectral
    if disc.disc_spectral == "on" or (disc.disc_spectral == "auto" and own):
        parts.append(f"spectrally normalised{cite('spectral')}")
    if disc.disc_stddev:
        parts.append(f"shown the minibatch's standard deviation{cite('progan')}")
    more = f", {listed(parts)}" if parts else ""
    return f"The discriminator is {text}{more}."


def _views(disc, cite):
    if not disc.disc_noise:
        text = "It sees clean images"
    else:
        levels = normal(disc.disc_mean, disc.disc_std)
        text = f"It sees images noised to ln\u00a0σ\u00a0~\u00a0{levels}{cite('diffusion_gan')}"
        if disc.disc_condition:
            text += f" and is told the level{cite('projection')}"
    policy = policy_names(disc.augment)
    if not policy or not (disc.augment_p or disc.ada_target):
        return f"{text}."
    text += f", augmented by {listed(policy)}{cite('diff_augment')}"
    if disc.ada_target:
        start = number(disc.augment_p)
        return (
            f"{text} with a probability that starts at {start} and is steered so that the mean sign"
            f" of the logits of training images is {number(disc.ada_target)}{cite('ada')}."
        )
    return f"{text}, each with probability {number(disc.augment_p)}."


def _losses(disc, cite):
    name, *sources = GAN_LOSSES[disc.gan_loss]
    text = f"It and the student train with {name}{cite(*sources)}"
    if disc.penalty == "none" or not disc.penalty_weight:
        return f"{text}, and it has no gradient penalty."
    name, *sources = PENALTIES[disc.penalty]
    text += f", and it has {name}{cite(*sources)}"
    if disc.penalty == "approx_r1":
        weight, sigma = number(disc.penalty_weight), number(disc.penalty_sigma)
        text += f" of weight {weight} and perturbation {sigma}"
    else:
        # The usual weight: gamma / 2 times the squared norm of the gradient.
        gamma = number(2 * disc.penalty_weight * disc.penalty_sigma**2)
        text += f" of γ\u00a0=\u00a0{gamma}"
    if disc.penalty_interval > 1:
        text += f", each {disc.penalty_interval} steps and as much stronger{cite('stylegan2')}"
    return f"{text}."


def _balance(settings, cite):
    loss = settings.distillation
    weight = number(loss.adv_weight)
    ramp = f"; it rises to that over {plural(loss.adv_ramp, 'step')}" if loss.adv_ramp > 1 else ""
    learning = settings.student.student_iterations - settings.student.warm_start
    learning -= alone_steps(settings)
    if loss.adv_ramp > learning:
        ramp = f"; it rises from 0 and ends at {percent(learning / loss.adv_ramp)} of that"
    if loss.distill == "none":
        if loss.adv_weight == 1 and not ramp:
            return []
        return [f"The adversarial loss has the weight {weight}{ramp}."]
    if loss.balance == "constant":
        return [f"The adversarial loss has the weight {weight} beside the distillation's 1{ramp}."]
    times = "" if loss.adv_weight == 1 else f"{weight} times "
    return [
        f"At the image, the adversarial gradient is scaled to {times}the norm of the distillation"
        f" gradient (cf.{cite('vqgan')}){ramp}."
    ]
