"""Compiled sums of learning: charges of the forward pass and gradients of the weights, twins of `reference.py`.

Two ways with the same integers. Where few inputs are active, a sum runs over the active ones (`linear.convolve`).
Elsewhere sums run in register tiles (`tiles.py`) over windows that are read in place: a padded copy of a few
samples is all that is laid out anew. For gradients two samples lie side by side, so that a product of 16-bit pairs
adds both.
"""

import numpy as np

from ..layers.compiled import convolve
from ..toolchain.jit import kernel
from .tiles import ROWS, WIDTH, dot_tile, outer_tile

__all__ = ["accumulate", "accumulate_bias", "charge", "pack", "packed_shape"]

SCRATCH = 1 << 17  # 16-bit numbers of padded samples that are at work at a time: a part of the second-level cache
SPARSE = 8  # one input in so many, or fewer, is active: events


def packed_shape(window):
    """Shape of the weights as `pack` lays them out: blocks of outputs, kernel rows, pairs of inputs, outputs, two."""
    pairs = (window.kernel_width * window.channels + 1) // 2
    return -(-window.out_channels // WIDTH), window.kernel_height, pairs, WIDTH, 2


@kernel
def pack(weight, window, packed):
    """Lay out `weight` ``(kernel height, kernel width, in, out)`` for register tiles; what is left over is 0."""
    run = window.kernel_width * window.channels
    flat = weight.reshape(-1)
    packed[:] = 0
    for block in range(packed.shape[0]):
        start = block * WIDTH
        width = min(WIDTH, window.out_channels - start)
        for ky in range(packed.shape[1]):
            for m in range(run):
                at = (ky * run + m) * window.out_channels + start
                for o in range(width):
                    packed[block, ky, m >> 1, o, m & 1] = flat[at + o]


@kernel
def _active(p):
    """How many elements are not 0."""
    count = np.int64(0)
    for i in range(p.size):
        count += p[i] != 0
    return count


@kernel
def _pad(p, window, height, width, to, step, at):
    """Copy one sample into the middle of zeros: element (y, x, c) to ``at + ((y * width + x) * C + c) * step``."""
    channels = window.channels
    left, top = window.pad_left, window.pad_top
    row = width * channels
    for y in range(height):
        source_y = y - top
        target = at + y * row * step
        if source_y < 0 or source_y >= window.height:
            for i in range(row):
                to[target + i * step] = 0
            continue
        before = left * channels
        inside = min(window.width * channels, row - before)
        source = source_y * window.width * channels
        for i in range(before):
            to[target + i * step] = 0
        for i in range(inside):
            to[target + (before + i) * step] = p[source + i]
        for i in range(before + inside, row):
            to[target + i * step] = 0


@kernel
def charge(p, weight, packed, window, narrow, out):
    """Twin of `reference.charge`.

    Parameters
    ----------
    p : (B, n) int16 or int32
    weight : (kernel height, kernel width, C, O)
    packed : int16, what `pack` made of it
    narrow : bool
        `p` and `weight` are below 2**15, and every sum fits 32 bits.
    out : (B, N) int32 or int64, written
        int32 only if every sum fits.
    """
    for b in range(p.shape[0]):
        if not narrow or _active(p[b]) * SPARSE <= p.shape[1]:
            _charge_events(p[b], weight, window, out[b])
    if not narrow:
        return
    height = (window.out_height - 1) * window.stride_y + window.kernel_height
    width = (window.out_width - 1) * window.stride_x + window.kernel_width
    size = height * width * window.channels
    pixels = window.out_height * window.out_width
    chunk = max(1, min(p.shape[0], SCRATCH // size))
    padded = np.zeros(chunk * size + 2, np.int16)
    rows = np.empty(chunk * pixels + ROWS, np.int64)
    sums = np.empty(ROWS * WIDTH, np.int32)
    samples = np.empty(chunk, np.int64)
    flat = packed.reshape(-1)
    block_size = packed.shape[1] * packed.shape[2] * WIDTH * 2
    b = 0
    while b < p.shape[0]:
        filled = 0
        while b < p.shape[0] and filled < chunk:
            if _active(p[b]) * SPARSE > p.shape[1]:
                _pad(p[b], window, height, width, padded, 1, filled * size)
                samples[filled] = b
                filled += 1
            b += 1
        for i in range(filled):
            for y in range(window.out_height):
                for x in range(window.out_width):
                    corner = (y * window.stride_y * width + x * window.stride_x) * window.channels
                    rows[i * pixels + y * window.out_width + x] = i * size + corner
        total = filled * pixels
        rows[total : total + ROWS] = 0
        for block in range(packed.shape[0]):
            start = block * WIDTH
            outputs = min(WIDTH, window.out_channels - start)
            for first in range(0, total, ROWS):
                dot_tile(
                    padded, rows, first, flat, block * block_size, packed.shape[1], packed.shape[2],
                    width * window.channels, sums,
                )  # fmt: skip
                for r in range(min(ROWS, total - first)):
                    row = first + r
                    target = out[samples[row // pixels]]
                    at = (row % pixels) * window.out_channels + start
                    for o in range(outputs):
                        target[at + o] = sums[r * WIDTH + o]


@kernel
def _charge_events(p, weight, window, out):
    """One sample by its active inputs, in the integers of `out`."""
    pixels = window.height * window.width
    one = np.ones(window.out_channels, out.dtype)
    zero = np.zeros((1, window.out_channels), out.dtype)
    alive = np.ones(1, np.bool_)
    offsets = np.empty(pixels + 1, np.int64)
    indices = np.empty(pixels * window.channels + 1, np.int32)
    values = np.empty(pixels * window.channels + 1, out.dtype)
    sums = np.empty(window.out_channels, out.dtype)
    x = np.empty((1, 1, p.size), p.dtype)
    for i in range(p.size):  # a slice would do, but Numba's copies of slices hold floats
        x[0, 0, i] = p[i]
    y = np.empty((1, 1, out.size), out.dtype)
    convolve(x, weight, window, one, zero, alive, offsets, indices, values, sums, y)
    for i in range(out.size):
        out[i] = y[0, 0, i]


# -- gradients -------------------------------------------------------------------------------------


@kernel
def accumulate_bias(e, gradient):
    """Twin of `reference.accumulate_bias`."""
    outputs = gradient.shape[0]
    for b in range(e.shape[0]):
        for base in range(0, e.shape[1], outputs):
            for o in range(outputs):
                gradient[o] += np.int64(e[b, base + o])


@kernel
def accumulate(p, e, window, pairs, part, parts, gradient):
    """Twin of `reference.accumulate`, for one of `parts` parts of the weights.

    Parameters
    ----------
    p : (B, n) int16 or int32; e : (B, N) int8 or int16
    pairs : int
        So many pairs of samples may be summed in 32 bits, 0: not one (then by events, in the integers of `gradient`).
    part, parts : int
        The part of the weights that this call adds to; parts may run at the same time.
    gradient : (kernel height, kernel width, C, O) int32 or int64, updated
    """
    active = np.int64(0)
    for b in range(p.shape[0]):
        active += _active(p[b])
    if pairs == 0 or active * 4 * SPARSE <= p.size:
        _accumulate_events(p, e, window, part, parts, gradient)
    else:
        _accumulate_tiles(p, e, window, pairs, part, parts, gradient)


@kernel
def _accumulate_events(p, e, window, part, parts, gradient):
    """By active inputs: each one adds the errors of the output pixels that it reaches."""
    channels, outputs = window.channels, window.out_channels
    for b in range(p.shape[0]):
        for y in range(window.height):
            for x in range(window.width):
                base = (y * window.width + x) * channels
                for c in range(part, channels, parts):
                    value = np.int64(p[b, base + c])
                    if value == 0:
                        continue
                    for ky in range(window.kernel_height):
                        out_y = y + window.pad_top - ky
                        if out_y < 0 or out_y % window.stride_y or out_y // window.stride_y >= window.out_height:
                            continue
                        for kx in range(window.kernel_width):
                            out_x = x + window.pad_left - kx
                            if out_x < 0 or out_x % window.stride_x or out_x // window.stride_x >= window.out_width:
                                continue
                            pixel = out_y // window.stride_y * window.out_width + out_x // window.stride_x
                            errors = e[b, pixel * outputs : (pixel + 1) * outputs]
                            target = gradient[ky, kx, c]
                            for o in range(outputs):
                                target[o] += value * np.int64(errors[o])


@kernel
def _accumulate_tiles(p, e, window, pairs, part, parts, gradient):
    """By register tiles: kernel rows times inputs on one side, outputs on the other."""
    height = (window.out_height - 1) * window.stride_y + window.kernel_height
    width = (window.out_width - 1) * window.stride_x + window.kernel_width
    channels, outputs = window.channels, window.out_channels
    size = height * width * channels * 2
    blocks = -(-outputs // WIDTH)
    pixels = window.out_height * window.out_width
    chunk = max(1, min(pairs, (p.shape[0] + 1) // 2, 2 * SCRATCH // (size + blocks * pixels * WIDTH * 2)))
    inputs = np.zeros(chunk * size + 2 * ROWS, np.int16)
    errors = np.zeros((blocks, chunk, pixels, WIDTH, 2), np.int16)
    flat_errors = errors.reshape(-1)
    sums = np.empty(ROWS * WIDTH, np.int32)
    counts = np.empty(9, np.int64)
    run = window.kernel_width * channels
    row = width * channels * 2
    tiles = -(-run // ROWS)
    flat = gradient.reshape(-1)
    for first in range(0, p.shape[0], 2 * chunk):
        filled = min(chunk, (p.shape[0] - first + 1) // 2)
        for i in range(filled):
            for h in range(2):
                b = first + 2 * i + h
                if b < p.shape[0]:
                    _pad(p[b], window, height, width, inputs, 2, i * size + h)
                    _widen(e[b], outputs, errors, i, h)
                else:
                    for j in range(i * size + h, (i + 1) * size, 2):
                        inputs[j] = 0
                    errors[:, i, :, :, h] = 0
        # the longest loop is the inner one
        if pixels > 1:
            counts[:] = (
                filled, window.out_height, window.out_width,
                size, row * window.stride_y, channels * 2 * window.stride_x,
                pixels * WIDTH * 2, window.out_width * WIDTH * 2, WIDTH * 2,
            )  # fmt: skip
        else:
            counts[:] = (1, 1, filled, 0, 0, size, 0, 0, WIDTH * 2)
        for task in range(part, window.kernel_height * tiles, parts):
            ky, m = task // tiles, task % tiles * ROWS
            for block in range(blocks):
                start = block * WIDTH
                outer_tile(inputs, ky * row + 2 * m, flat_errors, block * chunk * pixels * WIDTH * 2, counts, sums)
                count = min(WIDTH, outputs - start)
                for r in range(min(ROWS, run - m)):
                    at = (ky * run + m + r) * outputs + start
                    for o in range(count):
                        flat[at + o] += sums[r * WIDTH + o]


@kernel
def _widen(e, outputs, to, pair, side):
    """Errors of one sample by blocks of outputs: to[block, pair, pixel, o, side]; what is left over stays 0."""
    for pixel in range(to.shape[2]):
        source = e[pixel * outputs : (pixel + 1) * outputs]
        for block in range(to.shape[0]):
            target = to[block, pair, pixel]
            start = block * to.shape[3]
            for o in range(min(to.shape[3], outputs - start)):
                target[o, side] = source[start + o]
