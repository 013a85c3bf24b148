"""Learning step of a dense layer without a stored gradient: outer product, random rounding and new weights in one tile.

Each tile of sums is used up where it was made, in registers. With the exponent of the step before, one pass is
enough; with the own one, a first pass finds the greatest sum, as exactly as its exponent needs. The integers are those
of `reference.accumulate` followed by `reference.update`.
"""

from typing import NamedTuple

import numpy as np

from ..numbers.compiled import absorb, random_key
from ..toolchain.arrays import zeros
from ..toolchain.jit import kernel
from .compiled import exponent, step_settings
from .dense_tiles import (
    BYTES,
    COARSE,
    ORDER,
    coarse_tile,
    extremes_tile,
    outer_step_tile,
    outer_step_tile_known,
    pair_block,
    pair_vector,
    quad_block,
    quad_vector,
    step_rows,
)
from .parameters import W_CHANGED, W_CLIPPED
from .tiles import LANES, ROWS, SETTINGS, TALLIES, WIDTH, outer_tile

__all__ = ["Scratch", "coarse", "dense_peak", "dense_step", "fits", "lay_out", "scratch"]


class Scratch(NamedTuple):
    """Traces and errors of a batch as tiles read them: by tiles of rows and of columns, samples side by side.

    `coarse_inputs` are the upper eight bits of the traces, `coarse_errors` all of the errors. The true sum of a
    column lies between ``2**shift * coarse + below`` and ``2**shift * coarse + above``.
    """

    inputs: np.ndarray  # (tiles, pairs, ROWS, 2) int16
    errors: np.ndarray  # (blocks, pairs, WIDTH, 2) int16
    coarse_inputs: np.ndarray  # (tiles, quads, ROWS, 4) uint8
    coarse_errors: np.ndarray  # (blocks, quads, WIDTH, 4) int8
    below: np.ndarray  # (blocks, WIDTH) int32
    above: np.ndarray


def scratch(samples: int, inputs: int, outputs: int) -> Scratch:
    """Arrays for `lay_out` and `coarse`."""
    pairs, quads = (samples + 1) // 2, (samples + BYTES - 1) // BYTES
    tiles, blocks = -(-inputs // ROWS), outputs // WIDTH
    return Scratch(
        zeros((tiles, pairs, ROWS, 2), np.int16),
        zeros((blocks, pairs, WIDTH, 2), np.int16),
        zeros((tiles, quads, ROWS, BYTES), np.uint8),
        zeros((blocks, quads, WIDTH, BYTES), np.int8),
        zeros((blocks, WIDTH), np.int32),
        zeros((blocks, WIDTH), np.int32),
    )


@kernel
def fits(shift, peak, c, outputs):
    """Whether `dense_step` can take a step of gradients up to `peak`: whole tiles, numbers of 16 and 32 bits."""
    settings = np.zeros(SETTINGS, np.int32)
    return outputs % WIDTH == 0 and not c.inclusive_random and step_settings(shift, c, _bound(peak), settings)


@kernel
def _bound(peak):
    """`peak`, or where that is unknown (-1) what the sums of all products stay below."""
    return np.int64(peak if peak >= 0 else (1 << 30) - 1)


@kernel
def lay_out(p, e, s):
    """Copy `p` ``(B, inputs)`` and `e` ``(B, outputs)`` into the order in which tiles read them."""
    inputs, errors = s.inputs.reshape(-1).view(np.int32), s.errors.reshape(-1).view(np.int32)
    flat_p, flat_e = p.reshape(-1), e.reshape(-1)
    silent_p, silent_e = np.zeros_like(p[0]), np.zeros_like(e[0])
    rows, columns, pairs = p.shape[1], e.shape[1], s.inputs.shape[1]
    for pair in range(pairs):
        b = 2 * pair
        odd = b + 1 < p.shape[0]
        second, second_at = (flat_p, (b + 1) * rows) if odd else (silent_p, 0)
        for tile in range(s.inputs.shape[0]):
            at, start = (tile * pairs + pair) * ROWS, tile * ROWS
            if pair + 1 < pairs and start + LANES <= rows:  # what is too much is written over by the next pair
                pair_vector(flat_p, b * rows + start, second, second_at + start, inputs, at)
            else:
                for i in range(min(ROWS, rows - start)):
                    inputs[at + i] = _side_by_side(flat_p[b * rows + start + i], second[second_at + start + i])
        right, right_at = (flat_e, (b + 1) * columns) if odd else (silent_e, 0)
        for block in range(s.errors.shape[0]):
            start = block * WIDTH
            pair_block(flat_e, b * columns + start, right, right_at + start, errors, (block * pairs + pair) * WIDTH)


@kernel
def _side_by_side(first, second):
    """Two numbers of 16 bits as one of 32, the first one in its lower half."""
    return np.int32((np.int32(first) & np.int32(0xFFFF)) | (np.int32(second) << np.int32(16)))


@kernel
def _coarse_shift(c):
    """So many bits of a trace are left away."""
    shift = np.int64(0)
    while c.p_max >> shift > 255:
        shift += 1
    return shift


@kernel
def coarse(e, c, s):
    """After `lay_out`: the upper bits of traces, all of the errors, and how far their sums are from the true ones.

    Whether that helps.
    """
    shift = _coarse_shift(c)
    if not COARSE or c.error_max > 127 or shift > 6:
        return False
    pairs, quads = s.inputs.shape[1], s.coarse_inputs.shape[1]
    inputs, errors = s.inputs.reshape(-1).view(np.int32), s.errors.reshape(-1).view(np.int32)
    to_inputs = s.coarse_inputs.reshape(-1).view(np.int32)
    to_errors = s.coarse_errors.reshape(-1).view(np.int32)
    silent = np.zeros(WIDTH, np.int32)
    for quad in range(quads):
        both = 2 * quad + 1 < pairs
        for tile in range(s.inputs.shape[0]):
            at = (tile * pairs + 2 * quad) * ROWS
            second, second_at = (inputs, at + ROWS) if both else (silent, 0)
            quad_vector(inputs, at, second, second_at, shift, to_inputs, (tile * quads + quad) * ROWS)
        for block in range(s.errors.shape[0]):
            at = (block * pairs + 2 * quad) * WIDTH
            second, second_at = (errors, at + WIDTH) if both else (silent, 0)
            quad_block(errors, at, second, second_at, to_errors, (block * quads + quad) * WIDTH)
    _margins(e, (np.int32(1) << np.int32(shift)) - np.int32(1), s.below, s.above)
    return True


@kernel
def _margins(e, rest, below, above):
    """`rest` times the sums of the errors below and above 0, in the order of the columns of a tile."""
    low, high = np.zeros(e.shape[1], np.int32), np.zeros(e.shape[1], np.int32)
    for b in range(e.shape[0]):
        row = e[b]
        for i in range(e.shape[1]):
            low[i] += min(np.int32(row[i]), np.int32(0))
            high[i] += max(np.int32(row[i]), np.int32(0))
    for block in range(below.shape[0]):
        for o in range(WIDTH):
            source = block * WIDTH + ORDER[o]
            below[block, o] = rest * low[source]
            above[block, o] = rest * high[source]


@kernel
def _counts(pairs):
    """Loops of a tile: over the pairs of samples."""
    counts = np.zeros(9, np.int64)
    counts[:] = (1, 1, pairs, 0, 0, 2 * ROWS, 0, 0, 2 * WIDTH)
    return counts


@kernel
def dense_peak(s, c, coarsely, part, parts):
    """A number with the exponent of the greatest size of a sum, of one of `parts` parts of the weights.

    With `coarsely`, after `coarse`, sums of the upper bits come first; the exact ones only where those leave it open.
    """
    low = np.empty(WIDTH, np.int32)
    high = np.empty(WIDTH, np.int32)
    if coarsely:
        quads = s.coarse_inputs.shape[1]
        inputs, errors = s.coarse_inputs.reshape(-1), s.coarse_errors.reshape(-1)
        shift = _coarse_shift(c)
        least = np.int64(0)
        most = np.int64(0)
        for block in range(s.coarse_errors.shape[0]):
            low[:] = 0
            high[:] = 0
            for tile in range(part, s.coarse_inputs.shape[0], parts):
                coarse_tile(
                    inputs, tile * quads * ROWS * BYTES, errors, block * quads * WIDTH * BYTES, quads, low, high
                )
            for o in range(WIDTH):
                below, above = np.int64(s.below[block, o]), np.int64(s.above[block, o])
                up, down = np.int64(high[o]) << shift, np.int64(low[o]) << shift
                most = max(most, up + above, -down - below)
                least = max(least, up + below, -down - above)
        if exponent(least) == exponent(most):
            return most
    pairs = s.inputs.shape[1]
    counts = _counts(pairs)
    flat_inputs, flat_errors = s.inputs.reshape(-1), s.errors.reshape(-1)
    peak = np.int64(0)
    for block in range(s.errors.shape[0]):
        low[:] = 0
        high[:] = 0
        for tile in range(part, s.inputs.shape[0], parts):
            extremes_tile(
                flat_inputs, tile * pairs * ROWS * 2, flat_errors, block * pairs * WIDTH * 2, counts, low, high
            )
        peak = max(peak, np.int64(high.max()), -np.int64(low.min()))
    return peak


@kernel
def dense_step(s, shift, peak, c, step, draw, part, parts, master, weight, counters):
    """One step of one of `parts` parts of the weights; the greatest size of a gradient.

    Parameters
    ----------
    s : Scratch
        After `lay_out`; sums of all products fit 30 bits.
    shift : int
        As in `update`, after `fits`.
    peak : int
        No gradient is greater, -1: unknown.
    master : (inputs, outputs) int16, weight : (inputs, outputs), updated
    """
    pairs = s.inputs.shape[1]
    outputs = s.errors.shape[0] * WIDTH
    counts = _counts(pairs)
    settings = np.zeros(SETTINGS, np.int32)
    step_settings(shift, c, _bound(peak), settings)
    tallies = np.zeros(TALLIES, np.int32)
    sums = np.empty(ROWS * WIDTH, np.int32)
    most = peak if peak >= 0 else 2 * pairs * np.int64(c.p_max) * np.int64(c.error_max)
    slowly = c.random_bits != 16 or shift < 16 or (most >> shift) + 1 > c.step_max
    key = absorb(random_key(c.seed, step, c.layer, draw), 0)
    flat_inputs, flat_errors = s.inputs.reshape(-1), s.errors.reshape(-1)
    flat_master, flat_weight = master.reshape(-1), weight.reshape(-1)
    for tile in range(part, s.inputs.shape[0], parts):
        first = tile * ROWS
        rows = min(ROWS, master.shape[0] - first)
        p_at = tile * pairs * ROWS * 2
        for block in range(s.errors.shape[0]):
            e_at, where = block * pairs * WIDTH * 2, first * outputs + block * WIDTH
            if slowly or rows < ROWS:
                outer_tile(flat_inputs, p_at, flat_errors, e_at, counts, sums)
                step_rows(sums, rows, key, where // 4, settings, flat_master, flat_weight, where, outputs, tallies)
            elif peak >= 0:
                outer_step_tile_known(
                    flat_inputs, p_at, flat_errors, e_at, counts, key, where // 4, settings, flat_master, flat_weight,
                    where, outputs, tallies,
                )  # fmt: skip
            else:
                outer_step_tile(
                    flat_inputs, p_at, flat_errors, e_at, counts, key, where // 4, settings, flat_master, flat_weight,
                    where, outputs, tallies,
                )  # fmt: skip
    counters[W_CLIPPED] += np.int64(tallies[0])
    counters[W_CHANGED] += np.int64(tallies[1])
    return max(peak, np.int64(tallies[2:].max()))
