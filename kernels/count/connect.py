"""Connections of the count path: groups of windows through the dot products, and what becomes of their sums."""

from typing import NamedTuple

import numpy as np

from ..toolchain.jit import kernel
from .opcodes import (
    AFTER,
    BIAS,
    BOTTOM_LEVEL,
    BYTES,
    CHANNELS,
    FIRST,
    FORM,
    JOINED,
    JOINED_BY,
    MULTIPLIER,
    OFFSETS,
    OUT_HEIGHT,
    OUT_WIDTH,
    PADDED,
    PIXELS,
    RUN_COUNT,
    RUN_LENGTH,
    RUNS,
    SCALES,
    SOURCE,
    SOURCE_BY,
    SOURCE_CLASS,
    SOURCE_PIXEL,
    SOURCE_ROW,
    SPAN,
    STRIDE_X,
    STRIDE_Y,
    TAIL,
    TARGET,
    TARGET_BY,
    TARGET_CLASS,
    TARGET_PIXEL,
    TARGET_ROW,
    THRESHOLD,
    TO_CHARGE,
    TO_JOIN,
    TO_LEVEL,
    TO_OUTPUT,
    TOP_LEVEL,
    WEIGHTS,
    WORDS,
)
from .rows import read_row, write_row
from .vectors import (
    DotArrays,
    DotLevelPlaces,
    LevelPlaces,
    TapPlaces,
    depthwise,
    depthwise_levels,
    dots_1_32,
    dots_1_64,
    dots_4_64,
    dots_6_64,
    dots_8_32,
    level_row,
)

__all__ = ["connect_counts", "connect_each", "connect_wide"]


@kernel
def _dots(rows, width, arrays, at):
    """The dot products of that form."""
    if width == 64:
        if rows == 6:
            dots_6_64(arrays, at)
        elif rows == 4:
            dots_4_64(arrays, at)
        else:
            dots_1_64(arrays, at)
    elif rows == 8:
        dots_8_32(arrays, at)
    else:
        dots_1_32(arrays, at)


@kernel
def _rows_of(pixels, width):
    """Rows of a call, such that few are computed twice."""
    if pixels == 1:
        return 1
    if width == 32:
        return 8
    six, four = (pixels + 5) // 6 * 6, (pixels + 3) // 4 * 4
    return 6 if six * 31 <= four * 32 else 4


class Part(NamedTuple):
    """Some sums of one pixel: `size` of them from ``sums[at]`` on, of channel `column` and its neighbours."""

    at: int
    size: int
    column: int
    to: int
    sample: int


@kernel
def connect_counts(op, b, sample, samples, pools, arena, totals):
    """CONNECT of one sample, or of the samples of a block in the tail, which take the place of pixels."""
    sums, bytes_, shorts, words = arena.sums, arena.bytes_, arena.shorts, arena.words
    numbers, big = pools.numbers, pools.big
    if op[FORM] == 4:
        arrays = DotArrays(bytes_, pools.weights_8, numbers, big, words, sums, bytes_)
        _tiles(op, b, sample, samples, arrays, pools, arena, totals)
    else:
        others = DotArrays(shorts, pools.weights_16, numbers, big, words, sums, shorts)
        _tiles(op, b, sample, samples, others, pools, arena, totals)


@kernel
def _tiles(op, b, sample, samples, arrays, pools, arena, totals):
    """Tile after tile of columns, group after group of pixels."""
    pixels = samples if op[TAIL] else op[OUT_HEIGHT] * op[OUT_WIDTH]
    source, target = op[SOURCE] + b * op[SOURCE_BY], op[TARGET] + b * op[TARGET_BY]
    channels, charges, span = op[CHANNELS], op[JOINED] + b * op[JOINED_BY], op[SPAN]
    # levels of another class than the source go by way of the sums: no code is compiled for them
    fires = 1 if op[AFTER] == TO_LEVEL and op[SOURCE_CLASS] == op[TARGET_CLASS] else (2 if op[AFTER] == TO_JOIN else 0)
    column, weights = 0, op[WEIGHTS]
    while column < channels:
        width = 64 if channels - column > 32 else 32
        rows = _rows_of(pixels, width)
        p, skipped = 0, 0
        while p < pixels:
            if p + rows > pixels and pixels >= rows:  # the last group again with some of the group before
                p, skipped = pixels - rows, p + rows - pixels
            at = DotLevelPlaces(
                source, target, charges, op[PIXELS] + p, span, weights, op[RUNS], op[RUN_COUNT], op[RUN_LENGTH], fires,
                op[MULTIPLIER], op[BIAS], op[SCALES], op[OFFSETS], op[PADDED], column, channels,
            )  # fmt: skip
            _dots(rows, width, arrays, at)
            if not fires:
                for r in range(skipped, min(rows, pixels - p)):
                    to = target + arrays.numbers[op[PIXELS] + span + p + r]
                    who = sample + p + r if op[TAIL] else sample
                    part = Part(r * width, min(width, channels - column), column, to, who)
                    if op[AFTER] == TO_CHARGE and op[TARGET_CLASS] == WORDS:  # here: `_after` takes all arrays
                        _charge(op, part, arrays.sums, arrays.numbers, arrays.charges)
                    else:
                        _after(op, part, pools, arena, totals)
            p += rows
        weights += op[RUN_COUNT] * op[RUN_LENGTH] * width
        column += width


@kernel
def _charge(op, part, sums, numbers, charges):
    """Sums of 32 bits to charges of 32 bits: ``charge (+)= multiplier * sum + bias``."""
    multiplier, bias, to = op[MULTIPLIER] + part.column, op[BIAS] + part.column, part.to + part.column
    if op[FIRST]:
        for o in range(part.size):
            charges[to + o] = np.int32(sums[part.at + o] * numbers[multiplier + o] + numbers[bias + o])
    else:
        for o in range(part.size):
            a = np.int32(sums[part.at + o] * numbers[multiplier + o] + numbers[bias + o])
            charges[to + o] = np.int32(charges[to + o] + a)


@kernel
def _after(op, part, pools, arena, totals):
    """What becomes of sums of 32 bits."""
    sums, numbers, row = arena.sums, pools.numbers, arena.row
    if op[AFTER] == TO_LEVEL:
        at, to = LevelPlaces(op[SCALES] + part.column, op[OFFSETS] + part.column, op[PADDED]), part.to + part.column
        if op[TARGET_CLASS] == BYTES:
            level_row(sums, part.at, numbers, pools.big, arena.bytes_, to, part.size, at)
        else:
            level_row(sums, part.at, numbers, pools.big, arena.shorts, to, part.size, at)
        return
    if op[AFTER] == TO_CHARGE and op[TARGET_CLASS] == WORDS:
        _charge(op, part, sums, numbers, arena.words)
        return
    for o in range(part.size):
        row[o] = np.int64(sums[part.at + o])
    _after_wide(op, part, pools, arena, totals)


@kernel
def _after_wide(op, part, pools, arena, totals):
    """The same of sums of 64 bits in `row`."""
    big, row, column, count = pools.big, arena.row, part.column, part.size
    multiplier, bias, threshold = op[MULTIPLIER] + column, op[BIAS] + column, op[THRESHOLD] + column
    for o in range(count):
        row[o] = row[o] * big[multiplier + o] + big[bias + o]
    to = part.to + column
    if op[AFTER] == TO_OUTPUT:
        for o in range(count):
            totals[part.sample, to + o] = row[o]
        return
    if op[AFTER] == TO_CHARGE:
        if not op[FIRST]:
            charges = arena.longs
            for o in range(count):
                row[o] += charges[to + o]
    else:  # TO_DIVIDE
        for o in range(count):
            row[o] = min(max(row[o] // big[threshold + o], op[BOTTOM_LEVEL]), op[TOP_LEVEL])
    write_row(op[TARGET_CLASS], arena, to, count)


@kernel
def connect_each(op, b, sample, pools, arena, totals):
    """DEPTHWISE of one sample."""
    sums, channels = arena.sums, op[CHANNELS]
    source, target = op[SOURCE] + b * op[SOURCE_BY], op[TARGET] + b * op[TARGET_BY]
    if op[AFTER] == TO_LEVEL and op[SOURCE_CLASS] == op[TARGET_CLASS]:
        for y in range(op[OUT_HEIGHT]):
            taps = TapPlaces(
                source + y * op[STRIDE_Y] * op[SOURCE_ROW], op[RUNS], op[RUN_COUNT], op[WEIGHTS], op[PADDED], channels,
                op[OUT_WIDTH], op[STRIDE_X] * op[SOURCE_PIXEL], target + y * op[TARGET_ROW], op[TARGET_PIXEL],
                op[SCALES], op[OFFSETS],
            )  # fmt: skip
            if op[SOURCE_CLASS] == BYTES:
                depthwise_levels(arena.bytes_, pools.big, pools.weights_16, pools.numbers, arena.bytes_, taps)
            else:
                depthwise_levels(arena.shorts, pools.big, pools.weights_16, pools.numbers, arena.shorts, taps)
        return
    for y in range(op[OUT_HEIGHT]):
        for x in range(op[OUT_WIDTH]):
            begin = source + y * op[STRIDE_Y] * op[SOURCE_ROW] + x * op[STRIDE_X] * op[SOURCE_PIXEL]
            to = target + y * op[TARGET_ROW] + x * op[TARGET_PIXEL]
            taps = TapPlaces(begin, op[RUNS], op[RUN_COUNT], op[WEIGHTS], op[PADDED], channels, 1, 0, 0, 0, 0, 0)
            if op[SOURCE_CLASS] == BYTES:
                depthwise(arena.bytes_, pools.big, pools.weights_16, sums, taps)
            else:
                depthwise(arena.shorts, pools.big, pools.weights_16, sums, taps)
            if op[AFTER] == TO_OUTPUT:
                to = op[TARGET] + (y * op[OUT_WIDTH] + x) * op[TARGET_PIXEL]
            _after(op, Part(0, channels, 0, to, sample), pools, arena, totals)


@kernel
def connect_wide(op, b, sample, samples, pools, arena, totals):
    """WIDE of one sample, or of the samples of a block in the tail: any class, weights of 64 bits ``(runs, k, C)``."""
    big, row, window = pools.big, arena.row, arena.wide
    out_height, out_width = (1, samples) if op[TAIL] else (op[OUT_HEIGHT], op[OUT_WIDTH])
    source, target = op[SOURCE] + b * op[SOURCE_BY], op[TARGET] + b * op[TARGET_BY]
    length, channels = op[RUN_LENGTH], op[CHANNELS]
    for y in range(out_height):
        for x in range(out_width):
            begin = source + y * op[STRIDE_Y] * op[SOURCE_ROW] + x * op[STRIDE_X] * op[SOURCE_PIXEL]
            to = target + y * op[TARGET_ROW] + x * op[TARGET_PIXEL]
            if op[AFTER] == TO_OUTPUT:
                to = op[TARGET] + (y * out_width + x) * op[TARGET_PIXEL]
            window[:channels] = 0
            for run in range(op[RUN_COUNT]):
                read_row(op[SOURCE_CLASS], arena, begin + big[op[RUNS] + run], length)
                for k in range(length):
                    value = row[k]
                    if value != 0:
                        at = op[WEIGHTS] + (run * length + k) * channels
                        for o in range(channels):
                            window[o] += value * big[at + o]
            for o in range(channels):  # no slices: the message of a wrong size is made with floats
                row[o] = window[o]
            who = sample + x if op[TAIL] else sample
            if op[AFTER] == TO_CHARGE and op[TARGET_CLASS] == WORDS:
                _add_words(op, channels, to, pools, arena)
            else:
                _after_wide(op, Part(0, channels, 0, to, who), pools, arena, totals)


@kernel
def _add_words(op, count, to, pools, arena):
    """Charges of 32 bits: that of all branches fits."""
    big, row, charges = pools.big, arena.row, arena.words
    for o in range(count):
        a = np.int32(row[o] * big[op[MULTIPLIER] + o] + big[op[BIAS] + o])
        charges[to + o] = a if op[FIRST] else np.int32(charges[to + o] + a)
