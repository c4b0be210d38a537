"""Sliced Wasserstein distance of image patches (Karras et al. 2018, arXiv:1710.10196, section 5;
Rabin et al. 2011): do local details and colours have the right distribution, at each scale?"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fewstep.scores.pixels import checked_images

PATCH = 7
SMALLEST = 16  # pixels of the pyramid's last level
DIRECTIONS_AT_A_TIME = 32


def sliced_wasserstein(a, b, directions):
    """Mean over directions of the 1-D Wasserstein-1 distance between the projected point clouds.

    Points `[N, D]` and `[M, D]`, unit directions `[D, L]` -> float. In one dimension the distance
    is the area between the quantile functions. Both are step functions, with steps at i/N and j/M,
    so it is exact for N and M that differ too; for N = M it is the mean of |sorted a - sorted b|.
    """
    a, b, directions = np.asarray(a), np.asarray(b), np.asarray(directions)
    n, m = len(a), len(b)
    # All steps, times N M to keep them whole numbers; between two of them both are constant.
    steps = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    shares = (np.diff(steps) / (n * m)).astype(np.result_type(a, b, directions, np.float32))
    rank_a, rank_b = steps[:-1] // m, steps[:-1] // n
    total = 0.0
    for start in range(0, directions.shape[1], DIRECTIONS_AT_A_TIME):
        some = directions[:, start : start + DIRECTIONS_AT_A_TIME].T
        quantiles_a, quantiles_b = np.sort(some @ a.T, axis=1), np.sort(some @ b.T, axis=1)
        gaps = np.abs(quantiles_a[:, rank_a] - quantiles_b[:, rank_b])  # [directions, steps]
        total += float((gaps @ shares).sum(dtype=np.float64))
    return total / directions.shape[1]


def halve(images):
    """`[N, H, W, C]` -> `[N, H/2, W/2, C]`: filter (1, 4, 6, 4, 1)/16 along each axis, then every
    second pixel (Burt & Adelson 1983). Borders are repeated."""
    return _resample(images, _halving)


def double(images):
    """`[N, H, W, C]` -> `[N, 2H, 2W, C]` with the filter of `halve`. Borders are repeated."""
    return _resample(images, _doubling)


def laplacian_pyramid(images, levels):
    """Images `[N, H, W, C]` -> `levels` float32 arrays, each half the size of the one before.

    The last holds the low-pass images, the others what `double` of the next size lacks. So
    x = last; x = level + double(x) for the levels before, backwards, gives the images again.
    Raises `ValueError` unless height and width can be halved levels - 1 times.
    """
    images = np.asarray(images, dtype=np.float32)
    if levels < 1 or any(side % 2 ** (levels - 1) for side in images.shape[1:3]):
        raise ValueError(f"images {images.shape} cannot be halved {levels - 1} times")
    pyramid = []
    for _ in range(levels - 1):
        smaller = halve(images)
        pyramid.append(images - double(smaller))
        images = smaller
    return [*pyramid, images]


def patch_wasserstein(images_a, images_b, seed=0, patches=32, directions=256):
    """Sliced Wasserstein distance of 7x7 patches times 1000, per level of the Laplacian pyramid.

    uint8 images `[N, H, W, 3]` and `[M, H, W, 3]` -> {H: distance, H/2: ..., down to 16 pixels}, so
    {64: ..., 32: ..., 16: ...} for 64x64. images_b is the reference: both sets are normalised by
    the mean and standard deviation of its channels at the level. Karras et al. normalise each set
    by its own, which would hide a colour cast or a lack of contrast altogether; so these numbers
    are not comparable with theirs. There are `patches` per image, at random places that are the
    same for image i of either set. Even two real sets are apart, the more the fewer they are:
    compare equal sizes only. Raises `ValueError` for other types or different shapes, sides that
    cannot be halved down to 16, or a reference of one value in a channel.
    """
    images_a, images_b = checked_images(images_a), checked_images(images_b)
    height, width = images_b.shape[1:3]
    if images_a.shape[1:] != images_b.shape[1:] or min(height, width) < SMALLEST:
        raise ValueError(
            f"images {images_a.shape}, {images_b.shape}: one size of at least 16x16 is needed"
        )
    levels = (min(height, width) // SMALLEST).bit_length()
    random = np.random.RandomState(seed)
    axes = random.standard_normal((PATCH * PATCH * 3, directions))
    axes = (axes / np.linalg.norm(axes, axis=0)).astype(np.float32)
    distances = {}
    pyramids = laplacian_pyramid(images_a, levels), laplacian_pyramid(images_b, levels)
    for level_a, level_b in zip(*pyramids):
        size = level_b.shape[1:3]
        mean, std = level_b.mean(axis=(0, 1, 2)), level_b.std(axis=(0, 1, 2))
        if min(std) == 0:
            raise ValueError(f"a channel of the reference images is flat at {size[0]} pixels")
        count = max(len(images_a), len(images_b))
        places = random.randint(0, np.array(size) - PATCH + 1, (count, patches, 2))
        clouds = []
        for level in (level_a, level_b):
            points = _patches_at(level, places[: len(level)])  # [N * patches, 3, 49]
            points = (points - mean[:, None]) / std[:, None]
            clouds.append(points.reshape(len(points), -1))
        distances[size[0]] = 1e3 * sliced_wasserstein(*clouds, axes)
    return distances


def _patches_at(images, places):
    """Images `[N, H, W, 3]`, top left corners `[N, P, 2]` -> patches `[N * P, 3, 49]`."""
    windows = sliding_window_view(images, (PATCH, PATCH), axis=(1, 2))  # [N, H-6, W-6, 3, 7, 7]
    chosen = windows[np.arange(len(images))[:, None], places[..., 0], places[..., 1]]
    return chosen.reshape(-1, 3, PATCH * PATCH)


def _halving(size):
    """The matrix `[size/2, size]` of `halve` along one axis."""
    pixels = np.pad(np.eye(size, dtype=np.float32), ((2, 2), (0, 0)), mode="edge")
    return sum(w * pixels[k : k + size // 2 * 2 : 2] for k, w in enumerate((1, 4, 6, 4, 1))) / 16


def _doubling(size):
    """The matrix `[2 size, size]` of `double` along one axis."""
    pixels = np.pad(np.eye(size, dtype=np.float32), ((1, 1), (0, 0)), mode="edge")
    before, here, after = pixels[:-2], pixels[1:-1], pixels[2:]
    even, odd = (before + 6 * here + after) / 8, (here + after) / 2
    return np.stack([even, odd], axis=1).reshape(2 * size, size)


def _resample(images, matrix):
    """Images `[N, H, W, C]`, filtered along both axes by `matrix(size)`."""
    # as products of contiguous matrices, which is several times faster than sums of slices
    planes = np.ascontiguousarray(np.moveaxis(images, 3, 1))
    return np.moveaxis(matrix(images.shape[1]) @ planes @ matrix(images.shape[2]).T, 1, 3)
