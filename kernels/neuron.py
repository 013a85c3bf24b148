"""Compiled neurons: twins of `reference.py`, same names, signatures and integers.

`if_run` is the narrow kernel for integrate-and-fire layers inside proven bounds: its arithmetic stays
in the type of `v` (int32 where the bound allows) and vectorises over channels. `neuron_run` holds every
part of a neuron on 64-bit integers.
"""

import numpy as np

from .jit import kernel, like
from .parameters import (
    ACC,
    DRAW_TRACE,
    DRAW_U,
    DRAW_V,
    FIRST_TRAPPED,
    MULTIPLY,
    NONE,
    REFRACTORY_COUNTER,
    REFRACTORY_TRACE,
    RESET_SUBTRACT,
    RESET_ZERO,
    SATURATED,
    SHIFT,
    SUM_HIGH,
    SUM_LOW,
    TRACE,
    TRAPPED,
    UNDERFLOWS,
    V_HIGH,
    V_LOW,
    WRAPPED,
    U,
    V,
)
from .scalar import overflow, random_word, round_shift
from .vector import LANES, if_tile

SAT, SAT_SYM, WRAP, TRAP = range(4)
STOCHASTIC = 7


@kernel
def if_run(current, threshold, v_negative, v_reset_late, max_count, alive, v, count, out, v_record, counters):
    """Twin of `reference.if_run`."""
    channels = threshold.shape[0]
    steps = out.shape[1]
    size = out.shape[2]
    stride = size if current.shape[1] > 1 else 0
    flat_current, flat_v, flat_count, flat_out = current.reshape(-1), v.reshape(-1), count.reshape(-1), out.reshape(-1)
    peaks = np.zeros(4 * LANES, v.dtype)
    most = like(count[0, 0], max_count)
    keeps_v = v_record.shape[1] > 0
    for b in range(out.shape[0]):
        if not alive[b]:
            continue
        for base in range(0, size, channels):
            c = 0
            while not keeps_v and channels - c >= LANES:  # states stay in registers over all steps
                i = b * size + base + c
                at = b * current.shape[1] * size + base + c
                if_tile(
                    flat_current, at, stride, threshold, v_negative, c, most, flat_v, flat_count, i,
                    flat_out, b * steps * size + base + c, size, steps, peaks,
                )  # fmt: skip
                c += LANES
            for k in range(c, channels):
                x = v[b, base + k]
                net = count[b, base + k]
                for t in range(steps):
                    a = like(x, current[b, t if current.shape[1] > 1 else 0, base + k])
                    x = like(x, x + a)
                    peaks[0], peaks[LANES] = min(peaks[0], x), max(peaks[LANES], x)
                    peaks[2 * LANES], peaks[3 * LANES] = min(peaks[2 * LANES], a), max(peaks[3 * LANES], a)
                    before = x
                    s = like(net, 0)
                    if x >= threshold[k] and net < most:
                        s = like(net, 1)
                    elif x < v_negative[k] and net > 0:
                        s = like(net, -1)
                    x = like(x, x - s * threshold[k])
                    net = like(net, net + s)
                    out[b, t, base + k] = s
                    if keeps_v:
                        v_record[b, t, base + k] = before if v_reset_late else x
                v[b, base + k] = x
                count[b, base + k] = net
    for k in range(LANES):
        counters[V_LOW] = min(counters[V_LOW], peaks[k])
        counters[V_HIGH] = max(counters[V_HIGH], peaks[LANES + k])
        counters[SUM_LOW] = min(counters[SUM_LOW], peaks[2 * LANES + k])
        counters[SUM_HIGH] = max(counters[SUM_HIGH], peaks[3 * LANES + k])


@kernel
def levels(x, v_initial, threshold, max_count, alive, out):
    """Twin of `reference.levels`."""
    channels = threshold.shape[0]
    for b in range(x.shape[0]):
        if alive[b]:
            for base in range(0, x.shape[2], channels):
                for c in range(channels):
                    total = x[b, 0, base + c] + v_initial[c]
                    level = 0 if total < 0 else total // threshold[c]
                    out[b, 0, base + c] = min(level, max_count)


@kernel
def tally(x, driven, alive, active, ever, always):
    """Twin of `reference.tally`."""
    spikes = 0
    for b in range(x.shape[0]):
        if not alive[b]:
            continue
        for t in range(x.shape[1]):
            line = x[b, t]
            fired = np.int32(0)  # at most 127 a neuron: 2**24 neurons fit
            for i in range(line.shape[0]):
                fired += np.int32(abs(line[i]))
            for i in range(line.shape[0]):
                ever[i] |= np.uint8(line[i] != 0)
            if t < driven:
                for i in range(line.shape[0]):
                    always[i] &= np.uint8(line[i] != 0)
            spikes += fired
            if fired:
                active[b, t] = 1
    return spikes


@kernel
def decay(x, kind, a, b, rounding, least, word):
    """Twin of `reference.decay`."""
    if kind == NONE:
        return x
    if kind == SHIFT:
        change = round_shift(x, a, rounding, word)
        if least and change == 0 and x != 0:
            change = 1 if x > 0 else -1
        return x - change
    if kind == MULTIPLY:
        return round_shift(x * a, b, rounding, word)
    if x >= 0:
        return max(0, x - a)
    return min(0, x + a)


@kernel
def _leak(x, kind, a, b, rounding, least, p, step, sample, neuron, draw, counters):
    word = like(x, 0)
    if rounding == STOCHASTIC and kind != NONE:
        word = like(x, random_word(p.seed, step, p.layer, sample, neuron, draw))
    y = decay(x, kind, a, b, rounding, least, word)
    if x != 0 and y == 0 and (kind == SHIFT or (kind == MULTIPLY and a > 0)):
        counters[UNDERFLOWS] += 1
    return y


@kernel
def _note(at, which, sample, step, neuron, value, first):
    """Keep this overflow in the record at `at` if it is earlier than what stands there."""
    earlier = first[at] == 0 or sample < first[at + 1]
    if not earlier and sample == first[at + 1]:
        earlier = step < first[at + 2] or (step == first[at + 2] and neuron < first[at + 3])
    if earlier:
        first[at], first[at + 1], first[at + 2], first[at + 3], first[at + 4] = which, sample, step, neuron, value


@kernel
def _clamp(which, value, low, high, mode, sample, step, neuron, counters, first):
    if mode == SAT_SYM and low < 0:
        low = -high
    if low <= value <= high:
        return value
    if mode == WRAP:
        counters[WRAPPED] += 1
    elif mode == TRAP:
        counters[TRAPPED] += 1
        _note(FIRST_TRAPPED, which, sample, step, neuron, value, first)
    else:
        counters[SATURATED] += 1
    _note(0, which, sample, step, neuron, value, first)
    return overflow(value, low, high, mode)


@kernel
def neuron_run(
    current, driven, step, sample, p, threshold, v_negative, bias, alive, u, v, count, pending, refractory,
    out, u_record, v_record, counters, first,
):  # fmt: skip
    """Twin of `reference.neuron_run`."""
    channels = threshold.shape[0]
    for b in range(out.shape[0]):
        if not alive[b]:
            continue
        key = sample + b
        for t in range(out.shape[1]):
            now = step + t
            for i in range(out.shape[2]):
                c = i % channels
                theta = threshold[c]
                a = like(step, current[b, t if current.shape[1] > 1 else 0, i])
                # 1. acc
                counters[SUM_LOW], counters[SUM_HIGH] = min(counters[SUM_LOW], a), max(counters[SUM_HIGH], a)
                if p.has_acc:
                    a = _clamp(ACC, a, p.acc_low, p.acc_high, p.acc_overflow, key, now, i, counters, first)
                # 2. u = overflow(decay(u) + (acc << u_shift))
                if p.has_u:
                    x = _leak(
                        like(step, u[b, i]), p.u_decay, p.u_decay_a, p.u_decay_b, p.u_rounding, p.u_least,
                        p, now, key, i, DRAW_U, counters,
                    )  # fmt: skip
                    a = _clamp(U, x + (a << p.u_shift), p.u_low, p.u_high, p.u_overflow, key, now, i, counters, first)
                    u[b, i] = a
                # refractory state
                held = False
                trace = like(step, 0)
                if p.refractory == REFRACTORY_COUNTER:
                    held = refractory[b, i] > 0
                    refractory[b, i] -= held
                elif p.refractory == REFRACTORY_TRACE:
                    trace = _leak(
                        like(step, refractory[b, i]), p.trace_decay, p.trace_decay_a, p.trace_decay_b,
                        p.trace_rounding, p.trace_least, p, now, key, i, DRAW_TRACE, counters,
                    )  # fmt: skip
                # 3. v = overflow(decay(v) - pending reset + u + bias)
                x = like(step, v[b, i])
                s = like(step, 0)
                if not held:
                    x = _leak(
                        x, p.v_decay, p.v_decay_a, p.v_decay_b, p.v_rounding, p.v_least,
                        p, now, key, i, DRAW_V, counters,
                    )  # fmt: skip
                    if p.reset_delay and pending[b, i] != 0:
                        if p.reset == RESET_SUBTRACT:
                            x -= pending[b, i] * theta
                        elif p.reset == RESET_ZERO:
                            x = like(step, 0)
                    x += a
                    if t < driven:
                        x += bias[c]
                    x = _clamp(V, x, p.v_low, p.v_high, p.v_overflow, key, now, i, counters, first)
                    counters[V_LOW], counters[V_HIGH] = min(counters[V_LOW], x), max(counters[V_HIGH], x)
                    # 4. compare: n spikes while v - n * theta is still at (above) the threshold
                    seen = x - trace
                    if seen >= theta + p.strict:
                        s = like(step, 1)
                        if p.max_spikes > 1:
                            s = min((seen - p.strict) // theta, p.max_spikes)
                        if p.max_count >= 0:
                            s = max(0, min(s, p.max_count - count[b, i]))
                    elif p.signed and seen < v_negative[c] and count[b, i] > 0:
                        s = like(step, -1)
                        if p.max_spikes > 1:
                            below = v_negative[c] - seen
                            s = -min(min((below + theta - 1) // theta, p.max_spikes), count[b, i])
                    # 5. reset
                    if s != 0 and not p.reset_delay:
                        if p.reset == RESET_SUBTRACT:
                            x -= s * theta
                            x = _clamp(V, x, p.v_low, p.v_high, p.v_overflow, key, now, i, counters, first)
                        elif p.reset == RESET_ZERO:
                            x = like(step, 0)
                    if p.reset_delay:
                        pending[b, i] = s
                v[b, i] = x
                count[b, i] += s
                if p.refractory == REFRACTORY_COUNTER and s != 0:
                    refractory[b, i] = p.refractory_steps
                elif p.refractory == REFRACTORY_TRACE:
                    trace += s * p.trace_amplitude
                    refractory[b, i] = _clamp(
                        TRACE, trace, p.trace_low, p.trace_high, SAT, key, now, i, counters, first
                    )  # fmt: skip
                out[b, t, i] = s
                if u_record.shape[1]:
                    u_record[b, t, i] = u[b, i]
                if v_record.shape[1]:
                    v_record[b, t, i] = x
