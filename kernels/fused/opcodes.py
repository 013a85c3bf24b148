"""The words of the fused path: what operations there are, what describes one, and what they all work on.

An array that is handed to another function costs two atomic operations: hot loops unpack these tuples where they begin.
"""

from enum import IntEnum, auto
from typing import NamedTuple

import numpy as np


class Kind(IntEnum):
    """What an operation does."""

    CURRENT = 0  # constant input codes to the charge of one step
    FEED = auto()  # input codes to values of every step
    FIRE = auto()  # charge to spikes: behind a constant input, or a join of branches
    CONNECT_FIRE = auto()  # spikes to spikes: connection and neuron
    CONNECT_ADD = auto()  # spikes to charge: a branch of a join
    SCALE_ADD = auto()  # spikes times a factor to charge: an identity branch
    READOUT = auto()  # spikes to outputs, all steps in one sum
    SUM_POOL = auto()
    MAX_POOL = auto()
    # Values lie among charges, int32 of every step; most operations on them read bytes as well (`FROM_VALUES`).
    FIRE_GENERAL = auto()  # values to spikes: leaks, currents, refractory states, overflow
    CONNECT_VALUES = auto()  # any connection: groups, dilation, weights of 32 bits
    CONNECT_WIDE = auto()  # the same to charge of 64 bits, that neurons read
    CONNECT_PLANES = auto()  # spikes to the sums of a connection of each channel with itself
    SCALE_VALUES = auto()  # values times a factor, and a bias
    SUM_VALUES = auto()
    MAX_VALUES = auto()
    DIVIDE = auto()  # values, rounded
    COPY = auto()  # bytes to bytes, or values to values
    READ_VALUES = auto()  # what comes in to outputs by weights, all steps in one sum
    TOTAL = auto()  # what comes in to outputs as it is


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
    FEWEST_SPIKES = auto()  # least net count
    CAP = auto()
    COUNTED = auto()  # 0: neither cap nor negative spikes
    STATE = auto()  # membranes and counts; counts only: of a max-pool
    STATE_BY = auto()
    EXTRA = auto()  # charge: (T or 1, H, W, C)
    EXTRA_BY = auto()
    EXTRA_STEPS = auto()  # FIRE: 1 if the charge is the same in every step of the drive, 2 if there is one per step
    FIRST = auto()  # CONNECT_ADD and SCALE_ADD: 1 if it writes the charge, 0 if it adds
    OUTPUTS = auto()  # READOUT: number of real outputs
    ANSWER = auto()  # where the outputs of this operation begin among all
    INPUT = auto()  # FEED: where its codes begin among those of all inputs
    VALUES = auto()  # charge that is read where another is written
    VALUES_BY = auto()
    FROM_VALUES = auto()  # 1: what is read lies there, 0: among spikes
    FROM_WIDE = auto()  # FIRE_GENERAL: 1: the charge has 64 bits
    GROUPS = auto()  # CONNECT_VALUES: of channels
    DILATION_X = auto()
    INDEX = auto()  # COPY: for each piece of the output where it comes from, -1: zeros, -2: another copy writes it
    GRANULE = auto()  # COPY: elements of a piece
    DIVISOR = auto()
    ROUNDING = auto()
    BY_TIME = auto()  # TOTAL: 1 if the first step of a positive value is asked for, counted from 1
    LEVEL = auto()  # FIRE_GENERAL: of the vector code that does, or 3: none
    PARAMETERS = auto()  # int64: its constants, or the fields of `NeuronParameters`
    LANES = auto()  # its table of channels; of a neuron without vector code int64 (PER_CHANNEL * C,)
    PLANES = auto()  # FIRE_GENERAL: arrays of states among membranes and counts
    WIDE_WEIGHTS = auto()  # CURRENT of wide codes: int8 weights (ky, kx, c, o), unpadded
    IN_CHANNELS = auto()  # real channels
    REAL_OUT = auto()  # real output channels


FIELDS = len(Operation)
(
    KIND, TAIL, SOURCE, SOURCE_BY, TARGET, TARGET_BY, HEIGHT, WIDTH_IN, CHANNELS, OUT_HEIGHT, OUT_WIDTH,
    OUT_CHANNELS, KERNEL_Y, KERNEL_X, STRIDE_Y, STRIDE_X, TOP, LEFT, DILATION_Y, PADDED_HEIGHT, PADDED_WIDTH, FLIP,
    WEIGHTS, ROWS, NEGATED, SAFE, FEW, DOTS, DENSE_ABOVE, INITIAL, RING, RING_SIZE, MULTIPLIER, SCALED, THRESHOLD,
    V_NEGATIVE, V_INITIAL, BIAS, WIDE, FEWEST_SPIKES, CAP, COUNTED, STATE, STATE_BY, EXTRA, EXTRA_BY, EXTRA_STEPS,
    FIRST, OUTPUTS,
    ANSWER, INPUT, VALUES, VALUES_BY, FROM_VALUES, FROM_WIDE, GROUPS, DILATION_X, INDEX, GRANULE, DIVISOR, ROUNDING,
    BY_TIME, LEVEL, PARAMETERS, LANES, PLANES, WIDE_WEIGHTS, IN_CHANNELS, REAL_OUT,
) = (int(x) for x in Operation)  # fmt: skip
(
    CURRENT, FEED, FIRE, CONNECT_FIRE, CONNECT_ADD, SCALE_ADD, READOUT, SUM_POOL, MAX_POOL, FIRE_GENERAL,
    CONNECT_VALUES, CONNECT_WIDE, CONNECT_PLANES, SCALE_VALUES, SUM_VALUES, MAX_VALUES, DIVIDE, COPY, READ_VALUES,
    TOTAL,
) = (int(x) for x in Kind)  # fmt: skip


Whole = int | np.int64  # plain Python or compiled


class Constants(NamedTuple):
    """A network, laid out once."""

    table: np.ndarray  # int64 (operations, columns), see `Operation`
    split: int  # first operation of the tail
    block: int  # samples that go through the network together
    chunk: int  # steps of one pass
    settling: int  # steps of one pass behind the drive at most
    kept: int  # 1: states outlive a pass, every sample has its own
    rows: np.ndarray  # int8: weights as `gather` reads them
    dots: np.ndarray  # int8 or int16: weights of dot products
    numbers: np.ndarray  # int32: what belongs to channels
    big: np.ndarray  # int64: the same, of wide neurons


class Pools(NamedTuple):
    """The part of `Constants` that operations read."""

    rows: np.ndarray
    dots: np.ndarray
    numbers: np.ndarray
    big: np.ndarray


class Inlet(NamedTuple):
    """What goes in: codes, or frames of bytes."""

    codes: np.ndarray  # int32 (samples, 1, H * W * C); of `FEED` also (samples, T, elements of all inputs)
    pixels: int  # of a frame
    slot: int  # where the frames of the first sample of a block go
    slot_by: int  # from sample to sample
    coded: bool  # whether there are codes
    frames: np.ndarray  # int8 (T, samples, C * H * W)


class Length(NamedTuple):
    """How long a run is: `driven` steps, then up to `limit` steps until all is quiet, but at least `least`."""

    driven: int
    least: int
    limit: int
    settle: bool


class Arena(NamedTuple):
    """What the operations of one thread work on; all of it flat."""

    spikes: np.ndarray  # int8
    membranes: np.ndarray  # int32
    wide_membranes: np.ndarray  # int64
    counts: np.ndarray  # int16
    charge: np.ndarray  # int32
    wide_charge: np.ndarray  # int64
    lists: np.ndarray  # uint32: items of input rows, see `gather`
    list_offsets: np.ndarray  # int64
    window: np.ndarray  # uint32: the list of one output pixel
    addresses: np.ndarray  # int64
    sums: np.ndarray  # int32
    padded_spikes: np.ndarray  # int8 or int16: what dot products read
    notes: np.ndarray  # int64: what neurons count, and nobody reads


class Aside(NamedTuple):
    """What a thread holds besides: for codes of more than 8 bits, and of the block that it works on."""

    input_indices: np.ndarray  # int32
    input_values: np.ndarray  # int32
    no_bias: np.ndarray  # int32
    input_charge: np.ndarray  # int32
    samples: np.ndarray  # int64: those of a block that still run
    turn: np.ndarray  # int64 (1,): changes from block to block between 0 and 1


class Answers(NamedTuple):
    """What comes out, of all samples."""

    totals: np.ndarray  # int64 (samples, outputs)
    extra_steps: np.ndarray  # int64 (samples,)
    settled: np.ndarray  # bool (samples,)


class Pass(NamedTuple):
    """The steps that an operation runs at once, for some samples of a block."""

    first: Whole  # number of the first sample of the block
    samples: Whole  # how many of them run together
    now: Whole  # first step
    steps: Whole
    driven: Whole  # steps with input, of the whole run
    kept: Whole  # 1: states outlive the pass
    turn: Whole  # 1: tiles of columns come backwards
    busy_from: Whole  # first step of the pass in which what a connection reads has spikes,
    busy_until: Whole  # and the first one behind the last of them
