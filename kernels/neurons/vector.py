"""A stretch of neurons, all steps of a call at once, at 16, 32 or 64 bits: `plain_span` is the meaning of its code.

Of that (``printed.py``), `span_2` holds every part of a neuron and asks a constant at each whether it is there;
`span_1` and `span_0` are the same with some and with most of them left out.
"""

from typing import NamedTuple

import numpy as np

from ..parameters import (
    MULTIPLY,
    RESET_SUBTRACT,
    RESET_ZERO,
    SATURATED,
    SHIFT,
    SUBTRACT,
    SUM_HIGH,
    SUM_LOW,
    UNDERFLOWS,
    V_HIGH,
    V_LOW,
    WRAPPED,
)

__all__ = ["BYTES", "CONSTANTS", "ROWS", "STATES", "Settings", "Stretch", "lanes_of"]

BYTES = 128  # of a vector of states: two of the widest registers
STATES = ("v", "u", "count", "pending", "refractory")
ROWS = ("current", "out", "u_record", "v_record")  # arrays with a time axis
ARGUMENTS = {  # where an intrinsic finds them
    **{name: f"state.{name}" for name in STATES},
    "count": "state.counts",
    **{name: name for name in ROWS},
    "u_record": "records.u",
    "v_record": "records.v",
}
# The constants of a call, int64. First three times the same, for u, v and acc:
U, V, ACC = 0, 14, 28
(
    KIND,  # of leak, as in `parameters`
    PLACES,  # of a product
    PRODUCT,  # bits in which x * factor is formed; 16: its upper half only
    ROUNDED,  # 0: toward minus infinity
    UP,  # what the rest of a product must exceed to round up, of x >= 0
    UP_NEGATIVE,  # and of x < 0
    EVEN,  # 1: and by one less where that makes the result even
    REST,  # which bits of a product are the rest
    LEAST,  # 1: a shift moves what is not 0 by 1 at least
    COUNTS,  # 1: a state that becomes 0 is an underflow; 2: in channels with a factor
    CLAMP,  # FREE, SATURATE, WRAP
    LOW,
    HIGH,
    SPAN,  # HIGH - LOW
) = range(14)
FREE, SATURATE, WRAP = range(3)  # no overflow is possible; both others count them
HAS_U, U_SHIFT, BIASED, RESET, LATE, SIGNED, CAPPED, MOST, FEWEST, COUNTED, HOLDS, HOLD, LEVEL = range(42, 55)
CONSTANTS = 55
# Three levels of code, LEVEL, by the constants that are 0 for sure: the fewer questions, the faster.
ABSENT = ((HAS_U, LATE, HOLDS, ACC + CLAMP, SIGNED, CAPPED, COUNTED, V + CLAMP), (HAS_U, LATE, HOLDS, ACC + CLAMP), ())
# rows of the table (rows, period + lanes) of what differs from channel to channel
FIRE, DROP, NEGATIVE, BIAS = range(4)
# and from there on of the leak of u, then of v
LEAKS = {U: 4, V: 8}
(
    NUMBER,  # places of a shift, factor of a product, amount to subtract
    MASK,  # which bits of a shift are the rest; -1 where a factor of 16 places is one too small
    ABOVE,  # what the rest of a shift must exceed to round up, of x >= 0
    ABOVE_NEGATIVE,  # and of x < 0
) = range(4)
TABLE_ROWS = 12


class Settings(NamedTuple):
    """A kind of neurons: what is the same for all of them, and for a channel."""

    constants: np.ndarray  # int64 (CONSTANTS,)
    table: np.ndarray  # of the type of v: (TABLE_ROWS, period + lanes)
    period: int  # a multiple of the number of channels


class Stretch(NamedTuple):
    """Neurons ``begin..end`` that lie together, and where they do."""

    steps: int
    driven: int  # steps in which the bias flows
    size: int  # of a step of out and records
    stride: int  # of a step of current
    current: int  # where the stretch begins in the flat arrays
    state: int
    out: int
    begin: int
    end: int
    until: int  # below this one, a tile in which something overflows is not done
    keeps_u: int  # 1: there are records of u
    keeps_v: int


def lanes_of(bits: int) -> int:
    """How many neurons with states of `bits` are one vector."""
    return 8 * BYTES // bits


def plain_decay(x, k, leak):
    """`x` one step later by the constants `k` of its state and the `leak` of its channel; whether it underflowed."""
    number, mask, above, above_negative = leak
    if k[KIND] == SUBTRACT:
        return x - max(-number, min(x, number)), False
    if k[KIND] == MULTIPLY:
        wide, places, rest, above, above_negative = x * number, k[PLACES], k[REST], k[UP], k[UP_NEGATIVE]
        if k[PRODUCT] == 16:
            wide -= x * (mask << 16)
    elif k[KIND] == SHIFT:
        wide, places, rest = x, number, mask
    else:
        return x, False
    y = wide >> places
    y += k[ROUNDED] and (wide & rest) > (above_negative if wide < 0 else above) - (y & k[EVEN])
    if k[KIND] == SHIFT:
        y = x - (y if y or not k[LEAST] else (x > 0) - (x < 0))
    return y, k[COUNTS] and x != 0 and y == 0 and (k[COUNTS] == 1 or number != 0)


def plain_span(settings, current, state, out, records, scratch, counters, at):
    """The neurons of a stretch over all steps; the first one that was not done is returned.

    A tile of `lanes_of` neurons below ``at.until`` in which something overflows is not done.
    """
    constants, table, period = settings
    u, v, count, pending, refractory = state
    k = [int(n) for n in constants]

    def into(value, k, notes):
        if k[CLAMP] == FREE or k[LOW] <= value <= k[HIGH]:
            return value
        notes[SATURATED if k[CLAMP] == SATURATE else WRAPPED] += 1
        return min(max(value, k[LOW]), k[HIGH]) if k[CLAMP] == SATURATE else k[LOW] + ((value - k[LOW]) & k[SPAN])

    def neuron(j, notes):
        i, (fire, drop, negative, bias, *leaks) = at.state + j, (int(n) for n in table[:, j % period])
        x, charge, net = int(v[i]), int(u[i]) if k[HAS_U] else 0, int(count[i]) if k[COUNTED] else 0
        sent, waits = int(pending[i]) if k[LATE] else 0, int(refractory[i]) if k[HOLDS] else 0
        for t in range(at.steps):
            a = int(current[at.current + t * at.stride + j])
            counters[SUM_LOW], counters[SUM_HIGH] = min(counters[SUM_LOW], a), max(counters[SUM_HIGH], a)
            a = into(a, k[ACC:], notes)
            if k[HAS_U]:
                charge, lost = plain_decay(charge, k[U:], leaks[:4])
                notes[UNDERFLOWS] += lost
                a = charge = into(charge + (a << k[U_SHIFT]), k[U:], notes)
            s, held = 0, waits > 0
            waits -= held
            if not held:
                x, lost = plain_decay(x, k[V:], leaks[4:])
                notes[UNDERFLOWS] += lost
                if sent:
                    x = x - sent * drop if k[RESET] == RESET_SUBTRACT else 0 if k[RESET] == RESET_ZERO else x
                x = into(x + a + (bias if k[BIASED] and t < at.driven else 0), k[V:], notes)
                counters[V_LOW], counters[V_HIGH] = min(counters[V_LOW], x), max(counters[V_HIGH], x)
                if x >= fire:
                    s = int(not k[CAPPED] or net < k[MOST])
                elif k[SIGNED] and x < negative and net > k[FEWEST]:
                    s = -1
                if k[LATE]:
                    sent = s
                elif s:
                    x = x - s * drop if k[RESET] == RESET_SUBTRACT else 0 if k[RESET] == RESET_ZERO else x
                waits = k[HOLD] if k[HOLDS] and s else waits
            net += s
            place = at.out + t * at.size + j
            out[place] = s
            if at.keeps_u and k[HAS_U]:
                records.u[place] = charge
            if at.keeps_v:
                records.v[place] = x
        return x, charge, net, sent, waits

    arrays = ((v, 1), (u, k[HAS_U]), (count, k[COUNTED]), (pending, k[LATE]), (refractory, k[HOLDS]))
    lanes = lanes_of(v.dtype.itemsize * 8)
    for tile in range(at.begin, at.end, lanes):
        notes = dict.fromkeys((UNDERFLOWS, SATURATED, WRAPPED), 0)
        found = {j: neuron(j, notes) for j in range(tile, min(tile + lanes, at.end))}
        if tile < at.until and notes[SATURATED] + notes[WRAPPED]:
            return tile
        for j, states in found.items():
            for (array, used), state in zip(arrays, states, strict=True):
                if used:
                    array[at.state + j] = state
        for which, number in notes.items():
            counters[which] += number
    return max(at.begin, at.end)
