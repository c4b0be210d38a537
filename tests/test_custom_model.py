"""The model against closed forms: preconditioning, samplers on Gaussian data, evaluation counts."""

import math

import pytest
import torch

from custom_model import MODEL_DEFAULTS, create_custom_model
from src.model_config import FLOW_DEFAULTS, with_later_keys
from src.module import ResBlock
from src.samplers import few_step_states, noise_source, ode_plan, ode_states

SHAPE = (2, 3, 64, 64)


def count_evaluations(model):
    calls = []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize("nfe", [1, 2, 3, 4, 7])
def test_student_costs_exactly_its_nfe(tiny_model, nfe):
    calls = count_evaluations(tiny_model)
    x = tiny_model.sample(SHAPE, nfe, sampler="few_step", seeds=[1, 2])
    assert len(calls) == nfe
    assert x.shape == SHAPE
    assert x.abs().max() <= 1


@pytest.mark.parametrize("sampler", ["heun", "euler"])
@pytest.mark.parametrize("nfe", [1, 2, 3, 4, 5, 8, 35])
def test_teacher_costs_exactly_its_nfe(tiny_model, sampler, nfe):
    calls = count_evaluations(tiny_model)
    tiny_model.sample((1, 3, 16, 16), nfe, sampler=sampler)
    assert len(calls) == nfe


def test_an_odd_budget_is_all_heun_but_the_last_step():
    assert ode_plan(35, heun=True) == [True] * 17 + [False]
    assert ode_plan(6, heun=True) == [False, True, True, False]


def gaussian_denoiser(mean, std):
    """The exact denoiser of data N(mean, std^2): the posterior mean."""

    def denoise(x, sigma, next_sigma=0.0):
        return (std**2 * x + sigma**2 * mean) / (std**2 + sigma**2)

    return denoise


def integrate(nfe, heun, noise, mean=0.3, std=0.5):
    scheduler = create_custom_model(network="tiny").scheduler
    plan = ode_plan(nfe, heun)
    sigmas = scheduler.ode_sigmas(len(plan))
    step = scheduler.reverse_process_step
    *_, last = ode_states(gaussian_denoiser(mean, std), step, sigmas, plan, lambda: noise)
    # For Gaussian data the ODE scales deviations from the mean by std / sqrt(std^2 + sigma^2).
    start = sigmas[0] * noise
    exact = mean + (start - mean) * std / math.sqrt(std**2 + sigmas[0] ** 2)
    return (last - exact).abs().max().item()


@pytest.mark.parametrize("nfe", [71, 72])
def test_heun_is_second_order_and_euler_first_on_the_gaussian_ode(nfe):
    """Twice the steps leave a quarter of Heun's error and half of Euler's."""
    noise = torch.randn(64, generator=torch.Generator().manual_seed(0)).reshape(1, 1, 8, 8)
    heun, euler = integrate(nfe, True, noise), integrate(nfe, False, noise)
    assert heun < 0.4 * euler < 0.04
    assert integrate(2 * nfe, True, noise) / heun == pytest.approx(1 / 4, abs=0.03)
    assert integrate(2 * nfe, False, noise) / euler == pytest.approx(1 / 2, abs=0.03)


def test_few_step_sampling_keeps_the_distribution_of_an_exact_generator():
    """With a generator that maps any level to exact samples, re-noising keeps their statistics."""
    generator = torch.Generator().manual_seed(0)

    def randn():
        return torch.randn(1, 1, 200, 200, generator=generator, dtype=torch.float64)

    def perfect(x, sigma, next_sigma):  # N(0, s^2 + 0.25) -> N(0.2, 0.25), a transport map
        spread = sigma if sigma == 80 else math.sqrt(sigma**2 + 0.25)
        centre = 0 if sigma == 80 else 0.2
        return 0.2 + 0.5 * (x - centre) / spread

    states = list(few_step_states(perfect, [80.0, 4.0, 1.5], randn))
    assert len(states) == 4
    assert states[-1].mean().item() == pytest.approx(0.2, abs=0.01)
    assert states[-1].std().item() == pytest.approx(0.5, abs=0.01)
    assert states[1].std().item() == pytest.approx(math.sqrt(0.25 + 16), rel=0.02)


def test_preconditioning_gives_unit_variance_in_and_identity_at_no_noise(tiny_model):
    seen = {}
    hook = lambda _module, inputs: seen.update(x=inputs[0], tau=inputs[1])  # noqa: E731
    tiny_model.network.register_forward_pre_hook(hook)
    generator = torch.Generator().manual_seed(0)
    for sigma in (0.01, 1.0, 80.0):
        data = 0.6 * torch.randn(SHAPE, generator=generator)
        x = data + sigma * torch.randn(SHAPE, generator=generator)
        tiny_model.denoise(x, sigma)
        assert seen["x"].std().item() == pytest.approx(1, abs=0.05)
        assert 0 <= seen["tau"].min() and seen["tau"].max() < 1000
    x = torch.randn(SHAPE, generator=generator)
    assert torch.allclose(tiny_model.denoise(x, 1e-4), x, atol=1e-3)


def test_loss_of_an_untrained_network_is_one():
    """c_out normalises the target, so a network that returns zero has a loss near 1 anywhere."""
    torch.manual_seed(0)
    model = create_custom_model(network="tiny", sigma_data=0.5)
    data = 0.5 * torch.randn(16, 3, 32, 32)
    for sigma in (0.05, 0.5, 20.0):
        loss = model.compute_loss(data, torch.randn_like(data), sigma=torch.full((16,), sigma))
        assert loss.item() == pytest.approx(1, abs=0.1)


def test_scheduler_follows_its_definitions():
    scheduler = create_custom_model(network="tiny", p_mean=-0.5, p_std=0.8).scheduler
    torch.manual_seed(0)
    logs = scheduler.sample_timesteps(20000, "cpu").log()
    assert logs.shape == (20000,)
    assert logs.mean().item() == pytest.approx(-0.5, abs=0.03)
    assert logs.std().item() == pytest.approx(0.8, abs=0.03)
    x0, noise, t = torch.ones(2, 3, 4, 4), torch.full((2, 3, 4, 4), 2.0), torch.tensor([0.5, 3.0])
    xt = scheduler.forward_process(x0, noise, t)
    assert xt[0].unique().tolist() == [2.0] and xt[1].unique().tolist() == [7.0]
    # Stepping with the true image stays on the line x0 + t * noise, down to x0 itself.
    back = scheduler.reverse_process_step(xt, x0, t, torch.tensor([0.25, 1.0]))
    assert torch.allclose(back, scheduler.forward_process(x0, noise, torch.tensor([0.25, 1.0])))
    assert torch.equal(scheduler.reverse_process_step(xt, x0, t, torch.zeros(2)), x0)
    assert torch.equal(scheduler.get_target(x0, noise, t), x0)


def test_offset_noise_has_its_covariance():
    plain = create_custom_model(network="tiny").scheduler
    torch.manual_seed(0)
    white = plain.draw_noise((2, 3, 4, 4))
    torch.manual_seed(0)
    assert torch.equal(white, torch.randn(2, 3, 4, 4))
    offset = create_custom_model(network="tiny", noise_offset=0.5).scheduler
    noise = offset.draw_noise((4000, 3, 8, 8))
    means = noise.mean(dim=(2, 3))
    assert means.var().item() == pytest.approx(0.25 + 1 / 64, rel=0.05)
    assert noise.var().item() == pytest.approx(1.25, rel=0.05)
    assert (means[:, 0] * means[:, 1]).mean().abs() < 0.02  # channels are independent


def test_levels_of_other_nfe_lie_along_the_longest_row():
    scheduler = create_custom_model(network="tiny").scheduler
    assert scheduler.few_step_sigmas(4) == [80.0, 4.0, 1.5, 0.54]
    for nfe in (3, 5, 8):
        levels = scheduler.few_step_sigmas(nfe)
        assert len(levels) == nfe
        assert levels[0] == pytest.approx(80) and levels[-1] == pytest.approx(0.54)
        assert all(a > b for a, b in zip(levels, levels[1:]))


def test_trajectory_starts_as_noise_and_ends_as_the_sample(tiny_model):
    final = tiny_model.sample(SHAPE, 4, sampler="few_step", seeds=[3, 4])
    states = tiny_model.sample(SHAPE, 4, sampler="few_step", seeds=[3, 4], return_traj=True)
    assert len(states) == 5
    assert torch.equal(states[-1], final)
    assert states[0].std().item() == pytest.approx(80, rel=0.05)


def test_verbose_shows_a_progress_bar_and_quiet_shows_nothing(tiny_model, capsys):
    tiny_model.sample((1, 3, 16, 16), 2, sampler="few_step")
    assert capsys.readouterr().err == ""
    tiny_model.sample((1, 3, 16, 16), 2, sampler="few_step", verbose=True)
    assert "sampling" in capsys.readouterr().err


def test_same_seed_same_images_and_other_seed_others(tiny_model):
    def draw(seed):
        torch.manual_seed(seed)
        return tiny_model.sample(SHAPE, 2, sampler="few_step")

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_seeded_images_do_not_depend_on_their_batch(tiny_model):
    together = tiny_model.sample((3, 3, 32, 32), 2, sampler="few_step", seeds=[5, 6, 7])
    alone = tiny_model.sample((1, 3, 32, 32), 2, sampler="few_step", seeds=[6])
    assert torch.allclose(together[1:2], alone, atol=1e-5)
    noise = noise_source(tiny_model.scheduler.draw_noise, (2, 3, 4, 4), "cpu", [1, 1])()
    assert torch.equal(noise[0], noise[1])


def test_additional_condition_carries_the_next_level():
    model = create_custom_model(network="tiny", use_additional_condition=True, sigma_data=0.5)
    seen = []
    hook = lambda _module, inputs: seen.append(inputs[2])  # noqa: E731
    model.network.register_forward_pre_hook(hook)
    model.sample((1, 3, 16, 16), 2, sampler="few_step", sigmas=[10.0, 1.0])
    assert seen[0].item() == pytest.approx(model.scheduler.tau(torch.tensor(1.0)).item())
    assert seen[1].item() == 0


def test_a_saved_config_rebuilds_the_model_and_unknown_keys_are_named():
    assert create_custom_model(**MODEL_DEFAULTS | {"network": "tiny"}).sampler == "heun"
    with pytest.raises(ValueError, match=r"'sigma_dta'; did you mean 'sigma_data'"):
        create_custom_model(network="tiny", sigma_dta=1)
    for wrong in (
        {"network": "huge"},
        {"sampler": "magic"},
        {"sigma_data": 0},
        {"sigma_min": 100.0},
        {"few_step_sigmas": {"2": [1.0, 4.0]}},
        {"few_step_sigmas": {"2": [4.0]}},
        {"model_type": "gan"},
    ):
        with pytest.raises(ValueError):
            create_custom_model(**{"network": "tiny"} | wrong)


def test_models_of_before_there_were_other_groups_have_32():
    saved = MODEL_DEFAULTS | {"network": "tiny"}
    older = {key: value for key, value in saved.items() if key != "norm_groups"}
    for config, groups in ((older, 32), (saved, 32), (saved | {"norm_groups": 16}, 16)):
        network = create_custom_model(**config).network
        norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.GroupNorm)]
        assert {norm.num_groups for norm in norms} == {groups} and len(norms) > 10
    with pytest.raises(ValueError, match="norm_groups 5: use one of 32, 16"):
        create_custom_model(**saved | {"norm_groups": 5})
    with pytest.raises(ValueError, match="'rho' is missing"):
        create_custom_model(**{key: value for key, value in saved.items() if key != "rho"})


def test_a_flows_preconditioning_is_a_flow_seen_as_a_denoiser():
    """The same network as a rectified flow: x / (1 + sigma) is its x_t at t = sigma / (1 + sigma),
    the losses are equal, and so is where one Euler step leads."""
    torch.manual_seed(0)
    denoiser = create_custom_model(network="tiny", preconditioning="flow", sampler="euler")
    flow = create_custom_model(**FLOW_DEFAULTS | {"network": "tiny"})
    with torch.no_grad():
        denoiser.network.tail[2].weight.normal_(std=0.05)
    flow.network.load_state_dict(denoiser.network.state_dict())
    data, noise = torch.rand(4, 3, 16, 16) * 2 - 1, torch.randn(4, 3, 16, 16)
    sigma = torch.tensor([0.05, 0.5, 2.0, 60.0])
    t = sigma / (1 + sigma)
    expected = flow.compute_loss(data, noise, t)
    assert torch.allclose(denoiser.compute_loss(data, noise, sigma), expected, rtol=1e-4)
    x = data + sigma.reshape(-1, 1, 1, 1) * noise
    x_t = flow.scheduler.forward_process(data, noise, t)
    there = x_t - t.reshape(-1, 1, 1, 1) * flow.predict(x_t, t)
    assert torch.allclose(denoiser.denoise(x, sigma), there, atol=1e-4)
    assert torch.equal(denoiser.denoise(data, 0.0), data), "f(x, 0) = x, as a consistency model's"


def test_a_published_denoiser_of_before_there_was_a_choice_has_edms_preconditioning():
    saved = MODEL_DEFAULTS | {"network": "tiny"}
    older = {key: value for key, value in saved.items() if key != "preconditioning"}
    assert not create_custom_model(**older).scheduler.is_flow
    assert "preconditioning" not in with_later_keys(dict(FLOW_DEFAULTS))
    with pytest.raises(ValueError, match="preconditioning 'x': use one of edm, flow"):
        create_custom_model(**saved | {"preconditioning": "x"})


@pytest.mark.parametrize(("groups", "heard"), [(32, False), (16, True)])
def test_a_block_of_as_many_channels_as_groups_does_not_hear_the_noise_level(groups, heard):
    block = ResBlock(32, 32, 128, dropout=0.0, norm_groups=groups)
    torch.nn.init.normal_(block.block2[-1].weight)  # nearly zero in a fresh one
    x, embedding = torch.randn(1, 32, 8, 8), torch.randn(2, 1, 128)
    low, high = (block(x, one) for one in embedding)
    assert torch.allclose(low, high, atol=1e-3) != heard


def test_bad_sampling_arguments_are_refused(tiny_model):
    with pytest.raises(ValueError, match="at least 1"):
        tiny_model.sample(SHAPE, 0)
    with pytest.raises(ValueError, match="2 levels, falling and above 0"):
        tiny_model.sample(SHAPE, 2, sampler="few_step", sigmas=[3.0, 2.0, 1.0])
    with pytest.raises(ValueError, match="1 seeds for 2"):
        tiny_model.sample(SHAPE, 2, seeds=[1])
    with pytest.raises(ValueError, match="falling"):
        tiny_model.sample(SHAPE, 2, sampler="few_step", sigmas=[1.0, 2.0])
