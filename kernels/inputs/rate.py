"""Inputs: seeded rate encoding with counter-based random bits, and the range of bytes."""

import numpy as np

from ..numbers.compiled import random_word
from ..toolchain.jit import kernel

LAYER_OF_INPUT = 0
DRAW_ENCODE = 3


@kernel
def rate(codes, maximum, seed, out):
    """``out[t, b, i] = 1`` with probability ``codes[b, i] / maximum``, else 0."""
    for t in range(out.shape[0]):
        for b in range(out.shape[1]):
            for i in range(out.shape[2]):
                word = np.int64(random_word(seed, t, LAYER_OF_INPUT, b, i, DRAW_ENCODE) >> np.uint64(33))
                out[t, b, i] = word * maximum < codes[b, i] << 31


@kernel
def extent(values):
    """Least and greatest of the bytes `values` (N,); 0 and 0 of none."""
    low = high = values[0] if len(values) else values.dtype.type(0)
    for i in range(len(values)):
        low = min(low, values[i])
        high = max(high, values[i])
    return low, high
