"""The write-up's paragraph of technical details, composed from the settings that ran.

Every function takes `cite` (a `Citations`) and returns sentences; what was not used is not named.
docs/method.md has the same method with its equations.
"""

from fewstep.handin.writeup.adversary_text import adversary_sentences
from fewstep.handin.writeup.distillation_text import distillation_sentences
from fewstep.handin.writeup.wording import listed, normal, number, percent, plural
from fewstep.methods.score_losses import NEEDS_FAKE_SCORE
from fewstep.runs.derived import alone_steps, nfe_table, student_sigmas


def technical_paragraph(teacher_settings, settings, config, parameters, cite):
    """One paragraph on the network, both phases and the sampler.

    teacher_settings: `Settings` of the run that trained the teacher; settings: of the student's
    run; config: the student's `model_config.json`; parameters: of the network.
    """
    sentences = [
        *_network(settings, config, parameters, cite),
        *_teacher(teacher_settings, cite),
        *_student(settings, config, cite),
        *_warm_start(settings.student),
        *distillation_sentences(settings, cite),
        *adversary_sentences(settings, cite),
        *_optimisers(settings, cite),
    ]
    return " ".join(sentences)


def _network(settings, config, parameters, cite):
    sigma = number(config["sigma_data"])
    return [
        "No pre-trained network is used.",
        f"Teacher and student are denoisers over the same U-Net{cite('ddpm')} of {parameters:,}"
        f" parameters, preconditioned as in EDM{cite('edm')} with the standard deviation {sigma} of"
        " the training pixels; the network is told an arctan of the noise level σ"
        + (
            " and the level that its output will be re-noised to."
            if settings.network.use_additional_condition
            else "."
        ),
    ]


def _teacher(settings, cite):
    teacher, batch = settings.teacher, settings.data.batch_size
    mirrored = ", half of them mirrored" if settings.data.x_flip else ""
    half_life = (
        f"{percent(teacher.ema_share)} of the steps so far" if teacher.ema_share else "one step"
    )
    sentences = [
        "The teacher starts from random weights and learns to denoise at levels with"
        f" ln\u00a0σ\u00a0~\u00a0{normal(teacher.p_mean, teacher.p_std)} under EDM's loss weight:"
        f" {plural(teacher.num_iterations, 'step')} of {batch} images"
        f" ({teacher.num_iterations * batch:,} seen{mirrored}), Adam{cite('adam')}"
        f" with β\u00a0=\u00a0(0.9,\u00a00.99), peak learning rate {number(teacher.lr)}"
        f"{_warm_up(teacher.warmup)} and a cosine to 0,"
        f" gradients clipped to norm 1, weights averaged with a half-life of"
        f" {half_life}{cite('edm', 'edm2')}.",
    ]
    if teacher.noise_offset:
        part = f"{number(teacher.noise_offset)}{cite('offset')}"
        sentences.append(f"Each channel of the noise shares a part of standard deviation {part}.")
    return [*sentences, f"Sampling from it follows the ODE by Heun's method{cite('edm')}."]


def _warm_up(steps):
    return f" after {plural(steps, 'step')} of linear warm-up" if steps else ""


def _student(settings, config, cite):
    trained = nfe_table(student_sigmas(settings.student))
    sampled = config["few_step_sigmas"]
    sentences = [
        "The student starts as the teacher's average. It denoises pure noise and, where more"
        " evaluations are granted, re-noises its answer to the next level and denoises"
        f" again{cite('consistency', 'add')}, at σ\u00a0=\u00a0{_paths(trained)}.",
        _inputs(settings, cite),
    ]
    if sampled != trained:  # of `fewstep evaluate --tune`
        sentences.append(
            "After its training the levels of sampling were chosen anew, by the distance of samples"
            f" to training images: {_paths(sampled)}."
        )
    if settings.student.freeze_convs:
        sentences.append(f"Its inner 3×3 convolutions stay as they were{cite('frozen')}.")
    return sentences


def _paths(levels):
    texts = []
    for nfe, path in levels.items():
        path = "\u00a0→\u00a0".join(number(level) for level in path)
        texts.append(f"{path} for {plural(int(nfe), 'evaluation')}")
    return listed(texts)


def _inputs(settings, cite):
    """The student's training inputs, in the whole numbers of `training/student_inputs.py`."""
    student, batch = settings.student, settings.data.batch_size
    first = round(batch * student.level_shares[0] / sum(student.level_shares))
    own = round((batch - first) * student.self_input_share)
    real = batch - first - own
    parts = []
    if first:
        parts.append(f"{first} of pure noise at the first level")
    if own:
        parts.append(f"{own} of its own outputs re-noised along these paths{cite('dmd2')}")
    if real:
        parts.append(f"{real} of training images noised to a later level{cite('add')}")
    return f"A training batch has {batch} inputs: {listed(parts)}."


def _warm_start(student):
    if not student.warm_start:
        return []
    return [
        f"Its first {plural(student.warm_start, 'step')} regress on the end of the teacher's ODE"
        f" from the same noise, {plural(student.warm_nfe, 'evaluation')} long."
    ]


def _optimisers(settings, cite):
    student, disc, loss = settings.student, settings.discriminator, settings.distillation
    rates = [f"{number(student.student_lr)} (student{_warm_up(student.student_warmup)}, cosine)"]
    critics = []
    if disc.disc != "none":
        rates.append(f"{number(disc.disc_lr)} (discriminator)")
        critics.append("the discriminator")
    if loss.distill in NEEDS_FAKE_SCORE:
        rates.append(f"{number(loss.fake_lr)} (fake score)")
        critics.append("the fake score")
    sentences, alone = [], alone_steps(settings)
    if alone:
        verb = "learns" if len(critics) == 1 else "learn"
        begin = "For the next" if student.warm_start else "For the first"
        sentences.append(f"{begin} {plural(alone, 'step')} {listed(critics)} {verb} alone.")
    if critics and disc.disc_steps > 1:
        sentences.append(f"The student then learns at one step in {disc.disc_steps}.")
    dropout = f", dropout {number(student.student_dropout)}" if student.student_dropout else ""
    images = student.student_ema_images
    kept = (
        f"the average of the student's weights with a half-life of {number(images)} images is"
        if images
        else "the student's last weights are"
    )
    steps, batch = student.student_iterations, settings.data.batch_size
    return [
        *sentences,
        f"This phase has {plural(steps, 'step')} of {batch} images ({steps * batch:,} seen),"
        f" Adam with β\u00a0=\u00a0(0,\u00a00.99){cite('stylegan2')} and learning rates of"
        f" {listed(rates)},"
        f" gradients clipped to norm 1{dropout}; {kept} kept.",
    ]
