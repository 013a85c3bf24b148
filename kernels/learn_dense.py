"""Learning step of a dense layer without a stored gradient: outer product, random rounding and new weights in one tile.

Each tile of sums is used up where it was made, in registers. With the exponent of the step before, one pass is
enough; with the own one, a first pass finds the greatest sum, as exactly as its exponent needs. The integers are those
of `learn_reference.accumulate` followed by `learn_reference.update`.
"""

from typing import NamedTuple

import numpy as np

from .jit import kernel
from .learn import exponent, step_settings
from .learn_dense_tiles import (
    BYTES,
    COARSE,
    coarse_tile,
    extremes_tile,
    outer_step_tile,
    outer_step_tile_known,
    step_rows,
)
from .learn_parameters import W_CHANGED, W_CLIPPED
from .learn_tiles import ROWS, SETTINGS, TALLIES, WIDTH, outer_tile
from .scalar import _absorb, random_key

__all__ = ["Scratch", "aligned", "coarse", "dense_peak", "dense_step", "fits", "lay_out", "scratch"]


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


def aligned(shape: tuple[int, ...], kind) -> np.ndarray:
    """Zeros from a cache line on: a register of 64 bytes then lies in one line (a tenth less time for a step)."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(kind).reshape(shape)


def scratch(samples: int, inputs: int, outputs: int) -> Scratch:
    """Arrays for `lay_out` and `coarse`."""
    pairs, quads = (samples + 1) // 2, (samples + BYTES - 1) // BYTES
    tiles, blocks = -(-inputs // ROWS), outputs // WIDTH
    return Scratch(
        aligned((tiles, pairs, ROWS, 2), np.int16),
        aligned((blocks, pairs, WIDTH, 2), np.int16),
        aligned((tiles, quads, ROWS, BYTES), np.uint8),
        aligned((blocks, quads, WIDTH, BYTES), np.int8),
        aligned((blocks, WIDTH), np.int32),
        aligned((blocks, WIDTH), np.int32),
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
    silent_p, silent_e = np.zeros_like(p[0]), np.zeros_like(e[0])
    pairs = s.inputs.shape[1]
    for pair in range(pairs):
        odd = 2 * pair + 1 < p.shape[0]
        first, second = p[2 * pair], p[2 * pair + 1] if odd else silent_p
        tiles = first.size // ROWS
        for tile in range(tiles):
            at, start = (tile * pairs + pair) * ROWS, tile * ROWS
            for i in range(ROWS):
                inputs[at + i] = _side_by_side(first[start + i], second[start + i])
        at, start = (tiles * pairs + pair) * ROWS, tiles * ROWS
        for i in range(first.size - start):
            inputs[at + i] = _side_by_side(first[start + i], second[start + i])
        left, right = e[2 * pair], e[2 * pair + 1] if odd else silent_e
        for block in range(s.errors.shape[0]):
            at, start = (block * pairs + pair) * WIDTH, block * WIDTH
            for i in range(WIDTH // 2):
                errors[at + i] = _side_by_side(left[start + 2 * i], right[start + 2 * i])
                errors[at + WIDTH // 2 + i] = _side_by_side(left[start + 2 * i + 1], right[start + 2 * i + 1])


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
def coarse(p, e, c, s):
    """Lay out the upper bits of `p`, all of `e`, and how far their sums are from the true ones; whether that helps."""
    shift = _coarse_shift(c)
    if not COARSE or c.error_max > 127 or shift > 6:
        return False
    shift = np.int32(shift)
    inputs, errors = s.coarse_inputs.reshape(-1).view(np.int32), s.coarse_errors.reshape(-1).view(np.int32)
    tiles, quads = s.coarse_inputs.shape[0], s.coarse_inputs.shape[1]
    blocks = s.coarse_errors.shape[0]
    below, above = s.below.reshape(-1), s.above.reshape(-1)
    rest = (np.int32(1) << shift) - np.int32(1)
    below[:] = 0
    above[:] = 0
    silent_p, silent_e = np.zeros_like(p[0]), np.zeros_like(e[0])
    for quad in range(quads):
        b = BYTES * quad
        p0, e0 = p[b], e[b]
        p1, e1 = (p[b + 1], e[b + 1]) if b + 1 < p.shape[0] else (silent_p, silent_e)
        p2, e2 = (p[b + 2], e[b + 2]) if b + 2 < p.shape[0] else (silent_p, silent_e)
        p3, e3 = (p[b + 3], e[b + 3]) if b + 3 < p.shape[0] else (silent_p, silent_e)
        for tile in range(tiles):
            at, start = (tile * quads + quad) * ROWS, tile * ROWS
            for i in range(start, min(start + ROWS, p.shape[1])):
                word = _word(p0[i] >> shift, p1[i] >> shift, p2[i] >> shift, p3[i] >> shift)
                inputs[at + i - start] = word
        for block in range(blocks):
            at, start = (block * quads + quad) * WIDTH, block * WIDTH
            for o in range(WIDTH):
                i = start + o
                errors[at + o] = _word(e0[i], e1[i], e2[i], e3[i])
        for i in range(below.size):
            below[i] += rest * (min(e0[i], 0) + min(e1[i], 0) + min(e2[i], 0) + min(e3[i], 0))
            above[i] += rest * (max(e0[i], 0) + max(e1[i], 0) + max(e2[i], 0) + max(e3[i], 0))
    return True


@kernel
def _word(a, b, c, d):
    """Four bytes as one number of 32 bits, the first one in its lowest byte."""
    m = np.int32(255)
    low = (np.int32(a) & m) | ((np.int32(b) & m) << np.int32(8))
    return np.int32(low | ((np.int32(c) & m) << np.int32(16)) | (np.int32(d) << np.int32(24)))


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
    slowly = c.random_bits != 16 or shift < 16
    known = peak >= 0 and (peak >> shift) + 1 <= c.step_max
    key = _absorb(random_key(c.seed, step, c.layer, draw), 0)
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
            elif known:
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
