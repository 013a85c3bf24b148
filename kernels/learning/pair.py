"""Compiled spike-timing rules: twins of `pair_reference.py`, same names, signatures and integers.

Event-driven: a step looks at the rows of inputs that fire and at the columns of outputs that fire. Everything is int64;
the bounds that make it exact are checked when weights meet a rule and before a step (``intsnn/learning/stdp.py``).
"""

import numpy as np

from ..neurons.compiled import decay
from ..numbers.compiled import STOCHASTIC, absorb, random_key, round_shift
from ..toolchain.jit import kernel
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

LOW = 32  # bits of a product of reward and eligibility that are summed apart from the rest
FAR = 1 << 30  # upper parts beyond which every weight of 16 bits is clipped, whatever the places (at most 40)


@kernel
def fade(x, y, c, step, sample):
    """Twin of `pair_reference.fade`."""
    _fade(x, c.pre_kind, c.pre_a, c.pre_b, c.pre_rounding, c.pre_least, c, step, sample, DRAW_PRE)
    _fade(y, c.post_kind, c.post_a, c.post_b, c.post_rounding, c.post_least, c, step, sample, DRAW_POST)


@kernel
def _fade(trace, kind, a, b, rounding, least, c, step, sample, draw):
    key = random_key(c.seed, step, c.layer, draw)
    for row in range(trace.shape[0]):
        own = absorb(key, sample + row)
        for i in range(trace.shape[1]):
            value = np.int64(trace[row, i])
            if value:  # 0 stays 0 under every decay
                trace[row, i] = decay(value, kind, a, b, rounding, least, _word(own, i, rounding))


@kernel
def _word(key, element, rounding):
    """Random bits of one rounding as int64; none are drawn where it needs none."""
    if rounding == STOCHASTIC:
        return np.int64(absorb(key, element))
    return np.int64(0)


@kernel
def mark(pre, post, x, y, c):
    """Twin of `pair_reference.mark`."""
    _mark(pre, x, c.pre_amplitude, c.pre_max, c.nearest)
    _mark(post, y, c.post_amplitude, c.post_max, c.nearest)


@kernel
def _mark(spikes, trace, amplitude, top, nearest):
    for row in range(trace.shape[0]):
        for i in range(trace.shape[1]):
            if spikes[row, i]:
                old = np.int64(0) if nearest else np.int64(trace[row, i])
                count = np.int64(1) if nearest else np.int64(spikes[row, i])
                trace[row, i] = min(old + np.int64(amplitude) * count, np.int64(top))


@kernel
def _move(weight, i, j, change, c, counters):
    old = np.int64(weight[i, j])
    code = min(max(old + change, np.int64(c.weight_min)), np.int64(c.weight_max))
    counters[PAIR_CLIPPED] += code != old + change
    counters[PAIR_CHANGED] += code != old
    weight[i, j] = code


@kernel
def pair_step(pre, post, x, y, potentiation, depression, c, step, weight, counters):
    """Twin of `pair_reference.pair_step`."""
    samples = pre.shape[0]
    inputs, outputs = weight.shape
    firing = np.empty(outputs, np.int64)  # outputs that fire in any sample
    columns = 0
    for column in range(outputs):
        for b in range(samples):
            if post[b, column]:
                firing[columns] = column
                columns += 1
                break
    key = absorb(random_key(c.seed, step, c.layer, DRAW_PAIR), 0)
    for i in range(inputs):
        active = False
        for b in range(samples):
            active = active or pre[b, i] != 0
        for n in range(outputs if active else columns):
            j = np.int64(n) if active else firing[n]
            up = np.int64(0)
            down = np.int64(0)
            for b in range(samples):
                if post[b, j]:
                    up += np.int64(post[b, j]) * np.int64(potentiation[x[b, i]])
                if pre[b, i]:
                    down += np.int64(pre[b, i]) * np.int64(depression[y[b, j]])
            if up == 0 and down == 0:
                continue
            counters[PAIR_UP] += up
            counters[PAIR_DOWN] += down
            old = np.int64(weight[i, j])
            total = up - down
            if c.soft:
                total = up * (c.weight_max - old) - down * (old - c.weight_min)
            word = _word(key, i * outputs + j, c.rounding)
            _move(weight, i, j, round_shift(total, c.places, c.rounding, word), c, counters)


@kernel
def reward_step(pre, post, x, y, potentiation, depression, reward, c, step, sample, eligibility, weight, counters):
    """Twin of `pair_reference.reward_step`."""
    samples = pre.shape[0]
    inputs, outputs = weight.shape
    top = np.int64(c.eligibility_max)
    fading = random_key(c.seed, step, c.layer, DRAW_ELIGIBILITY)
    key = absorb(random_key(c.seed, step, c.layer, DRAW_REWARD), 0)
    for i in range(inputs):
        for j in range(outputs):
            element = i * outputs + j
            low = np.int64(0)  # the sum in two halves: products have up to 55 bits, so that 256 of them may leave int64
            high = np.int64(0)
            for b in range(samples):
                held = np.int64(eligibility[b, i, j])
                if held:
                    word = np.int64(0)
                    if c.eligibility_rounding == STOCHASTIC:
                        word = np.int64(absorb(absorb(fading, sample + b), element))
                    held = np.int64(
                        decay(
                            held, c.eligibility_kind, c.eligibility_a, c.eligibility_b, c.eligibility_rounding,
                            c.eligibility_least, word,
                        )
                    )  # fmt: skip
                if post[b, j]:
                    up = np.int64(post[b, j]) * np.int64(potentiation[x[b, i]])
                    counters[PAIR_UP] += up
                    held += up
                if pre[b, i]:
                    down = np.int64(pre[b, i]) * np.int64(depression[y[b, j]])
                    counters[PAIR_DOWN] += down
                    held -= down
                held = min(max(held, -top), top)
                eligibility[b, i, j] = held
                product = np.int64(reward[b]) * held
                low += product & np.int64((1 << LOW) - 1)
                high += product >> np.int64(LOW)
            high += low >> np.int64(LOW)
            high = min(max(high, np.int64(-FAR)), np.int64(FAR))  # the change is then 2**22 or more, its weight clipped
            total = (high << np.int64(LOW)) + (low & np.int64((1 << LOW) - 1))
            if total:
                word = _word(key, element, c.rounding)
                _move(weight, i, j, round_shift(total, c.places, c.rounding, word), c, counters)
