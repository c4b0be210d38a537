"""Consistency models against Gaussian data, whose denoiser and whose paths are known."""

from dataclasses import fields
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from custom_model import CustomGenerativeModel, CustomScheduler, create_custom_model
from fewstep.engine.microbatch import split
from fewstep.methods.consistency import (
    Consistency,
    ConsistencyLoss,
    Tuning,
    consistency_config,
    consistency_loss,
    nearer_level,
    stage_of,
)
from fewstep.methods.edm import teacher_config
from fewstep.methods.method import with_settings
from fewstep.runs.command_line import parse_settings
from src.model_config import MODEL_DEFAULTS
from src.utils import UserError, load_model, read_json
from tests.runs.test_methods import METHODS, train_in
from tests.students import SIGMA_DATA, build_student, tiny_settings

MEAN, STD = 0.3, 0.4
LEVELS = {1: [80.0], 2: [80.0, 1.5], 4: [80.0, 5.0, 1.5, 0.5]}


def column(values, x):
    return torch.as_tensor(values, dtype=x.dtype).reshape(-1, 1, 1, 1)


def gaussian_denoiser(x, t):
    """E[x0 | x_t] for data ~ N(MEAN, STD^2)."""
    t = column(t, x)
    return (STD**2 * x + t**2 * MEAN) / (STD**2 + t**2)


def end_of_path(x, t, next_t=0.0):
    """Where the sampling ODE leads from x_t: distances from the mean shrink as the spread does."""
    return MEAN + STD / (STD**2 + column(t, x) ** 2).sqrt() * (x - MEAN)


class Exact(nn.Module):
    """The oracle with the face of a model."""

    def __init__(self, answer):
        super().__init__()
        self.scheduler, self.answer = CustomScheduler(sigma_data=STD), answer

    def denoise(self, x, t, next_t=0.0):
        return self.answer(x, t)


class Called:
    """The face of a learner."""

    def __init__(self, module):
        self.module = module

    def __call__(self, x, t):
        return self.module.denoise(x, t)


def loss_of(settings, answer):
    """The `ConsistencyLoss` of a network that answers so, with the exact teacher."""
    execution = SimpleNamespace(run=lambda network, *inputs: network(*inputs))
    return ConsistencyLoss(settings, Called(Exact(answer)), Exact(gaussian_denoiser), execution)


def settings_of(**flags):
    return tiny_settings(dict(method="consistency"), flags)


def test_the_mapping_is_the_published_one_and_comes_closer_by_stages():
    t = torch.tensor([0.1, 1.0, 5.0, 80.0])
    sigmoid = 1 / (1 + t.exp())
    for stage, power in ((0, 2), (1, 4), (7, 256)):
        expected = (t * (1 - (1 + 8 * sigmoid) / power)).clamp(min=0)
        torch.testing.assert_close(nearer_level(t, stage, 2.0), expected, rtol=1e-5, atol=0)
    assert nearer_level(t, 0, 2.0)[:2].tolist() == [0, 0], "the first stage denoises"
    assert [stage_of(step / 100, 4) for step in (0, 24, 25, 99)] == [0, 0, 1, 3]
    assert stage_of(1.0, 4) == 3
    # However long the schedule, the two stay apart in fp32.
    assert (nearer_level(t, 63, 1024.0) < t).all()


def test_both_distances_by_hand():
    answer, target = torch.zeros(2, 3, 2, 2), torch.full((2, 3, 2, 2), 0.4)
    t, r = torch.tensor([2.0, 1.0]), torch.tensor([1.5, 0.0])
    squared = consistency_loss(answer, target, t, r, "l2")
    torch.testing.assert_close(squared, torch.tensor([0.32, 0.16]))
    c = 0.3
    huber = consistency_loss(answer, target, t, r, "huber", c)
    torch.testing.assert_close(huber, torch.tensor([0.4, 0.2]))  # sqrt(0.16 + 0.09) - 0.3 = 0.2
    # A large c is the squared distance over 2 c, a small one the root of it.
    large = consistency_loss(answer, target, t, r, "huber", 100.0)
    torch.testing.assert_close(200 * large, squared, rtol=0.01, atol=0)
    small = consistency_loss(answer, target, t, r, "huber", 1e-6)
    torch.testing.assert_close(small, torch.tensor([0.8, 0.4]), rtol=1e-4, atol=0)


def test_the_target_has_no_gradient():
    target = torch.zeros(1, 3, 2, 2, requires_grad=True)
    answer = torch.ones(1, 3, 2, 2, requires_grad=True)
    consistency_loss(answer, target, torch.ones(1), torch.zeros(1)).sum().backward()
    assert target.grad is None and answer.grad is not None


def test_the_boundary_is_built_in():
    torch.manual_seed(0)
    model = create_custom_model(**MODEL_DEFAULTS | {"network": "tiny"}).eval()
    with torch.no_grad():
        model.network.tail[2].weight.normal_(std=0.5)
        x = torch.randn(2, 3, 16, 16)
        torch.testing.assert_close(model.denoise(x, 0.0), x)
        lowest = model.scheduler.sigma_min
        assert 0 < (model.denoise(x, lowest) - x).abs().max() < 20 * lowest


def test_on_the_teachers_path_the_exact_function_loses_nothing_but_the_size_of_the_step():
    """A step of the teacher's ODE errs by (t - r)^2, so the squared loss over t - r falls with the
    third power of the step: with each stage to an eighth."""
    images = MEAN + STD * torch.randn(256, 3, 2, 2, generator=torch.Generator().manual_seed(0))

    def loss(answer, stages, **more):
        settings = settings_of(ct_path="teacher", ct_metric="l2", ct_stages=stages, **more)
        (micro_batch,) = split(images, [0])
        value, metrics = loss_of(settings.consistency, answer)(micro_batch, 1.0)
        assert metrics["level_ratio"] < 1
        return value.item()

    exact = [loss(end_of_path, stages) for stages in (6, 7, 8)]
    assert exact[0] < 1e-3
    for coarse, fine in zip(exact, exact[1:]):
        assert coarse / fine == pytest.approx(8, rel=0.2)
    assert loss(gaussian_denoiser, 8) > 100 * exact[-1]
    assert loss(lambda x, t: end_of_path(x, 1.05 * t), 8) > 100 * exact[-1]


@pytest.mark.parametrize("t", [0.2, 1.0, 5.0])
def test_on_the_images_path_the_mean_of_targets_is_the_end_of_the_path(t):
    """With the same noise at both levels the targets scatter, but around f(x_t): so the exact
    function is where the squared loss rests, up to the square of the step."""
    torch.manual_seed(0)
    levels = torch.tensor([t])
    scheduler = CustomScheduler(sigma_data=STD)
    errors = []
    for stage in (3, 4, 5):
        r = nearer_level(levels, stage, 2.0)
        # All that x_t leaves open is the image, with the posterior of Gaussian data.
        x_t = torch.full((1, 3, 2, 2), MEAN + 1.3 * (STD**2 + t**2) ** 0.5)
        mean = gaussian_denoiser(x_t, levels)
        scatter = STD * t / (STD**2 + t**2) ** 0.5
        x0 = mean + scatter * torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)  # of that mean
        near = scheduler.reverse_process_step(x_t.expand(2, -1, -1, -1), x0, levels, r)
        # The line from x_t to x0 is x0 + r n of the same noise n.
        torch.testing.assert_close(near, x0 + column(r, x0) * (x_t - x0) / t)
        target = end_of_path(near, r).mean(dim=0)
        errors.append((target - end_of_path(x_t, levels)[0]).abs().max().item())
    assert errors[0] < 0.05 * STD
    for coarse, fine in zip(errors, errors[1:]):
        assert coarse / fine == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize("nfe", [1, 2, 4])
def test_samples_of_the_exact_function_have_the_datas_distribution(nfe):
    """Re-noised to each level and answered anew, whatever their number."""

    class Network(nn.Module):
        """The exact function in the place of the U-Net, which preconditioning wraps."""

        def __init__(self, scheduler):
            super().__init__()
            self.scheduler, self.seen = scheduler, []
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, x, time, condition=None):
            t = STD * torch.tan(time / 1000 * torch.pi / 2)
            self.seen.append(t[0].item())
            spread = (t**2 + STD**2).sqrt()
            answer = end_of_path(x * column(spread, x), t)
            c_skip, c_out = STD**2 / spread**2, t * STD / spread
            return (answer - column(c_skip * spread, x) * x) / column(c_out, x)

    scheduler = CustomScheduler(sigma_data=STD, few_step_sigmas=LEVELS)
    model = CustomGenerativeModel(Network(scheduler), scheduler, sampler="few_step")
    torch.manual_seed(0)
    states = model.sample((64, 3, 16, 16), num_inference_timesteps=nfe, return_traj=True)
    assert model.network.seen == pytest.approx(LEVELS[nfe], rel=1e-3)
    images = end_of_path(states[-2], torch.tensor([LEVELS[nfe][-1]]))  # sample clips
    assert images.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert images.std().item() == pytest.approx(STD, rel=0.02)
    torch.testing.assert_close(states[-1], images.clamp(-1, 1), rtol=0, atol=1e-3)


def make_phase(**flags):
    settings = settings_of(**dict(ct_iterations=40, ct_warmup=0) | flags)
    torch.manual_seed(0)
    config = teacher_config(settings, SIGMA_DATA)
    teacher = create_custom_model(**config)
    with torch.no_grad():
        teacher.network.tail[2].weight.normal_(std=0.05)
    return build_student(settings, teacher, consistency_config(config, settings))


def take(phase, steps):
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(7)) * 2 - 1
    return [phase.step(split(images, [step]), step) for step in steps]


def weights(phase):
    networks = (phase.model, phase.ema)
    return torch.cat([p.detach().flatten() for one in networks for p in one.parameters()])


def test_dropout_is_the_same_in_both_answers():
    phase = make_phase(ct_dropout=0.5)
    masks = []

    def watch(module, inputs, output):
        masks.append((output == 0).float())

    drop = next(m for m in phase.model.modules() if isinstance(m, nn.Dropout))
    assert drop.p == 0.5 and phase.model.training
    drop.register_forward_hook(watch)
    take(phase, [39])
    first, second = masks
    assert first.mean() > 0.3 and torch.equal(first, second)
    take(phase, [38])
    assert not torch.equal(masks[0], masks[2])


def test_tuning_starts_as_the_teacher_and_learns_a_constant_image():
    phase = make_phase(ct_lr=5e-3)
    images = torch.full((8, 3, 16, 16), 0.5)
    for step in range(20):
        phase.step(split(images, [step]), step)
    samples = phase.model.sample((4, 3, 16, 16), 1)
    assert (samples - 0.5).abs().mean() < 0.15


def test_going_on_from_a_state_is_the_same_as_not_stopping():
    flags = dict(ct_dropout=0.3)
    whole, parted, resumed = (make_phase(**flags) for _ in range(3))
    take(whole, range(4))
    take(parted, range(2))
    resumed.load_state_dict(parted.state_dict())
    take(resumed, range(2, 4))
    assert torch.equal(weights(whole), weights(resumed))


def test_taken_further_it_stays_in_its_last_stage():
    phase = make_phase(ct_iterations=80)
    phase.first_total = 40
    (before,), (after,) = phase.turns(20), phase.turns(60)
    assert before.loss.keywords == {"progress": 0.5} and after.loss.keywords == {"progress": 1.0}


CHANGES = {
    "ct_mean": 0.5,
    "ct_std": 0.5,
    "ct_stages": 3,
    "ct_factor": 4.0,
    "ct_metric": "l2",
    "ct_huber": 0.1,
    "ct_path": "teacher",
    "ct_iterations": 50,
    "ct_lr": 1e-2,
    "ct_warmup": 39,
    "ct_dropout": 0.5,
    "ct_ema_share": 0.9,
}
WALKED_ELSEWHERE = {"ct_start", "ct_sigmas"}
STEPS = (20, 21, 22)


@pytest.fixture(scope="module")
def plain():
    phase = make_phase()
    take(phase, STEPS)
    return weights(phase)


@pytest.mark.parametrize("name", CHANGES)
def test_each_flag_changes_what_is_learnt(name, plain):
    phase = make_phase(**{name: CHANGES[name]})
    take(phase, STEPS)
    assert weights(phase).isfinite().all() and (weights(phase) - plain).abs().max() > 1e-7


def test_every_flag_is_walked_over():
    flags = {item.name for group in (Consistency, Tuning) for item in fields(group)}
    assert flags == set(CHANGES) | WALKED_ELSEWHERE


def test_from_random_weights_there_is_no_teacher(tmp_path, monkeypatch, few_pictures):
    method = with_settings(METHODS["consistency"], {"ct_start": "random"})
    assert train_in(tmp_path, method, monkeypatch, ct_start="random") == 0
    record = read_json(tmp_path / "run" / "training_config.json")
    assert list(record["identities"]) == ["consistency"] and record["finished"]
    assert not (tmp_path / "run" / "teacher").exists()
    model = load_model(tmp_path / "out" / "best_model.pt", create_custom_model)
    assert model.scheduler.few_step_sigmas(2) == [5.0, 1.0] and model.scheduler.noise_offset == 0
    assert 0.1 < model.scheduler.sigma_data < 1


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--ct_start random --num_iterations 9", "--num_iterations"),
        ("--ct_start random --noise_offset 0.1", "--noise_offset"),
        ("--ct_start random --phase add", "--phase add"),
        ("--ct_start random --teacher_ckpt t.pt", "--teacher_ckpt"),
        ("--ct_start random --ct_path teacher", "--ct_path teacher"),
        ("--use_additional_condition", "--use_additional_condition"),
        ("--ct_sigmas 5 5 2 1", "--ct_sigmas"),
        ("--ct_iterations 9 --ct_warmup 9", "--ct_warmup"),
        ("--disc patch", "--disc"),
        ("--student_lr 1", "--student_lr"),
    ],
)
def test_what_cannot_be_is_refused_by_name(flags, named):
    with pytest.raises(UserError, match=named):
        parse_settings(["--method", "consistency", "--data", "synthetic", *flags.split()])


def test_other_methods_refuse_its_own_flags():
    for method in ("adversarial", "rectified_flow"):
        with pytest.raises(UserError, match="--ct_lr"):
            parse_settings(["--method", method, "--data", "synthetic", "--ct_lr", "1e-3"])
