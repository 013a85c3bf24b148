"""The specification of neurons: plain Python integers, unbounded, readable, slow.

The compiled twins in `compiled.py` have the same names and signatures and give the same integers. Layout and
`alive` are those of ``layers/reference.py``: values ``(B, T, P * C)``, channel fastest, a T of 1 where more steps
are asked for means "the same in every step".
"""

from ..numbers.modes import Overflow, Rounding
from ..numbers.reference import overflow, random_word, round_shift
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
    TRAPPED,
    U_LEAK,
    UNDERFLOWS,
    V_HIGH,
    V_LEAK,
    V_LOW,
    V_NEGATIVE,
    WRAPPED,
    U,
    V,
)


def tally(x, driven, alive, active, ever, always):
    """Number of spikes in `x`; marks active steps, neurons that fired ever and in every driven step.

    `driven` is how many steps of the block are driven; `active` ``(B, T)`` is set where any neuron fired.
    """
    spikes = 0
    for b in range(x.shape[0]):
        if not alive[b]:
            continue
        for t in range(x.shape[1]):
            for i, value in enumerate(x[b, t].tolist()):
                spikes += abs(value)
                if value:
                    active[b, t] = 1
                    ever[i] = 1
                elif t < driven:
                    always[i] = 0
    return spikes


def decay(x, kind, a, b, rounding, least, word):
    """One leak of state `x` (`Decay` in ``intsnn/layers/neurons.py``)."""
    if kind == NONE:
        return x
    if kind == SHIFT:
        change = round_shift(x, a, rounding, word)
        if least and change == 0 and x != 0:
            change = 1 if x > 0 else -1
        return x - change
    if kind == MULTIPLY:
        return round_shift(x * a, b, rounding, word)
    return max(0, x - a) if x >= 0 else min(0, x + a)


def levels(x, v_initial, threshold, ends, alive, out):
    """Quantised activation: ``out = clip(floor((x + V0) / theta), *ends)``, `x` ``(B, 1, P * C)`` the total charge.

    `ends` are the least level, 0 for a ReLU, and the largest.
    """
    bottom, top = ends
    channels = len(threshold)
    for b in range(x.shape[0]):
        if alive[b]:
            for i, value in enumerate(x[b, 0].tolist()):
                c = i % channels
                out[b, 0, i] = min(max((value + int(v_initial[c])) // int(threshold[c]), bottom), top)


class _Ledger:
    """Writes counters and the first overflow of a neuron call."""

    def __init__(self, counters, first, step, sample):
        self.counters, self.first, self.step, self.sample = counters, first, step, sample

    def clamp(self, which, value, low, high, mode, b, t, i):
        """`value` inside [low, high] by overflow `mode`, counted where it was outside."""
        if mode == Overflow.SAT_SYM and low < 0:
            low = -high
        if low <= value <= high:
            return value
        self.counters[{Overflow.WRAP: WRAPPED, Overflow.TRAP: TRAPPED}.get(mode, SATURATED)] += 1
        key = (self.sample + b, self.step + t, i)
        for at in (0, FIRST_TRAPPED) if mode == Overflow.TRAP else (0,):
            if self.first[at] == 0 or key < tuple(self.first[at + 1 : at + 4]):
                self.first[at : at + 5] = (which, *key, value)
        return overflow(value, low, high, mode)


def neuron_run(
    current, driven, step, sample, p, each, alive, u, v, count, pending, refractory, out, u_record,
    v_record, counters, first,
):  # fmt: skip
    """The general neuron over all steps of a block, in the normative order of ``docs/semantics.md``.

    Parameters
    ----------
    current : (B, Tc, P * C), Tc = T or 1
        Synaptic sum of each step.
    driven : int
        In how many steps of the block `bias` flows.
    step, sample : int
        Number of the first step and sample of the block (keys of random bits and messages).
    p : NeuronParameters
    each : (PER_CHANNEL * C,)
        Thresholds, biases and the numbers of leaks: the rows of ``parameters.py`` one behind the other.
    u, v, count, pending, refractory : (B, P * C)
        Carried state; empty where the neuron has no such part.
    out : (B, T, P * C), written; spikes
    u_record, v_record : (B, T, P * C) or empty, written; state at the end of each step
    counters : (COUNTERS,), first : (FIRSTS,)
        Updated: overflows, underflows to zero, peaks; first overflow as (which, sample, step, neuron, value), and
        behind it the first one under TRAP.
    """
    ledger = _Ledger(counters, first, step, sample)
    channels = len(each) // PER_CHANNEL
    for b in range(out.shape[0]):
        if not alive[b]:
            continue
        for t in range(out.shape[1]):
            for i, a in enumerate(current[b, t if current.shape[1] > 1 else 0].tolist()):
                c = i % channels
                theta = int(each[THRESHOLD * channels + c])

                def word(draw, b=b, t=t, i=i):
                    return random_word(p.seed, step + t, p.layer, sample + b, i, draw)

                def leak(x, kind, at, rounding, least, draw, word=word, c=c):
                    first_parameter, second = int(each[at * channels + c]), int(each[(at + 1) * channels + c])
                    drawn = word(draw) if rounding == Rounding.STOCHASTIC else 0
                    y = decay(x, kind, first_parameter, second, rounding, least, drawn)
                    if x != 0 and y == 0 and (kind == SHIFT or (kind == MULTIPLY and first_parameter > 0)):
                        counters[UNDERFLOWS] += 1
                    return y

                def after_reset(x, s, theta=theta):
                    return x - s * theta if p.reset == RESET_SUBTRACT else 0 if p.reset == RESET_ZERO else x

                # 1. acc
                counters[SUM_LOW], counters[SUM_HIGH] = min(counters[SUM_LOW], a), max(counters[SUM_HIGH], a)
                if p.has_acc:
                    a = ledger.clamp(ACC, a, p.acc_low, p.acc_high, p.acc_overflow, b, t, i)
                # 2. u = overflow(decay(u) + (acc << u_shift))
                if p.has_u:
                    x = leak(u[b, i], p.u_decay, U_LEAK, p.u_rounding, p.u_least, DRAW_U)
                    a = ledger.clamp(U, x + (a << p.u_shift), p.u_low, p.u_high, p.u_overflow, b, t, i)
                    u[b, i] = a
                # refractory state
                held, trace = False, 0
                if p.refractory == REFRACTORY_COUNTER:
                    held = refractory[b, i] > 0
                    refractory[b, i] -= held
                elif p.refractory == REFRACTORY_TRACE:
                    trace = leak(
                        refractory[b, i], p.trace_decay, TRACE_LEAK, p.trace_rounding, p.trace_least, DRAW_TRACE
                    )
                # 3. v = overflow(decay(v) - pending reset + u + bias)
                x = v[b, i]
                s = 0
                if not held:
                    x = leak(x, p.v_decay, V_LEAK, p.v_rounding, p.v_least, DRAW_V)
                    if p.reset_delay and pending[b, i]:
                        x = after_reset(x, pending[b, i])
                    x = x + a + (int(each[BIAS * channels + c]) if t < driven else 0)
                    x = ledger.clamp(V, x, p.v_low, p.v_high, p.v_overflow, b, t, i)
                    counters[V_LOW], counters[V_HIGH] = min(counters[V_LOW], x), max(counters[V_HIGH], x)
                    # 4. compare: n spikes while v - n * theta is still at (above) the threshold
                    seen = x - trace
                    if seen >= theta + p.strict:
                        s = 1 if p.max_spikes == 1 else min((seen - p.strict) // theta, p.max_spikes)
                        if p.max_count >= 0:
                            s = max(0, min(s, p.max_count - count[b, i]))
                    elif p.signed and seen < each[V_NEGATIVE * channels + c] and count[b, i] > p.min_count:
                        above = seen - int(each[V_NEGATIVE * channels + c])
                        s = -1 if p.max_spikes == 1 else max(above // theta, -p.max_spikes, p.min_count - count[b, i])
                    # 5. reset
                    if s and not p.reset_delay:
                        x = after_reset(x, s)
                        if p.reset == RESET_SUBTRACT:
                            x = ledger.clamp(V, x, p.v_low, p.v_high, p.v_overflow, b, t, i)
                    if p.reset_delay:
                        pending[b, i] = s
                v[b, i] = x
                count[b, i] += s
                if p.refractory == REFRACTORY_COUNTER and s:
                    refractory[b, i] = p.refractory_steps
                elif p.refractory == REFRACTORY_TRACE:
                    refractory[b, i] = ledger.clamp(
                        TRACE, trace + s * p.trace_amplitude, p.trace_low, p.trace_high, Overflow.SAT, b, t, i
                    )
                out[b, t, i] = s
                if u_record.shape[1]:
                    u_record[b, t, i] = u[b, i]
                if v_record.shape[1]:
                    v_record[b, t, i] = v[b, i]
