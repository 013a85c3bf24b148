"""The fused path: one image through the whole network, all steps of a layer at once, small buffers.

A network is a table of operations over flat buffers (`Operation` names the columns); `run_samples` interprets it
for a range of samples without leaving compiled code. Spikes lie as bytes ``(T, H, W, C)`` with C padded to a
multiple of `WIDTH`; membranes are touched pixel by pixel for all steps, currents are never written but for
residual branches. Values are those of `reference.py`: the tests compare every spike.

A connection lists the non-zero inputs once per row and step (`list_rows`), then adds their weight rows in int16
registers. A negative input selects the negated copy of the weights, an input of value n is listed n times.
"""

from enum import IntEnum, auto

import numpy as np

from .jit import kernel
from .linear import convolve
from .parameters import Window
from .tiles import (
    SAFE_EVENTS,
    WIDTH,
    clear_lowest,
    fire_scaled,
    fire_unit,
    gather_1,
    gather_2,
    gather_4,
    gather_8,
    nonzero64,
    trailing_zeros,
)


class Kind(IntEnum):
    """What an operation does."""

    CURRENT = 0  # constant input codes to the charge of one step
    FIRE = auto()  # charge alone to spikes (constant input, or residual branches that are all listed before)
    CONNECT_FIRE = auto()  # spikes to spikes: connection and neuron
    CONNECT_ADD = auto()  # spikes to charge: a residual branch
    SCALE_ADD = auto()  # spikes times a factor to charge: an identity branch
    READOUT = auto()  # spikes to outputs, all steps in one sum
    SUM_POOL = auto()
    MAX_POOL = auto()


class Operation(IntEnum):
    """Columns of the table of operations; offsets count elements of the buffer that they name."""

    KIND = 0
    SOURCE = auto()  # spikes in
    TARGET = auto()  # spikes out
    HEIGHT = auto()
    WIDTH_IN = auto()
    CHANNELS = auto()  # padded
    OUT_HEIGHT = auto()
    OUT_WIDTH = auto()
    OUT_CHANNELS = auto()  # padded
    KERNEL_Y = auto()
    KERNEL_X = auto()
    STRIDE_Y = auto()
    STRIDE_X = auto()
    TOP = auto()
    LEFT = auto()
    DILATION_Y = auto()
    WEIGHTS = auto()  # int8: tile after tile of columns, each with its rows (ky, kx, c) and their negated copy
    ROWS = auto()  # rows of a tile
    NEGATED = auto()  # rows to the negated copy, 0: inputs are never negative
    MULTIPLIER = auto()  # int32 (C,)
    SCALED = auto()  # 0: every multiplier is 1
    THRESHOLD = auto()  # int32 (C,)
    V_NEGATIVE = auto()  # int32 (C,)
    V_INITIAL = auto()  # int32 (C,)
    BIAS = auto()  # int32 (driven + 1, C): rows of the driven steps, then zeros
    CAP = auto()
    STATE = auto()  # v, and count in the buffer of counts
    EXTRA = auto()  # charge: (T or 1, H, W, C)
    EXTRA_STEPS = auto()  # 0: none, 1: constant, 2: one per step
    FIRST = auto()  # CONNECT_ADD and SCALE_ADD: 1 if it writes the charge, 0 if it adds
    OUTPUTS = auto()  # READOUT: number of real outputs
    WIDE_WEIGHTS = auto()  # CURRENT: offset of int8 weights as (ky, kx, c, o), unpadded
    IN_CHANNELS = auto()  # CURRENT: real channels
    REAL_OUT = auto()  # CURRENT: real output channels


FIELDS = len(Operation)
(
    KIND, SOURCE, TARGET, HEIGHT, WIDTH_IN, CHANNELS, OUT_HEIGHT, OUT_WIDTH, OUT_CHANNELS, KERNEL_Y, KERNEL_X, STRIDE_Y,
    STRIDE_X, TOP, LEFT, DILATION_Y, WEIGHTS, ROWS, NEGATED, MULTIPLIER, SCALED, THRESHOLD, V_NEGATIVE, V_INITIAL, BIAS,
    CAP, STATE, EXTRA, EXTRA_STEPS, FIRST, OUTPUTS, WIDE_WEIGHTS, IN_CHANNELS, REAL_OUT,
) = (int(x) for x in Operation)  # fmt: skip
CURRENT, FIRE, CONNECT_FIRE, CONNECT_ADD, SCALE_ADD, READOUT, SUM_POOL, MAX_POOL = (int(x) for x in Kind)


@kernel
def list_rows(op, steps, spikes, events, offsets):
    """List the non-zero inputs of an operation.

    ``offsets[(y * T + t) * (width + 1) + x]`` is where the events of row y, step t and column x begin; the last
    entry of a row is where they end. An event is the number of its weight row, relative to that of column 0.
    """
    width, channels = op[WIDTH_IN], op[CHANNELS]
    row_size = width * channels
    plane = op[HEIGHT] * row_size
    negated = op[NEGATED]
    total = 0
    for y in range(op[HEIGHT]):
        for t in range(steps):
            line = (y * steps + t) * (width + 1)
            base = op[SOURCE] + t * plane + y * row_size
            for x in range(width):
                offsets[line + x] = total
                for block in range(x * channels, (x + 1) * channels, WIDTH):
                    mask = nonzero64(spikes, base + block) & np.uint64(0xFFFFFFFF)
                    while mask != 0:
                        k = block + trailing_zeros(mask)
                        mask = clear_lowest(mask)
                        value = spikes[base + k]
                        row = k
                        if value == 1:
                            events[total] = row
                            total += 1
                        else:
                            if value < 0:
                                row += negated
                            for _ in range(abs(value)):
                                events[total] = row
                                total += 1
            offsets[line + width] = total


@kernel
def _ranges_of(op, steps, t, out_y, out_x, offsets, ranges):
    """Events under the kernel at an output pixel: (begin, end, base) per kernel row; returns (ranges, events)."""
    width, channels = op[WIDTH_IN], op[CHANNELS]
    left = out_x * op[STRIDE_X] - op[LEFT]
    first, last = max(0, min(left, width)), max(0, min(left + op[KERNEL_X], width))
    count = 0
    total = 0
    for ky in range(op[KERNEL_Y]):
        y = out_y * op[STRIDE_Y] - op[TOP] + ky * op[DILATION_Y]
        if y < 0 or y >= op[HEIGHT]:
            continue
        line = (y * steps + t) * (width + 1)
        begin, end = offsets[line + first], offsets[line + last]
        if begin == end:
            continue
        ranges[3 * count] = begin
        ranges[3 * count + 1] = end
        ranges[3 * count + 2] = (ky * op[KERNEL_X] - left) * channels
        count += 1
        total += end - begin
    return count, total


@kernel
def _gather_long(width, first, rows, events, ranges, count, part, sums, wide):
    """Sums of more than `SAFE_EVENTS` events in int32: int16 parts of safe length, added up."""
    for o in range(width):
        wide[o] = 0
    for r in range(count):
        for begin in range(ranges[3 * r], ranges[3 * r + 1], SAFE_EVENTS):
            part[0] = begin
            part[1] = min(begin + SAFE_EVENTS, ranges[3 * r + 1])
            part[2] = ranges[3 * r + 2]
            if width == 8 * WIDTH:
                gather_8(sums, first, rows, events, part, 1)
            elif width == 4 * WIDTH:
                gather_4(sums, first, rows, events, part, 1)
            elif width == 2 * WIDTH:
                gather_2(sums, first, rows, events, part, 1)
            else:
                gather_1(sums, first, rows, events, part, 1)
            for o in range(width):
                wide[o] += sums[o]


@kernel
def _tile_width(left):
    """Widest tile that fits into `left` channels."""
    if left >= 8 * WIDTH:
        return 8 * WIDTH
    if left >= 4 * WIDTH:
        return 4 * WIDTH
    if left >= 2 * WIDTH:
        return 2 * WIDTH
    return WIDTH


@kernel
def _columns(
    op, now, steps, column, width, spikes, rows, numbers, v, counts, charge, events, offsets, ranges, part, sums, wide,
    drive,
):  # fmt: skip
    """Charge of `width` channels of every output pixel of a sample over all steps, and what becomes of it.

    The hot loop of the fused path. Only intrinsics are called with arrays in it: handing an array to a function
    that is pasted in costs two atomic operations.
    """
    channels = op[OUT_CHANNELS]
    plane = op[OUT_HEIGHT] * op[OUT_WIDTH] * channels
    multiplier = numbers[op[MULTIPLIER] : op[MULTIPLIER] + channels]
    threshold = numbers[op[THRESHOLD] : op[THRESHOLD] + channels]
    v_negative = numbers[op[V_NEGATIVE] : op[V_NEGATIVE] + channels]
    first = op[WEIGHTS] + column * op[ROWS]
    scaled, adds, connects, cap = op[SCALED] != 0, op[KIND] == CONNECT_ADD, op[KIND] != FIRE, op[CAP]
    extra_kind, bias_first, writes = op[EXTRA_STEPS], op[BIAS] + column, op[FIRST] != 0
    for out_y in range(op[OUT_HEIGHT]):
        for out_x in range(op[OUT_WIDTH]):
            pixel = (out_y * op[OUT_WIDTH] + out_x) * channels + column
            i = op[STATE] + pixel
            extra_at, extra_stride, extra_step = 0, 0, 0  # the first charges are zero
            if extra_kind:
                extra_at, extra_step = op[EXTRA] + pixel, 1
                extra_stride = plane if extra_kind == 2 else 0
            for t in range(steps):
                count, total = 0, 0
                if connects:
                    count, total = _ranges_of(op, steps, t, out_y, out_x, offsets, ranges)
                bias_at = bias_first + min(now + t, drive) * channels
                long = total > SAFE_EVENTS
                if long:
                    _gather_long(width, first, rows, events, ranges, count, part, sums, wide)
                elif not connects:
                    pass
                elif width == 8 * WIDTH:
                    gather_8(sums, first, rows, events, ranges, count)
                elif width == 4 * WIDTH:
                    gather_4(sums, first, rows, events, ranges, count)
                elif width == 2 * WIDTH:
                    gather_2(sums, first, rows, events, ranges, count)
                else:
                    gather_1(sums, first, rows, events, ranges, count)
                if adds:
                    at = op[EXTRA] + t * plane + pixel
                    for o in range(width):
                        a = np.int32(wide[o]) if long else np.int32(sums[o])
                        a = np.int32(a * multiplier[column + o] + numbers[bias_at + o])
                        charge[at + o] = a if writes else np.int32(charge[at + o] + a)
                    continue
                at = extra_at + t * extra_stride
                to = op[TARGET] + t * plane + pixel
                for o in range(0, width, WIDTH):
                    if long:
                        fire_scaled(
                            wide, o, charge, at + extra_step * o, multiplier, numbers, bias_at + o, threshold,
                            v_negative, column + o, cap, v, counts, i + o, spikes, to + o,
                        )  # fmt: skip
                    elif scaled:
                        fire_scaled(
                            sums, o, charge, at + extra_step * o, multiplier, numbers, bias_at + o, threshold,
                            v_negative, column + o, cap, v, counts, i + o, spikes, to + o,
                        )  # fmt: skip
                    else:
                        fire_unit(
                            sums, o, charge, at + extra_step * o, multiplier, numbers, bias_at + o, threshold,
                            v_negative, column + o, cap, v, counts, i + o, spikes, to + o,
                        )  # fmt: skip


@kernel
def _connect(
    op, now, steps, samples, alive, spikes, rows, numbers, v, counts, charge, events, offsets, ranges, part, sums, wide,
    drive,
):  # fmt: skip
    """CONNECT_FIRE, CONNECT_ADD and FIRE of a block of samples; state buffers are ``(samples, size)``.

    Columns go first: a slice of the weights of a dense layer serves all samples and steps.
    """
    if op[KIND] == FIRE:
        sums[:] = 0
    else:
        for b in range(samples):
            if alive[b]:
                list_rows(op, steps, spikes[b], events[b], offsets[b])
    column = 0
    while column < op[OUT_CHANNELS]:
        width = _tile_width(op[OUT_CHANNELS] - column)
        for b in range(samples):
            if alive[b]:
                _columns(
                    op, now, steps, column, width, spikes[b], rows, numbers, v[b], counts[b], charge[b], events[b],
                    offsets[b], ranges, part, sums, wide, drive,
                )  # fmt: skip
        column += width


@kernel
def _scale_add(op, steps, spikes, numbers, charge):
    """SCALE_ADD: ``charge (+)= spikes * factor``."""
    channels = op[OUT_CHANNELS]
    size = op[OUT_HEIGHT] * op[OUT_WIDTH] * channels
    factor = numbers[op[MULTIPLIER] : op[MULTIPLIER] + channels]
    for t in range(steps):
        for base in range(0, size, channels):
            source = spikes[op[SOURCE] + t * size + base : op[SOURCE] + t * size + base + channels]
            target = charge[op[EXTRA] + t * size + base : op[EXTRA] + t * size + base + channels]
            for c in range(channels):
                a = np.int32(np.int32(source[c]) * factor[c])
                target[c] = a if op[FIRST] else np.int32(target[c] + a)


@kernel
def _readout(op, now, steps, spikes, rows, numbers, events, offsets, ranges, part, sums, wide, drive, total):
    """READOUT: all steps of all pixels in one sum; linear, so the steps need not be told apart."""
    channels = op[OUT_CHANNELS]
    list_rows(op, steps, spikes, events, offsets)
    lines = steps * (op[WIDTH_IN] + 1)
    ranges[0] = 0
    ranges[1] = offsets[lines - 1]
    ranges[2] = 0
    column = 0
    while column < channels:
        width = _tile_width(channels - column)
        _gather_long(width, op[WEIGHTS] + column * op[ROWS], rows, events, ranges, 1, part, sums, wide)
        for o in range(min(width, op[OUTPUTS] - column)):
            c = column + o
            value = np.int64(wide[o]) * np.int64(numbers[op[MULTIPLIER] + c])
            for t in range(steps):
                value += np.int64(numbers[op[BIAS] + min(now + t, drive) * channels + c])
            total[c] += value
        column += width


@kernel
def _sum_pool(op, steps, spikes):
    """SUM_POOL on bytes: proven to fit."""
    channels = op[CHANNELS]
    row, out_row = op[WIDTH_IN] * channels, op[OUT_WIDTH] * channels
    for t in range(steps):
        source = op[SOURCE] + t * op[HEIGHT] * row
        target = op[TARGET] + t * op[OUT_HEIGHT] * out_row
        for out_y in range(op[OUT_HEIGHT]):
            for out_x in range(op[OUT_WIDTH]):
                to = target + out_y * out_row + out_x * channels
                cells = spikes[to : to + channels]
                cells[:] = 0
                for ky in range(op[KERNEL_Y]):
                    y = out_y * op[STRIDE_Y] - op[TOP] + ky
                    if y < 0 or y >= op[HEIGHT]:
                        continue
                    for kx in range(op[KERNEL_X]):
                        x = out_x * op[STRIDE_X] - op[LEFT] + kx
                        if x < 0 or x >= op[WIDTH_IN]:
                            continue
                        at = source + y * row + x * channels
                        values = spikes[at : at + channels]
                        for c in range(channels):
                            cells[c] += values[c]


@kernel
def _max_pool(op, steps, spikes, counts):
    """MAX_POOL: step difference of the running maximum of counts; counts of inputs, then the maxima, in `counts`."""
    channels = op[CHANNELS]
    size = op[HEIGHT] * op[WIDTH_IN] * channels
    out_size = op[OUT_HEIGHT] * op[OUT_WIDTH] * channels
    net = counts[op[STATE] : op[STATE] + size]
    best = counts[op[STATE] + size : op[STATE] + size + out_size]
    for t in range(steps):
        values = spikes[op[SOURCE] + t * size : op[SOURCE] + (t + 1) * size]
        for i in range(size):
            net[i] += values[i]
        for out_y in range(op[OUT_HEIGHT]):
            for out_x in range(op[OUT_WIDTH]):
                base = (out_y * op[OUT_WIDTH] + out_x) * channels
                target = spikes[op[TARGET] + t * out_size + base : op[TARGET] + t * out_size + base + channels]
                old = best[base : base + channels]
                for c in range(channels):
                    target[c] = -old[c]
                fresh = True
                for ky in range(op[KERNEL_Y]):
                    y = out_y * op[STRIDE_Y] - op[TOP] + ky
                    if y < 0 or y >= op[HEIGHT]:
                        continue
                    for kx in range(op[KERNEL_X]):
                        x = out_x * op[STRIDE_X] - op[LEFT] + kx
                        if x < 0 or x >= op[WIDTH_IN]:
                            continue
                        at = (y * op[WIDTH_IN] + x) * channels
                        seen = net[at : at + channels]
                        if fresh:
                            for c in range(channels):
                                old[c] = seen[c]
                            fresh = False
                        else:
                            for c in range(channels):
                                old[c] = max(old[c], seen[c])
                for c in range(channels):
                    target[c] += old[c]


@kernel
def _current(op, codes, rows, numbers, alive, offsets, indices, values, sums32, bias32, charge, loose):
    """CURRENT: charge of one step from constant codes, once per sample; padded channels get none."""
    window = Window(
        op[HEIGHT], op[WIDTH_IN], op[IN_CHANNELS], op[OUT_HEIGHT], op[OUT_WIDTH], op[REAL_OUT], op[KERNEL_Y],
        op[KERNEL_X], op[STRIDE_Y], op[STRIDE_X], op[TOP], op[LEFT], op[DILATION_Y], 1, 1,
    )  # fmt: skip
    size = op[KERNEL_Y] * op[KERNEL_X] * op[IN_CHANNELS] * op[REAL_OUT]
    # axes by None, not by reshape: that one compares sizes as floats; `convolve` reads the weights as one row
    weight = rows[None, None, None, op[WIDE_WEIGHTS] : op[WIDE_WEIGHTS] + size]
    pixels = op[OUT_HEIGHT] * op[OUT_WIDTH]
    dense = op[REAL_OUT] == op[OUT_CHANNELS]  # nothing is padded: straight into the charge
    target = charge[op[EXTRA] : op[EXTRA] + pixels * op[OUT_CHANNELS]] if dense else loose[: pixels * op[REAL_OUT]]
    out = target[None, None, :]
    multiplier = numbers[op[MULTIPLIER] : op[MULTIPLIER] + op[REAL_OUT]]
    convolve(
        codes, weight, window, multiplier, bias32[None, : op[REAL_OUT]], alive, offsets, indices,
        values, sums32[: op[REAL_OUT]], out,
    )  # fmt: skip
    for p in range(0 if dense else pixels):
        for c in range(op[REAL_OUT]):
            charge[op[EXTRA] + p * op[OUT_CHANNELS] + c] = out[0, 0, p * op[REAL_OUT] + c]


@kernel
def _latest_activity(op, steps, spikes, latest, now):
    """Last step (counted from 1) in which the operation fired, or `latest`."""
    size = op[OUT_HEIGHT] * op[OUT_WIDTH] * op[OUT_CHANNELS]
    for t in range(steps - 1, -1, -1):
        if now + t + 1 <= latest:
            break
        for i in range(op[TARGET] + t * size, op[TARGET] + (t + 1) * size, WIDTH):
            if nonzero64(spikes, i) & np.uint64(0xFFFFFFFF) != 0:
                return now + t + 1
    return latest


@kernel
def _load_frame(frames, step, sample, is_driven, area, offset, t, spikes):
    """One frame ``(C, H * W)`` of the input as padded bytes ``(H * W, C)``; silence after the drive."""
    size = frames.shape[2]
    channels = size // area
    padded = (channels + WIDTH - 1) // WIDTH * WIDTH
    base = offset + t * area * padded
    if not is_driven:
        spikes[base : base + area * padded] = 0
    elif area == 1:
        for i in range(size):  # no slices: the message of a wrong size is made with floats
            spikes[base + i] = frames[step, sample, i]
    else:
        for c in range(channels):
            for p in range(area):
                spikes[base + p * padded + c] = frames[step, sample, c * area + p]


@kernel
def run_samples(
    start, stop, table, codes, frames, input_area, input_offset, constant, driven, minimum, limit, settle, chunk, drive,
    rows, numbers, spikes, v, counts, charge, events, offsets, ranges, part, sums, wide, indices, values, bias32,
    loose, totals, extra_steps, settled,
):  # fmt: skip
    """Run the samples ``start..stop`` to their end; see the module. Results: `totals`, `extra_steps`, `settled`.

    The buffers of states are ``(block, size)``: a block of samples goes through the network together, so that the
    weights of a dense layer are read once for all of them.
    """
    block = spikes.shape[0]
    alive = np.zeros(block, np.uint8)
    latest = np.zeros(block, np.int64)
    one = np.ones(1, np.uint8)
    for first in range(start, stop, block):
        samples = min(block, stop - first)
        for b in range(samples):
            alive[b] = 1
            latest[b] = 0
            totals[first + b, :] = 0
            for n in range(table.shape[0]):
                op = table[n]
                if op[KIND] == CURRENT:
                    sample = codes[first + b : first + b + 1]
                    _current(
                        op, sample, rows, numbers, one, offsets[b], indices, values, wide, bias32, charge[b], loose
                    )
                elif op[KIND] == FIRE or op[KIND] == CONNECT_FIRE:
                    channels = op[OUT_CHANNELS]
                    size = op[OUT_HEIGHT] * op[OUT_WIDTH] * channels
                    initial = numbers[op[V_INITIAL] : op[V_INITIAL] + channels]
                    for base in range(op[STATE], op[STATE] + size, channels):
                        for c in range(channels):
                            v[b, base + c] = initial[c]
                    counts[b, op[STATE] : op[STATE] + size] = 0
                elif op[KIND] == MAX_POOL:
                    size = (op[HEIGHT] * op[WIDTH_IN] + op[OUT_HEIGHT] * op[OUT_WIDTH]) * op[CHANNELS]
                    counts[b, op[STATE] : op[STATE] + size] = 0
        now = 0
        while now < limit:
            goal = driven if now < driven else (minimum if now < minimum else limit)
            steps = min(chunk if now < driven else min(chunk, 4), goal - now)
            is_driven = now < driven
            if not constant:
                for b in range(samples):
                    for t in range(steps):
                        _load_frame(frames, now + t, first + b, is_driven, input_area, input_offset, t, spikes[b])
            for n in range(table.shape[0]):
                op = table[n]
                kind = op[KIND]
                if kind == FIRE or kind == CONNECT_FIRE or kind == CONNECT_ADD:
                    if op[EXTRA_STEPS] == 1 and not is_driven:  # the input is silent
                        op = op.copy()
                        op[EXTRA_STEPS] = 0
                    _connect(
                        op, now, steps, samples, alive, spikes, rows, numbers, v, counts, charge, events, offsets,
                        ranges, part, sums, wide, drive,
                    )  # fmt: skip
                elif kind == CURRENT:
                    continue
                for b in range(samples):
                    if not alive[b]:
                        continue
                    if kind == SCALE_ADD:
                        _scale_add(op, steps, spikes[b], numbers, charge[b])
                    elif kind == READOUT:
                        _readout(
                            op, now, steps, spikes[b], rows, numbers, events[b], offsets[b], ranges, part, sums, wide,
                            drive, totals[first + b],
                        )  # fmt: skip
                    elif kind == SUM_POOL:
                        _sum_pool(op, steps, spikes[b])
                    elif kind == MAX_POOL:
                        _max_pool(op, steps, spikes[b], counts[b])
                    if not is_driven and (kind == FIRE or kind == CONNECT_FIRE or kind == MAX_POOL):
                        latest[b] = _latest_activity(op, steps, spikes[b], latest[b], now)
            now += steps
            if settle and now > driven and now >= minimum:
                running = False
                for b in range(samples):
                    if latest[b] < now:
                        alive[b] = 0
                    running |= alive[b] != 0
                if not running:
                    break
        for b in range(samples):
            extra_steps[first + b] = max(0, latest[b] - driven) if settle else 0
            settled[first + b] = latest[b] < now or limit == driven
