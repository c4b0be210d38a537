"""Flags that are each right and cannot be together, and files that are not what they are named for:
exit code 2, one line that names them, and no trace."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.programs import PROGRAMS
from tests.faults.strategies import QUIET
from tests.faults.watching import assert_refused, folder  # noqa: F401  a fixture

LEVELS = st.lists(st.sampled_from([80.0, 10.0, 4.0, 1.5, 0.54, 0.01]), min_size=4, max_size=4)


def _texts(numbers):
    return " ".join(map(str, numbers))


def _is_falling(numbers):
    return all(a > b for a, b in zip(numbers, numbers[1:]))


def _case(names, tokens):
    return names.split(), tokens


@st.composite
def levels_out_of_order(draw):
    levels = draw(LEVELS.filter(lambda levels: not _is_falling(levels)))
    return _case("--sigmas", f"--sigmas {_texts(levels)}")


@st.composite
def first_level_too_low(draw):
    first = draw(st.floats(1e-4, 2.0))  # the preset's second one
    return _case("--first_sigma", f"--first_sigma {first}")


@st.composite
def no_teacher(draw):
    place = draw(st.sampled_from(["", " --save_dir new", " --teacher_ckpt absent.pt"]))
    return _case("--teacher_ckpt", f"--phase add{place}")


@st.composite
def all_is_warm_up(draw):
    steps = draw(st.integers(1, 500))
    alone = draw(st.integers(0, 2 * steps))
    warm = draw(st.integers(max(0, steps - alone), 2 * steps))
    flags = f"--student_iterations {steps} --disc_warmup {alone} --warm_start {warm}"
    return _case("--warm_start", flags)


@st.composite
def warm_up_beyond_the_phase(draw):
    steps = draw(st.integers(1, 500))
    more = draw(st.integers(0, 500))
    if draw(st.booleans()):
        return _case("--warmup", f"--num_iterations {steps} --warmup {steps + more}")
    flags = f"--student_iterations {steps} --student_warmup {steps + more} --disc_warmup 0"
    return _case("--student_warmup", flags)


@st.composite
def more_images_than_there_are(draw):
    if draw(st.booleans()):
        return _case("--batch_size", f"--batch_size {draw(st.integers(65, 2**16))}")
    images = "--data folder --data_root pictures"
    return _case("--batch_size", f"{images} --batch_size {draw(st.integers(10, 2**16))}")


@st.composite
def uneven_parts(draw):
    batch = draw(st.integers(4, 64))
    micro = draw(st.integers(1, 200).filter(lambda size: batch % size))
    return _case("--micro_batch", f"--batch_size {batch} --micro_batch {micro}")


@st.composite
def too_small_parts(draw):
    batch = draw(st.sampled_from(["--batch_size 2", "--batch_size 3", "--micro_batch 1"]))
    phase = draw(st.sampled_from(["", "--recipe low_data"]))
    return _case("--batch_size --micro_batch", f"{batch} {phase}")


@st.composite
def names_of_no_discriminator(draw):
    known = ["resnet", "patch", "unet", "timm", "none"]
    wrong = ["resnett", "RESNET", "resnet:", "resnet:50", "timm", "timm:", "patch ", ":", "nono"]
    name = draw(st.one_of(st.sampled_from(wrong), st.text("abt:-_3", min_size=1, max_size=8)))
    if name in known[:3] or name == "none" or name.startswith("timm:") and name != "timm:":
        name += "s:"
    return _case("--disc", ["--disc", name])


CONTRADICTIONS = [
    levels_out_of_order(),
    first_level_too_low(),
    no_teacher(),
    all_is_warm_up(),
    warm_up_beyond_the_phase(),
    more_images_than_there_are(),
    uneven_parts(),
    too_small_parts(),
    names_of_no_discriminator(),
]


@pytest.mark.parametrize("strategy", CONTRADICTIONS, ids=lambda s: repr(s).rstrip("()"))
def test_contradicting_flags_of_training_are_refused(strategy, folder):  # noqa: F811
    tried = set()

    @settings(max_examples=15, **QUIET)
    @given(case=strategy)
    def refuse(case):
        names, flags = case
        tokens = flags.split() if isinstance(flags, str) else flags
        program = PROGRAMS["train.py"]
        assert_refused(program, [*program.base.split(), *tokens], folder, *names)
        tried.add(tuple(tokens))

    refuse()
    assert len(tried) >= 3


# A program, what is added to its base arguments, and what the line must name.
CASES = """
train.py | --phase teacher --teacher_ckpt model/best_model.pt | --teacher_ckpt
train.py | --level_shares 0 0 0 0 | --level_shares
train.py | --data_root pictures | --data_root
train.py | --train_split a_file | --train_split
train.py | --val_split a_file | --val_split
train.py | --data folder | --data_root
train.py | --data folder --data_root a_file | --data_root a_file
train.py | --data folder --data_root empty | empty
train.py | --data folder --data_root pictures --train_split pictures | --train_split pictures
train.py | --data folder --data_root pictures --train_split a_file | --train_split a_file
train.py | --data folder --data_root pictures --val_split nothing --batch_size 4 | --val_split
train.py | --data folder --data_root pictures --val_split bytes --batch_size 4 | --val_split
train.py | --distill none --disc none | --disc none
train.py | --distill none --adv_weight 0 | --adv_weight
train.py | --ada_target 0.6 | --ada_target
train.py | --ada_target 0.6 --disc none | --ada_target
train.py | --ada_target 0.6 --augment color --gan_loss relativistic | --ada_target
train.py | --augment color,rotate | --augment
train.py | --augment color,color | --augment
train.py | --augment colour+color | --augment
train.py | --disc_heads 16,x | --disc_heads
train.py | --disc_heads -16 | --disc_heads
train.py | --disc_heads １６ | --disc_heads
train.py | --disc_heads 7 | --disc_heads
train.py | --disc unet --disc_channels 33 | --disc_channels
train.py | --disc timm:resnet18 --disc_channels 8 | --disc_channels
train.py | --disc timm:no_such_model | --disc timm:no_such_model
train.py | --student_start consistency --student_iterations 120 | --consistency_steps
train.py | --disc patch --disc_start teacher | --disc_start
train.py | --disc unet --disc_start teacher --disc_depth 2 | --disc_depth
train.py | --disc unet --disc_start teacher --use_additional_condition | --disc_start
train.py | --student_start consistency --use_additional_condition | --student_start
train.py | --method ld3 --use_additional_condition | --use_additional_condition
train.py | --device abacus | --device
train.py | --device cuda:x | --device
train.py | --device meta | --device
train.py | --save_dir a_file | --save_dir a_file
train.py | --export_dir a_file | --export_dir a_file
train.py | --cache_dir a_file | --cache_dir a_file
train.py | --teacher_ckpt model | --teacher_ckpt model
train.py | --phase add --teacher_ckpt a_file | model_config.json
train.py | --phase add --teacher_ckpt model/best_model.pt | --teacher_ckpt
train.py | extra | extra
sampling.py | --ckpt_path a_file | a_file
sampling.py | --ckpt_path . | --ckpt_path .
sampling.py | --config_path a_file | a_file
sampling.py | --config_path model | --config_path model
sampling.py | --save_dir a_file | --save_dir a_file
sampling.py | --device abacus | --device
sampling.py | extra | extra
measure_fid.py | --generated_dir a_file | --generated_dir a_file
measure_fid.py | --generated_dir empty | --generated_dir empty
measure_fid.py | --reference_dir a_file | --reference_dir a_file
measure_fid.py | --reference_dir data/simpsons_64x64/val --data_root a_file | --data_root a_file
measure_fid.py | --reference_dir data/simpsons_64x64/val --data_root absent | --data_root absent
measure_fid.py | --reference_dir absent --data_root pictures | --reference_dir absent
submit | --output model/best_model.pt | --output model/best_model.pt
train.py | --data folder --data_root pictures --save_dir pictures/run | --save_dir pictures/run
evaluate | --folder a=pictures --output_dir pictures/out | --output_dir pictures/out
evaluate | --data_root pictures --output_dir pictures | --output_dir pictures
measure_fid.py | --reference_dir a_file/new | --reference_dir
measure_fid.py | --output_path pictures | --output_path pictures
measure_fid.py | --cache_dir a_file | --cache_dir a_file
measure_fid.py | --fid_weights a_file | --fid_weights
measure_fid.py | --download_weights | --download_weights
measure_fid.py | --features inception --fid_weights a_file | a_file
measure_fid.py | --features inception --fid_weights model --download_weights | --fid_weights model
measure_fid.py | --features inception --fid_weights a_file/x --download_weights | --fid_weights
evaluate | --run_dir pictures | --run_dir
evaluate | --teacher | --teacher
evaluate | --teacher a_file | a_file
evaluate | --teacher_nfe_list 3 | --teacher_nfe_list
evaluate | --fid_weights a_file | --fid_weights
evaluate | --features inception --ckpt_path absent --download_weights | --ckpt_path absent
evaluate | --features inception --fid_weights model --download_weights | --fid_weights model
evaluate | --ckpt_path a_file | a_file
evaluate | --output_dir a_file | --output_dir a_file
evaluate | --cache_dir a_file | --cache_dir a_file
evaluate | --data_root pictures | --data_root
compare | absent.yaml | absent.yaml
compare | pictures | pictures
compare | bytes | bytes
compare | a_file | a_file
compare | deep.yaml | deep.yaml
compare | date.yaml | date.yaml
compare | mapping.yaml | mapping.yaml
compare | yes.yaml | yes.yaml
compare | long.yaml | long.yaml
compare | many.yaml --seeds 1 2 3 | cells
compare | --save_dir a_file | --save_dir a_file
compare | --save_dir nan --minutes nan | --minutes
compare | --grid disc=patch,patch | twice
compare | --grid disc | --grid
compare | --grid disk=patch | disk
compare | --grid lr=0.1,0.2 | lr
compare | --grid disc=non,nan | --disc
compare | --base preset=tiny lr=fast | --lr
compare | --base preset=tiny lr=0.1 lr=0.2 | lr
compare | --base preset=huge | --preset
compare | --base preset=tiny save_dir=x | save_dir
compare | --base preset=tiny data=synthetic batch_size=5000 | --batch_size
compare | --base preset=tiny data=synthetic teacher_ckpt=absent.pt | teacher_ckpt
compare | --base preset=tiny data=synthetic teacher_ckpt=model | teacher_ckpt
compare | --seeds 1 1 | twice
submit | --ckpt_path a_file/x | --ckpt_path
submit | --ckpt_path model | --ckpt_path model
submit | --config_path absent | --config_path absent
submit | --output model | --output model
submit | --writeup | --run_dir
submit | --author NAME | --author
submit | --teacher_dir model | --teacher_dir
submit | --run_dir model | --run_dir
submit | --official empty | --official empty
submit | --writeup_pdf a_file | --writeup_pdf a_file
submit | --writeup_pdf model | --writeup_pdf model
ladder | --data_root a_file | --data_root a_file
ladder | --data_root empty | --data_root empty
ladder | --split pictures | --split pictures
ladder | --split bytes | --split bytes
ladder | --split nothing | --split nothing
ladder | --split a_file | a_file
bench data | --images 3 --batch_size 4 | --images
bench data | --json pictures | --json pictures
bench train | --lever compile | --lever
bench train | --lever complie=off | compile
bench train | --lever micro_batch=１ | --lever
bench train | --lever micro_batch=-1 | --micro_batch
bench train | --lever precision=fp16 | --precision
bench sample | --device abacus | --device
""".strip().splitlines()


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_is_refused(case, folder):  # noqa: F811
    name, flags, said = (part.strip() for part in case.split("|"))
    program, tokens = PROGRAMS[name], flags.split()
    base = program.base.split()
    if tokens[0].endswith(".yaml"):
        base = []  # the plan says all
    # First what is no flag: the last one in the base may take any number of values.
    arguments = [*base, *tokens] if flags.startswith("-") else [*tokens, *base]
    assert_refused(program, arguments, folder, said)


def test_a_hand_in_without_its_run_says_so(folder):  # noqa: F811
    program = PROGRAMS["submit"]
    assert_refused(program, ["--run_dir", "absent"], folder, "--run_dir absent")
    assert_refused(program, ["--run_dir", "model", "--writeup"], folder, "final_model.pt")
    both = ["--run_dir", "model", "--writeup", "--writeup_pdf", "a.pdf"]
    assert_refused(program, both, folder, "--writeup_pdf")


def test_images_of_others_are_refused(folder):  # noqa: F811
    foreign = folder / "samples" / "nfe=2" / "face.png"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"theirs")
    program = PROGRAMS["sampling.py"]
    assert_refused(program, program.base.split(), folder, "face.png")
