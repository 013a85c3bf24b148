"""The count path: totals of an image through the whole network in one pass, small buffers.

A network is a table of operations over flat arrays (`CountOperation` names the columns); `run_totals` interprets it
without leaving compiled code. The table has a head, which runs image by image, and a tail of dense layers, which run
for a block of samples together so that a slice of weights serves them all: there the samples of the block take the
place of the pixels of a row.
"""

import numpy as np

from ..toolchain.jit import kernel, variant
from .connect import connect_counts, connect_each, connect_wide
from .opcodes import (
    ADD,
    AFTER,
    BIAS,
    BOTTOM_LEVEL,
    BYTES,
    CHANNELS,
    CLEAR,
    CONNECT,
    COPY,
    DEPTHWISE,
    FIRST,
    HEIGHT,
    KEEP,
    KERNEL_X,
    KERNEL_Y,
    KIND,
    LEFT,
    LEVEL,
    LONGS,
    MOST,
    MULTIPLIER,
    OFFSETS,
    OUT_HEIGHT,
    OUT_WIDTH,
    OUTPUT,
    PADDED,
    RUN_COUNT,
    RUNS,
    SCALES,
    SHORTS,
    SOURCE,
    SOURCE_BY,
    SOURCE_CLASS,
    SOURCE_PIXEL,
    SOURCE_ROW,
    STRIDE_X,
    STRIDE_Y,
    TAIL,
    TARGET,
    TARGET_BY,
    TARGET_CLASS,
    TARGET_PIXEL,
    TARGET_ROW,
    THRESHOLD,
    TO_LEVEL,
    TOP,
    TOP_LEVEL,
    TOTAL,
    WIDE,
    WIDTH,
    WORDS,
    CountAnswers,
    CountArena,
    CountConstants,
    CountInlet,
)
from .rows import read_row, write_row
from .vectors import LevelPlaces, ScalePlaces, level_row, scale_row
from .windows import WindowPlaces, window_most, window_total

__all__ = ["is_plain_count", "run_plain_totals", "run_totals"]


def is_plain_count(operation) -> bool:
    """Whether `run_plain_totals` knows a row of the table."""
    kind, small = operation[KIND], operation[TARGET_CLASS] in (BYTES, SHORTS)
    alike = small and operation[SOURCE_CLASS] == operation[TARGET_CLASS]
    return kind in (CONNECT, OUTPUT, KEEP) or (kind in (MOST, TOTAL) and alike) or (kind == CLEAR and small)


@kernel
def _level(op, source, target, pools, arena):
    """LEVEL of one pixel: ``clip(floor((V0 + charge) / theta), bottom, L)``."""
    channels = op[CHANNELS]
    if op[AFTER] == TO_LEVEL:
        at = LevelPlaces(op[SCALES], op[OFFSETS], op[PADDED])
        if op[TARGET_CLASS] == BYTES:
            level_row(arena.words, source, pools.numbers, pools.big, arena.bytes_, target, channels, at)
        else:
            level_row(arena.words, source, pools.numbers, pools.big, arena.shorts, target, channels, at)
        return
    big, row = pools.big, arena.row
    read_row(op[SOURCE_CLASS], arena, source, channels)
    for c in range(channels):
        row[c] = min(max((row[c] + big[op[BIAS] + c]) // big[op[THRESHOLD] + c], op[BOTTOM_LEVEL]), op[TOP_LEVEL])
    write_row(op[TARGET_CLASS], arena, target, channels)


@kernel
def _add(op, source, target, pools, arena):
    """ADD of one pixel: ``charge (+)= factor * x``."""
    channels, big, row = op[CHANNELS], pools.big, arena.row
    read_row(op[SOURCE_CLASS], arena, source, channels)
    for c in range(channels):
        row[c] *= big[op[MULTIPLIER] + c]
    if op[TARGET_CLASS] == WORDS:
        words = arena.words
        for c in range(channels):
            a = np.int32(row[c])
            words[target + c] = a if op[FIRST] else np.int32(words[target + c] + a)
        return
    if not op[FIRST]:
        longs = arena.longs
        for c in range(channels):
            row[c] += longs[target + c]
    write_row(op[TARGET_CLASS], arena, target, channels)


@kernel
def _add_small(op, b, samples, values, numbers, charges):
    """ADD of small values to charges of 32 bits, all pixels."""
    factor, channels, keep = op[MULTIPLIER], op[CHANNELS], 1 - op[FIRST]
    out_height, out_width = (1, samples) if op[TAIL] else (op[OUT_HEIGHT], op[OUT_WIDTH])
    for y in range(out_height):
        source = op[SOURCE] + b * op[SOURCE_BY] + y * op[SOURCE_ROW]
        target = op[TARGET] + b * op[TARGET_BY] + y * op[TARGET_ROW]
        for _ in range(out_width):
            scale_row(values, numbers, charges, ScalePlaces(source, factor, target, channels, keep))
            source += op[SOURCE_PIXEL]
            target += op[TARGET_PIXEL]


@kernel
def _each(op, b, sample, samples, pools, arena):
    """LEVEL and ADD, pixel by pixel."""
    out_height, out_width = (1, samples) if op[TAIL] else (op[OUT_HEIGHT], op[OUT_WIDTH])
    for y in range(out_height):
        source = op[SOURCE] + b * op[SOURCE_BY] + y * op[SOURCE_ROW]
        target = op[TARGET] + b * op[TARGET_BY] + y * op[TARGET_ROW]
        for _ in range(out_width):
            if op[KIND] == LEVEL:
                _level(op, source, target, pools, arena)
            else:
                _add(op, source, target, pools, arena)
            source += op[SOURCE_PIXEL]
            target += op[TARGET_PIXEL]


@kernel
def _window_at(op, b, out_y, out_x):
    """A window of MOST and TOTAL: it ends where the map does, and may be empty."""
    y, x = out_y * op[STRIDE_Y] - op[TOP], out_x * op[STRIDE_X] - op[LEFT]
    y_end, x_end = min(y + op[KERNEL_Y], op[HEIGHT]), min(x + op[KERNEL_X], op[WIDTH])
    y, x = max(y, 0), max(x, 0)
    begin = op[SOURCE] + b * op[SOURCE_BY] + y * op[SOURCE_ROW] + x * op[SOURCE_PIXEL]
    to = op[TARGET] + b * op[TARGET_BY] + out_y * op[TARGET_ROW] + out_x * op[TARGET_PIXEL]
    return WindowPlaces(
        begin, max(y_end - y, 0), max(x_end - x, 0), op[SOURCE_ROW], op[SOURCE_PIXEL], op[CHANNELS], to
    )  # fmt: skip


@kernel
def _reduce_small(op, b, data, out):
    """MOST and TOTAL of values of one class."""
    for out_y in range(op[OUT_HEIGHT]):
        for out_x in range(op[OUT_WIDTH]):
            window = _window_at(op, b, out_y, out_x)
            if window.ny == 0 or window.nx == 0:
                out[window.to : window.to + window.channels] = 0
            elif op[KIND] == MOST:
                window_most(data, out, window)
            else:
                window_total(data, out, window)


@kernel
def _reduce(op, b, arena):
    """MOST and TOTAL of values of any class."""
    row, channels = arena.row, op[CHANNELS]
    for out_y in range(op[OUT_HEIGHT]):
        for out_x in range(op[OUT_WIDTH]):
            window = _window_at(op, b, out_y, out_x)
            if window.ny == 0 or window.nx == 0:
                row[:channels] = 0
                write_row(op[TARGET_CLASS], arena, window.to, channels)
            elif op[SOURCE_CLASS] == BYTES and op[TARGET_CLASS] == SHORTS and op[KIND] == TOTAL:
                window_total(arena.bytes_, arena.shorts, window)
            else:
                _window_of_any(op, window, arena)


@kernel
def _window_of_any(op, window, arena):
    """A window of any class, in 64 bits."""
    row, best = arena.row, arena.wide
    channels = window.channels
    for y in range(window.ny):
        for x in range(window.nx):
            read_row(op[SOURCE_CLASS], arena, window.at + y * window.row + x * window.pixel, channels)
            for c in range(channels):
                if y == 0 and x == 0:
                    best[c] = row[c]
                elif op[KIND] == MOST:
                    best[c] = max(best[c], row[c])
                else:
                    best[c] += row[c]
    for c in range(channels):  # no slices: the message of a wrong size is made with floats
        row[c] = best[c]
    write_row(op[TARGET_CLASS], arena, window.to, channels)


@kernel
def _copy(op, b, samples, pools, arena):
    """COPY: runs of values (source, target, length); a source below 0 is zeros."""
    big, row = pools.big, arena.row
    for i in range(samples if op[TAIL] else 1):
        source = op[SOURCE] + b * op[SOURCE_BY] + i * op[SOURCE_PIXEL]
        target = op[TARGET] + b * op[TARGET_BY] + i * op[TARGET_PIXEL]
        for run in range(op[RUN_COUNT]):
            at = op[RUNS] + 3 * run
            length = big[at + 2]
            if big[at] >= 0:
                read_row(op[SOURCE_CLASS], arena, source + big[at], length)
            else:
                row[:length] = 0
            write_row(op[TARGET_CLASS], arena, target + big[at + 1], length)


@kernel
def _clear(op, b, arena):
    """CLEAR: zeros to the border of a map of one sample, of charges."""
    if op[TARGET_CLASS] == WORDS:
        _clear_border(op, b, arena.words)
    elif op[TARGET_CLASS] == LONGS:
        _clear_border(op, b, arena.longs)


@kernel
def _clear_border(op, b, values):
    """`TOP` rows above, `KERNEL_Y` below, `LEFT` elements before and `KERNEL_X` behind every row in between."""
    row, left, right = op[TARGET_ROW], op[LEFT], op[KERNEL_X]
    begin = op[TARGET] + b * op[TARGET_BY]
    first = begin + op[TOP] * row
    end = first + op[HEIGHT] * row
    values[begin:first] = 0
    values[end : end + op[KERNEL_Y] * row] = 0
    if left == 0 and right == 0:
        return
    for start in range(first, end, row):
        values[start : start + left] = 0
        values[start + row - right : start + row] = 0


@kernel
def _out(op, b, sample, samples, arena, answers):
    """OUTPUT and KEEP: all values of a map, without its border."""
    row, channels = arena.row, op[CHANNELS]
    for i in range(samples if op[TAIL] else 1):
        at = op[TARGET]
        for y in range(op[OUT_HEIGHT]):
            source = op[SOURCE] + (b + i) * op[SOURCE_BY] + y * op[SOURCE_ROW]
            for _ in range(op[OUT_WIDTH]):
                read_row(op[SOURCE_CLASS], arena, source, channels)
                for c in range(channels):
                    if op[KIND] == OUTPUT:
                        answers.totals[sample + i, at + c] = row[c]
                    else:
                        answers.kept[sample + i, at + c] = row[c]
                at += channels
                source += op[SOURCE_PIXEL]


@kernel
def _load(feed, b, sample, arena):
    """The input of one sample to its places."""
    loads = feed.loads
    for n in range(loads.shape[0]):
        load = loads[n]
        kind, column, size = load[0], load[1], load[6]
        for y in range(load[5]):
            target = load[2] + b * load[4] + y * load[3]
            if kind == BYTES:
                _move(feed.bytes_, sample, column, size, arena.bytes_, target)
            elif kind == SHORTS:
                _move(feed.shorts, sample, column, size, arena.shorts, target)
            else:
                _move(feed.longs, sample, column, size, arena.longs, target)
            column += size


@kernel
def _move(values, sample, column, count, out, to):
    for i in range(count):
        out[to + i] = values[sample, column + i]


@kernel
def _run_plain(op, b, sample, samples, pools, arena, answers):
    """One operation of those that most networks consist of; whether it is one."""
    kind, small = op[KIND], op[TARGET_CLASS]
    alike = op[SOURCE_CLASS] == small
    if kind == CONNECT:
        connect_counts(op, b, sample, samples, pools, arena, answers.totals)
    elif (kind == MOST or kind == TOTAL) and alike and small == BYTES:
        _reduce_small(op, b, arena.bytes_, arena.bytes_)
    elif (kind == MOST or kind == TOTAL) and alike and small == SHORTS:
        _reduce_small(op, b, arena.shorts, arena.shorts)
    elif kind == CLEAR and small == BYTES:
        _clear_border(op, b, arena.bytes_)
    elif kind == CLEAR and small == SHORTS:
        _clear_border(op, b, arena.shorts)
    elif kind == OUTPUT or kind == KEEP:
        _out(op, b, sample, samples, arena, answers)
    else:
        return False
    return True


@kernel
def _run(op, b, sample, samples, pools, arena, answers):
    """One operation for sample `b` of a block, or for `samples` of them in the tail."""
    if _run_plain(op, b, sample, samples, pools, arena, answers):
        return
    kind = op[KIND]
    if kind == DEPTHWISE:
        connect_each(op, b, sample, pools, arena, answers.totals)
    elif kind == WIDE:
        connect_wide(op, b, sample, samples, pools, arena, answers.totals)
    elif kind == ADD and op[TARGET_CLASS] == WORDS and op[SOURCE_CLASS] == BYTES:
        _add_small(op, b, samples, arena.bytes_, pools.numbers, arena.words)
    elif kind == ADD and op[TARGET_CLASS] == WORDS and op[SOURCE_CLASS] == SHORTS:
        _add_small(op, b, samples, arena.shorts, pools.numbers, arena.words)
    elif kind == LEVEL or kind == ADD:
        _each(op, b, sample, samples, pools, arena)
    elif kind == MOST or kind == TOTAL:
        _reduce(op, b, arena)
    elif kind == COPY:
        _copy(op, b, samples, pools, arena)
    elif kind == CLEAR:
        _clear(op, b, arena)


def _run_totals(start, stop, constants, feed, arena, answers):
    """Run the samples ``start..stop``: those of a block through the head one by one, then all through the tail.

    Parameters
    ----------
    constants, feed, arena, answers
        Plain tuples of what `CountConstants`, `CountInlet`, `CountArena` and `CountAnswers` hold: of a named one Numba
        reads the names in every call, half a microsecond each. The last two are written.
    """
    constants, feed, arena = CountConstants(*constants), CountInlet(*feed), CountArena(*arena)
    answers, table, nothing, one = CountAnswers(*answers), constants.table, np.int64(0), np.int64(1)
    for first in range(start, stop, constants.block):
        samples = min(constants.block, stop - first)
        for b in range(samples):
            _load(feed, b, first + b, arena)
            for n in range(constants.split):
                _run(table[n], b, first + b, one, constants, arena, answers)
        for n in range(constants.split, table.shape[0]):
            _run(table[n], nothing, first, samples, constants, arena, answers)


run_totals = variant(_run_totals, "run_totals")
# of networks whose operations are all plain: the others are never compiled for them
run_plain_totals = variant(_run_totals, "run_plain_totals", _run=_run_plain)
