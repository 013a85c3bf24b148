"""Learning step of a dense layer without a stored gradient: outer product, random rounding and new weights in one tile.

Each tile of sums is used up where it was made, in registers. With the exponent of the step before, one pass is
enough; with the own one, a first pass finds the greatest sum. The integers are those of `learn_reference.accumulate`
followed by `learn_reference.update`.
"""

import numpy as np

from .jit import kernel
from .learn import _fill_words, step_settings
from .learn_parameters import W_CHANGED, W_CLIPPED
from .learn_tiles import ROWS, SETTINGS, TALLIES, WIDTH, outer_step_tile, outer_tile
from .scalar import _absorb, random_key

__all__ = ["dense_peak", "dense_step", "fits", "lay_out", "scratch"]


def scratch(samples: int, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Arrays for `lay_out`: inputs by tiles of rows, errors by tiles of columns, two samples side by side."""
    pairs = (samples + 1) // 2
    return (
        np.zeros((-(-inputs // ROWS), pairs, ROWS, 2), np.int16),
        np.zeros((outputs // WIDTH, pairs, WIDTH, 2), np.int16),
    )


@kernel
def fits(shift, c, outputs):
    """Whether `dense_step` can take a step of gradients below 2**30: whole tiles, numbers of 16 and 32 bits."""
    settings = np.zeros(SETTINGS, np.int32)
    return (
        outputs % WIDTH == 0 and not c.inclusive_random and shift >= c.random_bits
        and step_settings(shift, c, (1 << 30) - 1, settings)
    )  # fmt: skip


@kernel
def lay_out(p, e, inputs, errors):
    """Copy `p` ``(B, inputs)`` and `e` ``(B, outputs)`` into the order in which tiles read them."""
    silent_p, silent_e = np.zeros_like(p[0]), np.zeros_like(e[0])
    for pair in range(inputs.shape[1]):
        odd = 2 * pair + 1 < p.shape[0]
        _side_by_side(p[2 * pair], p[2 * pair + 1] if odd else silent_p, ROWS, pair, inputs)
        _side_by_side(e[2 * pair], e[2 * pair + 1] if odd else silent_e, WIDTH, pair, errors)


@kernel
def _side_by_side(first, second, size, pair, to):
    for block in range(to.shape[0]):
        target = to[block, pair]
        start = block * size
        for i in range(min(size, first.size - start)):
            target[i, 0] = first[start + i]
            target[i, 1] = second[start + i]


@kernel
def _counts(pairs):
    """Loops of a tile: over the pairs of samples."""
    counts = np.zeros(9, np.int64)
    counts[:] = (1, 1, pairs, 0, 0, 2 * ROWS, 0, 0, 2 * WIDTH)
    return counts


@kernel
def dense_peak(inputs, errors, part, parts):
    """Greatest size of a sum of one of `parts` parts of the weights."""
    pairs = inputs.shape[1]
    counts = _counts(pairs)
    sums = np.empty(ROWS * WIDTH, np.int32)
    low = np.zeros(WIDTH, np.int32)
    high = np.zeros(WIDTH, np.int32)
    flat_inputs, flat_errors = inputs.reshape(-1), errors.reshape(-1)
    for tile in range(part, inputs.shape[0], parts):
        for block in range(errors.shape[0]):
            outer_tile(flat_inputs, tile * pairs * ROWS * 2, flat_errors, block * pairs * WIDTH * 2, counts, sums)
            for r in range(ROWS):
                for o in range(WIDTH):
                    value = sums[r * WIDTH + o]
                    low[o] = min(low[o], value)
                    high[o] = max(high[o], value)
    return max(np.int64(high.max()), -np.int64(low.min()))


@kernel
def dense_step(inputs, errors, shift, c, step, draw, part, parts, master, weight, counters):
    """One step of one of `parts` parts of the weights; the greatest size of a gradient.

    Parameters
    ----------
    inputs, errors
        What `lay_out` made of traces and errors; sums of all products fit 30 bits.
    shift : int
        As in `update`, after `fits`.
    master : (inputs, outputs) int16, weight : (inputs, outputs), updated
    """
    pairs = inputs.shape[1]
    outputs = errors.shape[0] * WIDTH
    counts = _counts(pairs)
    settings = np.zeros(SETTINGS, np.int32)
    step_settings(shift, c, (1 << 30) - 1, settings)
    tallies = np.zeros(TALLIES, np.int32)
    words = np.empty(ROWS * outputs // 4, np.uint64)
    key = _absorb(random_key(c.seed, step, c.layer, draw), 0)
    flat_inputs, flat_errors = inputs.reshape(-1), errors.reshape(-1)
    flat_master, flat_weight = master.reshape(-1), weight.reshape(-1)
    for tile in range(part, inputs.shape[0], parts):
        first = tile * ROWS
        rows = min(ROWS, master.shape[0] - first)
        _fill_words(key, first * (outputs // 4), words, rows * (outputs // 4))
        for block in range(errors.shape[0]):
            outer_step_tile(
                flat_inputs, tile * pairs * ROWS * 2, flat_errors, block * pairs * WIDTH * 2, counts, rows, words,
                block * WIDTH, settings, flat_master, flat_weight, first * outputs + block * WIDTH, outputs, tallies,
            )  # fmt: skip
    counters[W_CLIPPED] += np.int64(tallies[0])
    counters[W_CHANGED] += np.int64(tallies[1])
    return np.int64(tallies[2:].max())
