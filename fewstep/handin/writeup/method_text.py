"""The sentences of each method's technical details, composed from the settings that ran.

`s` and `taught` hold settings by their flags' names; a word `@key` cites a source of
`citations.yaml`. What was not used is not named. docs/method.md has the equations.
"""

from fewstep.handin.writeup.discriminator_text import discriminator_sentences
from fewstep.handin.writeup.wording import listed, normal, number, percent, plural
from fewstep.methods.score_losses import NEEDS_FAKE_SCORE, OWN_WEIGHTING
from fewstep.runs.derived import nfe_table, student_sigmas

WEIGHTINGS = {
    "exponential": "weighted by 1/√(1\u00a0+\u00a0s²)@add",
    "sds": "weighted by s/(2\u00a0+\u00a02s²)@add@dreamfusion",
    "normalised": "divided by the mean of |x\u00a0−\u00a0P|@dmd@sid",
    "uniform": "with equal weight at all levels",
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
    condition = " and the level that its output will be re-noised to"
    condition = condition if s.use_additional_condition else ""
    return title, [
        "No pre-trained network is used. Teacher and student are denoisers over the same"
        f" U-Net@ddpm of {parameters:,} parameters, preconditioned as in EDM@edm with the"
        f" standard deviation {number(config['sigma_data'])} of the training pixels; the network is"
        f" told an arctan of the noise level σ{condition}.",
        *_teacher(taught),
        *_student(s, config),
        *_distillation(s),
        *discriminator_sentences(s),
        *_optimisers(s),
    ]


def rectified_flow(s, taught, config, parameters):
    """(title, sentences) of a network that learns the velocity along straight lines."""
    return "A rectified flow from scratch", [
        f"No pre-trained network is used. A U-Net@ddpm of {parameters:,} parameters learns the mean"
        " velocity of the straight lines between images and noise, with the squared error at"
        " uniform times@rectified_flow:"
        f" {_training(s.num_iterations, s)}, Adam@adam, peak learning rate"
        f" {number(s.lr)}{_warm_up(s.warmup)}, weights averaged with a half-life of"
        f" {percent(s.ema_share)} of the steps so far@edm2.",
        "Sampling takes Euler steps of equal length, one evaluation each.",
    ]


def _training(steps, s):
    mirrored = ", half of them mirrored" if s.x_flip else ""
    seen = f"{steps * s.batch_size:,} seen{mirrored}"
    return f"{plural(steps, 'step')} of {s.batch_size} images ({seen})"


def _warm_up(steps):
    return f" after {plural(steps, 'step')} of linear warm-up" if steps else ""


def _teacher(s):
    half_life = f"{percent(s.ema_share)} of the steps so far" if s.ema_share else "one step"
    yield (
        "The teacher starts from random weights and learns to denoise at levels with"
        f" ln\u00a0σ\u00a0~\u00a0{normal(s.p_mean, s.p_std)} under EDM's loss weight:"
        f" {_training(s.num_iterations, s)}, Adam@adam with β\u00a0=\u00a0(0.9,\u00a00.99), peak"
        f" learning rate {number(s.lr)}{_warm_up(s.warmup)} and a cosine to 0, gradients clipped to"
        f" norm 1, weights averaged with a half-life of {half_life}@edm@edm2."
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
    yield _inputs(s)
    if sampled != trained:  # by `fewstep evaluate --tune`
        yield (
            "After its training the levels of sampling were chosen anew, by the distance of samples"
            f" to training images: {_paths(sampled)}."
        )
    if s.freeze_convs:
        yield "Its inner 3×3 convolutions stay as they were@frozen."
    if s.warm_start:
        yield (
            f"Its first {plural(s.warm_start, 'step')} regress on the end of the teacher's ODE from"
            f" the same noise, {plural(s.warm_nfe, 'evaluation')} long."
        )


def _paths(levels):
    arrows = {nfe: "\u00a0→\u00a0".join(map(number, path)) for nfe, path in levels.items()}
    return listed([f"{path} for {plural(int(nfe), 'evaluation')}" for nfe, path in arrows.items()])


def _inputs(s):
    """The student's training inputs, in whole images as the training draws them."""
    first = round(s.batch_size * s.level_shares[0] / sum(s.level_shares))
    own = round((s.batch_size - first) * s.self_input_share)
    kinds = {
        "pure noise at the first level": first,
        "its own outputs re-noised along these paths@dmd2": own,
        "training images noised to a later level@add": s.batch_size - first - own,
    }
    parts = [f"{count} of {kind}" for kind, count in kinds.items() if count]
    return f"A training batch has {s.batch_size} inputs: {listed(parts)}."


def _distillation(s):
    """What the student is pulled to and at which weight, and the fake score where there is one."""
    if s.distill == "none":
        yield "No score distillation is used: the student learns from a discriminator alone."
        return
    place = f"x re-noised to ln\u00a0s\u00a0~\u00a0{normal(s.distill_mean, s.distill_std)}"
    fake = f"P and F, the denoisings of {place} by the frozen teacher and by a fake score"
    loss = {
        "dmd": f"Distribution matching@dmd moves its output x against F − P, with {fake}",
        "sid": "Score identity distillation@sid minimises (P − F)·((P − x) − α(P − F)) for its"
        f" output x, with α\u00a0=\u00a0{number(s.sid_alpha)} and {fake}",
    }.get(
        s.distill,
        "Score distillation@add minimises the squared distance of its output x from the frozen"
        f" teacher's denoising P of {place}",
    )
    weighting = OWN_WEIGHTING[s.distill] if s.distill_weighting == "auto" else s.distill_weighting
    decay = (
        f"; its weight falls linearly to {number(s.distill_final)} from"
        f" {percent(s.distill_decay_from)} of the steps on"
    )
    yield f"{loss}, {WEIGHTINGS[weighting]}{decay if s.distill_final < 1 else ''}."
    if s.distill in NEEDS_FAKE_SCORE:
        yield (
            "The fake score starts as the teacher and learns to denoise the student's outputs,"
            f" {plural(s.fake_steps, 'update')} a step@dmd2."
        )


def _optimisers(s):
    rates = [f"{number(s.student_lr)} (student{_warm_up(s.student_warmup)}, cosine)"]
    critics = []
    if s.disc != "none":
        rates.append(f"{number(s.disc_lr)} (discriminator)")
        critics.append("the discriminator")
    if s.distill in NEEDS_FAKE_SCORE:
        rates.append(f"{number(s.fake_lr)} (fake score)")
        critics.append("the fake score")
    if critics and s.disc_warmup:
        begin = "For the next" if s.warm_start else "For the first"
        verb = "learn" if len(critics) > 1 else "learns"
        yield f"{begin} {plural(s.disc_warmup, 'step')} {listed(critics)} {verb} alone."
    if critics and s.disc_steps > 1:
        yield f"The student then learns at one step in {s.disc_steps}."
    kept = "the student's last weights are kept"
    if s.student_ema_images:
        kept = (
            "the average of the student's weights with a half-life of"
            f" {number(s.student_ema_images)} images is kept"
        )
    dropout = f", dropout {number(s.student_dropout)}" if s.student_dropout else ""
    yield (
        f"This phase has {_training(s.student_iterations, s)}, Adam with"
        f" β\u00a0=\u00a0(0,\u00a00.99)@stylegan2 and learning rates of {listed(rates)}, gradients"
        f" clipped to norm 1{dropout}; {kept}."
    )


SENTENCES = {"adversarial": adversarial, "rectified_flow": rectified_flow}
