"""What rounding changes: in each tensor, and in what the network makes of the same input."""

import math

import torch


def relative_error(before, after):
    """RMS of the difference of two tensors of one shape over the RMS of the first."""
    return _ratio(*_norms(before, after))


def weight_errors(before, after):
    """Two state dicts of the same names -> ({name: relative error}, relative error of all)."""
    norms = {name: _norms(value, after[name]) for name, value in before.items()}
    each = {name: _ratio(*pair) for name, pair in norms.items()}
    return each, _ratio(*(math.hypot(*column) for column in zip(*norms.values())))


def _norms(before, after):
    difference = (after.double() - before.double()).norm()
    return float(difference), float(before.double().norm())


def _ratio(difference, size):
    """Their ratio; 0 where nothing differs, infinite where zeros became something else."""
    if not difference:
        return 0.0
    return difference / size if size else math.inf


@torch.no_grad()
def output_errors(before, after, side=64, count=4, seed=0):
    """How the denoised images of two models of one student differ.

    Returns {sigma: (relative RMS change, RMS change in grey levels of 255)} for the levels of the
    student's longest row. The inputs are the first model's own images, made in one evaluation from
    noise of `seed`, with noise of that level: `count` of side x side pixels. So no data are needed,
    and both models see the same.
    """
    scheduler = before.scheduler
    generator = torch.Generator().manual_seed(seed)

    def noise():
        return scheduler.draw_noise((count, 3, side, side), generator=generator)

    sigmas = scheduler.few_step_table[max(scheduler.few_step_table)]
    images = before.denoise(sigmas[0] * noise(), sigmas[0])
    changes = {}
    for sigma in sigmas:
        x = scheduler.forward_process(images, noise(), sigma)
        pictures = before.denoise(x, sigma)
        difference = after.denoise(x, sigma) - pictures
        root_mean_square = float(difference.square().mean().sqrt())
        changes[sigma] = (
            root_mean_square / float(pictures.square().mean().sqrt()),
            127.5 * root_mean_square,
        )
    return changes
