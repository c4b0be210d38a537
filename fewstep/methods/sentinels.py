"""Early signs of the ways in which adversarial distillation fails, and what helps against each.

`measure` compares generated with real images at every step; `concerns` reads a row of the log.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from fewstep.engine.curves import Panel

MOST_IMAGES = 32  # pairs grow with the square
UNDECIDED = 0.5  # distance of logits below which nothing is said about memory
CHANNELS = ("red", "green", "blue")
GREY_LEVEL = 2 / 255


@torch.no_grad()
def measure(fake, real):
    """Generated against real images, both `[B, C, H, W]` in [-1, 1]: scalar tensors by name.

    - spread: mean distance between two generated images over that between two real ones;
    - colour_spread: the same of their mean colours, in which fine noise has no part;
    - detail: share of power that 2x2 averaging removes, over that of real images;
    - grain: the median of that power, a grey level's added, over that of real images: that of flat
      areas, in which strokes have no part;
    - shift_COLOUR: difference of the channel's mean; contrast_COLOUR: ratio of its standard
      deviations.

    Signed or ratios, so that noise of small batches averages out over a row of the log. Empty for
    fewer than two images.
    """
    count = min(len(fake), len(real), MOST_IMAGES)
    if count < 2:
        return {}
    fake, real = fake[:count].float(), real[:count].float()
    (detail, grain), (real_detail, real_grain) = _detail_and_grain(fake), _detail_and_grain(real)
    metrics = {
        "spread": _spread(fake) / _spread(real).clamp_min(1e-8),
        "colour_spread": _spread(_colours(fake)) / _spread(_colours(real)).clamp_min(1e-8),
        "detail": detail / real_detail.clamp_min(1e-8),
        "grain": grain / real_grain,
    }
    shift = fake.mean(dim=(0, 2, 3)) - real.mean(dim=(0, 2, 3))
    contrast = fake.std(dim=(0, 2, 3)) / real.std(dim=(0, 2, 3)).clamp_min(1e-8)
    for channel, name in enumerate(CHANNELS[: len(shift)]):
        metrics[f"shift_{name}"] = shift[channel]
        metrics[f"contrast_{name}"] = contrast[channel]
    return metrics


@torch.no_grad()
def measure_later(fake, real):
    """The spread, as of `measure`, of what the student makes of its own earlier answers, whose
    evaluations can fail while first ones do not: {} for fewer than two images."""
    if min(len(fake), len(real)) < 2:
        return {}
    spreads = [_spread(x[:MOST_IMAGES].float()) for x in (fake, real)]
    return {"later_spread": spreads[0] / spreads[1].clamp_min(1e-8)}


def _spread(x):
    return torch.pdist(x.flatten(1)).mean()


def _colours(x):
    return x.mean(dim=(2, 3))


def _detail_and_grain(x):
    if min(x.shape[2:]) < 2:
        return x.new_ones(()), x.new_ones(())
    power = (x - F.interpolate(F.avg_pool2d(x, 2), scale_factor=2)).square()
    centred = x - x.mean(dim=(2, 3), keepdim=True)
    detail = power.mean() / centred.square().mean().clamp_min(1e-8)
    return detail, power.median() + GREY_LEVEL**2


class Sentinel(NamedTuple):
    """A number of a row, its sane range, and a remedy. value(row): the number, or (number, of
    what), or None where it is absent. keys: of the row, where each has that range too."""

    name: str
    value: callable
    low: float
    high: float
    remedy: str
    keys: tuple = ()


# Panels of the curves picture.
PANELS = {
    "student: consistency start, loss": Panel(
        ["consistency_loss"], "falls; may jump a little where a new stage begins"
    ),
    "student: regression on pairs, loss": Panel(["warm_loss"], "falls, then flattens"),
    "student: distillation loss": Panel(
        ["distill_loss"], "keeps a level; at the end, where its weight falls, it may rise a little"
    ),
    "student: distance to the noise, loss": Panel(["identity_loss"], "keeps a level"),
    "student: distance to the pair's image of its noise": Panel(
        ["pair_loss"], "jumps up where the GAN begins, keeps a level, may rise as its weight falls"
    ),
    "student: denoising loss of real images": Panel(["denoising_loss"], "keeps a level"),
    "student: change of mean colour in later evaluations": Panel(["colour_loss"], "keeps a level"),
    "student: fake score's denoising loss": Panel(
        ["fake_score_loss"], "keeps a level: it follows the student"
    ),
    "student: discriminator's loss": Panel(
        ["disc_loss"],
        "keeps a level; near 0 it has won; if it guesses: 2 (hinge), 1.4 (nonsaturating), 1 (least"
        " squares), 0.7 (relativistic)",
    ),
    "student: discriminator's lead (0: it guesses, 1: it always knows)": Panel(
        ["disc_lead", "lead_heldout"],
        "between both, and on held-out images much the same; it is right in (1 + lead) / 2 of the"
        " pairs",
    ),
    "student: share of steps in which it waited": Panel(
        ["student_waits"], "some; near 1 it hardly learns"
    ),
    "student: factor of the discriminator's learning rate (--disc_lead_most)": Panel(
        ["disc_pace"],
        "near 1; if it stays at 0.1, the student learns from a D that stands still",
    ),
    "student: discriminator logits": Panel(
        ["logits_real", "logits_heldout", "logits_fake"],
        "real above fake, at an even distance; held-out near real",
    ),
    "student: gradient norm ratio, distillation / adversarial": Panel(
        ["grad_ratio"], "keeps its power of ten"
    ),
    "student: spread and detail of generated over real images (1 is right)": Panel(
        ["spread", "later_spread", "detail"],
        "come near 1 and stay; a spread that falls is a collapse (later_spread: of the evaluations"
        " after the first)",
    ),
    "student: grain of flat areas, generated over real (1 is right)": Panel(
        ["grain"], "comes near 1 from above; a discriminator may not see it, whatever its lead"
    ),
    "student: spread of mean colours, generated over real (1 is right)": Panel(
        ["colour_spread"], "comes near 1; far below, all backgrounds take one colour"
    ),
    "student: channel means, generated - real (0 is right)": Panel(
        [f"shift_{c}" for c in CHANNELS], "swing around 0; none drifts away"
    ),
    "student: channel contrast, generated / real (1 is right)": Panel(
        [f"contrast_{c}" for c in CHANNELS], "near 1, all three alike"
    ),
    "student: probability of augmentation (ADA)": Panel(
        ["ada_p"], "rises, then keeps a level well below 0.8"
    ),
}

# Metrics that count dropped updates, and what helps.
REMEDIES = {
    "student_skipped": "lower --student_lr, or --precision fp32",
    "disc_skipped": "lower --disc_lr, or higher --penalty_weight",
    "fake_score_skipped": "lower --fake_lr",
}


def _key(name):
    return lambda row: row.get(name)


def _extreme(prefix, neutral):
    """The colour that is farthest from `neutral`, and its value."""

    def value(row):
        values = {c: row[f"{prefix}_{c}"] for c in CHANNELS if f"{prefix}_{c}" in row}
        colour = max(values, key=lambda c: abs(values[c] - neutral), default=None)
        return colour and (values[colour], colour)

    return value


def _memory(row):
    """How far held-out images have fallen from real training images towards generated ones, as a
    share of the way; a discriminator that is nearly undecided has no such way."""
    keys = ("logits_real", "logits_heldout", "logits_fake")
    if any(row.get(key) is None for key in keys):
        return None
    real, heldout, fake = (row[key] for key in keys)
    return (real - heldout) / max(real - fake, UNDECIDED)


def _dropped(row):
    """The network whose updates were dropped most often, and in which share of the steps."""
    shares = {key: row[key] for key in REMEDIES if row.get(key)}
    name = max(shares, key=shares.get, default=None)
    return name and (shares[name], name)


SENTINELS = [
    Sentinel(
        "dropped updates",
        _dropped,
        0.0,
        0.1,
        "gradients are often not finite; " + "; ".join(f"{k}: {v}" for k, v in REMEDIES.items()),
    ),
    Sentinel(
        "spread",
        _key("spread"),
        0.5,
        2.0,
        "low: generated images are nearly alike; longer --warm_start and --disc_warmup, higher"
        " --disc_lead; high: they are wild; higher --penalty_weight",
        ("spread",),
    ),
    Sentinel(
        "spread of later evaluations",
        _key("later_spread"),
        0.5,
        2.0,
        "low: what is made in two or four evaluations is nearly alike; lower --distill_self, some"
        " --denoise_weight; high: it is wild; higher --penalty_weight",
        ("later_spread",),
    ),
    Sentinel(
        "colour spread",
        _key("colour_spread"),
        0.15,
        4.0,
        "low: all generated images have one hue; a higher first level (--first_sigma 80) with"
        " --warm_start, higher --disc_lead; high: hues are wild; higher --penalty_weight",
        ("colour_spread",),
    ),
    Sentinel(
        "memory of the discriminator",
        _memory,
        float("-inf"),
        0.6,
        "it knows the training images by heart; --augment translation,color --augment_p 0"
        " --ada_target 0.6, higher --penalty_weight, smaller --disc_channels",
    ),
    Sentinel(
        "colour shift",
        _extreme("shift", 0.0),
        -0.25,
        0.25,
        "colours drift away from the data's; lower --adv_weight",
        tuple(f"shift_{c}" for c in CHANNELS),
    ),
    Sentinel(
        "contrast",
        _extreme("contrast", 1.0),
        0.6,
        1.6,
        "contrast drifts away from the data's; lower --adv_weight",
        tuple(f"contrast_{c}" for c in CHANNELS),
    ),
    Sentinel(
        "detail",
        _key("detail"),
        0.15,
        4.0,
        "images are too smooth (low) or too noisy (high); low: raise --adv_weight; high: raise"
        " --penalty_weight or lower --disc_lr",
        ("detail",),
    ),
    Sentinel(
        "gradient ratio",
        _key("grad_ratio"),
        1e-4,
        1e4,
        "one loss vanishes beside the other; higher --penalty_weight, or lower --disc_lr",
        ("grad_ratio",),
    ),
    Sentinel(
        "discriminator's loss",
        _key("disc_loss"),
        0.02,
        5.0,  # one that knows nothing loses at most 2 (hinge)
        "low: the discriminator has won; lower --disc_lr, higher --penalty_weight; high: it"
        " diverges; lower --disc_lr",
        ("disc_loss",),
    ),
    Sentinel(
        "discriminator's lead",
        _key("disc_lead"),
        0.0,
        0.95,  # right in 97.5 % of the pairs
        "high: it nearly always knows, and teaches little; higher --penalty_weight, fewer"
        " --disc_steps, lower --disc_lr; low: it is no better than"
        " guessing; higher --disc_lead, longer --disc_warmup",
        ("disc_lead",),
    ),
    Sentinel(
        "waiting",
        _key("student_waits"),
        0.0,
        0.9,
        "the student hardly learns; lower --disc_lead, lower --penalty_weight, longer"
        " --disc_warmup",
        ("student_waits",),
    ),
    Sentinel(
        "discriminator's pace",
        _key("disc_pace"),
        0.12,
        1.0,
        "low: it hardly learns any more, and a student learns little from one that stands still;"
        " higher --disc_lead_most",
        ("disc_pace",),
    ),
    Sentinel(
        "augmentation probability",
        _key("ada_p"),
        0.0,
        0.8,
        "augmentation this strong leaks into the images; smaller --disc_channels, higher"
        " --penalty_weight, lower --ada_target",
        ("ada_p",),
    ),
]

# Bands behind the curves: {key of a row: (low, high)}.
HEALTHY = {key: (one.low, one.high) for one in SENTINELS for key in one.keys}


def concerns(row, settled):
    """{name: one line} for each sentinel outside its range in this row of the log.

    settled: the step from which ranges hold; before it nothing is said.
    """
    if row["step"] <= settled:
        return {}
    warnings = {}
    for sentinel in SENTINELS:
        value = sentinel.value(row)
        value, of_what = value if isinstance(value, tuple) else (value, "")
        name = f"{sentinel.name} ({of_what})" if of_what else sentinel.name
        if value is not None and not sentinel.low <= value <= sentinel.high:
            sane = f"up to {sentinel.high:g}"
            if sentinel.low > float("-inf"):
                sane = f"{sentinel.low:g} to {sentinel.high:g}"
            warnings[sentinel.name] = f"{name} = {value:.3g} (sane: {sane}): {sentinel.remedy}"
    return warnings
