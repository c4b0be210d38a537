"""What the write-up says of the method and the scores, and how numbers are spelled."""

import re
from pathlib import Path

import pytest
import yaml

from fewstep.handin.writeup.method_text import TEXTS, describe
from fewstep.handin.writeup.scores_table import score_table
from fewstep.handin.writeup.wording import listed, number
from fewstep.methods import METHODS
from fewstep.runs.presets import RECIPES
from src.formatting import duration
from tests.handin.records import INCEPTION, SPACE, config_of, scores_of, settings_of

SOURCES = yaml.safe_load(TEXTS.with_name("citations.yaml").read_text(encoding="utf-8"))


def keys_of(text):
    return re.findall(r"@([a-z0-9_]+)", text)


def words_of(config=None, **flags):
    """The technical paragraph of these flags without its marks, and the sources it cites."""
    settings = settings_of(**flags)
    _, sentences = describe(settings, settings, config or config_of(settings), 395971)
    text, used = " ".join(sentences), keys_of(" ".join(sentences))
    text = re.sub(r"@[a-z0-9_]+", "", text)
    assert "  " not in text and ".." not in text and text.endswith(".")
    return text.replace("\u00a0", " "), used


def test_fid_is_named_only_where_the_space_is_its_own():
    def texts(*spaces):
        head, rows, caption = score_table(scores_of(list(spaces)))
        return " ".join([*head, *(cell for row in rows for cell in row)]), caption

    table, caption = texts(SPACE)
    assert "FID" not in table and "KID" not in table and "Fréchet" in table
    assert "FID" not in caption.replace("is not FID", "") and "that of KID@kid" in caption
    table, caption = texts(SPACE, INCEPTION)
    assert "FID KID × 1000 Coverage Fréchet in random-conv-v1" in table and table.count("FID") == 1
    assert "FID@fid@clean_fid: with the features of Inception" in caption
    assert "space random-conv-v1 (" in caption and "is not FID" in caption
    foreign = {"name": "weights-0123", "sha256": "01" * 32, "is_fid": False}
    table, caption = texts(foreign)
    assert "Fréchet in weights-0123" in table and "FID" not in table and "random" not in caption
    assert "weights-0123 (SHA-256 010101010101): its Fréchet distance is not FID" in caption


def test_scores_that_were_not_measured_have_no_column():
    scores = scores_of([SPACE])
    for row in scores["rows"]:
        row["scores"]["pixels"] = {}
    head, rows, caption = score_table(scores)
    assert not any("AUC" in text for text in (*head, caption)) and len(rows[0]) == len(head) == 5


def test_one_seed_has_no_spread():
    _, rows, caption = score_table(scores_of([SPACE], sd=None))
    assert not any("±" in cell for row in rows for cell in row) and "one seed (7)" in caption
    assert rows[1][:3] == ["teacher, NFE 15", "1,000", "35.72"]


def test_the_text_of_the_default_names_what_ran_and_nothing_else():
    text, used = words_of()
    for part in (
        "1,400 steps of 8 images",
        "ln σ ~ N(−0.3, 1.5²)",
        "standard deviation 0.15",
        "σ = 5 (NFE 1), 5 → 1 (NFE 2) and 5 → 2 → 1 → 0.5 (NFE 4)",
        "a share of 0.5",
        "1,000 steps of 8 images",
        "half-life of 550 images",
        "PatchGAN",
        "weight 50",
    ):
        assert part in text
    assert {"add", "hinge", "spectral", "approx_r1", "dmd2"} <= set(used)
    assert not {"dmd", "sid", "ada", "diff_augment", "fid", "r1"} & set(used)
    for word in (
        "fake score",
        "augmented",
        "regress",
        "dropout",
        "consistency",
        "centred",
        "noise tha",
    ):
        assert word not in text


# (flag, value): (what the text then has, what it has not).
TEXT_OF = {
    ("distill", "none"): ("No score distillation is used", ["re-noised to ln", "gradient (cf"]),
    ("distill", "dmd"): ("Distribution matching", ["squared distance"]),
    ("distill", "sid"): ("(P − F)·((P − x) − α(P − F))", ["squared distance"]),
    ("distill", "sds"): ("s/(2 + 2s²)", ["fake score"]),
    ("distill_weighting", "uniform"): ("All levels have equal weight", ["1/√"]),
    ("distill_final", 0.2): ("share of 0.667 of the student's steps the loss loses weight", []),
    ("distill_final", 1.0): ("re-noised to ln", ["loses weight"]),
    ("distill_self", 0.1): ("the student's own images has 0.1 of its weight", []),
    ("disc_lead", 0.3): ("The student waits while", ["rate is lowered"]),
    ("disc_lead_most", 0.8): ("Above 0.8 the discriminator's rate is lowered", []),
    ("disc", "none"): ("Score distillation minimises", ["discriminator", "adversarial", "R1"]),
    ("disc", "resnet"): ("after StyleGAN2", ["spectrally", "PatchGAN"]),
    ("disc", "unet"): ("encoder of the same U-Net. It starts from random weights", ["PatchGAN"]),
    ("disc", "timm:resnet18"): ("resnet18, a network of timm", ["PatchGAN"]),
    ("disc_level", True): ("told the noise level of the evaluation that made an image", []),
    ("disc_noise", False): ("It sees clean images", ["is told that level"]),
    ("student_start", "consistency"): ("In its first 100 steps it becomes a consistency model", []),
    ("identity_weight", 0.2): ("falls from 0.2 to a fortieth of it", []),
    ("denoise_weight", 0.5): ("denoising loss of its noised real images, weighted by 0.5", []),
    ("colour_weight", 0.5): ("the mean colour of an image of a later evaluation and that of", []),
    ("centring_weight", 0.01): ("(D(real) + D(x))² weighted by 0.01", []),
    ("warm_start", 40): ("samples of 9 evaluations (40 steps, peak learning rate 0.002)", []),
    ("augment", "color,cutout"): ("augmented before it (color,cutout)", ["adaptive"]),
    ("penalty", "none"): ("no gradient penalty", ["R1"]),
    ("penalty", "approx_r1r2"): ("approximate R1 and R2 penalties of weight 50", []),
    ("penalty", "r1"): ("an R1 penalty of weight 50", ["approximate"]),
    ("gan_loss", "relativistic"): ("relativistic pairing loss", ["hinge"]),
    ("gan_loss", "nonsaturating"): ("non-saturating loss", ["hinge"]),
    ("gan_loss", "least_squares"): ("least-squares loss", ["hinge"]),
    ("balance", "constant"): ("hinge loss", ["gradient (cf"]),
    ("adv_weight", 0.5): ("scaled to 0.5 times the norm", []),
    ("self_input_share", 0.0): ("a share of 0)", []),
    ("student_ema_images", 0.0): ("The student's last weights are kept", ["half-life of 550"]),
    ("freeze_convs", True): ("Its inner 3×3 convolutions stay", []),
    ("noise_offset", 0.0): ("Heun", ["Each channel of the noise"]),
    ("x_flip", False): ("8 images", ["mirrored"]),
    ("warmup", 0): ("0.002 after 0 steps of warm-up", []),
}


@pytest.mark.parametrize("flag", TEXT_OF, ids=lambda flag: "=".join(map(str, flag)))
def test_the_text_follows_each_setting(flag):
    text, _ = words_of(**dict([flag]))
    present, absent = TEXT_OF[flag]
    assert present in text
    for part in absent:
        assert part not in text


OWN_PAIRS = dict(pairs_of="student", student_ckpt="named", pair_weight=0.5, warm_pairs=2048)


def test_a_warm_start_on_kept_pairs_says_how_many():
    text, _ = words_of(warm_start=40, warm_pairs=2048, start_lr=0.0)
    assert "It first regresses on 2,048 of the teacher's ODE samples" in text
    assert "of 9 evaluations (40 steps, peak learning rate 5×10⁻⁴)" in text
    assert "teacher's own image" not in text
    text, used = words_of(pair_weight=0.5, warm_pairs=2048, warm_nfe=9)
    assert "teacher's own image of it, weighted by 0.5" in text and "dmd" in used
    assert "2,048 pairs are drawn once, 9 evaluations an image" in text
    assert "That weight falls to 0.1 of it after a share of 0.667" in text
    text, used = words_of(**OWN_PAIRS, warm_start=40, start_lr=0.0)
    assert "that the student made of it in several evaluations before" in text
    assert "It first regresses on 2,048 images that it made itself" in text
    assert "progressive" in used
    assert "teacher's own image" not in text and "ODE samples" not in text
    steady, _ = words_of(pair_weight=0.5, warm_pairs=2048, distill_final=1.0)
    assert "own image of it, weighted by 0.5" in steady and "That weight falls" not in steady
    assert "of the evaluation that made" not in text


def test_ada_and_the_teachers_encoder():
    text, used = words_of(**RECIPES["low_data"], disc="unet", disc_start="teacher")
    assert "augmentation is adaptive" in text and "starts with the teacher's weights" in text
    assert {"ada", "diff_augment", "ladd"} <= set(used) and "It starts from random" not in text


def test_levels_that_were_tuned_after_training():
    settings = settings_of()
    tuned = {"1": [4.5], "2": [4.5, 1.0], "4": [4.5, 2.0, 1.0, 0.5]}
    text, _ = words_of(config=config_of(settings) | {"few_step_sigmas": tuned})
    assert "at σ = 5 (NFE 1)" in text
    assert "chosen anew" in text and "as σ = 4.5 (NFE 1), 4.5 → 1 (NFE 2)" in text
    assert "chosen anew" not in words_of()[0]


def test_every_source_is_cited_by_some_setting():
    used = set(keys_of(score_table(scores_of([SPACE, INCEPTION]))[2]))
    used |= set(words_of(method="rectified_flow")[1])
    used |= set(words_of(method="consistency")[1])
    for flag in TEXT_OF:
        used |= set(words_of(**dict([flag]))[1])
    used |= set(words_of(**RECIPES["low_data"], disc="unet", disc_start="teacher")[1])
    used |= set(words_of(**OWN_PAIRS)[1])
    assert used == set(SOURCES)


@pytest.mark.parametrize(
    ("flags", "present", "absent"),
    [
        ({}, "the average of a denoiser", "from random weights. It learns"),
        (dict(ct_start="random"), "It starts from random weights", "denoiser"),
        (dict(ct_path="teacher"), "step of the teacher's ODE", "the same noise"),
        (dict(ct_metric="l2"), "the squared error, over", "Huber"),
        (dict(ct_stages=5), "in 5 stages, by a factor of 2 each", "student"),
    ],
)
def test_the_text_of_consistency_tuning_follows_its_settings(flags, present, absent):
    text, used = words_of(method="consistency", **flags)
    assert present in text and absent not in text and "discriminator" not in text
    assert {"consistency", "ect", "edm"} <= set(used)
    assert ("ict" in used) == ("ct_metric" not in flags)


def test_what_the_networks_started_from_is_said():
    def text(*starts, **flags):
        settings = settings_of(**flags)
        return " ".join(describe(settings, settings, config_of(settings), 1, starts)[1])

    plain, other = text(), text("teacher_ckpt", "student_ckpt", "disc_ckpt")
    for before, after in (
        ("The teacher starts from random weights", "The teacher starts from an earlier teacher"),
        ("The student starts as the teacher's average", "The student starts as an earlier gen"),
        ("It starts from random weights", "It starts from an earlier one's weights"),
    ):
        assert before in plain and before not in other and after in other and after not in plain
    scratch = dict(method="consistency", ct_start="random")
    assert "It starts from an earlier generator" in text("student_ckpt", **scratch)


def test_a_method_without_a_text_is_described_by_its_summary(monkeypatch):
    texts = yaml.safe_load(TEXTS.read_text(encoding="utf-8"))
    assert set(texts) - {"else"} <= set(METHODS)
    monkeypatch.setattr(yaml, "safe_load", lambda text: {"else": texts["else"]})
    settings = settings_of(method="rectified_flow")
    title, sentences = describe(settings, settings, {}, 1_000_000)
    assert METHODS["rectified_flow"].summary in title
    assert METHODS["rectified_flow"].summary in sentences[0]


def test_sources_agree_with_the_documentation():
    method = (Path(__file__).parents[2] / "docs" / "method.md").read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\d+\. .*?\. (.*?)\.? \d{4}\. (arXiv:\S+)$", method, re.M))
    titles = {where: title for title, where in documented.items()}
    ours = {s["parent"]["title"]: s["title"] for s in SOURCES.values() if "parent" in s}
    shared = ours.keys() & titles
    assert len(shared) > 20
    for where in shared:
        assert titles[where].endswith(ours[where].strip("{}"))


@pytest.mark.parametrize(
    "value, text",
    [
        (1200, "1,200"),
        (22000.5, "22,000"),
        (0.0005, "5×10⁻⁴"),
        (0.05, "0.05"),
        (-1.2, "−1.2"),
        (0, "0"),
        (80.0, "80"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


def test_durations_and_lists():
    spoken = {14.74: "14.7 s", 59.97: "1 min 0 s", 125: "2 min 5 s", 3599.7: "1 h 0 min"}
    for seconds, text in {**spoken, 7265: "2 h 1 min"}.items():
        assert duration(seconds).replace("\u00a0", " ") == text
    assert [listed(["a"]), listed(["a", "b", "c"])] == ["a", "a, b and c"]
