"""Fused attention, recomputed activations, layouts, compilation: the same results, names and
weights."""

import copy
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from custom_model import create_custom_model
from fewstep.engine import hardware, precision
from fewstep.engine.attention import fuse_attention
from fewstep.engine.compiling import compile_in_place
from fewstep.engine.fast_sampling import make_fast
from fewstep.engine.hardware import ProcessorShare
from fewstep.engine.microbatch import split
from fewstep.engine.precision import autocast_for, choices_of, lay_out
from fewstep.engine.recompute import recompute_activations
from src.network import UNet
from tests.students import build_teacher, student_of, tiny_settings

ROOT = Path(__file__).resolve().parents[2]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL = dict(ch=32, ch_mult=[1, 2], attn=[1], num_res_blocks=1, dropout=0.1)


def small_network():
    """In double precision, so that what differs by rounding alone is told from what differs."""
    torch.manual_seed(0)
    network = UNet(**SMALL)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.double()


def pass_through(network):
    """(output, gradient of the input and of every weight), dropout drawn from a fixed seed."""
    torch.manual_seed(1)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    output = network(x, torch.tensor([10.0, 500.0]))
    network.zero_grad()
    output.square().sum().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    return [output.detach(), x.grad, *gradients]


def agree(network, changed):
    pairs = zip(pass_through(network), pass_through(changed))
    return all(torch.allclose(a, b, rtol=1e-7, atol=1e-9) for a, b in pairs)


def test_fused_attention_gives_the_same_and_leaves_weights_and_names():
    network = small_network()
    fused = copy.deepcopy(network)
    assert fuse_attention(fused) == 4  # one down, two up, one in the middle
    assert list(fused.state_dict()) == list(network.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(fused.parameters(), network.parameters()))
    assert agree(network, fused)
    assert network.middleblocks[0].attn.forward.__func__ is type(fused.middleblocks[0].attn).forward


def test_fused_attention_never_writes_out_the_matrix():
    """No tensor of HW x HW values is kept for the backward pass."""
    network, shapes = small_network().float(), []  # the precisions with fused kernels
    fuse_attention(network)

    def keep(tensor):
        shapes.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(torch.randn(2, 3, 24, 24), torch.tensor([1.0, 2.0]))
    assert shapes and not any(shape[-2:] == (144, 144) for shape in shapes)


def test_a_copy_of_a_changed_network_has_weights_of_its_own():
    network = small_network().eval()
    fuse_attention(network)
    recompute_activations(network)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    x, t = torch.randn(1, 3, 16, 16).double(), torch.tensor([5.0])
    before = network(x, t)
    assert not torch.allclose(before, other(x, t))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert other(x, t).abs().max() > 0


def test_recomputing_gives_the_same_bits_with_a_fraction_of_the_memory():
    network = small_network().train()  # dropout draws the same again
    recomputed = copy.deepcopy(network)
    assert recompute_activations(recomputed) == 8
    pairs = zip(pass_through(network), pass_through(recomputed))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert kept_bytes(recomputed) < 0.5 * kept_bytes(network)


def kept_bytes(network):
    """Bytes of activations that the backward pass will need."""
    weights = {parameter.data_ptr() for parameter in network.parameters()}
    kept = {}

    def keep(tensor):
        if tensor.data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(torch.randn(4, 3, 32, 32).double(), torch.rand(4))
    del output
    return sum(kept.values())


def test_channels_last_and_bf16_stay_close():
    network = small_network().eval()  # dropout draws in the order of the memory
    moved = lay_out(copy.deepcopy(network), channels_last=True)
    assert moved.head.weight.is_contiguous(memory_format=torch.channels_last)
    assert agree(network, moved)
    network = network.float()
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([10.0, 500.0])
    with torch.no_grad(), autocast_for(CPU, "bf16")():
        rough = network(x, t)
    exact = network(x, t)
    assert rough.dtype == torch.bfloat16
    assert (rough - exact).std() < 0.05 * exact.std()


@pytest.mark.parametrize(
    ("device", "unit", "network", "levers", "expected", "words"),
    [
        (CPU, None, "tiny", {}, ("fp32", False, "off"), "fp32"),
        (CPU, None, "small", {}, ("fp32", False, "off"), "fp32"),
        (CPU, "amx_bf16", "small", {}, ("bf16", False, "off"), "bf16 (amx_bf16)"),
        (CPU, "amx_bf16", "", {}, ("bf16", True, "off"), "bf16 (amx_bf16), channels-last"),
        (CPU, "avx512_bf16", "small", {}, ("bf16", False, "off"), "bf16 (avx512_bf16)"),
        (CPU, "amx_bf16", "full", {}, ("bf16", True, "off"), "bf16 (amx_bf16), channels-last"),
        (CPU, "avx512_bf16", "tiny", dict(precision="fp32"), ("fp32", False, "off"), "fp32"),
        (CPU, None, "tiny", dict(precision="bf16"), ("bf16", False, "off"), "bf16 (emulated"),
        (CPU, None, "small", dict(compile="off"), ("fp32", False, "off"), "fp32"),
        (CPU, None, "tiny", dict(channels_last="on"), ("fp32", True, "off"), "fp32, channels-last"),
        (CUDA, None, "full", {}, ("bf16", True, "default"), "bf16, channels-last, compiled"),
        (CUDA, None, "full", dict(channels_last="off"), ("bf16", False, "default"), "bf16, comp"),
    ],
)
def test_what_auto_means_follows_the_device(
    monkeypatch, device, unit, network, levers, expected, words
):
    monkeypatch.setattr(precision, "bf16_units", lambda: unit)
    monkeypatch.setattr(precision, "bf16_pays", lambda: unit is not None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: True)
    choices = choices_of(device, network, **levers)
    assert choices == expected and choices.describe(device).startswith(words)


@pytest.mark.parametrize(
    ("flags", "unit"),
    [
        ("fpu sse avx2 avx512f avx512_bf16 amx_bf16 amx_tile", "amx_bf16"),
        ("fpu avx512_bf16", "avx512_bf16"),
        ("fpu avx2 avx512_bf16x", None),
    ],
)
def test_units_for_bf16_are_asked_of_the_processor(monkeypatch, flags, unit):
    text = f"processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: {flags}\n"
    monkeypatch.setattr(hardware.Path, "read_text", lambda path: text)
    assert hardware.bf16_units.__wrapped__() == unit
    assert hardware.hardware(CPU).startswith("Some CPU, ")


@pytest.mark.parametrize(
    ("unit", "gain", "pays"),
    [
        ("amx_bf16", 0.1, True),
        ("avx512_bf16", 1.6, True),
        ("avx512_bf16", 0.7, False),
        (None, 9, False),
    ],
)
def test_vector_units_alone_must_win_a_trial(monkeypatch, unit, gain, pays):
    monkeypatch.setattr(hardware, "bf16_units", lambda: unit)
    monkeypatch.setattr(hardware, "bf16_gain", lambda: gain)
    assert hardware.bf16_pays.__wrapped__() == pays


def test_the_trial_compares_the_best_of_each_and_draws_no_random_number():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    # Times at which the trials, fp32 and bf16 in turn, begin and end: 9, 4, 6 and 3 seconds.
    times = iter([0, 9, 10, 14, 20, 26, 30, 33])
    assert hardware.bf16_gain(clock=lambda: next(times), trials=2) == 2.0
    assert torch.equal(torch.get_rng_state(), before)


class Clock:
    """Wall time and the process's share of it, set by hand."""

    wall = used = 0.0

    def after(self, seconds, share):
        self.wall, self.used = self.wall + seconds, self.used + seconds * share
        return self


def test_a_starved_run_is_noticed_once():
    clock = Clock()
    share = ProcessorShare(CPU, 2, lambda: clock.wall, lambda: clock.used)
    clock.after(500, 0.0)  # a compiler works in another process
    assert share.warning() is None
    clock.after(50, 0.2)
    assert share.warning() is None  # too early to judge
    clock.after(20, 0.2)
    line = share.warning()
    assert "2 threads had 10% of the time" in line and "--threads" in line
    clock.after(100, 0.2)
    assert share.warning() is None  # once is enough


def test_a_busy_run_and_a_gpu_are_not_starved():
    for device, share_of_time in ((CPU, 1.9), (CUDA, 0.1)):
        clock = Clock()
        share = ProcessorShare(device, 2, lambda clock=clock: clock.wall, lambda c=clock: c.used)
        for _ in range(3):
            assert share.warning() is None
            clock.after(100, share_of_time)


class Small(nn.Module):
    """Compiles in seconds."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return torch.relu(self.layer(x)) + 1


def test_what_cannot_be_compiled_runs_as_it_is_and_says_so_once(capsys, monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here\nwith a long story")

    plain_compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **more: plain_compile(f, backend=broken))
    module = Small()
    x = torch.randn(2, 4)
    expected = module(x)
    compile_in_place(module, "default", "the network")
    assert torch.equal(module(x), expected) and torch.equal(module(x), expected)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2 and said[0].startswith("compiling the network: ")
    assert said[1].startswith("--compile: the network runs uncompiled (")
    assert list(module.state_dict()) == ["layer.weight", "layer.bias"]


def test_an_error_of_the_network_itself_is_no_failure_of_compiling(capsys):
    module = Small()
    compile_in_place(module, "default", "the network")
    with pytest.raises(RuntimeError):
        module(torch.randn(2, 5))
    assert "uncompiled" not in capsys.readouterr().out
    with pytest.raises(TypeError, match="the network is compiled"):
        copy.deepcopy(module)


def test_the_trial_of_a_compilation_leaves_buffers_as_they_were(monkeypatch):
    class Iterated(Small):
        """Its buffer goes a step further in each pass, as that of spectral normalisation."""

        def __init__(self):
            super().__init__()
            self.register_buffer("passes", torch.zeros(()))

        def forward(self, x):
            self.passes += 1
            return super().forward(x) * self.passes

    monkeypatch.setattr(torch, "compile", lambda f, **more: f)
    module = Iterated()
    compile_in_place(module, "default", "the network")
    for passes in (1, 2):
        module(torch.randn(2, 4)).sum().backward()
        assert module.passes == passes


# Products alone leave nothing to the C++ compiler, which would take most of the time.
COMPILED_RUN = """
import sys, torch
from fewstep.engine.compiling import compile_in_place, keep_compiled
from torch._dynamo.utils import counters
keep_compiled(sys.argv[1])
torch.manual_seed(0)
module, x = torch.nn.Linear(4, 4, bias=False), torch.randn(2, 4)
expected = module(x)
compile_in_place(module, "default", "the network")
output = module(x)
output.sum().backward()
assert torch.allclose(output, expected) and module.weight.grad is not None
found = counters["inductor"]
print(found["fxgraph_cache_hit"], found["fxgraph_cache_miss"])
"""


def test_compiled_code_is_kept_for_the_next_run(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TORCHINDUCTOR_CACHE_DIR"}
    said = []
    for _ in range(2):
        command = [sys.executable, "-c", COMPILED_RUN, str(tmp_path / "compiled")]
        result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
        assert result.returncode == 0, result.stderr[-2000:]
        said.append([int(word) for word in result.stdout.split()[-2:]])
    if said[0] == [0, 0]:
        pytest.skip(f"nothing can be compiled here: {result.stdout}")
    (_, first_misses), (second_hits, second_misses) = said
    assert first_misses > 0 and second_hits > 0 and second_misses == 0


def test_fast_sampling_gives_the_same_images(monkeypatch):
    monkeypatch.setattr(precision, "bf16_pays", lambda: False)  # what bf16 changes is seen below
    model = create_custom_model(network="tiny", sampler="few_step")
    with torch.no_grad():
        model.network.tail[2].weight.normal_(std=0.05)
    model.eval()
    plain = model.sample((2, 3, 64, 64), 2, seeds=[1, 2])
    context = make_fast(model, CPU)
    with context():
        fast = model.sample((2, 3, 64, 64), 2, seeds=[1, 2])
    assert torch.allclose(plain, fast, atol=1e-4)


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_steps_in_bf16_and_fp32_agree_to_its_rounding(name):
    torch.manual_seed(0)
    images = torch.rand(8, 3, 32, 32) * 1.6 - 0.8
    gradients = {}
    for which in ("fp32", "bf16"):
        settings = tiny_settings(dict(precision=which, disc_warmup=0, disc="patch"))
        torch.manual_seed(0)
        phase = build_teacher(settings) if name == "teacher" else student_of(settings)
        phase.step(split(images, [1]), 2)
        for learner in phase.learners:
            moments = [state["exp_avg"] for state in learner.optimizer.state.values()]
            kept = [*moments, *learner.parameters, *learner.module.buffers()]
            assert {tensor.dtype for tensor in kept} <= {torch.float32, torch.int64}
            first = torch.cat([moment.flatten() for moment in moments])  # of one step: the gradient
            gradients.setdefault(learner.name, []).append(first)
    for name, (exact, rough) in gradients.items():
        error = (rough - exact).norm() / exact.norm()
        assert 0 < error < 0.05, f"{name}: {error}"  # bf16 has 8 bits: 0.4 % an operation


FAULTS = """
import resource, torch
from fewstep.engine.precision import prepare_backends

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(12 << 20)  # 48 MiB: more than glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = faults()
prepare_backends(torch.device("cpu"), tf32=False)
faults()
print(plain, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone can be asked")
def test_on_a_cpu_freed_memory_is_kept_so_that_the_system_clears_its_pages_once():
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], cwd=ROOT, capture_output=True, text=True, check=True
    )
    plain, kept = map(int, done.stdout.split())
    assert kept < plain / 4  # of eight blocks one is cleared
