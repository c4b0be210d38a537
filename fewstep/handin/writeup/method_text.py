"""The title and the technical details of a write-up: texts of `methods.yaml` by the settings."""

import re
from pathlib import Path

import yaml

from discriminator import check_name
from fewstep.handin.writeup.wording import listed, number
from fewstep.methods.adversarial_settings import student_sigmas
from fewstep.methods.score_distillation import NEEDS_FAKE_SCORE, OWN_WEIGHTING
from fewstep.methods.student_inputs import nfe_table
from fewstep.runs.settings import flat, method_of

TEXTS = Path(__file__).with_name("methods.yaml")


def describe(settings, taught, config, parameters, starts=()):
    """(title, sentences) on the method of a run; a word `@key` in them cites `citations.yaml`.

    settings, taught: `Settings` of the run and of its teacher's; config: the student's
    `model_config.json`; parameters: how many the network has; starts: flags of networks that one of
    them started from (`runs.starts`).
    """
    texts = yaml.safe_load(TEXTS.read_text(encoding="utf-8"))
    texts = texts.get(settings.run.method, texts["else"])
    values = {f"teacher_{key}": value for key, value in flat(taught.as_dict()).items()}
    values |= flat(settings.as_dict()) | _derived(settings, config)
    values |= {"parameters": parameters, "sigma_data": config.get("sigma_data")}
    values |= _origins(method_of(settings), starts)
    values["summary"] = method_of(settings).summary
    (title,) = _chosen(texts["title"], values)
    words = {key: _word(value) for key, value in values.items()}
    sentences = [text.format_map(words) for text in _chosen(texts["text"], values)]
    sentences = [re.sub(" ([=~→]) ", "\u00a0\\1\u00a0", text) for text in sentences]
    return title.format_map(words), sentences


def _derived(settings, config):
    """What the texts depend on that is no setting by itself."""
    distillation, disc = settings.distillation, settings.discriminator
    architecture, _, argument = disc.disc.partition(":")
    spectral = disc.disc_spectral == "on"
    if disc.disc_spectral == "auto" and disc.disc != "none":
        spectral = check_name(disc.disc)[0].spectral
    weighting = distillation.distill_weighting
    if weighting == "auto":
        weighting = OWN_WEIGHTING.get(distillation.distill)
    trained = nfe_table(student_sigmas(settings.student))
    sampled = config.get("few_step_sigmas", trained)
    is_flow = config.get("preconditioning") == "flow"
    return {
        "preconditioning": config.get("preconditioning"),
        "loss_weight": "a flow's loss" if is_flow else "EDM's loss weight",
        "architecture": architecture,
        "argument": argument,
        "spectral": spectral,
        "weighting": weighting,
        "start_rate": settings.student.start_lr or settings.student.student_lr,
        "fake_score": distillation.distill in NEEDS_FAKE_SCORE,
        "trained_levels": _levels(trained),
        "sampled_levels": _levels(sampled),
        "tuned": sampled != trained,
    }


def _origins(method, starts):
    """What each network started from, in words."""
    own = "the teacher's average" if method.needs_teacher else "random weights"
    return {
        "teacher_origin": "an earlier teacher" if "teacher_ckpt" in starts else "random weights",
        "generator_origin": "an earlier generator" if "student_ckpt" in starts else own,
        "disc_origin": "an earlier one's weights" if "disc_ckpt" in starts else "random weights",
    }


def _levels(table):
    """{"2": [5, 1]} -> "5 → 1 (NFE 2)"."""
    return listed([f"{' → '.join(map(number, path))} (NFE {nfe})" for nfe, path in table.items()])


def _chosen(text, values):
    """The sentences of a text, see `methods.yaml`."""
    if isinstance(text, str):
        return [text]
    if isinstance(text, list):
        return [sentence for part in text for sentence in _chosen(part, values)]
    ((setting, cases),) = text.items()
    return _chosen(cases.get(values[setting], cases.get("else", [])), values)


def _word(value):
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number(value) if is_number else value
