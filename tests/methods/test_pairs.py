"""Pairs of noise and the teacher's image, or a student's: right ends of their paths, drawn once,
mirrored together."""

import pytest
import torch

from fewstep.engine.batches import to_float
from fewstep.engine.stopping import TIME_IS_UP, Interrupted, StopRequests
from fewstep.methods import pairs as pairs_module
from fewstep.methods.edm import ode_images
from fewstep.methods.pairs import Pairs, of_student, of_teacher
from src.samplers import few_step_states, noise_source
from tests.students import build_teacher, plain_execution, student_of, tiny_settings

SIGMA, EVALUATIONS = 80.0, 5


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return build_teacher(tiny_settings({})).ema.eval().requires_grad_(False)


def pairs_of(teacher, folder, mirror=False, check=lambda: None):
    flags = dict(warm_pairs=40, warm_nfe=EVALUATIONS, x_flip=mirror, cache_dir=str(folder))
    settings, shape = tiny_settings(flags), (3, 64, 64)
    maker = of_teacher(teacher, SIGMA, EVALUATIONS, plain_execution())
    return Pairs(settings, maker, shape, plain_execution(), check)


def test_an_image_is_the_end_of_the_odes_path_from_its_noise(teacher, tmp_path):
    pairs = pairs_of(teacher, tmp_path)
    noise, images = pairs.draw(4, seed=1)
    assert noise.std() == pytest.approx(SIGMA, rel=0.05)
    expected = ode_images(teacher.denoise, teacher.scheduler, noise, SIGMA, EVALUATIONS)
    assert (images - expected.clamp(-1, 1)).abs().max() < 1.1 / 127.5  # kept as bytes


def test_a_students_image_is_the_end_of_its_longest_path_from_the_same_noise(tmp_path, capsys):
    student = student_of(tiny_settings({})).ema.eval()
    flags = dict(warm_pairs=6, x_flip=False, cache_dir=str(tmp_path))
    execution = plain_execution(precision="fp32")  # some CPUs choose bf16
    maker = of_student(student, execution)
    pairs = Pairs(tiny_settings(flags), maker, (3, 64, 64), execution)
    assert "pairs of the student's" in capsys.readouterr().err
    levels = student.scheduler.few_step_table[4]
    assert maker.evaluations == 4 and maker.sigma == levels[0]
    seeds = [pairs_module.SEED + number for number in range(6)]
    randn = noise_source(student.scheduler.draw_noise, (6, 3, 64, 64), "cpu", seeds)
    first, *_, last = few_step_states(torch.no_grad()(student.denoise), levels, randn)
    assert torch.equal(first, maker.sigma * pairs.noise(range(6)))
    kept = to_float(pairs.take(range(6)))
    assert (kept - last.clamp(-1, 1)).abs().max() < 1.1 / 127.5


def test_they_are_drawn_once_for_a_teacher_and_anew_for_another(teacher, tmp_path, capsys):
    calls, plain = [], teacher.denoise
    teacher.denoise = lambda x, *rest: calls.append(len(x)) or plain(x, *rest)
    first = pairs_of(teacher, tmp_path).draw(8, seed=2)
    assert sum(calls) == 40 * EVALUATIONS
    assert "pairs of the teacher's: 100%" in (said := capsys.readouterr().err) and "40/40" in said
    again = pairs_of(teacher, tmp_path).draw(8, seed=2)
    assert sum(calls) == 40 * EVALUATIONS
    assert all(torch.equal(one, other) for one, other in zip(first, again))
    assert capsys.readouterr().err == ""
    with torch.no_grad():
        next(teacher.parameters()).add_(0.1)
    pairs_of(teacher, tmp_path)
    assert sum(calls) == 2 * 40 * EVALUATIONS


def test_parts_are_found_again_and_more_pairs_begin_with_the_same(teacher, tmp_path, monkeypatch):
    """What a stopped run had drawn is not lost, and several processes draw parts of their own."""
    whole = pairs_of(teacher, tmp_path / "whole").draw(40, seed=5)
    monkeypatch.setattr(pairs_module, "PART", 16)
    calls, plain = [], teacher.denoise

    def counted(x, *rest):
        calls.append(len(x))
        if sum(calls) > 20 * EVALUATIONS:
            raise KeyboardInterrupt
        return plain(x, *rest)

    teacher.denoise = counted
    with pytest.raises(KeyboardInterrupt):
        pairs_of(teacher, tmp_path / "parts")
    teacher.denoise = lambda x, *rest: calls.append(len(x)) or plain(x, *rest)
    calls.clear()
    parts = pairs_of(teacher, tmp_path / "parts").draw(40, seed=5)
    assert sum(calls) == 24 * EVALUATIONS
    assert all(torch.equal(one, other) for one, other in zip(whole, parts))


def test_seeds_pick_pairs_and_mirrored_ones_stay_pairs(teacher, tmp_path):
    pairs = pairs_of(teacher, tmp_path, mirror=True)
    noise, images = pairs.draw(64, seed=3)
    assert not torch.equal(noise[:8], pairs.draw(8, seed=4)[0])
    plain = SIGMA * pairs.noise(range(40))
    kept = to_float(pairs.take(range(40)))
    mirrored = 0
    for one, image in zip(noise, images):
        same = [torch.equal(one, other) for other in plain]
        flipped = [torch.equal(one, other) for other in plain.flip(-1)]
        assert sum(same) + sum(flipped) == 1
        number = (same if any(same) else flipped).index(True)
        assert torch.equal(image, kept[number] if any(same) else kept[number].flip(-1))
        mirrored += any(flipped)
    assert 16 < mirrored < 48


def test_a_limit_of_time_ends_them_between_two_files(teacher, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pairs_module, "PART", 16)
    stop = StopRequests()
    stop.deadline = 0.0  # it is over: each run draws one file more
    for there in (1, 2):
        with pytest.raises(Interrupted) as stopped:
            pairs_of(teacher, tmp_path, check=stop.check)
        assert stopped.value.exit_code == TIME_IS_UP
        assert len(set(tmp_path.iterdir())) == there
    assert len(pairs_of(teacher, tmp_path, check=stop.check).parts) == 3
