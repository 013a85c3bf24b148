"""Operations on values: integers of any size that 32 bits hold, in every step, where spikes and lists do not do.

Values lie like charges, ``(T, H, W, C)`` with C padded by zeros. Sums wrap in between and are proven to fit in the end.
A `source` is the spikes or the charges, by `FROM_VALUES` of the operation.
"""

import numpy as np

from ..numbers.compiled import round_div
from ..toolchain.jit import kernel
from .opcodes import (
    ANSWER,
    BIAS,
    BY_TIME,
    CHANNELS,
    CONNECT_PLANES,
    CONNECT_VALUES,
    CONNECT_WIDE,
    COPY,
    DILATION_X,
    DILATION_Y,
    DIVIDE,
    DIVISOR,
    EXTRA,
    EXTRA_BY,
    EXTRA_STEPS,
    FIRST,
    FROM_VALUES,
    GRANULE,
    GROUPS,
    HEIGHT,
    IN_CHANNELS,
    INDEX,
    INPUT,
    KERNEL_X,
    KERNEL_Y,
    KIND,
    LEFT,
    MAX_VALUES,
    MULTIPLIER,
    OUT_CHANNELS,
    OUT_HEIGHT,
    OUT_WIDTH,
    READ_VALUES,
    REAL_OUT,
    ROUNDING,
    SCALE_VALUES,
    SOURCE,
    SOURCE_BY,
    STATE,
    STATE_BY,
    STRIDE_X,
    STRIDE_Y,
    SUM_VALUES,
    TARGET,
    TARGET_BY,
    TOP,
    TOTAL,
    VALUES,
    VALUES_BY,
    WEIGHTS,
    WIDTH_IN,
)
from .tiles import Pixels, window_weigh

__all__ = ["feed", "latest_change", "run_on_values"]


@kernel
def _source_of(op, b):
    """Where what sample `b` reads begins."""
    return op[VALUES] + b * op[VALUES_BY] if op[FROM_VALUES] else op[SOURCE] + b * op[SOURCE_BY]


@kernel
def _charge_of(op, b):
    """Where the charge of sample `b` begins."""
    return op[EXTRA] + b * op[EXTRA_BY]


@kernel
def _steps_of(op):
    """Elements of a step of what is read, and of what is written."""
    return op[HEIGHT] * op[WIDTH_IN] * op[CHANNELS], op[OUT_HEIGHT] * op[OUT_WIDTH] * op[OUT_CHANNELS]


@kernel
def feed(op, this, b, codes, charge):
    """FEED: the codes of a sample in every step of a pass; nothing behind the drive."""
    real, channels = op[REAL_OUT], op[OUT_CHANNELS]
    pixels = op[OUT_HEIGHT] * op[OUT_WIDTH]
    sample = this.first + b
    for t in range(this.steps):
        at = _charge_of(op, b) + t * pixels * channels
        frame = min(this.now + t, codes.shape[1] - 1)
        for p in range(pixels):
            for c in range(channels):
                charge[at] = (
                    codes[sample, frame, op[INPUT] + p * real + c] if c < real and this.now < this.driven else 0
                )
                at += 1


@kernel
def _finish(op, this, t, base, sums, numbers, charge):
    """``charge (+)= sums * multiplier + bias`` for the channels of a pixel; `sums` begin anew."""
    bias = op[BIAS] + min(this.now + t, this.driven) * op[OUT_CHANNELS]
    for o in range(op[OUT_CHANNELS]):
        a = np.int32(sums[o] * numbers[op[MULTIPLIER] + o] + numbers[bias + o])
        charge[base + o] = a if op[FIRST] else np.int32(charge[base + o] + a)
        sums[o] = 0


@kernel
def _gather(op, t_at, out_y, out_x, source, numbers, sums):
    """Add the weighted inputs of one window to `sums`, from the step that begins at `t_at`."""
    inputs, groups = op[IN_CHANNELS] // op[GROUPS], op[GROUPS]
    outputs = op[REAL_OUT] // groups
    for ky in range(op[KERNEL_Y]):
        y = out_y * op[STRIDE_Y] - op[TOP] + ky * op[DILATION_Y]
        if y < 0 or y >= op[HEIGHT]:
            continue
        for kx in range(op[KERNEL_X]):
            x = out_x * op[STRIDE_X] - op[LEFT] + kx * op[DILATION_X]
            if x < 0 or x >= op[WIDTH_IN]:
                continue
            pixel = t_at + (y * op[WIDTH_IN] + x) * op[CHANNELS]
            row = op[WEIGHTS] + (ky * op[KERNEL_X] + kx) * op[IN_CHANNELS] * outputs
            for g in range(groups):
                for i in range(g * inputs, (g + 1) * inputs):
                    value = np.int64(source[pixel + i])
                    if value != 0:
                        for o in range(outputs):
                            weight = np.int64(numbers[row + i * outputs + o])
                            sums[g * outputs + o] += value * weight


@kernel
def _connect_values(op, this, b, source, numbers, charge):
    """CONNECT_VALUES: any connection."""
    size, out_size = _steps_of(op)
    sums = np.zeros(op[OUT_CHANNELS], np.int32)
    for t in range(this.steps):
        base = _charge_of(op, b) + t * out_size
        for out_y in range(op[OUT_HEIGHT]):
            for out_x in range(op[OUT_WIDTH]):
                _gather(op, _source_of(op, b) + t * size, out_y, out_x, source, numbers, sums)
                _finish(op, this, t, base, sums, numbers, charge)
                base += op[OUT_CHANNELS]


@kernel
def _connect_wide(op, this, b, source, pools, charge):
    """CONNECT_WIDE: any connection, in 64 bits."""
    numbers, big = pools.numbers, pools.big
    size, out_size = _steps_of(op)
    sums = np.zeros(op[OUT_CHANNELS], np.int64)
    for t in range(this.steps):
        bias = op[BIAS] + min(this.now + t, this.driven) * op[OUT_CHANNELS]
        base = _charge_of(op, b) + t * out_size
        for out_y in range(op[OUT_HEIGHT]):
            for out_x in range(op[OUT_WIDTH]):
                _gather(op, _source_of(op, b) + t * size, out_y, out_x, source, numbers, sums)
                for o in range(op[OUT_CHANNELS]):
                    charge[base + o] = sums[o] * np.int64(numbers[op[MULTIPLIER] + o]) + big[bias + o]
                    sums[o] = 0
                base += op[OUT_CHANNELS]


@kernel
def _taps(begin, reach, dilation, size):
    """First tap of `reach` taps from `begin` on that lies in a line of `size`, and how many do."""
    first = max(0, (dilation - 1 - begin) // dilation)
    return first, max(0, min(reach, (size - begin + dilation - 1) // dilation) - first)


@kernel
def _connect_planes(op, this, b, spikes, rows, charge):
    """CONNECT_PLANES: the sums of a connection of each channel with itself."""
    size, out_size = _steps_of(op)
    channels = op[CHANNELS]
    down, across = op[DILATION_Y] * op[WIDTH_IN] * channels, op[DILATION_X] * channels
    weight_row = op[KERNEL_X] * channels
    for t in range(this.steps):
        at, to = op[SOURCE] + b * op[SOURCE_BY] + t * size, _charge_of(op, b) + t * out_size
        for out_y in range(op[OUT_HEIGHT]):
            top = out_y * op[STRIDE_Y] - op[TOP]
            y, ny = _taps(top, op[KERNEL_Y], op[DILATION_Y], op[HEIGHT])
            for out_x in range(op[OUT_WIDTH]):
                left = out_x * op[STRIDE_X] - op[LEFT]
                x, nx = _taps(left, op[KERNEL_X], op[DILATION_X], op[WIDTH_IN])
                begin = at + (top * op[WIDTH_IN] + left) * channels + y * down + x * across
                first = op[WEIGHTS] + y * weight_row + x * channels
                window_weigh(
                    charge, to, spikes, rows, first, weight_row, Pixels(begin, ny, nx, down, across, channels)
                )  # fmt: skip
                to += channels


@kernel
def _read_values(op, this, b, source, numbers, totals):
    """READ_VALUES: linear, so what comes in is summed over the steps before it meets the weights."""
    size, _ = _steps_of(op)
    channels, outputs = op[CHANNELS], op[REAL_OUT]
    sample = this.first + b
    for ky in range(op[KERNEL_Y]):
        y = ky * op[DILATION_Y] - op[TOP]
        if y < 0 or y >= op[HEIGHT]:
            continue
        for kx in range(op[KERNEL_X]):
            x = kx * op[DILATION_X] - op[LEFT]
            if x < 0 or x >= op[WIDTH_IN]:
                continue
            at = _source_of(op, b) + (y * op[WIDTH_IN] + x) * channels
            _read_pixel(op, this.steps, at, size, ky * op[KERNEL_X] + kx, source, numbers, totals[sample, op[ANSWER] :])
    for t in range(this.steps):
        bias = op[BIAS] + min(this.now + t, this.driven) * op[OUT_CHANNELS]
        for o in range(outputs):
            totals[sample, op[ANSWER] + o] += numbers[bias + o]


@kernel
def _read_pixel(op, steps, at, size, place, source, numbers, totals):
    """What one pixel of all steps, from `at` on and `size` apart, adds to the outputs by the weights of its `place`."""
    groups = op[GROUPS]
    inputs, outputs = op[IN_CHANNELS] // groups, op[REAL_OUT] // groups
    row = op[WEIGHTS] + place * op[IN_CHANNELS] * outputs
    for i in range(op[IN_CHANNELS]):
        value = np.int64(0)
        for t in range(steps):
            value += np.int64(source[at + t * size + i])
        if value != 0:
            first = i // inputs * outputs
            for o in range(outputs):
                weight = np.int64(numbers[row + i * outputs + o]) * np.int64(numbers[op[MULTIPLIER] + first + o])
                totals[first + o] += value * weight


@kernel
def _scale_values(op, this, b, numbers, charge):
    """SCALE_VALUES: ``charge (+)= values * factor + bias``; of a constant input the values of a driven step."""
    channels = op[OUT_CHANNELS]
    size, _ = _steps_of(op)
    once = op[EXTRA_STEPS] == 1
    factor = numbers[op[MULTIPLIER] : op[MULTIPLIER] + channels]
    for t in range(this.steps):
        row = op[BIAS] + min(this.now + t, this.driven) * channels
        bias = numbers[row : row + channels]
        begin = op[VALUES] + b * op[VALUES_BY] + (0 if once else t * size)
        silent = once and this.now >= this.driven
        for base in range(0, size, channels):
            source = charge[begin + base : begin + base + channels]
            to = _charge_of(op, b) + t * size + base
            target = charge[to : to + channels]
            for c in range(channels):
                a = bias[c] if silent else np.int32(source[c] * factor[c] + bias[c])
                target[c] = a if op[FIRST] else np.int32(target[c] + a)


@kernel
def _sum_values(op, this, b, source, charge):
    """SUM_VALUES: sums over windows."""
    channels = op[CHANNELS]
    size, out_size = _steps_of(op)
    for t in range(this.steps):
        to = _charge_of(op, b) + t * out_size
        for out_y in range(op[OUT_HEIGHT]):
            for out_x in range(op[OUT_WIDTH]):
                sums = charge[to : to + channels]
                for c in range(channels):
                    sums[c] = 0
                y, x = out_y * op[STRIDE_Y] - op[TOP], out_x * op[STRIDE_X] - op[LEFT]
                for py in range(max(y, 0), min(y + op[KERNEL_Y], op[HEIGHT])):
                    for px in range(max(x, 0), min(x + op[KERNEL_X], op[WIDTH_IN])):
                        at = _source_of(op, b) + t * size + (py * op[WIDTH_IN] + px) * channels
                        values = source[at : at + channels]
                        for c in range(channels):
                            sums[c] += np.int32(values[c])
                to += channels


@kernel
def _max_values(op, this, b, source, states, charge):
    """MAX_VALUES: step difference of the running maximum of totals; those of inputs, then the maxima, in `states`."""
    channels = op[CHANNELS]
    size, out_size = _steps_of(op)
    net = op[STATE] + b * op[STATE_BY]
    best = net + size
    if this.now == 0:
        for i in range(size + out_size):
            states[net + i] = 0
    for t in range(this.steps):
        at = _source_of(op, b) + t * size
        for i in range(size):
            states[net + i] += np.int32(source[at + i])
        place = np.int64(0)
        for out_y in range(op[OUT_HEIGHT]):
            for out_x in range(op[OUT_WIDTH]):
                y, x = out_y * op[STRIDE_Y] - op[TOP], out_x * op[STRIDE_X] - op[LEFT]
                y_end, x_end = min(y + op[KERNEL_Y], op[HEIGHT]), min(x + op[KERNEL_X], op[WIDTH_IN])
                y, x = max(y, 0), max(x, 0)
                for c in range(channels):
                    most = states[net + (y * op[WIDTH_IN] + x) * channels + c] if y < y_end and x < x_end else 0
                    for py in range(y, y_end):
                        for px in range(x, x_end):
                            most = max(most, states[net + (py * op[WIDTH_IN] + px) * channels + c])
                    charge[_charge_of(op, b) + t * out_size + place + c] = most - states[best + place + c]
                    states[best + place + c] = most
                place += channels


@kernel
def _divide(op, this, b, charge):
    """DIVIDE: values by a number, rounded."""
    size, _ = _steps_of(op)
    begin, to = op[VALUES] + b * op[VALUES_BY], _charge_of(op, b)
    for i in range(this.steps * size):
        charge[to + i] = round_div(np.int64(charge[begin + i]), op[DIVISOR], op[ROUNDING], np.int64(0))


@kernel
def _copy(op, this, b, source, target, to, numbers):
    """COPY: each piece of the output is one of the input, zeros (-1), or left to another copy (-2)."""
    size, out_size = _steps_of(op)
    granule = op[GRANULE]
    for t in range(this.steps):
        begin = _source_of(op, b) + t * size
        for piece in range(out_size // granule):
            index = np.int64(numbers[op[INDEX] + piece])
            if index >= -1:
                for k in range(granule):
                    target[to + k] = source[begin + index + k] if index >= 0 else 0
            to += granule


@kernel
def _total(op, this, b, source, totals):
    """TOTAL: what comes in, added up; or the first step (counted from 1) in which it is positive."""
    size, _ = _steps_of(op)
    real, sample = op[REAL_OUT], this.first + b
    for t in range(this.steps):
        at = _source_of(op, b) + t * size
        for p in range(op[OUT_HEIGHT] * op[OUT_WIDTH]):
            for c in range(real):
                value = np.int64(source[at + p * op[CHANNELS] + c])
                place = op[ANSWER] + p * real + c
                if not op[BY_TIME]:
                    totals[sample, place] += value
                elif value > 0 and totals[sample, place] == 0:
                    totals[sample, place] = this.now + t + 1


@kernel
def latest_change(op, this, b, charge, latest):
    """Last step (counted from 1) in which an operation wrote a value that is not zero, or `latest`."""
    _, size = _steps_of(op)
    for t in range(this.steps - 1, -1, -1):
        if this.now + t + 1 <= latest:
            break
        at = _charge_of(op, b) + t * size
        for i in range(size):
            if charge[at + i] != 0:
                return this.now + t + 1
    return latest


@kernel
def _run_on(op, this, b, source, pools, arena, totals):
    """An operation on what lies in `source`."""
    kind, numbers, charge = op[KIND], pools.numbers, arena.charge
    if kind == CONNECT_VALUES:
        _connect_values(op, this, b, source, numbers, charge)
    elif kind == CONNECT_WIDE:
        _connect_wide(op, this, b, source, pools, arena.wide_charge)
    elif kind == SUM_VALUES:
        _sum_values(op, this, b, source, charge)
    elif kind == MAX_VALUES:
        _max_values(op, this, b, source, arena.membranes, charge)
    elif kind == READ_VALUES:
        _read_values(op, this, b, source, numbers, totals)
    elif kind == TOTAL:
        _total(op, this, b, source, totals)


@kernel
def run_on_values(op, this, b, pools, arena, totals):
    """One operation on values, for sample `b` of the block."""
    kind, numbers, spikes, charge = op[KIND], pools.numbers, arena.spikes, arena.charge
    if kind == CONNECT_PLANES:
        _connect_planes(op, this, b, spikes, pools.rows, charge)
    elif kind == SCALE_VALUES:
        _scale_values(op, this, b, numbers, charge)
    elif kind == DIVIDE:
        _divide(op, this, b, charge)
    elif kind == COPY and op[FROM_VALUES]:
        _copy(op, this, b, charge, charge, _charge_of(op, b), numbers)
    elif kind == COPY:
        _copy(op, this, b, spikes, spikes, op[TARGET] + b * op[TARGET_BY], numbers)
    elif op[FROM_VALUES]:
        _run_on(op, this, b, charge, pools, arena, totals)
    else:
        _run_on(op, this, b, spikes, pools, arena, totals)
