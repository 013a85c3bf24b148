"""Neurons at the least width that provably holds them, as vectors at the speed of the memory: `narrow_run`.

States stay in registers from step to step (`vector.py`). What is to be told about an overflow beyond its number (the
first one is named) is left to the general neuron: a stretch stops there, before it changes a state.
"""

from typing import Any

import numpy as np

from ..parameters import PER_CHANNEL, NeuronState, Records
from ..toolchain.jit import kernel, variant
from ..toolchain.tier import tier
from .compiled import neuron_run
from .vector import LEVEL, ROWS, STATES, Settings, Stretch, lanes_of

__all__ = ["narrow_run"]

if tier() != "portable":
    from .printed import span_0, span_1, span_2

_span: Any = None  # each copy of `_run` has its own


@kernel
def _find_stretch(alive, b, steps):
    """Sample b or the first living one behind it, and how many neighbours are one stretch with it."""
    while b < alive.shape[0] and not alive[b]:
        b += 1
    joined = 1
    while steps == 1 and b + joined < alive.shape[0] and alive[b + joined]:
        joined += 1
    return b, joined


@kernel
def _watched(first, sample, step, size):
    """An overflow of a neuron below this one, counted from `sample` on, could come before the first one on record."""
    if first[0] == 0:
        return np.int64(1) << np.int64(62)
    until = (first[1] - sample) * size
    if step < first[2]:
        return until + size
    return until + first[3] if step == first[2] else until


def _run(constants, table, period, current, driven, step, sample, alive, u, v, count, pending, refractory, out,
         u_record, v_record, scratch, counters, first, begin):  # fmt: skip
    """Run the neurons of all living samples from number `begin` on; the number of the first that was not done."""
    samples, steps, size = out.shape
    steps_in = current.shape[1]
    settings, records = Settings(constants, table, period), Records(u_record, v_record)
    state = NeuronState(u, v, count, pending, refractory)
    b, joined = _find_stretch(alive, begin // size, steps)
    i = begin - b * size if b * size < begin else 0
    while b < samples:
        until = _watched(first, sample + b, step, size)
        stretch = Stretch(
            steps, driven, size, size if steps_in > 1 else 0, b * steps_in * size, b * size, b * steps * size, i,
            joined * size, until, u_record.shape[1], v_record.shape[1],
        )  # fmt: skip
        i = _span(settings, current, state, out, records, scratch, counters, stretch)
        if i < joined * size:
            return b * size + i
        b, joined = _find_stretch(alive, b + joined, steps)
        i = 0
    return samples * size


if tier() != "portable":
    # neurons without overflow, caps and signs; with these; with all parts of a neuron
    _run_0, _run_1, _run_2 = (variant(_run, f"_run_{n}", _span=s) for n, s in enumerate((span_0, span_1, span_2)))


def _general(
    begin, end, current, driven, step, sample, p, each, u, v, count, pending, refractory, out, u_record, v_record,
    counters, first,
):  # fmt: skip
    """The neurons from `begin` to `end`, counted through all samples, by the general kernel, as 64-bit copies."""
    size = out.shape[2]
    while begin < end:
        b, i = divmod(begin, size)
        stop = min(size, i + end - begin)
        place = (slice(b, b + 1), slice(i, stop))
        place_in_time = (place[0], slice(None), place[1])
        channels = np.arange(i, stop) % (len(each) // PER_CHANNEL)
        states = [a[place].astype(np.int64) for a in (u, v)]
        states += [a[place].astype(np.int32) for a in (count, pending)] + [refractory[place].astype(np.int64)]
        records = [a[place_in_time].astype(np.int64) for a in (u_record, v_record)]
        spikes, found = np.zeros((1, out.shape[1], stop - i), np.int8), np.zeros_like(first)
        neuron_run(
            current[place_in_time].astype(np.int64), driven, step, sample + b, p,
            each.reshape(PER_CHANNEL, -1)[:, channels].astype(np.int64).reshape(-1), np.ones(1, np.uint8), *states,
            spikes, *records, counters, found,
        )  # fmt: skip
        for whole, part in zip((u, v, count, pending, refractory), states, strict=True):
            whole[place] = part
        for whole, part in zip((out, u_record, v_record), (spikes, *records), strict=True):
            whole[place_in_time] = part
        if found[0]:
            found[3] += i
            if not first[0] or tuple(found[1:4]) < tuple(first[1:4]):
                first[:5] = found[:5]
        begin += stop - i


def narrow_run(
    constants, table, period, current, driven, step, sample, p, each, alive, u, v, count, pending, refractory, out,
    u_record, v_record, counters, first,
):  # fmt: skip
    """`neuron.neuron_run` at the width of `v`; all arrays are C-contiguous.

    Parameters
    ----------
    constants : (CONSTANTS,) int64
        Which parts the neuron has, and their numbers (`vector.py`).
    table : (ROWS_OF_TABLE, period + lanes), of the type of `v`
        Least v that fires, what a reset subtracts, v_negative, bias, numbers of leaks: of the channels in turn, from 0
        on.
    period : int
        A multiple of the number of channels (any number if all are equal), at least `lanes`, the neurons of a vector.
    others
        As for `neuron_run`; `u` and `refractory` have the type of `v`.
    """
    samples, steps, size = out.shape
    lanes = lanes_of(8 * v.itemsize)
    scratch = np.empty((len(STATES) + len(ROWS) * steps) * lanes, np.int64)
    run = (_run_0, _run_1, _run_2)[constants[LEVEL]]
    done = 0
    while True:
        done = run(
            constants, table, period, current, driven, step, sample, alive, u, v, count, pending, refractory, out,
            u_record, v_record, scratch, counters, first, done,
        )  # fmt: skip
        if done == samples * size:
            return
        end = min(done + lanes, (done // size + 1) * size)
        _general(
            done, end, current, driven, step, sample, p, each, u, v, count, pending, refractory, out, u_record,
            v_record, counters, first,
        )  # fmt: skip
        done = end
