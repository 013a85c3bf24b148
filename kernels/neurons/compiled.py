"""Compiled neurons: twins of `reference.py`, same names, signatures and integers.

`neuron_run` holds every part of a neuron on 64-bit integers; what fits fewer runs in `narrow.py`.
"""

import numpy as np

from ..numbers.compiled import overflow, random_word, round_shift
from ..parameters import (
    ACC,
    BIAS,
    DRAW_TRACE,
    DRAW_U,
    DRAW_V,
    FIRST_TRAPPED,
    MULTIPLY,
    NONE,
    PER_CHANNEL,
    REFRACTORY_COUNTER,
    REFRACTORY_TRACE,
    RESET_SUBTRACT,
    RESET_ZERO,
    SATURATED,
    SHIFT,
    SUM_HIGH,
    SUM_LOW,
    THRESHOLD,
    TRACE,
    TRACE_LEAK,
    TRACE_PLACES,
    TRAPPED,
    U_LEAK,
    U_PLACES,
    UNDERFLOWS,
    V_HIGH,
    V_LEAK,
    V_LOW,
    V_NEGATIVE,
    V_PLACES,
    WRAPPED,
    U,
    V,
)
from ..toolchain.jit import kernel, like

SAT, SAT_SYM, WRAP, TRAP = range(4)
STOCHASTIC = 7
TALLIED = 1 << 24  # neurons whose spikes, at most 127 each, a sum of 32 bits holds


@kernel
def levels(x, v_initial, threshold, ends, alive, out):
    """Twin of `reference.levels`."""
    bottom, top = ends
    channels = threshold.shape[0]
    for b in range(x.shape[0]):
        if alive[b]:
            for base in range(0, x.shape[2], channels):
                for c in range(channels):
                    total = x[b, 0, base + c] + v_initial[c]
                    out[b, 0, base + c] = min(max(total // threshold[c], bottom), top)


@kernel
def tally(x, driven, alive, active, ever, always):
    """Twin of `reference.tally`."""
    spikes = 0
    for b in range(x.shape[0]):
        if not alive[b]:
            continue
        for t in range(x.shape[1]):
            line = x[b, t]
            fired = np.int64(0)
            for begin in range(0, line.shape[0], TALLIED):
                few = np.int32(0)
                for i in range(begin, min(begin + TALLIED, line.shape[0])):
                    few += np.int32(abs(line[i]))
                fired += few
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
def _leak(x, kind, a, b, rounding, least, seed, layer, step, sample, neuron, draw):
    if kind == NONE:
        return x
    word = like(x, 0)
    if rounding == STOCHASTIC:
        word = like(x, random_word(seed, step, layer, sample, neuron, draw))
    return decay(x, kind, a, b, rounding, least, word)


@kernel
def _lost(x, y, kind, a):
    """Whether state `x` underflowed to `y`."""
    return x != 0 and y == 0 and (kind == SHIFT or (kind == MULTIPLY and a > 0))


@kernel
def _note(at, which, sample, step, neuron, value, first):
    """Keep this overflow in the record at `at` if it is earlier than what stands there."""
    earlier = first[at] == 0 or sample < first[at + 1]
    if not earlier and sample == first[at + 1]:
        earlier = step < first[at + 2] or (step == first[at + 2] and neuron < first[at + 3])
    if earlier:
        first[at], first[at + 1], first[at + 2], first[at + 3], first[at + 4] = which, sample, step, neuron, value


@kernel
def _lowest(low, high, mode):
    return -high if mode == SAT_SYM and low < 0 else low


@kernel
def _clamp(which, value, low, high, mode, sample, step, neuron, counters, first):
    """What becomes of a `value` out of range. (Callers look first: a call with arrays counts references.)"""
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
def advance(
    b, begin, end, current, driven, step, sample, p, each, u, v, count, pending, refractory, out, u_record, v_record,
    counters, first,
):  # fmt: skip
    """`neuron_run` for the neurons from `begin` to `end` of sample b."""
    channels = len(each) // PER_CHANNEL
    key = sample + b
    acc_low = _lowest(p.acc_low, p.acc_high, p.acc_overflow)
    u_low = _lowest(p.u_low, p.u_high, p.u_overflow)
    v_low = _lowest(p.v_low, p.v_high, p.v_overflow)
    stays = current.shape[1] == 1
    least_v, most_v, least_a, most_a = counters[V_LOW], counters[V_HIGH], counters[SUM_LOW], counters[SUM_HIGH]
    underflows = like(step, 0)
    for t in range(out.shape[1]):
        now = step + t
        c = begin % channels - 1
        for i in range(begin, end):
            c = c + 1 if c + 1 < channels else 0
            theta = like(step, each[THRESHOLD * channels + c])
            a = like(step, current[b, 0 if stays else t, i])
            # 1. acc
            least_a, most_a = min(least_a, a), max(most_a, a)
            if p.has_acc and (a < acc_low or a > p.acc_high):
                a = _clamp(ACC, a, acc_low, p.acc_high, p.acc_overflow, key, now, i, counters, first)
            # 2. u = overflow(decay(u) + (acc << u_shift))
            if p.has_u:
                before = like(step, u[b, i])
                x = _leak(
                    before, p.u_decay, each[U_LEAK * channels + c], each[U_PLACES * channels + c], p.u_rounding,
                    p.u_least, p.seed, p.layer, now, key, i, DRAW_U,
                )  # fmt: skip
                underflows += _lost(before, x, p.u_decay, each[U_LEAK * channels + c])
                a = x + (a << p.u_shift)
                if a < u_low or a > p.u_high:
                    a = _clamp(U, a, u_low, p.u_high, p.u_overflow, key, now, i, counters, first)
                u[b, i] = a
            # refractory state
            held = False
            trace = like(step, 0)
            if p.refractory == REFRACTORY_COUNTER:
                held = refractory[b, i] > 0
                refractory[b, i] -= held
            elif p.refractory == REFRACTORY_TRACE:
                before = like(step, refractory[b, i])
                trace = _leak(
                    before, p.trace_decay, each[TRACE_LEAK * channels + c], each[TRACE_PLACES * channels + c],
                    p.trace_rounding, p.trace_least, p.seed, p.layer, now, key, i, DRAW_TRACE,
                )  # fmt: skip
                underflows += _lost(before, trace, p.trace_decay, each[TRACE_LEAK * channels + c])
            # 3. v = overflow(decay(v) - pending reset + u + bias)
            x = like(step, v[b, i])
            s = like(step, 0)
            if not held:
                before = x
                x = _leak(
                    before, p.v_decay, each[V_LEAK * channels + c], each[V_PLACES * channels + c], p.v_rounding,
                    p.v_least, p.seed, p.layer, now, key, i, DRAW_V,
                )  # fmt: skip
                underflows += _lost(before, x, p.v_decay, each[V_LEAK * channels + c])
                if p.reset_delay and pending[b, i] != 0:
                    if p.reset == RESET_SUBTRACT:
                        x -= like(step, pending[b, i]) * theta
                    elif p.reset == RESET_ZERO:
                        x = like(step, 0)
                x += a
                if t < driven:
                    x += each[BIAS * channels + c]
                if x < v_low or x > p.v_high:
                    x = _clamp(V, x, v_low, p.v_high, p.v_overflow, key, now, i, counters, first)
                least_v, most_v = min(least_v, x), max(most_v, x)
                # 4. compare: n spikes while v - n * theta is still at (above) the threshold
                seen = x - trace
                if seen >= theta + p.strict:
                    s = like(step, 1)
                    if p.max_spikes > 1:
                        s = min((seen - p.strict) // theta, p.max_spikes)
                    if p.max_count >= 0:
                        s = max(0, min(s, p.max_count - like(step, count[b, i])))
                elif p.signed and seen < each[V_NEGATIVE * channels + c] and count[b, i] > p.min_count:
                    s = like(step, -1)
                    if p.max_spikes > 1:
                        below = each[V_NEGATIVE * channels + c] - seen
                        s = -min((below + theta - 1) // theta, p.max_spikes, like(step, count[b, i]) - p.min_count)
                # 5. reset
                if s != 0 and not p.reset_delay:
                    if p.reset == RESET_SUBTRACT:
                        x -= s * theta
                        if x < v_low or x > p.v_high:
                            x = _clamp(V, x, v_low, p.v_high, p.v_overflow, key, now, i, counters, first)
                    elif p.reset == RESET_ZERO:
                        x = like(step, 0)
                if p.reset_delay:
                    pending[b, i] = s
            v[b, i] = x
            if count.shape[1]:
                count[b, i] += s
            if p.refractory == REFRACTORY_COUNTER and s != 0:
                refractory[b, i] = p.refractory_steps
            elif p.refractory == REFRACTORY_TRACE:
                trace += s * p.trace_amplitude
                if trace < p.trace_low or trace > p.trace_high:
                    trace = _clamp(TRACE, trace, p.trace_low, p.trace_high, SAT, key, now, i, counters, first)
                refractory[b, i] = trace
            out[b, t, i] = s
            if u_record.shape[1]:
                u_record[b, t, i] = u[b, i]
            if v_record.shape[1]:
                v_record[b, t, i] = x
    counters[V_LOW], counters[V_HIGH], counters[SUM_LOW], counters[SUM_HIGH] = least_v, most_v, least_a, most_a
    counters[UNDERFLOWS] += underflows


@kernel
def neuron_run(
    current, driven, step, sample, p, each, alive, u, v, count, pending, refractory, out, u_record, v_record,
    counters, first,
):  # fmt: skip
    """Twin of `reference.neuron_run`."""
    for b in range(out.shape[0]):
        if alive[b]:
            advance(
                b, 0, out.shape[2], current, driven, step, sample, p, each, u, v, count, pending, refractory, out,
                u_record, v_record, counters, first,
            )  # fmt: skip
