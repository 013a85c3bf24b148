"""The fused path: an image through the whole network, all steps of a layer at once, small buffers.

A network is a table of operations over flat buffers (`Operation` names the columns); `run_samples` interprets it
without leaving compiled code. Spikes lie as bytes ``(T, H, W, C)`` with C padded to a multiple of `WIDTH`. Values are
those of the plain kernels: the tests compare every output.

`run_samples` knows the operations on spikes alone; what has others, `run_all_samples` of ``complete.py`` runs.

The table has a head, which runs image by image, and a tail of dense layers, which run for a block of samples together
so that a slice of weights serves them all: there the samples of the block take the place of the pixels of a row. What
lies in a slot of the tail has an address for each sample (`..._BY`), what lies in the head one for all.
"""

from typing import Any

import numpy as np

from ..layers.compiled import convolve
from ..parameters import Window
from ..toolchain.jit import kernel, variant
from .connect import columns, connect, copy_codes, places_of, tile_width
from .opcodes import (
    ANSWER,
    BIAS,
    CHANNELS,
    CONNECT_ADD,
    CONNECT_FIRE,
    DILATION_Y,
    DOTS,
    EXTRA,
    EXTRA_BY,
    FEED,
    FEW,
    FIRE,
    FIRST,
    HEIGHT,
    IN_CHANNELS,
    KERNEL_X,
    KERNEL_Y,
    KIND,
    LEFT,
    MAX_POOL,
    MULTIPLIER,
    NEGATED,
    OUT_CHANNELS,
    OUT_HEIGHT,
    OUT_WIDTH,
    OUTPUTS,
    READOUT,
    REAL_OUT,
    ROWS,
    SAFE,
    SCALE_ADD,
    SOURCE,
    SOURCE_BY,
    STATE,
    STATE_BY,
    STRIDE_X,
    STRIDE_Y,
    SUM_POOL,
    TAIL,
    TARGET,
    TARGET_BY,
    TOP,
    WEIGHTS,
    WIDE_WEIGHTS,
    WIDTH_IN,
    Answers,
    Arena,
    Aside,
    Constants,
    Inlet,
    Length,
    Pass,
    Pools,
)
from .rows import SPARE, Room, gather
from .tiles import UNIT, WIDTH, Pixels, count_nonzero, list_bytes, window_max, window_sum

__all__ = ["begin_current", "interpreter", "latest_activity", "run_samples", "run_spikes"]


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
def _readout(op, this, who, pools, arena, totals):
    """READOUT: linear, so what the steps add need not be told apart."""
    spikes, flat, sums = arena.spikes, arena.window, arena.sums
    rows, numbers = pools.rows, pools.numbers
    channels, room = op[OUT_CHANNELS], Room(op[SAFE], op[FEW])
    for i in range(this.samples):
        b, sample = who[i], this.first + who[i]
        column = 0
        while column < channels:
            width = tile_width(channels - column)
            first = op[WEIGHTS] + column * (op[ROWS] + 1)
            real = min(width, op[OUTPUTS] - column)
            for t in range(this.steps):
                at = op[SOURCE] + b * op[SOURCE_BY] + t * op[CHANNELS]
                count = list_bytes(spikes, at, op[CHANNELS], 0, op[NEGATED], flat, 0)
                for k in range(SPARE):
                    flat[count + k] = np.uint32(op[ROWS] * UNIT)
                gather(width, sums, 0, rows, first, flat, count, room)
                bias = op[BIAS] + min(this.now + t, this.driven) * channels
                for o in range(real):
                    c = column + o
                    a = np.int64(sums[o]) * np.int64(numbers[op[MULTIPLIER] + c]) + np.int64(numbers[bias + c])
                    totals[sample, op[ANSWER] + c] += a
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
                window_sum(spikes, to, Pixels(source + y * row + x * channels, ny, nx, row, channels, channels))


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
                seen = Pixels(net_at + y * row + x * channels, ny, nx, row, channels, channels)
                window_max(counts, net_at + size + to, spikes, target + to, seen)


@kernel
def _wide_current(op, b, codes, pools, arena, aside):
    """CURRENT of codes that need more than 8 bits."""
    numbers, charge = pools.numbers, arena.charge
    window = Window(
        op[HEIGHT], op[WIDTH_IN], op[IN_CHANNELS], op[OUT_HEIGHT], op[OUT_WIDTH], op[REAL_OUT], op[KERNEL_Y],
        op[KERNEL_X], op[STRIDE_Y], op[STRIDE_X], op[TOP], op[LEFT], op[DILATION_Y], 1, 1,
    )  # fmt: skip
    size = op[KERNEL_Y] * op[KERNEL_X] * op[IN_CHANNELS] * op[REAL_OUT]
    # axes by None, not by reshape: that one compares sizes as floats; `convolve` reads the weights as one row
    weight = pools.rows[None, None, None, op[WIDE_WEIGHTS] : op[WIDE_WEIGHTS] + size]
    pixels = op[OUT_HEIGHT] * op[OUT_WIDTH]
    out = aside.input_charge[None, None, : pixels * op[REAL_OUT]]
    multiplier = numbers[op[MULTIPLIER] : op[MULTIPLIER] + op[REAL_OUT]]
    alive = np.ones(1, np.uint8)
    convolve(
        codes, weight, window, multiplier, aside.no_bias[None, : op[REAL_OUT]], alive, arena.list_offsets,
        aside.input_indices, aside.input_values, arena.sums[: op[REAL_OUT]], out,
    )  # fmt: skip
    at = op[EXTRA] + b * op[EXTRA_BY]
    for p in range(pixels):
        for c in range(op[OUT_CHANNELS]):
            charge[at] = out[0, 0, p * op[REAL_OUT] + c] if c < op[REAL_OUT] else 0
            at += 1


@kernel
def latest_activity(op, b, steps, spikes, latest, now):
    """Last step (counted from 1) in which the operation fired, or `latest`."""
    size = op[OUT_HEIGHT] * op[OUT_WIDTH] * op[OUT_CHANNELS]
    for t in range(steps - 1, -1, -1):
        if now + t + 1 <= latest:
            break
        if count_nonzero(spikes, op[TARGET] + b * op[TARGET_BY] + t * size, size) != 0:
            return now + t + 1
    return latest


@kernel
def _load_frame(feed, step, sample, is_driven, base, spikes):
    """One frame ``(C, H * W)`` of the input as padded bytes ``(H * W, C)``, from `base` on; silence after the drive."""
    frames, area = feed.frames, feed.pixels
    size = frames.shape[2]
    channels = size // area
    padded = (channels + WIDTH - 1) // WIDTH * WIDTH
    if not is_driven or channels < padded:  # what lies in the padding would be listed, and keep a silent step busy
        spikes[base : base + area * padded] = 0
    if not is_driven:
        return
    if area == 1:
        target = spikes[base : base + size]
        source = frames[step, sample]
        for i in range(size):  # no slices: the message of a wrong size is made with floats
            target[i] = source[i]
    else:
        for c in range(channels):
            for p in range(area):
                spikes[base + p * padded + c] = frames[step, sample, c * area + p]


@kernel
def _load_frames(this, b, feed, spikes):
    """The frames of sample `b` of the block for the steps of a pass."""
    size = feed.frames.shape[2] // feed.pixels
    frame = feed.pixels * ((size + WIDTH - 1) // WIDTH * WIDTH)
    for t in range(this.steps):
        base = feed.slot + b * feed.slot_by + t * frame
        _load_frame(feed, this.now + t, this.first + b, this.now < this.driven, base, spikes)


@kernel
def begin_current(op, this, who, codes, pools, arena, aside):
    """CURRENT, once for the whole run of the samples in `who`."""
    if op[DOTS] < 0:
        for i in range(this.samples):
            _wide_current(op, who[i], codes[this.first + who[i] : this.first + who[i] + 1], pools, arena, aside)
        return
    pad, first = arena.padded_spikes, this.first
    once, nothing = np.int64(1), np.int64(0)  # typed, else every constant makes a version of its own
    step = Pass(first, this.samples, nothing, once, nothing, nothing, nothing, nothing, once)
    if op[TAIL]:
        for i in range(this.samples):
            copy_codes(op, codes, first + who[i], who[i], pad)
    for i in range(1 if op[TAIL] else this.samples):
        if not op[TAIL]:
            copy_codes(op, codes, first + who[i], nothing, pad)
        columns(op, once, places_of(op, who[i], step), step, who, pad, pools, arena)


@kernel
def run_spikes(op, this, who, pools, arena, totals, latest):
    """One operation for the samples of `who`; `latest` keeps the last steps in which they fired."""
    kind, now, steps = op[KIND], this.now, this.steps
    spikes, counts = arena.spikes, arena.counts
    if kind == READOUT:
        _readout(op, this, who, pools, arena, totals)
    elif kind == FIRE or kind == CONNECT_FIRE or kind == CONNECT_ADD:
        connect(op, this, who, pools, arena)
    for i in range(this.samples):
        b = who[i]
        if kind == SCALE_ADD:
            _scale_add(op, b, steps, spikes, pools.numbers, arena.charge)
        elif kind == SUM_POOL:
            _sum_pool(op, b, steps, spikes)
        elif kind == MAX_POOL:
            if now == 0:
                size = (op[HEIGHT] * op[WIDTH_IN] + op[OUT_HEIGHT] * op[OUT_WIDTH]) * op[CHANNELS]
                counts[op[STATE] + b * op[STATE_BY] : op[STATE] + b * op[STATE_BY] + size] = 0
            _max_pool(op, b, steps, spikes, counts)
        if now >= this.driven and (kind == FIRE or kind == CONNECT_FIRE or kind == MAX_POOL):
            latest[b] = latest_activity(op, b, steps, spikes, latest[b], now)


@kernel
def _living(alive, samples, who):
    """List the samples of a block that still run in `who`; how many there are."""
    running = np.int64(0)
    for b in range(samples):
        if alive[b]:
            who[running] = b
            running += 1
    return running


_begin: Any = None  # each copy of `_run_samples` has its own
_run: Any = None


def _run_samples(start, stop, constants, feed, length, arena, aside, results):
    """Run the samples ``start..stop`` to their end.

    A block of samples goes through the network together: the operations before the tail one by one, the others all at
    once. Where states are kept, every sample has its own, and passes of `chunk` steps follow each other.

    Parameters
    ----------
    constants, feed, length, arena, aside, results
        Plain tuples of what `Constants`, `Inlet`, `Length`, `Arena`, `Aside` and `Answers` hold: of a named one Numba
        reads the names in every call, half a microsecond each. The last three are written.
    """
    constants, feed, length = Constants(*constants), Inlet(*feed), Length(*length)
    arena, aside, results = Arena(*arena), Aside(*aside), Answers(*results)
    # what an operation has no use for is left out: references to all arrays of a tuple are counted in every call
    pools = Pools(constants.rows, constants.dots, constants.numbers, constants.big)
    driven, limit, block, kept = length.driven, length.limit, constants.block, constants.kept
    table, totals = constants.table, results.totals
    room, one = np.zeros(2 * block + 1, np.int64), np.int64(1)
    who, alive, latest, solo = aside.samples, room[:block], room[block : 2 * block], room[2 * block :]
    for first in range(start, stop, block):
        samples = min(block, stop - first)
        turn = aside.turn[0] = 1 - aside.turn[0]
        alive[:samples], latest[:samples] = 1, 0
        for b in range(samples):
            totals[first + b, :] = 0
        now, running = np.int64(0), samples
        while now < limit and running > 0:
            goal = driven if now < driven else (length.least if now < length.least else limit)
            steps = min(constants.chunk if now < driven else constants.settling, goal - now)
            running = _living(alive, samples, who)
            for i in range(running):
                solo[0] = who[i]
                this = Pass(first, one, now, steps, driven, kept, turn, np.int64(0), steps)
                if not feed.coded:
                    _load_frames(this, who[i], feed, arena.spikes)
                for n in range(constants.split):
                    op = table[n]
                    if op[KIND] > FEED:
                        _run(op, this, solo, pools, arena, totals, latest)
                    elif now == 0 or op[KIND] == FEED:
                        _begin(op, this, solo, feed.codes, pools, arena, aside)
            this = Pass(first, running, now, steps, driven, kept, turn, np.int64(0), steps)
            for n in range(constants.split, table.shape[0]):
                op = table[n]
                if op[KIND] > FEED:
                    _run(op, this, who, pools, arena, totals, latest)
                elif now == 0 or op[KIND] == FEED:
                    _begin(op, this, who, feed.codes, pools, arena, aside)
            now += steps
            if length.settle and now > driven and now >= length.least:
                running = np.int64(0)
                for b in range(samples):
                    if latest[b] < now:
                        alive[b] = 0
                    running += alive[b]
        for b in range(samples):
            results.extra_steps[first + b] = max(0, latest[b] - driven) if length.settle else 0
            results.settled[first + b] = latest[b] < now or limit == driven


def interpreter(name, begin, run):
    """`_run_samples` as the kernel `name`, with its operations."""
    return variant(_run_samples, name, _begin=begin, _run=run)


run_samples = interpreter("run_samples", begin_current, run_spikes)
