"""Batches as a function of the step: an epoch shows every image once, resuming changes nothing."""

import numpy as np
import torch

from fewstep.engine.batches import StepBatches, fits_on_device, pixel_std, to_float
from fewstep.engine.processes import Processes
from fewstep.images.cache import cached_images


def numbered(tmp_path, count=10):
    """Images whose pixels all equal their index."""
    make = lambda: (np.full((64, 64, 3), i, np.uint8) for i in range(count))  # noqa: E731
    return cached_images(tmp_path, "0" * 64, count, make)


def indices(x):
    return ((x[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()


def test_every_epoch_is_a_permutation_even_across_batches(tmp_path):
    batches = StepBatches(numbered(tmp_path), 4, seed=0, x_flip=False, device=torch.device("cpu"))
    shown = sum((indices(batches(step)) for step in range(5)), [])
    assert sorted(shown[:10]) == sorted(shown[10:]) == list(range(10))
    assert shown[:10] != shown[10:]


def test_a_step_has_its_batch_whatever_came_before(tmp_path):
    cache = numbered(tmp_path)
    arguments = dict(seed=3, x_flip=False, device=torch.device("cpu"))
    first, second = StepBatches(cache, 4, **arguments), StepBatches(cache, 4, **arguments)
    forward = [indices(first(step)) for step in range(6)]
    backward = [indices(second(step)) for step in reversed(range(6))]
    assert forward == backward[::-1]
    other = StepBatches(cache, 4, **arguments | {"seed": 4})
    assert forward != [indices(other(step)) for step in range(6)]


def test_range_layout_and_mirroring(tmp_path):
    pixels = np.zeros((2, 64, 64, 3), np.uint8)
    pixels[:, :, 32:] = 255
    cache = cached_images(tmp_path, "1" * 64, 2, lambda: iter(pixels))
    batches = StepBatches(cache, 2, seed=0, x_flip=True, device=torch.device("cpu"))
    torch.manual_seed(0)
    x = torch.cat([batches(step) for step in range(100)])
    assert x.shape == (200, 3, 64, 64) and x.is_contiguous()
    assert x.min() == -1 and x.max() == 1
    mirrored = (x[:, 0, 0, 0] == 1).float().mean().item()
    assert 0.35 < mirrored < 0.65
    assert pixel_std(cache) == 1
    assert torch.equal(
        to_float(torch.tensor([[[[0, 0, 0]]]], dtype=torch.uint8)), -torch.ones(1, 3, 1, 1)
    )


def test_images_on_the_device_give_the_same_batches(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)
    cache = cached_images(tmp_path, "2" * 64, 10, lambda: iter(pixels))
    arguments = dict(batch_size=4, seed=1, x_flip=True, device=torch.device("cpu"))
    read, stored = (StepBatches(cache, **arguments, on_device=on) for on in (False, True))
    for step in range(6):
        assert torch.equal(read(step), stored(step))
    moved = StepBatches(cache, **arguments, channels_last=True)(0)
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved, read(0))


def test_processes_share_a_batch_without_overlap(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)
    cache = cached_images(tmp_path, "3" * 64, 10, lambda: iter(pixels))
    arguments = dict(batch_size=6, seed=1, x_flip=True, device=torch.device("cpu"))
    whole = StepBatches(cache, **arguments)
    shares = [StepBatches(cache, **arguments, processes=Processes(rank, 3)) for rank in range(3)]
    for step in range(6):
        assert torch.equal(torch.cat([share(step) for share in shares]), whole(step))


def test_auto_keeps_images_where_they_fit(tmp_path, monkeypatch):
    cache, cuda = numbered(tmp_path), torch.device("cuda")
    assert not fits_on_device("auto", cache, torch.device("cpu"))
    for free, fits in ((10**9, True), (4 * cache.images.nbytes, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**12))
        assert fits_on_device("auto", cache, cuda) is fits
    assert fits_on_device("on", cache, cuda) and not fits_on_device("off", cache, cuda)
