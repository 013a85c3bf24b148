"""Spike-timing rules in plain Python integers: the specification (``docs/learning.md``).

The compiled twins in `pair.py` have the same names and signatures and give the same integers. Weights are
``(inputs, outputs)``; samples of a batch learn together: their changes are summed exactly and applied once.
"""

from ..neurons.reference import decay
from ..numbers.modes import Rounding
from ..numbers.reference import random_word, round_shift
from .parameters import (
    DRAW_ELIGIBILITY,
    DRAW_PAIR,
    DRAW_POST,
    DRAW_PRE,
    DRAW_REWARD,
    PAIR_CHANGED,
    PAIR_CLIPPED,
    PAIR_DOWN,
    PAIR_UP,
)

__all__ = ["fade", "mark", "pair_step", "reward_step"]


def _word(c, step, draw, sample, element, rounding):
    """Random bits of one rounding; none are drawn where it needs none."""
    return random_word(c.seed, step, c.layer, draw, sample, element) if rounding == Rounding.STOCHASTIC else 0


def fade(x, y, c, step, sample):
    """One decay of the traces `x` ``(B, inputs)`` and `y` ``(B, outputs)`` in place; `sample` numbers the first row."""
    pre = (c.pre_kind, c.pre_a, c.pre_b, c.pre_rounding, c.pre_least)
    post = (c.post_kind, c.post_a, c.post_b, c.post_rounding, c.post_least)
    for trace, (kind, a, b, rounding, least), draw in ((x, pre, DRAW_PRE), (y, post, DRAW_POST)):
        for row in range(trace.shape[0]):
            for i in range(trace.shape[1]):
                word = _word(c, step, draw, sample + row, i, rounding)
                trace[row, i] = decay(int(trace[row, i]), kind, a, b, rounding, least, word)


def mark(pre, post, x, y, c):
    """Spikes enter the traces, in place: ``min(trace + amplitude * spikes, max)``, or the amplitude if `nearest`."""
    sides = ((x, pre, c.pre_amplitude, c.pre_max), (y, post, c.post_amplitude, c.post_max))
    for trace, spikes, amplitude, top in sides:
        for row in range(trace.shape[0]):
            for i in range(trace.shape[1]):
                if spikes[row, i]:
                    old = 0 if c.nearest else int(trace[row, i])
                    count = 1 if c.nearest else int(spikes[row, i])
                    trace[row, i] = min(old + amplitude * count, top)


def _pairs(pre, post, x, y, potentiation, depression, b, i, j):
    """What the pairs of one step of sample b say about synapse (i, j): upwards and downwards."""
    return (
        int(post[b, j]) * int(potentiation[int(x[b, i])]) if post[b, j] else 0,
        int(pre[b, i]) * int(depression[int(y[b, j])]) if pre[b, i] else 0,
    )


def pair_step(pre, post, x, y, potentiation, depression, c, step, weight, counters):
    """Pair-based plasticity of one step: a spike meets the decayed trace of the other side.

    ``up = sum_b post[b, j] * potentiation[x[b, i]]``, ``down = sum_b pre[b, i] * depression[y[b, j]]``

    ``weight = clip(weight + round((up - down) / 2**places), weight_min, weight_max)``, or with `soft`
    ``round((up * (weight_max - weight) - down * (weight - weight_min)) / 2**places)``.

    Traces must not yet hold the spikes of this step (`mark` comes after): two spikes of one step are no pair.

    Parameters
    ----------
    pre : (B, inputs), post : (B, outputs)
        Spikes of the step, 0 or more.
    x : (B, inputs), y : (B, outputs)
        Traces after `fade`.
    potentiation : (pre_max + 1,), depression : (post_max + 1,)
        Size of a change by trace, in units of ``2**-places`` of a weight step.
    c : PairParameters
    weight : (inputs, outputs), updated
    counters : (PAIR_COUNTERS,)
        Weights that were clipped and that changed; sums of `up` and `down`.
    """
    samples, outputs = range(pre.shape[0]), weight.shape[1]
    for i in range(weight.shape[0]):
        for j in range(outputs):
            pairs = [_pairs(pre, post, x, y, potentiation, depression, b, i, j) for b in samples]
            up, down = sum(one for one, _ in pairs), sum(two for _, two in pairs)
            counters[PAIR_UP] += up
            counters[PAIR_DOWN] += down
            old = int(weight[i, j])
            total = up * (c.weight_max - old) - down * (old - c.weight_min) if c.soft else up - down
            word = _word(c, step, DRAW_PAIR, 0, i * outputs + j, c.rounding)
            _move(weight, i, j, round_shift(total, c.places, c.rounding, word), c, counters)


def reward_step(pre, post, x, y, potentiation, depression, reward, c, step, sample, eligibility, weight, counters):
    """Three-factor plasticity of one step: pairs leave a trace at the synapse, and the reward turns it into change.

    ``eligibility[b] = clip(decay(eligibility[b]) + up[b] - down[b], +-eligibility_max)``

    ``weight = clip(weight + round(sum_b reward[b] * eligibility[b] / 2**places), weight_min, weight_max)``

    `eligibility` is ``(B, inputs, outputs)``, `reward` ``(B,)`` integers of either sign; the rest is as in `pair_step`.
    """
    outputs = weight.shape[1]
    parts = (c.eligibility_kind, c.eligibility_a, c.eligibility_b, c.eligibility_rounding, c.eligibility_least)
    for i in range(weight.shape[0]):
        for j in range(outputs):
            element, total = i * outputs + j, 0
            for b in range(pre.shape[0]):
                up, down = _pairs(pre, post, x, y, potentiation, depression, b, i, j)
                counters[PAIR_UP] += up
                counters[PAIR_DOWN] += down
                word = _word(c, step, DRAW_ELIGIBILITY, sample + b, element, c.eligibility_rounding)
                held = decay(int(eligibility[b, i, j]), *parts, word) + up - down
                eligibility[b, i, j] = min(max(held, -c.eligibility_max), c.eligibility_max)
                total += int(reward[b]) * int(eligibility[b, i, j])
            word = _word(c, step, DRAW_REWARD, 0, element, c.rounding)
            _move(weight, i, j, round_shift(total, c.places, c.rounding, word), c, counters)


def _move(weight, i, j, change, c, counters):
    old = int(weight[i, j])
    code = min(max(old + change, c.weight_min), c.weight_max)
    counters[PAIR_CLIPPED] += code != old + change
    counters[PAIR_CHANGED] += code != old
    weight[i, j] = code
