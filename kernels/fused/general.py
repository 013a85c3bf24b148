"""Neurons with leaks, currents, refractory states and overflow on the fused path: those of `intsnn.kernels.neurons`.

Where the vector code of ``neurons/printed.py`` does, all steps of a sample are one stretch; else the general neuron
runs step by step.
"""

import numpy as np

from ..neurons.compiled import advance
from ..neurons.vector import CONSTANTS, TABLE_ROWS, Settings, Stretch, lanes_of
from ..parameters import COUNTERS, PER_CHANNEL, NeuronParameters, NeuronState, Records
from ..toolchain.jit import kernel
from ..toolchain.tier import tier
from .opcodes import (
    EXTRA,
    EXTRA_BY,
    FROM_WIDE,
    LANES,
    LEVEL,
    OUT_CHANNELS,
    OUT_HEIGHT,
    OUT_WIDTH,
    PARAMETERS,
    PLANES,
    STATE,
    STATE_BY,
    TARGET,
    TARGET_BY,
    V_INITIAL,
    WIDE,
)

__all__ = ["fire_general"]

LANES_32, LANES_64 = lanes_of(32), lanes_of(64)
if tier() != "portable":
    from ..neurons.printed import span_0, span_1, span_2
else:

    @kernel
    def span_0(settings, current, state, out, records, scratch, counters, at):
        """There is no vector code, and no operation asks for it."""
        return at.begin

    span_1 = span_2 = span_0


@kernel
def _parameters(big, at):
    """`NeuronParameters` from its fields in a row."""
    return NeuronParameters(
        big[at], big[at + 1], big[at + 2], big[at + 3], big[at + 4], big[at + 5], big[at + 6], big[at + 7], big[at + 8],
        big[at + 9], big[at + 10], big[at + 11], big[at + 12], big[at + 13], big[at + 14], big[at + 15], big[at + 16],
        big[at + 17], big[at + 18], big[at + 19], big[at + 20], big[at + 21], big[at + 22], big[at + 23], big[at + 24],
        big[at + 25], big[at + 26], big[at + 27], big[at + 28], big[at + 29], big[at + 30], big[at + 31], big[at + 32],
        big[at + 33], big[at + 34],
    )  # fmt: skip


@kernel
def _size(op):
    """How many neurons there are, padding included."""
    return op[OUT_HEIGHT] * op[OUT_WIDTH] * op[OUT_CHANNELS]


@kernel
def _parts(op, at, size):
    """Where currents, refractory states and what is still to be reset begin; what is not there lies anywhere."""
    both = at + size if op[PLANES] > 1 else at
    return both, at + 2 * size if op[PLANES] > 2 else at, both


@kernel
def _begin(op, at, size, numbers, membranes, counts):
    """States of the first step."""
    channels = op[OUT_CHANNELS]
    for base in range(0, size, channels):
        for c in range(channels):
            membranes[at + base + c] = numbers[op[V_INITIAL] + c]
    for i in range(size, op[PLANES] * size):
        membranes[at + i] = 0
    for i in range(min(2, op[PLANES]) * size):
        counts[at + i] = 0


@kernel
def _stretch(op, this, b, numbers, membranes, pools, arena):
    """All steps by the vector code; `numbers` hold the table of lanes, of the type of `membranes`."""
    at, counts, notes = op[STATE] + b * op[STATE_BY], arena.counts, arena.notes
    period, size, lanes = op[OUT_CHANNELS], _size(op), LANES_64 if op[WIDE] else LANES_32
    table = numbers[op[LANES] : op[LANES] + TABLE_ROWS * (period + lanes)]
    settings = Settings(pools.big[op[PARAMETERS] : op[PARAMETERS] + CONSTANTS], table, period)
    u, rest, sent = _parts(op, at, size)
    state = NeuronState(
        membranes[u : u + size], membranes[at : at + size], counts[at : at + size], counts[sent : sent + size],
        membranes[rest : rest + size],
    )  # fmt: skip
    records = Records(membranes[:0], membranes[:0])
    place = Stretch(
        this.steps, this.steps if this.now < this.driven else 0, size, size, op[EXTRA] + b * op[EXTRA_BY], 0,
        op[TARGET] + b * op[TARGET_BY], 0, size, 0, 0, 0,
    )  # fmt: skip
    counters, scratch = notes[:COUNTERS], notes[COUNTERS:]
    if op[LEVEL] == 0:
        span_0(settings, arena.charge, state, arena.spikes, records, scratch, counters, place)
    elif op[LEVEL] == 1:
        span_1(settings, arena.charge, state, arena.spikes, records, scratch, counters, place)
    else:
        span_2(settings, arena.charge, state, arena.spikes, records, scratch, counters, place)


@kernel
def _one_by_one(op, this, b, charge, membranes, pools, arena):
    """Step after step by the general neuron."""
    big, counts, spikes, notes = pools.big, arena.counts, arena.spikes, arena.notes
    at, channels, size = op[STATE] + b * op[STATE_BY], op[OUT_CHANNELS], _size(op)
    p = _parameters(big, op[PARAMETERS])
    each = big[op[LANES] : op[LANES] + PER_CHANNEL * channels]
    u, rest, sent = _parts(op, at, size)
    nothing = membranes[None, :0, None]
    one = np.int64(1)
    for t in range(this.steps):
        current, out = op[EXTRA] + b * op[EXTRA_BY] + t * size, op[TARGET] + b * op[TARGET_BY] + t * size
        advance(
            np.int64(0), np.int64(0), size, charge[None, None, current : current + size],
            one if this.now < this.driven else 0 * one, this.now + t, np.int64(0), p, each,
            membranes[None, u : u + size], membranes[None, at : at + size], counts[None, at : at + size],
            counts[None, sent : sent + size], membranes[None, rest : rest + size], spikes[None, None, out : out + size],
            nothing, nothing, notes[:COUNTERS], notes[COUNTERS:],
        )  # fmt: skip


@kernel
def _fire(op, this, b, numbers, membranes, pools, arena):
    """FIRE_GENERAL of one sample, with membranes of one width."""
    if this.now == 0:
        _begin(op, op[STATE] + b * op[STATE_BY], _size(op), numbers, membranes, arena.counts)
    if op[LEVEL] < 3:
        _stretch(op, this, b, numbers, membranes, pools, arena)
    elif not op[FROM_WIDE]:
        _one_by_one(op, this, b, arena.charge, membranes, pools, arena)


@kernel
def fire_general(op, this, b, pools, arena):
    """FIRE_GENERAL: one sample over all steps of a pass."""
    if op[WIDE]:
        _fire(op, this, b, pools.big, arena.wide_membranes, pools, arena)
        if op[FROM_WIDE]:
            _one_by_one(op, this, b, arena.wide_charge, arena.wide_membranes, pools, arena)
    else:
        _fire(op, this, b, pools.numbers, arena.membranes, pools, arena)
