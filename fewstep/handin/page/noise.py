"""The page's noise, the same numbers as `web/noise.js` gives.

A counter and no state: four consecutive normal values are a function of (seed, image, draw, block)
alone. The four 32-bit numbers go through pcg4d (Jarzynski & Olano 2020, "Hash Functions for GPU
Rendering", JCGT 9(3)), whose four results give two pairs of normal values (Box & Muller 1958).
"""

import math

import numpy as np

MULTIPLIER, INCREMENT = np.uint32(1664525), np.uint32(1013904223)
HALF_WORD = np.uint32(16)
WORDS = 2**32  # seeds, images and draws are below it


def draw_noise(seed, image, draw, shape, offset=0.0):
    """Noise of one image as float32 of `shape`, (C, H, W).

    seed, image and draw: whole numbers below `WORDS`; draw 0 is where an image starts, draw k what
    the k-th step adds. offset: as `noise_offset` of a `model_config.json`, the standard deviation
    of one further number a channel, which stands in the blocks after those of the values.
    """
    size = math.prod(shape)
    blocks = -(-size // 4)
    values = normal_values(seed, image, draw, range(blocks))[:size].reshape(shape)
    shared = normal_values(seed, image, draw, range(blocks, blocks + -(-shape[0] // 4)))
    return (values + offset * shared[: shape[0], None, None]).astype(np.float32)


def normal_values(seed, image, draw, blocks):
    """Four standard normal float64 values for each of `blocks`, `[4 * len(blocks)]`."""
    x, y, z, w = pcg4d(np.array(blocks, np.uint32), np.uint32(draw), *np.uint32([image, seed]))
    pairs = []
    for radius, angle in ((x, y), (z, w)):
        length = np.sqrt(-2 * np.log((radius + 0.5) / WORDS))  # the half keeps log from 0
        turn = 2 * math.pi * angle / WORDS
        pairs += [length * np.cos(turn), length * np.sin(turn)]
    return np.stack(pairs, axis=-1).ravel()


def pcg4d(*words):
    """Four arrays of uint32 that broadcast -> four of random looking uint32."""
    x, y, z, w = (word * MULTIPLIER + INCREMENT for word in np.broadcast_arrays(*words))
    x, y, z, w = _stirred(x, y, z, w)
    return _stirred(*(word ^ (word >> HALF_WORD) for word in (x, y, z, w)))


def _stirred(x, y, z, w):
    x = x + y * w
    y = y + z * x
    z = z + x * y
    return x, y, z, w + y * z
