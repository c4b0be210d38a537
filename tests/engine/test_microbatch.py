"""Parts: what is drawn and compared within one does not depend on who takes it, or when."""

import copy

import pytest
import torch

from fewstep.engine.learner import Adam, Learner
from fewstep.engine.microbatch import MicroBatch, hashed_seed, micro_batches_of, split
from fewstep.engine.phase import mean_metrics
from fewstep.methods.adversarial_settings import check_size
from fewstep.runs.command_line import make_settings
from src.utils import UserError
from tests.students import build_teacher, plain_execution, student_of, tiny_settings

CPU = torch.device("cpu")


def phases(**flags):
    """(teacher's phase, student's phase), the same weights each time."""
    chosen = dict(batch_size=8, disc_channels=8, disc_warmup=0, adv_ramp=0, warmup=0)
    chosen |= dict(precision="fp32")  # whatever pays on this processor
    settings = tiny_settings(chosen, flags)
    torch.manual_seed(0)
    return build_teacher(settings), student_of(settings)


def images(count=8):
    torch.manual_seed(3)
    return torch.rand(count, 3, 64, 64) * 2 - 1


def gradients(place, parts, **flags):
    """What the optimisers are given in a step of a fresh phase, 0 the teacher's and 1 the
    student's, before clipping: [gradients of one update, ...]."""
    phase, seen = phases(**flags)[place], []

    def step(self, closure=None):
        found = [p.grad for group in self.param_groups for p in group["params"]]
        seen.append([grad.clone() for grad in found if grad is not None])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fewstep.engine.learner.GRADIENT_CLIP", 1e9)
        patch.setattr(Adam, "step", step)
        phase.step(parts, 5)
    return seen


def alike(first, second, tolerance):
    """Whether gradients agree, relative to the largest of their update."""
    for update, other in zip(first, second, strict=True):
        scale = max(grad.abs().max() for grad in update)
        for a, b in zip(update, other, strict=True):
            if (a - b).abs().max() > tolerance * scale:
                return False
    return True


@pytest.mark.parametrize(
    "flags", [{}, dict(distill="dmd", student_dropout=0.3, penalty="r1", disc_level=True)]
)
@pytest.mark.parametrize("place", [0, 1])
def test_gradients_of_a_step_are_means_over_its_parts(place, flags):
    """Two parts in one step, against the mean of two steps of a part each."""
    both = split(images(), [11, 12])
    together = gradients(place, both, **flags)
    first, second = (gradients(place, [part], **flags) for part in both)
    means = [[(a + b) / 2 for a, b in zip(*update)] for update in zip(first, second, strict=True)]
    assert alike(together, means, 1e-5) and not alike(together, first, 1e-2)


def test_a_turn_draws_the_same_whatever_came_before():
    part = MicroBatch(torch.zeros(1), 5)
    part.reseed("critics")
    first = torch.rand(3)
    torch.rand(7)
    part.reseed("critics")
    assert torch.equal(torch.rand(3), first)
    part.reseed("student")
    assert not torch.equal(torch.rand(3), first)
    assert hashed_seed(1, "a", 2) != hashed_seed(1, "a", 3)


def test_parts_are_equal_shares():
    assert (
        micro_batches_of(32, 0, 1) == 1
        and micro_batches_of(32, 8, 1) == 4
        and micro_batches_of(32, 8, 2) == 2
    )
    with pytest.raises(UserError, match="--batch_size 32: 3 processes"):
        micro_batches_of(32, 0, 3)
    for size in (5, 64):
        with pytest.raises(UserError, match=f"--micro_batch {size}"):
            micro_batches_of(32, size, 1)
    pieces = split(torch.arange(6.0), [7, 8, 9])
    assert [part.images.tolist() for part in pieces] == [[0, 1], [2, 3], [4, 5]]
    assert [part.seed for part in pieces] == [7, 8, 9]


def test_metrics_are_means():
    rows = [{"loss": torch.tensor(1.0)}, {"loss": torch.tensor(3.0)}]
    assert mean_metrics(rows) == {"loss": torch.tensor(2.0)}


@pytest.mark.parametrize(
    ("flag", "first", "second"),
    [
        ("attention", "fused", "explicit"),
        ("joint_disc", True, False),
        ("checkpointing", False, True),
        ("channels_last", "off", "on"),
    ],
)
def test_speed_flags_change_rounding_only(flag, first, second):
    # Two images: in one batch of two real, two generated and two perturbed ones, groups of the
    # minibatch's spread would mix them if they were taken as they come.
    parts = split(images(2), [1])
    for place in (0, 1):
        one, other = (
            gradients(place, parts, disc="resnet", **{flag: value}) for value in (first, second)
        )
        # The penalty squares small differences of logits, in which rounding shows.
        assert alike(one, other, 2e-3)


def learner_of(layer, kernels):
    execution = plain_execution(updates=kernels)
    return Learner("layer", layer, "forward", execution, lambda step: 1e-2, (0.9, 0.99))


def after_updates(kernels, finite=True):
    """A `Learner` after five updates by fixed gradients, the third of them perhaps not finite."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(7, 5)
    learner = learner_of(layer, kernels)
    for update in range(5):
        broken = update == 2 and not finite
        loss = learner(torch.randn(3, 7)).square().sum()
        (loss * (float("nan") if broken else 1.0)).backward()
        _, dropped = learner.update(0)
        assert bool(dropped) is broken
    return learner


@pytest.mark.parametrize("finite", [True, False])
@pytest.mark.parametrize("kernels", ["fused", "foreach"])
def test_kernels_change_rounding_only(kernels, finite):
    plain, other = (after_updates(k, finite=finite) for k in ("loop", kernels))
    for a, b in zip(plain.parameters, other.parameters):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)
    steps = {float(state["step"]) for state in other.optimizer.state.values()}
    assert steps == {5.0 if finite else 4.0}


def test_states_pass_between_kernels():
    """A run that began with other kernels goes on with those of now."""
    fused, loop = after_updates("fused"), after_updates("loop")
    loop.optimizer.load_state_dict(copy.deepcopy(fused.optimizer.state_dict()))
    group = loop.optimizer.param_groups[0]
    assert group["fused"] is False and group["foreach"] is False and group["betas"] == (0.9, 0.99)
    for learner in (fused, loop):
        torch.manual_seed(9)
        learner.module(torch.randn(3, 7)).square().sum().backward()
        learner.update(0)
    for a, b in zip(fused.parameters, loop.parameters):
        assert torch.allclose(a, b, rtol=1e-5, atol=1e-7)


def test_the_average_follows_alike_with_any_kernels():
    averages = []
    for kernels in ("fused", "loop"):
        phase, _ = phases(updates=kernels)
        for shift in (0.1, 0.2, 0.3):
            with torch.no_grad():
                for parameter in phase.model.parameters():
                    parameter.add_(shift)
            phase.learners[0]._follow()
        averages.append([p.clone() for p in phase.ema.parameters()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*averages))
    assert not torch.allclose(averages[0][0], next(phase.model.parameters()))


@pytest.mark.parametrize("kernels", ["fused", "foreach", "loop"])
def test_moments_of_another_layout_are_laid_out_anew(kernels):
    """A run whose weights lay otherwise goes on as it would have."""
    learners = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=layout)
        learners.append(learner_of(layer, kernels))

    def update(learner, seed):
        torch.manual_seed(seed)
        learner(torch.randn(2, 3, 8, 8)).square().sum().backward()
        learner.update(0)

    first, other = learners
    update(first, 1)
    other.module.load_state_dict(first.module.state_dict())
    other.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    for learner in learners:
        update(learner, 2)
    for a, b in zip(first.parameters, other.parameters):
        assert torch.allclose(a, b, atol=1e-5)


def test_parts_too_small_for_their_shares_are_refused():
    settings = make_settings({})
    for size in (4, 8, 32):
        check_size(settings, size)
    for size in (1, 2, 3):
        with pytest.raises(UserError, match=f"{size} images at once are too few"):
            check_size(settings, size)
    check_size(make_settings({"phase": "teacher"}), 1)
    check_size(make_settings({"self_input_share": 0.0}), 2)
    with pytest.raises(UserError, match="2 images at once"):  # no lower level would be trained
        check_size(make_settings({"level_shares": [0.8, 0.1, 0.1, 0.0]}), 2)
    with pytest.raises(UserError, match="4 images at once"):  # nor any real noised image
        check_size(make_settings({"self_input_share": 0.8}), 4)
