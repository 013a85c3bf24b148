"""Connections of the fused path: charge of every output pixel over all steps, and the neurons behind it.

A connection sums either weight rows, listed once per input row from the non-zero bytes, or dense dot products; the
number of spikes decides, image by image. The sums of some pixels over all steps go into a scratch, and from
there through the neurons, whose membranes stay in registers; no current or membrane array is written unless the run
takes more steps than one pass.
"""

from typing import NamedTuple

import numpy as np

from ..toolchain.jit import kernel
from .neurons import DepositPlaces, FirePlaces, deposit, fire, fire_counted, fire_scaled, fire_wide
from .opcodes import (
    BIAS,
    CAP,
    CHANNELS,
    CONNECT_ADD,
    CONNECT_FIRE,
    COUNTED,
    CURRENT,
    DENSE_ABOVE,
    DILATION_Y,
    DOTS,
    EXTRA,
    EXTRA_BY,
    EXTRA_STEPS,
    FEW,
    FEWEST_SPIKES,
    FIRE,
    FIRST,
    FLIP,
    HEIGHT,
    IN_CHANNELS,
    INITIAL,
    KERNEL_X,
    KERNEL_Y,
    KIND,
    LEFT,
    MULTIPLIER,
    NEGATED,
    OUT_CHANNELS,
    OUT_HEIGHT,
    OUT_WIDTH,
    PADDED_HEIGHT,
    PADDED_WIDTH,
    RING,
    RING_SIZE,
    ROWS,
    SAFE,
    SCALED,
    SOURCE,
    SOURCE_BY,
    STATE,
    STATE_BY,
    STRIDE_X,
    STRIDE_Y,
    TAIL,
    TARGET,
    TARGET_BY,
    THRESHOLD,
    TOP,
    V_INITIAL,
    V_NEGATIVE,
    WEIGHTS,
    WIDE,
    WIDTH_IN,
    Pass,
)
from .rows import SPARE, Room, gather
from .tiles import (
    DOT_DEPTH,
    DOT_GROUP,
    DOT_WIDTH,
    UNIT,
    WIDTH,
    DotPlaces,
    collect,
    dots_32,
    dots_64,
    list_bytes,
    weigh,
)

__all__ = ["columns", "connect", "copy_codes", "places_of", "tile_width"]

GROUP_64, GROUP_32 = DOT_GROUP[64], DOT_GROUP[32]
GROUP = max(GROUP_64, GROUP_32)  # rows of a group of dot products are a multiple
TRASH = WIDTH  # where states go that nobody reads: the first elements of membranes, the second ones of counts


@kernel
def tile_width(left):
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
    return tile_width(left)


@kernel(inline="always")
def _clear(sums, begin, count):
    """Zeros to ``sums[begin : begin + count]``; inlined, for no array is handed on in `columns`."""
    for i in range(begin, begin + count):
        sums[i] = 0


@kernel(inline="always")
def _dot_rows(sums, data, where, dots, numbers, first, end):
    """Dot products of the rows ``first.where..end`` of `where`, each to its row of `sums`; inlined like `_clear`."""
    width = first.stride
    for r in range(first.where, end, GROUP_64 if width == DOT_WIDTH else GROUP_32):
        group = DotPlaces(
            r * width, width, r, first.weights, first.runs, first.run_stride, first.run_length, first.initial
        )
        if width == DOT_WIDTH:
            dots_64(sums, data, where, dots, numbers, group)
        else:
            dots_32(sums, data, where, dots, numbers, group)


@kernel
def _together(steps):
    """Pixels of a group of dot products: their rows over all steps fill whole calls."""
    pixels = 1
    while pixels * steps % GROUP != 0:
        pixels += 1
    return pixels


class Places(NamedTuple):
    """Where the arrays of an operation begin, and how far it is to the next pixel, row and step (plane)."""

    height: int
    width_in: int
    out_height: int
    out_width: int
    source: int
    pixel_in: int
    row_in: int
    plane_in: int
    target: int
    pixel_out: int
    row_out: int
    plane_out: int
    state: int
    pixel_state: int
    row_state: int
    extra: int
    pixel_extra: int
    data: int  # what dot products read: the source or its padded copy
    data_pixel: int
    data_row: int
    data_plane: int


@kernel
def places_of(op, b, this):
    """`Places` of sample `b`, or of the samples of a block in the tail, which take the place of pixels.

    Not called in `columns`: one array handed on in there, and Numba counts references to all of them.
    """
    channels, out_channels = op[CHANNELS], op[OUT_CHANNELS]
    if op[TAIL]:
        height, width_in, out_height, out_width = 1, this.samples, 1, this.samples
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
    data, data_pixel, data_row, data_plane = source, pixel_in, row_in, plane_in
    if op[PADDED_HEIGHT]:
        data = 0
        data_pixel, data_row = channels, op[PADDED_WIDTH] * channels
        data_plane = op[PADDED_HEIGHT] * data_row
        if op[TAIL]:
            data_pixel, data_row, data_plane = this.steps * channels, 0, channels
    return Places(
        height, width_in, out_height, out_width, source, pixel_in, row_in, plane_in, target, pixel_out, row_out,
        plane_out, state, pixel_state, row_state, extra, pixel_extra, data, data_pixel, data_row, data_plane,
    )  # fmt: skip


@kernel
def columns(op, dense, at, this, who, data, pools, arena):
    """Charge of every output pixel over all steps, and what becomes of it: the hot loop of the fused path.

    `at` are the `Places` of a sample, or of the samples of a block in the tail. Only intrinsics are called with arrays
    in it: handing an array to another function costs two atomic operations. Every other turn the tiles of columns come
    backwards: weights that are too many for the cache are then met in it where the turn before left off.
    """
    spikes, v, big_v, counts, charge = arena.spikes, arena.membranes, arena.wide_membranes, arena.counts, arena.charge
    items, offsets, flat, where, sums = arena.lists, arena.list_offsets, arena.window, arena.addresses, arena.sums
    rows, dots, numbers, big = pools.rows, pools.dots, pools.numbers, pools.big
    now, steps, driven, kept = this.now, this.steps, this.driven, this.kept
    busy_from, busy_until = this.busy_from, this.busy_until  # sums of the steps before and behind are zero
    kind, channels, out_channels = op[KIND], op[CHANNELS], op[OUT_CHANNELS]
    kernel_y, kernel_x, stride_y, stride_x = op[KERNEL_Y], op[KERNEL_X], op[STRIDE_Y], op[STRIDE_X]
    top, left, dilation, initial = op[TOP], op[LEFT], op[DILATION_Y], op[INITIAL]
    fires, adds = kind == FIRE or kind == CONNECT_FIRE, kind == CONNECT_ADD or kind == CURRENT
    together = _together(busy_until - busy_from) if dense else 1
    # FIRE: the charge is that of a step, of the constant input, or none when that has ended
    charge_step = at.plane_out if op[EXTRA_STEPS] == 2 else 0
    silent = op[EXTRA_STEPS] == 1 and now >= driven
    feed = charge if kind == FIRE and not silent else sums
    wide = op[WIDE] != 0
    bias_at, bias_step = op[BIAS] + min(now, driven) * out_channels, out_channels if now < driven else 0
    multiplier, threshold, v_negative = op[MULTIPLIER], op[THRESHOLD], op[V_NEGATIVE]
    counted, scaled, fewest, cap = op[COUNTED] != 0, op[SCALED] != 0, op[FEWEST_SPIKES], op[CAP]
    fresh = now == 0 or not kept
    before, big_before = numbers if fresh else v, big if fresh else big_v
    ring, ring_size, line_size = op[RING], op[RING_SIZE], steps * (at.width_in + 1)
    zero_row, room = np.uint32(op[ROWS] * UNIT), Room(op[SAFE], op[FEW])
    tiles, column = 0, 0
    while column < out_channels:
        column += _width(dense, out_channels - column)
        tiles += 1
    for tile in range(tiles):
        column = 0
        for _ in range(tiles - 1 - tile if this.turn else tile):
            column += _width(dense, out_channels - column)
        width = _width(dense, out_channels - column)
        weights = op[DOTS] + column * kernel_y * kernel_x * channels if dense else op[WEIGHTS] + column * (op[ROWS] + 1)
        if kind != FIRE:
            _clear(sums, 0, busy_from * together * width)
            _clear(sums, busy_until * together * width, (steps - busy_until) * together * width)
        listed = 0  # input rows that are in the ring
        pixels = at.out_height * at.out_width
        p, out_y, out_x = 0, 0, 0
        while p < pixels:
            here = min(together, pixels - p)
            if silent:
                _clear(sums, 0, width)
            elif kind == FIRE:
                pass
            elif dense:
                y, x = out_y, out_x
                for i in range(here):
                    begin = at.data + y * stride_y * at.data_row
                    begin += (who[x] if op[TAIL] else x * stride_x) * at.data_pixel
                    for t in range(busy_from, busy_until):
                        where[t * here + i] = begin + t * at.data_plane
                    x += 1
                    if x == at.out_width:
                        x, y = 0, y + 1
                row, count = busy_from * here, busy_until * here
                end = row + (count - row + GROUP - 1) // GROUP * GROUP
                for r in range(count, end):
                    where[r] = where[row]
                group = DotPlaces(
                    0, width, row, weights, kernel_y, dilation * at.data_row, kernel_x * channels, initial + column
                )
                _dot_rows(sums, data, where, dots, numbers, group, end)
                if busy_until < steps:
                    _clear(sums, count * width, (steps - busy_until) * here * width)
            else:
                if out_x == 0:  # where the lines of its input rows begin in the ring
                    for ky in range(kernel_y):
                        y = out_y * stride_y - top + ky * dilation
                        where[ky] = -1 if y < 0 or y >= at.height else y % ring * line_size
                last = min(at.height, out_y * stride_y - top + (kernel_y - 1) * dilation + 1)
                while listed < last:
                    slot = listed % ring
                    total, line = slot * ring_size, slot * line_size + busy_from * (at.width_in + 1)
                    for t in range(busy_from, busy_until):
                        begin = at.source + t * at.plane_in + listed * at.row_in
                        for x in range(at.width_in):
                            offsets[line] = total
                            line += 1
                            total = list_bytes(
                                spikes, begin + (who[x] if op[TAIL] else x) * at.pixel_in, channels, x * channels,
                                op[NEGATED], items, total,
                            )  # fmt: skip
                        offsets[line] = total
                        line += 1
                    listed += 1
                from_x = out_x * stride_x - left
                begin_x, end_x = max(0, min(from_x, at.width_in)), max(0, min(from_x + kernel_x, at.width_in))
                for t in range(busy_from, busy_until):
                    total = 0
                    for ky in range(kernel_y):
                        if where[ky] < 0:
                            continue
                        line = where[ky] + t * (at.width_in + 1)
                        total = collect(
                            flat, total, items, offsets[line + begin_x], offsets[line + end_x],
                            (ky * kernel_x - from_x) * channels * UNIT,
                        )  # fmt: skip
                    for i in range(SPARE):
                        flat[total + i] = zero_row
                    gather(width, sums, t * width, rows, weights, flat, total, room)
            feed_step = charge_step if kind == FIRE else here * width
            for i in range(here):
                place = who[out_x] if op[TAIL] else out_x
                if adds:
                    to = at.extra + out_y * at.row_out + place * at.pixel_extra + column
                    for t in range(steps):
                        places = DepositPlaces(
                            (t * here + i) * width, multiplier + column, bias_at + t * bias_step + column,
                            to + t * at.plane_out, width, 1 - op[FIRST],
                        )  # fmt: skip
                        deposit(sums, numbers, charge, places)
                elif fires:
                    state_at = at.state + out_y * at.row_state + place * at.pixel_state + column
                    to = at.target + out_y * at.row_out + place * at.pixel_out + column
                    for o in range(0, width, WIDTH):
                        c = column + o
                        from_at = op[V_INITIAL] + c if fresh else state_at + o
                        count_from = 0 if fresh else state_at + o
                        v_to, count_to = (state_at + o, state_at + o) if kept else (0, TRASH)
                        if kind != FIRE:
                            from_charge = i * width + o
                        elif silent:
                            from_charge = 0
                        else:
                            from_charge = at.extra + out_y * at.row_out + place * at.pixel_extra + c
                        lanes = FirePlaces(
                            from_charge, feed_step, steps, multiplier + c, bias_at + c, bias_step, threshold + c,
                            v_negative + c, fewest, cap, from_at, v_to, count_from, count_to, to + o,
                            at.plane_out,
                        )  # fmt: skip
                        if wide:
                            fire_wide(feed, numbers, big, big_before, big_v, counts, spikes, lanes)
                        elif counted:
                            fire_counted(feed, numbers, numbers, before, v, counts, spikes, lanes)
                        elif scaled:
                            fire_scaled(feed, numbers, numbers, before, v, counts, spikes, lanes)
                        else:
                            fire(feed, numbers, numbers, before, v, counts, spikes, lanes)
                out_x += 1
                if out_x == at.out_width:
                    out_x, out_y = 0, out_y + 1
            p += here


@kernel
def _copy(op, b, this, who, spikes, pad):
    """Copy of the spikes of sample `b` (of the block in the tail) for dot products: borders, and no signs."""
    channels, flip, steps = op[CHANNELS], op[FLIP], this.steps
    plane = op[PADDED_HEIGHT] * op[PADDED_WIDTH] * channels
    if op[TAIL]:
        for i in range(this.samples):
            size = steps * channels
            at = op[SOURCE] + who[i] * op[SOURCE_BY]
            source, target = spikes[at : at + size], pad[who[i] * size : (who[i] + 1) * size]
            for k in range(size):
                target[k] = source[k] ^ flip
        return
    line, row = op[WIDTH_IN] * channels, op[PADDED_WIDTH] * channels
    pad[this.busy_from * plane : this.busy_until * plane] = flip
    at = op[SOURCE] + b * op[SOURCE_BY] + this.busy_from * op[HEIGHT] * line
    for t in range(this.busy_from, this.busy_until):
        for y in range(op[HEIGHT]):
            to = (t * op[PADDED_HEIGHT] + y + op[TOP]) * row + op[LEFT] * channels
            source, target = spikes[at : at + line], pad[to : to + line]
            for k in range(line):
                target[k] = source[k] ^ flip
            at += line


@kernel
def copy_codes(op, codes, b, place, pad):
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
def connect(op, this, who, pools, arena):
    """FIRE, CONNECT_FIRE and CONNECT_ADD of a block of samples; `who` lists those that still run."""
    connects, has_dots = op[KIND] != FIRE, op[DOTS] >= 0
    spikes, pad = arena.spikes, arena.padded_spikes
    size = op[HEIGHT] * op[WIDTH_IN] * op[CHANNELS]  # of a step
    for i in range(1 if op[TAIL] else this.samples):
        b = who[i]
        dense = np.int64(0)
        step = this
        if connects:
            samples = this.samples if op[TAIL] else 1
            begin, end, items = this.steps, 0, 0
            for t in range(this.steps):
                found = 0
                for k in range(i, i + samples):
                    found += weigh(spikes, op[SOURCE] + who[k] * op[SOURCE_BY] + t * size, size)
                if found:
                    begin, end, items = min(begin, t), t + 1, items + found
            begin = min(begin, end)
            dense = np.int64(has_dots and items > op[DENSE_ABOVE] * (end - begin) * samples)
            step = Pass(this.first, this.samples, this.now, this.steps, this.driven, this.kept, this.turn, begin, end)
        if dense and op[PADDED_HEIGHT]:
            _copy(op, b, step, who, spikes, pad)
        at = places_of(op, b, this)
        data = pad if op[PADDED_HEIGHT] else _unpadded(spikes, pad)
        columns(op, dense, at, step, who, data, pools, arena)
