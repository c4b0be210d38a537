"""A named feature space with fixed random weights, for comparing sets of images where Inception's
weights are absent (random embeddings for evaluation: Naeem et al. 2020, arXiv:2002.09797).

Distances in it rank models against each other; they are never to be called FID. Where things are
is kept (features are averaged on a 4x4 grid), and fine detail has dimensions of its own: log
energies of random high-pass filters, because ordinary random features hardly notice blur or weak
noise. `python -m fewstep ladder` shows what the space sees. A mild colour cast it does not.
"""

import hashlib
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F

from fewstep.scores.pixel_space import PixelSpace

NAME = "random-conv-v1"
# Names this exact space: over the name, all weights and all scales. Tested.
DIGEST = "0235af6defb88411543ff37742aa7130aacae0d17f307cd08d503aa4ba1558b1"

SEED = 1
GRID = 4
SMALLEST = 16  # pixels of an image's sides
HIGH_PASS_FILTERS = 16
LOG_FLOOR = 1e-4  # energy of a response well below one grey level of 255
CONVOLUTIONS = ((3, 32, 1), (32, 64, 2), (64, 96, 2))  # in, out, stride; 3x3 each

# Block of features -> (dimensions, typical standard deviation over photographs and cartoons).
# The few dimensions are on purpose: the distance between two halves of the same 1,000 images grows
# with the square of the dimension and would hide small differences.
BLOCKS = {
    "texture_full": (16, 1.0),  # mean log energy of every pixel at full resolution: noise
    "edges_full": (16, 1.0),  # log mean energy of a cell at full resolution: sharpness
    "texture_half": (8, 1.0),
    "texture_quarter": (8, 1.0),
    "convolutions": (16, 0.18),  # three layers of random convolutions with ReLU: colour and shape
}


class RandomFeatureSpace(PixelSpace):
    """Images to features with fixed random weights, independent of any global random state.

    `name` and `digest` (SHA-256 over weights and scales) belong beside every number computed in it.
    """

    smallest_side = SMALLEST

    def __init__(self):
        self.name = NAME
        self._weights = {key: torch.from_numpy(w) for key, w in _random_weights().items()}
        self.digest = _digest(self._weights)

    @property
    def dimension(self):
        """D, the number of features of an image."""
        return sum(size for size, _ in BLOCKS.values())

    def features_on(self, device, dtype):
        """See `PixelSpace`; meant for 64x64."""
        weights = {key: w.to(device, dtype) for key, w in self._weights.items()}
        return lambda grey_levels: _features(grey_levels / 127.5 - 1, weights)


@cache
def random_feature_space():
    """The one `RandomFeatureSpace`, built at the first call."""
    return RandomFeatureSpace()


def _features(x, weights):
    """Images `[B, 3, H, W]` in [-1, 1] -> features `[B, D]`."""
    cells = _cell_features(x, weights)
    scaled = [
        cells[block].flatten(1) @ weights[f"project_{block}"] / scale
        for block, (_, scale) in BLOCKS.items()
    ]
    return torch.cat(scaled, dim=1)


def _cell_features(x, weights):
    """Block of features -> its values on the grid, `[B, C, GRID, GRID]`."""
    cells = {}
    image = x
    for resolution in ("full", "half", "quarter"):
        energy = F.conv2d(image, weights["high_pass"]) ** 2
        cells[f"texture_{resolution}"] = F.adaptive_avg_pool2d((energy + LOG_FLOOR).log(), GRID)
        if resolution == "full":
            cells["edges_full"] = (F.adaptive_avg_pool2d(energy, GRID) + LOG_FLOOR).log()
        image = F.avg_pool2d(image, 2)
    for i, (_, _, stride) in enumerate(CONVOLUTIONS):
        x = F.relu(F.conv2d(x, weights[f"conv_{i}"], stride=stride, padding=1))
    cells["convolutions"] = F.adaptive_avg_pool2d(x, GRID)
    return cells


def _random_weights():
    """All weights as float32 arrays. `RandomState`'s stream is frozen by NumPy, torch's is not."""
    random = np.random.RandomState(SEED)
    high_pass = random.standard_normal((HIGH_PASS_FILTERS, 3, 3, 3))
    high_pass -= high_pass.mean(axis=(2, 3), keepdims=True)  # blind to flat colour
    high_pass /= np.sqrt((high_pass**2).sum(axis=(1, 2, 3), keepdims=True))
    weights = {"high_pass": high_pass}
    for i, (channels_in, channels_out, _) in enumerate(CONVOLUTIONS):
        he = np.sqrt(2 / (9 * channels_in))  # He et al. 2015, arXiv:1502.01852
        weights[f"conv_{i}"] = he * random.standard_normal((channels_out, channels_in, 3, 3))
    for block, (size, _) in BLOCKS.items():
        channels = CONVOLUTIONS[-1][1] if block == "convolutions" else HIGH_PASS_FILTERS
        inputs = channels * GRID**2
        weights[f"project_{block}"] = random.standard_normal((inputs, size)) / np.sqrt(inputs)
    return {key: w.astype(np.float32) for key, w in weights.items()}


def _digest(weights):
    """SHA-256 over the name, the scales, and the weights' names and little-endian float32 bytes."""
    sha = hashlib.sha256(f"{NAME} {LOG_FLOOR} {BLOCKS}".encode())
    for key, w in weights.items():
        sha.update(key.encode() + w.numpy().astype("<f4").tobytes())
    return sha.hexdigest()
