"""Random words and orders that are the same on every machine and in every version.

Source: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
"""

from __future__ import annotations

import numpy as np

from ..formats.arguments import whole

__all__ = ["shuffled", "words"]


def words(seed: int, count: int) -> np.ndarray:
    """``(count,)`` uint64: what SplitMix64 started at `seed` gives."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def shuffled(count: int, seed: int) -> np.ndarray:
    """The fixed permutation by which a set that is sorted by class is put in order.

    Fisher-Yates from the last place down: place i is swapped with place ``(w * (i + 1)) >> 64``, w being the next word
    of SplitMix64 started at `seed`. Integers only, and therefore the same on every machine and in every version.

    Parameters
    ----------
    count : int
    seed : int
        0 .. 2^64 - 1.

    Returns
    -------
    ndarray of int64, shape (count,)
    """
    count = whole(count, "count", 0, 1 << 31)
    seed = whole(seed, "seed", 0, (1 << 64) - 1)
    order = list(range(count))
    for i, word in zip(range(count - 1, 0, -1), words(seed, max(0, count - 1)).tolist(), strict=True):
        j = (word * (i + 1)) >> 64
        order[i], order[j] = order[j], order[i]
    return np.array(order, np.int64)
