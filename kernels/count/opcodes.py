"""The words of the count path: what operations there are, what describes one, and what they all work on.

Values lie as ``(H, W, C)`` in one of four flat arrays, by how wide they are (`BYTES` … `LONGS`); maps that windows
reach beyond have a border of zeros. Offsets count elements of the array that they name.
"""

from enum import IntEnum, auto
from typing import NamedTuple

import numpy as np

BYTES, SHORTS, WORDS, LONGS = range(4)  # uint8, int16, int32, int64


class CountKind(IntEnum):
    """What an operation does."""

    CONNECT = 0  # windows of small values times weights, and what becomes of the sums (`After`)
    DEPTHWISE = auto()  # the same, every channel by itself
    WIDE = auto()  # the same in 64 bits
    LEVEL = auto()  # charges to levels
    ADD = auto()  # factor * value (+) to charges
    MOST = auto()  # largest value of windows
    TOTAL = auto()  # sum of windows
    COPY = auto()  # runs of values to other places
    CLEAR = auto()  # zeros to the border of a map, or to all of it
    OUTPUT = auto()  # a value to the outputs
    KEEP = auto()  # a value to what is kept of each sample


class After(IntEnum):
    """What becomes of sums."""

    LEVEL = 0  # levels by a product and a shift, in registers
    DIVIDE = auto()  # levels by a division
    CHARGE = auto()  # written to, or added to charges
    JOIN = auto()  # levels of sums and charges together, in registers
    OUTPUT = auto()  # the outputs of the network


class CountOperation(IntEnum):
    """Columns of the table of operations."""

    KIND = 0
    TAIL = auto()  # 1: samples take the place of pixels
    SOURCE = auto()
    SOURCE_CLASS = auto()
    SOURCE_ROW = auto()  # from row to row
    SOURCE_PIXEL = auto()  # from pixel to pixel; in the tail from sample to sample
    SOURCE_BY = auto()  # from sample to sample of a block
    TARGET = auto()
    TARGET_CLASS = auto()
    TARGET_ROW = auto()
    TARGET_PIXEL = auto()
    TARGET_BY = auto()
    HEIGHT = auto()
    WIDTH = auto()
    OUT_HEIGHT = auto()
    OUT_WIDTH = auto()
    CHANNELS = auto()  # of the target
    KERNEL_Y = auto()
    KERNEL_X = auto()
    STRIDE_Y = auto()
    STRIDE_X = auto()
    TOP = auto()
    LEFT = auto()
    RUNS = auto()  # offsets of the runs of a window; of a copy: source, target and length of each
    RUN_COUNT = auto()
    RUN_LENGTH = auto()
    WEIGHTS = auto()
    AFTER = auto()
    SCALES = auto()  # int32 of `Scales`, one after the other
    OFFSETS = auto()  # int64, see `Scales`
    PADDED = auto()  # channels of a row of them
    MULTIPLIER = auto()  # int64 (C,); int32 where charges of 32 bits are made of narrow sums and values
    BIAS = auto()  # the same
    THRESHOLD = auto()  # int64 (C,)
    BOTTOM_LEVEL = auto()  # of a level by division, and the largest
    TOP_LEVEL = auto()
    FIRST = auto()  # 1: charges are written, 0: added to
    FORM = auto()  # of CONNECT: 4 or 2 products of a lane at once
    PIXELS = auto()  # of CONNECT, int32 (3, SPAN): where windows, their results and the charges that join them begin
    SPAN = auto()
    JOINED = auto()  # charges of a join: where they begin, and how far apart
    JOINED_ROW = auto()
    JOINED_PIXEL = auto()
    JOINED_BY = auto()


FIELDS = len(CountOperation)
(
    KIND, TAIL, SOURCE, SOURCE_CLASS, SOURCE_ROW, SOURCE_PIXEL, SOURCE_BY, TARGET, TARGET_CLASS, TARGET_ROW,
    TARGET_PIXEL, TARGET_BY, HEIGHT, WIDTH, OUT_HEIGHT, OUT_WIDTH, CHANNELS, KERNEL_Y, KERNEL_X, STRIDE_Y, STRIDE_X,
    TOP, LEFT, RUNS, RUN_COUNT, RUN_LENGTH, WEIGHTS, AFTER, SCALES, OFFSETS, PADDED, MULTIPLIER, BIAS, THRESHOLD,
    BOTTOM_LEVEL, TOP_LEVEL, FIRST, FORM, PIXELS, SPAN, JOINED, JOINED_ROW, JOINED_PIXEL, JOINED_BY,
) = (int(x) for x in CountOperation)  # fmt: skip
CONNECT, DEPTHWISE, WIDE, LEVEL, ADD, MOST, TOTAL, COPY, CLEAR, OUTPUT, KEEP = (int(x) for x in CountKind)
TO_LEVEL, TO_DIVIDE, TO_CHARGE, TO_JOIN, TO_OUTPUT = (int(x) for x in After)


class CountConstants(NamedTuple):
    """A network, laid out once."""

    table: np.ndarray  # int64 (operations, columns), see `CountOperation`
    split: int  # first operation of the tail
    block: int  # samples that go through the tail together
    weights_8: np.ndarray  # int8
    weights_16: np.ndarray  # int16
    numbers: np.ndarray  # int32
    big: np.ndarray  # int64


class CountInlet(NamedTuple):
    """What goes in: three arrays (samples, elements) by class, of which a network reads what `loads` says."""

    loads: (
        np.ndarray
    )  # int64 (maps, 7): class, column, slot, from row to row, from sample to sample, rows, elements of one
    bytes_: np.ndarray  # uint8
    shorts: np.ndarray  # int16
    longs: np.ndarray  # int64


class CountArena(NamedTuple):
    """What the operations of one thread work on; all of it flat."""

    bytes_: np.ndarray  # uint8
    shorts: np.ndarray  # int16
    words: np.ndarray  # int32
    longs: np.ndarray  # int64
    sums: np.ndarray  # int32
    row: np.ndarray  # int64: one pixel of any class
    wide: np.ndarray  # int64: the window of a wide connection


class CountAnswers(NamedTuple):
    """What comes out, of all samples."""

    totals: np.ndarray  # int64 (samples, outputs)
    kept: np.ndarray  # int32 (samples, elements)
