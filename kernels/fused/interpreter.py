"""The fused path: an image through the whole network, all steps of a layer at once, small buffers.

A network is a table of operations over flat buffers (`Operation` names the columns); `run_samples` interprets it
without leaving compiled code. Spikes lie as bytes ``(T, H, W, C)`` with C padded to a multiple of `WIDTH`. Values are
those of `reference.py`: the tests compare every output.

The table has a head, which runs image by image, and a tail of dense layers, which run for a block of samples together
so that a slice of weights serves them all: there the samples of the block take the place of the pixels of a row. What
lies in a slot of the tail has an address for each sample (`..._BY`), what lies in the head one for all.

A connection sums either weight rows, listed once per input row from the non-zero bytes, or dense dot products; the
number of spikes decides, image by image. The sums of some pixels over all steps go into a scratch, and from
there through the neurons, whose membranes stay in registers; no current or membrane array is written unless the run
takes more steps than one pass.
"""

from enum import IntEnum, auto

import numpy as np

from ..layers.compiled import convolve
from ..parameters import Window
from ..toolchain.jit import kernel
from .rows import SPARE, gather
from .tiles import (
    DOT_DEPTH,
    DOT_GROUP,
    DOT_WIDTH,
    UNIT,
    WIDTH,
    collect,
    count_nonzero,
    deposit,
    dots_32,
    dots_64,
    fire,
    fire_counted,
    fire_scaled,
    fire_wide,
    list_bytes,
    weigh,
    window_max,
    window_sum,
)


class Kind(IntEnum):
    """What an operation does."""

    CURRENT = 0  # constant input codes to the charge of one step
    FIRE = auto()  # charge to spikes: behind a constant input, or a join of branches
    CONNECT_FIRE = auto()  # spikes to spikes: connection and neuron
    CONNECT_ADD = auto()  # spikes to charge: a branch of a join
    SCALE_ADD = auto()  # spikes times a factor to charge: an identity branch
    READOUT = auto()  # spikes to outputs, all steps in one sum
    SUM_POOL = auto()
    MAX_POOL = auto()


class Operation(IntEnum):
    """Columns of the table of operations; offsets count elements of the buffer that they name."""

    KIND = 0
    TAIL = auto()  # 1: samples take the place of pixels
    SOURCE = auto()  # spikes in
    SOURCE_BY = auto()  # from sample to sample
    TARGET = auto()  # spikes out
    TARGET_BY = auto()
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
    PADDED_HEIGHT = auto()  # of the copy that dot products read; 0: they read the spikes themselves
    PADDED_WIDTH = auto()
    FLIP = auto()  # what is xor-ed to the bytes of the copy, where dot products know no sign
    WEIGHTS = auto()  # tile after tile of columns, as `gather` reads them; -1: there are none
    ROWS = auto()  # rows of a tile; the row of zeros behind them not counted
    NEGATED = auto()  # rows to the negated copy, 0: inputs are never negative
    SAFE = auto()  # rows that 16-bit sums hold
    FEW = auto()  # rows that 8-bit sums hold; 0: rows lie in pairs
    DOTS = auto()  # weights of dot products, tile after tile
    DENSE_ABOVE = auto()  # items of a sample and step beyond which dot products are taken
    INITIAL = auto()  # int32 (C,): where dot products begin
    RING = auto()  # rows of items that are kept
    RING_SIZE = auto()  # items of a row
    MULTIPLIER = auto()  # int32 (C,)
    SCALED = auto()  # 0: every multiplier is 1
    THRESHOLD = auto()  # int32 (C,)
    V_NEGATIVE = auto()  # int32 (C,)
    V_INITIAL = auto()  # int32 (C,)
    BIAS = auto()  # int32 (driven + 1, C): rows of the driven steps, then zeros
    WIDE = auto()  # 1: threshold, v_negative, v_initial, bias and membranes lie among the 64-bit numbers
    CAP = auto()
    COUNTED = auto()  # 0: neither cap nor negative spikes
    STATE = auto()  # membranes and counts; counts only: of a max-pool
    STATE_BY = auto()
    EXTRA = auto()  # charge: (T or 1, H, W, C)
    EXTRA_BY = auto()
    EXTRA_STEPS = auto()  # FIRE: 1 if the charge is the same in every step of the drive, 2 if there is one per step
    FIRST = auto()  # CONNECT_ADD and SCALE_ADD: 1 if it writes the charge, 0 if it adds
    OUTPUTS = auto()  # READOUT: number of real outputs
    WIDE_WEIGHTS = auto()  # CURRENT of wide codes: int8 weights (ky, kx, c, o), unpadded
    IN_CHANNELS = auto()  # CURRENT: real channels
    REAL_OUT = auto()  # CURRENT: real output channels


FIELDS = len(Operation)
(
    KIND, TAIL, SOURCE, SOURCE_BY, TARGET, TARGET_BY, HEIGHT, WIDTH_IN, CHANNELS, OUT_HEIGHT, OUT_WIDTH, OUT_CHANNELS,
    KERNEL_Y, KERNEL_X, STRIDE_Y, STRIDE_X, TOP, LEFT, DILATION_Y, PADDED_HEIGHT, PADDED_WIDTH, FLIP, WEIGHTS, ROWS,
    NEGATED, SAFE, FEW, DOTS, DENSE_ABOVE, INITIAL, RING, RING_SIZE, MULTIPLIER, SCALED, THRESHOLD, V_NEGATIVE,
    V_INITIAL, BIAS, WIDE, CAP, COUNTED, STATE, STATE_BY, EXTRA, EXTRA_BY, EXTRA_STEPS, FIRST, OUTPUTS, WIDE_WEIGHTS,
    IN_CHANNELS, REAL_OUT,
) = (int(x) for x in Operation)  # fmt: skip
CURRENT, FIRE, CONNECT_FIRE, CONNECT_ADD, SCALE_ADD, READOUT, SUM_POOL, MAX_POOL = (int(x) for x in Kind)
GROUP_64, GROUP_32 = DOT_GROUP[64], DOT_GROUP[32]
GROUP = max(GROUP_64, GROUP_32)  # rows of a group of dot products are a multiple
TRASH = WIDTH  # where states go that nobody reads: the first elements of membranes, the second ones of counts


@kernel
def _tile_width(left):
    """Widest tile of weight rows that fits into `left` channels."""
    if left >= 8 * WIDTH:
        return 8 * WIDTH
    if left >= 4 * WIDTH:
        return 4 * WIDTH
    if left >= 2 * WIDTH:
        return 2 * WIDTH
    return WIDTH


@kernel
def _width(dense, left):
    """Width of the next tile of `left` channels."""
    if dense:
        return DOT_WIDTH if left >= DOT_WIDTH else WIDTH
    return _tile_width(left)


@kernel
def _together(steps):
    """Pixels of a group of dot products: their rows over all steps fill whole calls."""
    pixels = 1
    while pixels * steps % GROUP != 0:
        pixels += 1
    return pixels


@kernel
def _columns(
    op, dense, samples, b, now, steps, driven, kept, turn, who, spikes, data, rows, dots, numbers, big, v, big_v,
    counts, charge, items, offsets, flat, where, sums,
):  # fmt: skip
    """Charge of every output pixel over all steps, and what becomes of it: the hot loop of the fused path.

    Pixels are those of sample `b`, or the `samples` of a block in the tail. Only intrinsics are called with arrays in
    it: handing an array to another function costs two atomic operations. Every other `turn` the tiles of columns come
    backwards: weights that are too many for the cache are then met in it where the turn before left off.
    """
    kind, channels, out_channels = op[KIND], op[CHANNELS], op[OUT_CHANNELS]
    kernel_y, kernel_x, stride_y, stride_x = op[KERNEL_Y], op[KERNEL_X], op[STRIDE_Y], op[STRIDE_X]
    top, left, dilation = op[TOP], op[LEFT], op[DILATION_Y]
    fires, adds = kind == FIRE or kind == CONNECT_FIRE, kind == CONNECT_ADD or kind == CURRENT
    if op[TAIL]:
        height, width_in, out_height, out_width = 1, samples, 1, samples
        source, pixel_in, row_in, plane_in = op[SOURCE], op[SOURCE_BY], 0, channels
        target, pixel_out, row_out, plane_out = op[TARGET], op[TARGET_BY], 0, out_channels
        state, pixel_state, row_state = op[STATE], op[STATE_BY], 0
        extra, pixel_extra = op[EXTRA], op[EXTRA_BY]
    else:
        height, width_in, out_height, out_width = op[HEIGHT], op[WIDTH_IN], op[OUT_HEIGHT], op[OUT_WIDTH]
        source, pixel_in, row_in = op[SOURCE] + b * op[SOURCE_BY], channels, width_in * channels
        plane_in = height * row_in
        target, pixel_out, row_out = op[TARGET] + b * op[TARGET_BY], out_channels, out_width * out_channels
        plane_out = out_height * row_out
        state, pixel_state, row_state = op[STATE] + b * op[STATE_BY], out_channels, row_out
        extra, pixel_extra = op[EXTRA] + b * op[EXTRA_BY], out_channels
    # what dot products read
    data_at, data_pixel, data_row, data_plane = source, pixel_in, row_in, plane_in
    if op[PADDED_HEIGHT]:
        data_at = 0
        data_pixel, data_row, data_plane = channels, op[PADDED_WIDTH] * channels, 0
        data_plane = op[PADDED_HEIGHT] * data_row
        if op[TAIL]:
            data_pixel, data_row, data_plane = steps * channels, 0, channels
    together = _together(steps) if dense else 1
    # FIRE: the charge is that of a step, of the constant input, or none when that has ended
    charge_step = plane_out if op[EXTRA_STEPS] == 2 else 0
    silent = op[EXTRA_STEPS] == 1 and now >= driven
    feed = charge if kind == FIRE and not silent else sums
    wide = op[WIDE] != 0
    bias_at, bias_step = op[BIAS] + min(now, driven) * out_channels, out_channels if now < driven else 0
    multiplier = numbers[op[MULTIPLIER] :]
    threshold, v_negative = numbers[0 if wide else op[THRESHOLD] :], numbers[0 if wide else op[V_NEGATIVE] :]
    big_threshold, big_v_negative = big[op[THRESHOLD] if wide else 0 :], big[op[V_NEGATIVE] if wide else 0 :]
    counted, scaled, cap = op[COUNTED] != 0, op[SCALED] != 0, op[CAP]
    fresh = now == 0 or not kept
    before, big_before = numbers if fresh else v, big if fresh else big_v
    ring, ring_size, line_size = op[RING], op[RING_SIZE], steps * (width_in + 1)
    zero_row = np.uint32(op[ROWS] * UNIT)
    tiles, column = 0, 0
    while column < out_channels:
        column += _width(dense, out_channels - column)
        tiles += 1
    for tile in range(tiles):
        column = 0
        for _ in range(tiles - 1 - tile if turn else tile):
            column += _width(dense, out_channels - column)
        width = _width(dense, out_channels - column)
        weights = op[DOTS] + column * kernel_y * kernel_x * channels if dense else op[WEIGHTS] + column * (op[ROWS] + 1)
        listed = 0  # input rows that are in the ring
        pixels = out_height * out_width
        p, out_y, out_x = 0, 0, 0
        while p < pixels:
            here = min(together, pixels - p)
            if silent:
                for o in range(width):
                    sums[o] = 0
            elif kind == FIRE:
                pass
            elif dense:
                y, x = out_y, out_x
                for i in range(here):
                    at = data_at + y * stride_y * data_row + (who[x] if op[TAIL] else x * stride_x) * data_pixel
                    for t in range(steps):
                        where[i * steps + t] = at + t * data_plane
                    x += 1
                    if x == out_width:
                        x, y = 0, y + 1
                count = here * steps
                end = (count + GROUP - 1) // GROUP * GROUP
                for r in range(count, end):
                    where[r] = where[0]
                if width == DOT_WIDTH:
                    for r in range(0, end, GROUP_64):
                        dots_64(
                            sums, r * width, width, data, where, r, dots, weights, kernel_y, dilation * data_row,
                            kernel_x * channels, numbers, op[INITIAL] + column,
                        )  # fmt: skip
                else:
                    for r in range(0, end, GROUP_32):
                        dots_32(
                            sums, r * width, width, data, where, r, dots, weights, kernel_y, dilation * data_row,
                            kernel_x * channels, numbers, op[INITIAL] + column,
                        )  # fmt: skip
            else:
                if out_x == 0:  # where the lines of its input rows begin in the ring
                    for ky in range(kernel_y):
                        y = out_y * stride_y - top + ky * dilation
                        where[ky] = -1 if y < 0 or y >= height else y % ring * line_size
                last = min(height, out_y * stride_y - top + (kernel_y - 1) * dilation + 1)
                while listed < last:
                    slot = listed % ring
                    total, line = slot * ring_size, slot * line_size
                    for t in range(steps):
                        at = source + t * plane_in + listed * row_in
                        for x in range(width_in):
                            offsets[line] = total
                            line += 1
                            total = list_bytes(
                                spikes, at + (who[x] if op[TAIL] else x) * pixel_in, channels, x * channels,
                                op[NEGATED], items, total,
                            )  # fmt: skip
                        offsets[line] = total
                        line += 1
                    listed += 1
                from_x = out_x * stride_x - left
                begin_x, end_x = max(0, min(from_x, width_in)), max(0, min(from_x + kernel_x, width_in))
                for t in range(steps):
                    total = 0
                    for ky in range(kernel_y):
                        if where[ky] < 0:
                            continue
                        line = where[ky] + t * (width_in + 1)
                        total = collect(
                            flat, total, items, offsets[line + begin_x], offsets[line + end_x],
                            (ky * kernel_x - from_x) * channels * UNIT,
                        )  # fmt: skip
                    for i in range(SPARE):
                        flat[total + i] = zero_row
                    gather(width, sums, t * width, rows, weights, flat, total, op[SAFE], op[FEW])
            feed_step = charge_step if kind == FIRE else width
            for i in range(here):
                place = who[out_x] if op[TAIL] else out_x
                if adds:
                    to = extra + out_y * row_out + place * pixel_extra + column
                    for t in range(steps):
                        deposit(
                            sums, (i * steps + t) * width, width, multiplier, column, numbers,
                            bias_at + t * bias_step + column, charge, to + t * plane_out, 1 - op[FIRST],
                        )  # fmt: skip
                elif fires:
                    state_at = state + out_y * row_state + place * pixel_state + column
                    to = target + out_y * row_out + place * pixel_out + column
                    for o in range(0, width, WIDTH):
                        c = column + o
                        from_at = op[V_INITIAL] + c if fresh else state_at + o
                        count_from = 0 if fresh else state_at + o
                        v_to, count_to = (state_at + o, state_at + o) if kept else (0, TRASH)
                        if kind != FIRE:
                            from_charge = i * steps * width + o
                        elif silent:
                            from_charge = 0
                        else:
                            from_charge = extra + out_y * row_out + place * pixel_extra + c
                        if wide:
                            fire_wide(
                                feed, from_charge, feed_step, steps, multiplier, big, bias_at + c, bias_step,
                                big_threshold, big_v_negative, c, cap, big_before, from_at, big_v, v_to, counts,
                                count_from, counts, count_to, spikes, to + o, plane_out,
                            )  # fmt: skip
                        elif not counted and not scaled:
                            fire(
                                feed, from_charge, feed_step, steps, multiplier, numbers, bias_at + c, bias_step,
                                threshold, v_negative, c, cap, before, from_at, v, v_to, counts, count_from, counts,
                                count_to, spikes, to + o, plane_out,
                            )  # fmt: skip
                        elif not counted:
                            fire_scaled(
                                feed, from_charge, feed_step, steps, multiplier, numbers, bias_at + c, bias_step,
                                threshold, v_negative, c, cap, before, from_at, v, v_to, counts, count_from, counts,
                                count_to, spikes, to + o, plane_out,
                            )  # fmt: skip
                        else:
                            fire_counted(
                                feed, from_charge, feed_step, steps, multiplier, numbers, bias_at + c, bias_step,
                                threshold, v_negative, c, cap, before, from_at, v, v_to, counts, count_from, counts,
                                count_to, spikes, to + o, plane_out,
                            )  # fmt: skip
                out_x += 1
                if out_x == out_width:
                    out_x, out_y = 0, out_y + 1
            p += here


@kernel
def _copy(op, samples, b, steps, who, spikes, pad):
    """Copy of the spikes of sample `b` (of the block in the tail) for dot products: borders, and no signs."""
    channels, flip = op[CHANNELS], op[FLIP]
    if op[TAIL]:
        for i in range(samples):
            size = steps * channels
            at = op[SOURCE] + who[i] * op[SOURCE_BY]
            source, target = spikes[at : at + size], pad[who[i] * size : (who[i] + 1) * size]
            for k in range(size):
                target[k] = source[k] ^ flip
        return
    line, row = op[WIDTH_IN] * channels, op[PADDED_WIDTH] * channels
    pad[: steps * op[PADDED_HEIGHT] * row] = flip
    at = op[SOURCE] + b * op[SOURCE_BY]
    for t in range(steps):
        for y in range(op[HEIGHT]):
            to = (t * op[PADDED_HEIGHT] + y + op[TOP]) * row + op[LEFT] * channels
            source, target = spikes[at : at + line], pad[to : to + line]
            for k in range(line):
                target[k] = source[k] ^ flip
            at += line


@kernel
def _copy_codes(op, codes, b, place, pad):
    """Copy of the constant codes of sample `b` for dot products, channels padded."""
    real, channels, flip = op[IN_CHANNELS], op[CHANNELS], op[FLIP]
    row = op[PADDED_WIDTH] * channels
    size = op[PADDED_HEIGHT] * row
    base = place * size if op[TAIL] else 0
    pad[base : base + size] = flip
    at = 0
    for y in range(op[HEIGHT]):
        for x in range(op[WIDTH_IN]):
            to = base + (y + op[TOP]) * row + (x + op[LEFT]) * channels
            for c in range(real):
                pad[to + c] = codes[b, 0, at] ^ flip
                at += 1


if DOT_DEPTH == 4:

    @kernel(inline="always")
    def _unpadded(spikes, pad):
        """What dot products read where there is no copy: bytes themselves."""
        return spikes

else:

    @kernel(inline="always")
    def _unpadded(spikes, pad):
        """Never used: there is always a copy in 16 bits."""
        return pad


@kernel
def _connect(
    op, samples, now, steps, driven, kept, turn, who, spikes, rows, dots, numbers, big, v, big_v, counts, charge,
    items, offsets, flat, where, sums, pad,
):  # fmt: skip
    """FIRE, CONNECT_FIRE and CONNECT_ADD of a block of samples; `who` lists those that still run."""
    connects, has_dots = op[KIND] != FIRE, op[DOTS] >= 0
    size = steps * op[HEIGHT] * op[WIDTH_IN] * op[CHANNELS]
    for i in range(1 if op[TAIL] else samples):
        b = who[i]
        dense = np.int64(0)
        if connects and has_dots:
            busy = 0
            for k in range(i, samples if op[TAIL] else i + 1):
                busy += weigh(spikes, op[SOURCE] + who[k] * op[SOURCE_BY], size)
            dense = np.int64(busy > op[DENSE_ABOVE] * steps * (samples if op[TAIL] else 1))
        if dense and op[PADDED_HEIGHT]:
            _copy(op, samples, b, steps, who, spikes, pad)
        if op[PADDED_HEIGHT]:
            _columns(
                op, dense, samples, b, now, steps, driven, kept, turn, who, spikes, pad, rows, dots, numbers, big, v,
                big_v, counts, charge, items, offsets, flat, where, sums,
            )  # fmt: skip
        else:
            _columns(
                op, dense, samples, b, now, steps, driven, kept, turn, who, spikes, _unpadded(spikes, pad), rows, dots,
                numbers, big, v, big_v, counts, charge, items, offsets, flat, where, sums,
            )  # fmt: skip


@kernel
def _scale_add(op, b, steps, spikes, numbers, charge):
    """SCALE_ADD: ``charge (+)= spikes * factor``."""
    channels = op[OUT_CHANNELS]
    size = op[OUT_HEIGHT] * op[OUT_WIDTH] * channels
    factor = numbers[op[MULTIPLIER] : op[MULTIPLIER] + channels]
    spikes_at, charge_at = op[SOURCE] + b * op[SOURCE_BY], op[EXTRA] + b * op[EXTRA_BY]
    for base in range(0, steps * size, channels):
        source = spikes[spikes_at + base : spikes_at + base + channels]
        target = charge[charge_at + base : charge_at + base + channels]
        for c in range(channels):
            a = np.int32(np.int32(source[c]) * factor[c])
            target[c] = a if op[FIRST] else np.int32(target[c] + a)


@kernel
def _readout(op, b, now, steps, driven, spikes, rows, numbers, flat, sums, total):
    """READOUT: linear, so what the steps add need not be told apart."""
    channels = op[OUT_CHANNELS]
    column = 0
    while column < channels:
        width = _tile_width(channels - column)
        first = op[WEIGHTS] + column * (op[ROWS] + 1)
        real = min(width, op[OUTPUTS] - column)
        for t in range(steps):
            at = op[SOURCE] + b * op[SOURCE_BY] + t * op[CHANNELS]
            count = list_bytes(spikes, at, op[CHANNELS], 0, op[NEGATED], flat, 0)
            for i in range(SPARE):
                flat[count + i] = np.uint32(op[ROWS] * UNIT)
            gather(width, sums, 0, rows, first, flat, count, op[SAFE], op[FEW])
            bias = op[BIAS] + min(now + t, driven) * channels
            for o in range(real):
                c = column + o
                total[c] += np.int64(sums[o]) * np.int64(numbers[op[MULTIPLIER] + c]) + np.int64(numbers[bias + c])
        column += width


@kernel
def _window_of(op, out_y, out_x):
    """Pixels of the input under a window: first row and column, number of rows and columns."""
    y, x = out_y * op[STRIDE_Y] - op[TOP], out_x * op[STRIDE_X] - op[LEFT]
    y_end, x_end = min(y + op[KERNEL_Y], op[HEIGHT]), min(x + op[KERNEL_X], op[WIDTH_IN])
    y, x = max(y, 0), max(x, 0)
    return y, x, max(0, y_end - y), max(0, x_end - x)


@kernel
def _sum_pool(op, b, steps, spikes):
    """SUM_POOL on bytes: proven to fit."""
    channels = op[CHANNELS]
    row, out_row = op[WIDTH_IN] * channels, op[OUT_WIDTH] * channels
    for out_y in range(op[OUT_HEIGHT]):
        for out_x in range(op[OUT_WIDTH]):
            y, x, ny, nx = _window_of(op, out_y, out_x)
            for t in range(steps):
                source = op[SOURCE] + b * op[SOURCE_BY] + t * op[HEIGHT] * row
                target = op[TARGET] + b * op[TARGET_BY] + t * op[OUT_HEIGHT] * out_row
                to = target + out_y * out_row + out_x * channels
                window_sum(spikes, to, source + y * row + x * channels, ny, nx, row, channels, channels)


@kernel
def _max_pool(op, b, steps, spikes, counts):
    """MAX_POOL: step difference of the running maximum of counts; counts of inputs, then the maxima, in `counts`."""
    channels = op[CHANNELS]
    row, out_row = op[WIDTH_IN] * channels, op[OUT_WIDTH] * channels
    size, out_size = op[HEIGHT] * row, op[OUT_HEIGHT] * out_row
    net_at = op[STATE] + b * op[STATE_BY]
    net = counts[net_at : net_at + size]
    for t in range(steps):
        begin = op[SOURCE] + b * op[SOURCE_BY] + t * size
        values = spikes[begin : begin + size]
        for i in range(size):
            net[i] += values[i]
        target = op[TARGET] + b * op[TARGET_BY] + t * out_size
        for out_y in range(op[OUT_HEIGHT]):
            for out_x in range(op[OUT_WIDTH]):
                y, x, ny, nx = _window_of(op, out_y, out_x)
                to = out_y * out_row + out_x * channels
                window_max(
                    counts, net_at + y * row + x * channels, ny, nx, row, channels, channels, net_at + size + to,
                    spikes, target + to,
                )  # fmt: skip


@kernel
def _wide_current(op, b, codes, rows, numbers, one, charge, offsets, indices, values, wide, bias, loose):
    """CURRENT of codes that need more than 8 bits."""
    window = Window(
        op[HEIGHT], op[WIDTH_IN], op[IN_CHANNELS], op[OUT_HEIGHT], op[OUT_WIDTH], op[REAL_OUT], op[KERNEL_Y],
        op[KERNEL_X], op[STRIDE_Y], op[STRIDE_X], op[TOP], op[LEFT], op[DILATION_Y], 1, 1,
    )  # fmt: skip
    size = op[KERNEL_Y] * op[KERNEL_X] * op[IN_CHANNELS] * op[REAL_OUT]
    # axes by None, not by reshape: that one compares sizes as floats; `convolve` reads the weights as one row
    weight = rows[None, None, None, op[WIDE_WEIGHTS] : op[WIDE_WEIGHTS] + size]
    pixels = op[OUT_HEIGHT] * op[OUT_WIDTH]
    out = loose[None, None, : pixels * op[REAL_OUT]]
    multiplier = numbers[op[MULTIPLIER] : op[MULTIPLIER] + op[REAL_OUT]]
    convolve(
        codes, weight, window, multiplier, bias[None, : op[REAL_OUT]], one, offsets, indices, values,
        wide[: op[REAL_OUT]], out,
    )  # fmt: skip
    at = op[EXTRA] + b * op[EXTRA_BY]
    for p in range(pixels):
        for c in range(op[REAL_OUT]):
            charge[at + p * op[OUT_CHANNELS] + c] = out[0, 0, p * op[REAL_OUT] + c]


@kernel
def _latest_activity(op, b, steps, spikes, latest, now):
    """Last step (counted from 1) in which the operation fired, or `latest`."""
    size = op[OUT_HEIGHT] * op[OUT_WIDTH] * op[OUT_CHANNELS]
    for t in range(steps - 1, -1, -1):
        if now + t + 1 <= latest:
            break
        if count_nonzero(spikes, op[TARGET] + b * op[TARGET_BY] + t * size, size) != 0:
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
        target = spikes[base : base + size]
        source = frames[step, sample]
        for i in range(size):  # no slices: the message of a wrong size is made with floats
            target[i] = source[i]
    else:
        for c in range(channels):
            for p in range(area):
                spikes[base + p * padded + c] = frames[step, sample, c * area + p]


@kernel
def _run(
    op, samples, now, steps, driven, is_driven, kept, turn, who, spikes, rows, dots, numbers, big, v, big_v, counts,
    charge, items, offsets, flat, where, sums, pad, first, totals, latest,
):  # fmt: skip
    """One operation for the `samples` samples of `who`; `first` is the number of the first one of the block."""
    kind = op[KIND]
    if kind == FIRE or kind == CONNECT_FIRE or kind == CONNECT_ADD:
        _connect(
            op, samples, now, steps, driven, kept, turn, who, spikes, rows, dots, numbers, big, v, big_v, counts,
            charge, items, offsets, flat, where, sums, pad,
        )  # fmt: skip
    for i in range(samples):
        b = who[i]
        if kind == SCALE_ADD:
            _scale_add(op, b, steps, spikes, numbers, charge)
        elif kind == READOUT:
            _readout(op, b, now, steps, driven, spikes, rows, numbers, flat, sums, totals[first + b])
        elif kind == SUM_POOL:
            _sum_pool(op, b, steps, spikes)
        elif kind == MAX_POOL:
            if now == 0:
                size = (op[HEIGHT] * op[WIDTH_IN] + op[OUT_HEIGHT] * op[OUT_WIDTH]) * op[CHANNELS]
                counts[op[STATE] + b * op[STATE_BY] : op[STATE] + b * op[STATE_BY] + size] = 0
            _max_pool(op, b, steps, spikes, counts)
        if not is_driven and (kind == FIRE or kind == CONNECT_FIRE or kind == MAX_POOL):
            latest[b] = _latest_activity(op, b, steps, spikes, latest[b], now)


@kernel
def _begin(
    op, samples, first, codes, who, spikes, rows, dots, numbers, big, v, big_v, counts, charge, items, offsets, flat,
    where, sums, pad, one, indices, values, bias, loose,
):  # fmt: skip
    """CURRENT, once for the whole run of the samples in `who`."""
    one_step, nothing = np.int64(1), np.int64(0)  # typed, else every constant makes a version of its own
    if op[DOTS] < 0:
        for i in range(samples):
            sample = codes[first + who[i] : first + who[i] + 1]
            _wide_current(op, who[i], sample, rows, numbers, one, charge, offsets, indices, values, sums, bias, loose)
        return
    if op[TAIL]:
        for i in range(samples):
            _copy_codes(op, codes, first + who[i], who[i], pad)
    for i in range(1 if op[TAIL] else samples):
        if not op[TAIL]:
            _copy_codes(op, codes, first + who[i], nothing, pad)
        _columns(
            op, one_step, samples, who[i], nothing, one_step, nothing, nothing, nothing, who, spikes, pad, rows, dots,
            numbers, big, v, big_v, counts, charge, items, offsets, flat, where, sums,
        )  # fmt: skip


@kernel
def run_samples(
    start, stop, table, split, block, codes, frames, input_area, input_offset, input_by, constant, driven, minimum,
    limit, settle, chunk, kept, rows, dots, numbers, big, spikes, v, big_v, counts, charge, items, offsets, flat,
    where, sums, pad, indices, values, bias, loose, who, turn, totals, extra_steps, settled,
):  # fmt: skip
    """Run the samples ``start..stop`` to their end; see the module. Results: `totals`, `extra_steps`, `settled`.

    A block of samples goes through the network together: the operations before `split` one by one, the others all at
    once. With `kept` every sample has states of its own, and passes of `chunk` steps follow each other.
    """
    alive = np.ones(block, np.uint8)
    latest = np.zeros(block, np.int64)
    one = np.ones(1, np.uint8)
    solo = np.zeros(1, np.int64)
    operations = table.shape[0]
    alone = np.int64(1)
    for first in range(start, stop, block):
        samples = min(block, stop - first)
        turn[0] = 1 - turn[0]
        for b in range(samples):
            alive[b] = 1
            latest[b] = 0
            who[b] = b
            totals[first + b, :] = 0
        now = np.int64(0)
        while now < limit:
            goal = driven if now < driven else (minimum if now < minimum else limit)
            steps = min(chunk if now < driven else min(chunk, 4), goal - now)
            is_driven = now < driven
            running = np.int64(0)
            for b in range(samples):
                if alive[b]:
                    who[running] = b
                    running += 1
            for i in range(running):
                solo[0] = who[i]
                if not constant:
                    for t in range(steps):
                        at = input_offset + who[i] * input_by
                        _load_frame(frames, now + t, first + who[i], is_driven, input_area, at, t, spikes)
                for n in range(split):
                    op = table[n]
                    if op[KIND] == CURRENT:
                        if now == 0:
                            _begin(
                                op, alone, first, codes, solo, spikes, rows, dots, numbers, big, v, big_v, counts,
                                charge, items, offsets, flat, where, sums, pad, one, indices, values, bias, loose,
                            )  # fmt: skip
                        continue
                    _run(
                        op, alone, now, steps, driven, is_driven, kept, turn[0], solo, spikes, rows, dots, numbers, big,
                        v, big_v,     counts, charge, items, offsets, flat, where, sums, pad, first, totals, latest,
                    )  # fmt: skip
            for n in range(split, operations):
                op = table[n]
                if op[KIND] == CURRENT:
                    if now == 0:
                        _begin(
                            op, running, first, codes, who, spikes, rows, dots, numbers, big, v, big_v, counts,
                            charge, items, offsets, flat, where, sums, pad, one, indices, values, bias, loose,
                        )  # fmt: skip
                    continue
                _run(
                    op, running, now, steps, driven, is_driven, kept, turn[0], who, spikes, rows, dots, numbers, big, v,
                    big_v, counts, charge, items, offsets, flat, where, sums, pad, first, totals, latest,
                )  # fmt: skip
            now += steps
            if settle and now > driven and now >= minimum:
                running = np.int64(0)
                for b in range(samples):
                    if latest[b] < now:
                        alive[b] = 0
                    running += alive[b]
                if running == 0:
                    break
        for b in range(samples):
            extra_steps[first + b] = max(0, latest[b] - driven) if settle else 0
            settled[first + b] = latest[b] < now or limit == driven
