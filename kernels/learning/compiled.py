"""Compiled element-wise half of integer DECOLLE: twins of `reference.py`, same names, signatures and integers.

The other half, sums of weights and of gradients, is in `sums.py`. Everything is int64 unless said otherwise;
the bounds that make this exact are checked when a layer is built (``intsnn/learning/constants.py``).
"""

import math

import numpy as np

from ..numbers.compiled import STOCHASTIC, absorb, random_key, round_shift
from ..toolchain.jit import kernel
from .parameters import (
    A_SUM,
    DRAW_DROPOUT,
    DRAW_P,
    DRAW_Q,
    ERRORS,
    LOSS,
    P_CLIPPED,
    Q_CLIPPED,
    SPIKES,
    U_CLIPPED,
    U_SUM,
    W_CHANGED,
    W_CLIPPED,
)
from .tiles import (
    GROUP,
    HALF,
    LANE,
    LEFT,
    PLACES,
    RIGHT,
    SETTINGS,
    SOME,
    STEP_MAX,
    TALLIES,
    TOP,
    W_HALF,
    W_RIGHT,
    W_SOME,
    W_TOP,
    WHOLE,
    WORDS,
    step_tile,
    step_tile_inclusive,
    words_tile,
)

__all__ = [
    "errors",
    "exponent",
    "fire",
    "largest",
    "local_peak",
    "output_errors",
    "random_words",
    "read",
    "spread",
    "traces",
    "update",
]

ROOT_2 = math.isqrt(1 << 125)  # floor(2**62 * sqrt(2)); shifted right it is floor(2**n * sqrt(2))
HALF_EVEN = 3  # Rounding.RND_CONV
BLOCK = 256  # random words that are drawn at a time


@kernel
def _nearest(x, right, half, some):
    """``x / 2**right`` to the nearest, a tie to even, without a branch; half = 2**right >> 1, some = [right > 0]."""
    return (x + half - some + ((x >> right) & some)) >> right


@kernel
def rounded(x, shift):
    """``x / 2**shift`` to the nearest integer, a tie to the even one; a negative shift is exact."""
    x = np.int64(x)
    shift = np.int64(shift)
    if shift <= 0:
        return x << -shift
    return _nearest(x, shift, np.int64(1) << (shift - np.int64(1)), np.int64(1))


@kernel
def exponent(largest):
    """Twin of `reference.exponent`; `largest` below 2**62."""
    value = np.int64(largest)
    if value == 0:
        return np.int64(0)
    floor = np.int64(0)
    while value >> (floor + np.int64(1)):
        floor += np.int64(1)
    return floor + np.int64(value > ROOT_2 >> (np.int64(62) - floor))


@kernel
def largest(x):
    """max|x| of a contiguous array."""
    flat = x.reshape(-1)
    low = np.int64(0)
    high = np.int64(0)
    for i in range(flat.size):
        low = min(low, np.int64(flat[i]))
        high = max(high, np.int64(flat[i]))
    return max(high, -low)


@kernel
def random_words(seed, step, layer, draw, sample, out):
    """``out[i] = random_word(seed, step, layer, draw, sample, i)``, uint64."""
    _fill_words(absorb(random_key(seed, step, layer, draw), sample), 0, out, out.size)


@kernel
def _fill_words(key, first, out, count):
    """``out[i] = absorb(key, first + i)``, i < count."""
    i = 0
    while i + WORDS <= count:
        words_tile(key, first + i, out, i)
        i += WORDS
    while i < count:
        out[i] = absorb(key, first + i)
        i += 1


@kernel
def _lane(words, element):
    """The 16 random bits of `element`, for words of the elements from a multiple of 4 on."""
    return np.int64((words[element >> 2] >> np.uint64(16 * (element & 3))) & np.uint64(0xFFFF))


# -- forward ---------------------------------------------------------------------------------------


@kernel
def traces(p, q, x, decay_p, gain_p, decay_q, gain_q, c, step, sample, counters):
    """Twin of `reference.traces`."""
    elements = p.shape[1]
    places = np.int64(c.places)
    half = np.int64(1) << (places - np.int64(1))
    one = np.int64(1)
    p_max, q_max = np.int64(c.p_max), np.int64(c.q_max)
    p_clipped = np.int64(0)
    q_clipped = np.int64(0)
    if c.trace_rounding == HALF_EVEN:
        for b in range(p.shape[0]):
            for i in range(elements):
                old_q = np.int64(q[b, i])
                new_p = _nearest(decay_p[i] * np.int64(p[b, i]) + gain_p[i] * old_q, places, half, one)
                new_q = _nearest(decay_q[i] * old_q + gain_q[i] * np.int64(x[b, i]), places, half, one)
                p_clipped += new_p > p_max
                q_clipped += new_q > q_max
                p[b, i] = min(new_p, p_max)
                q[b, i] = min(new_q, q_max)
    else:
        drawing = c.trace_rounding == STOCHASTIC
        up = max(places - np.int64(16), np.int64(0))
        down = max(np.int64(16) - places, np.int64(0))
        words_p = np.zeros((elements + 3) // 4, np.uint64)
        words_q = np.zeros((elements + 3) // 4, np.uint64)
        for b in range(p.shape[0]):
            if drawing:
                random_words(c.seed, step, c.layer, DRAW_P, sample + b, words_p)
                random_words(c.seed, step, c.layer, DRAW_Q, sample + b, words_q)
            for i in range(elements):
                old_q = np.int64(q[b, i])
                new_p = decay_p[i] * np.int64(p[b, i]) + gain_p[i] * old_q
                new_q = decay_q[i] * old_q + gain_q[i] * np.int64(x[b, i])
                if drawing:
                    new_p = (new_p + ((_lane(words_p, i) << up) >> down)) >> places
                    new_q = (new_q + ((_lane(words_q, i) << up) >> down)) >> places
                else:
                    new_p = round_shift(new_p, places, c.trace_rounding, np.uint64(0))
                    new_q = round_shift(new_q, places, c.trace_rounding, np.uint64(0))
                p_clipped += new_p > p_max
                q_clipped += new_q > q_max
                p[b, i] = min(new_p, p_max)
                q[b, i] = min(new_q, q_max)
    counters[P_CLIPPED] += p_clipped
    counters[Q_CLIPPED] += q_clipped


@kernel
def fire(charges, bias, c, window, pool, r, u, choice, spikes, counters):
    """Twin of `reference.fire`."""
    channels = window.out_channels
    one = np.int64(1)
    charge_gain, refractory_gain = np.int64(c.charge_gain), np.int64(c.refractory_gain)
    charge_places, places = np.int64(c.charge_places), np.int64(c.places)
    charge_half, half = one << (charge_places - one), one << (places - one)
    decay, rise, r_max = np.int64(c.refractory_decay), np.int64(c.refractory_step), np.int64(c.r_max)
    u_max, threshold = np.int64(c.u_max), np.int64(c.threshold)
    neurons = u.shape[1]
    offset = np.empty(neurons, np.int64)  # one long loop is faster than many short ones
    for base in range(0, neurons, channels):
        for o in range(channels):
            offset[base + o] = c.bias_gain * np.int64(bias[o])
    clipped = np.int64(0)
    fired = np.int64(0)
    total = np.int64(0)
    for b in range(u.shape[0]):
        charges_b, r_b, u_b = charges[b], r[b], u[b]
        for i in range(neurons):
            old_r = np.int64(r_b[i])
            value = charge_gain * np.int64(charges_b[i]) + offset[i] - refractory_gain * old_r
            value = _nearest(value, charge_places, charge_half, one)
            code = min(max(value, -u_max), u_max)
            s = np.int64(code >= threshold)
            u_b[i] = code
            r_b[i] = min(_nearest(decay * old_r + rise * s, places, half, one), r_max)
            clipped += np.int64(code != value)
            fired += s
            total += code
        _max_pool(u[b], threshold, window.out_width, channels, pool, choice[b], spikes[b])
    counters[U_CLIPPED] += clipped
    counters[SPIKES] += fired
    counters[U_SUM] += total


@kernel
def _max_pool(u, threshold, width, channels, pool, choice, spikes):
    """First place of the largest u of each window, and whether it fires."""
    if pool.size == 1:
        for i in range(u.size):
            choice[i] = 0
            spikes[i] = u[i] >= threshold
        return
    best = np.empty(channels, u.dtype)
    for y in range(pool.height):
        for x in range(pool.width):
            at = (y * pool.width + x) * channels
            corner = (y * width + x) * pool.size
            for o in range(channels):
                best[o] = u[corner * channels + o]
                choice[at + o] = 0
            for place in range(1, pool.size * pool.size):
                pixel = (corner + place // pool.size * width + place % pool.size) * channels
                for o in range(channels):
                    value = u[pixel + o]
                    if value > best[o]:
                        best[o] = value
                        choice[at + o] = place
            for o in range(channels):
                spikes[at + o] = best[o] >= threshold


@kernel
def _places(window, pool):
    """How far the neurons of a pool window lie behind its first one."""
    out = np.empty(pool.size * pool.size, np.int64)
    for place in range(out.size):
        out[place] = (place // pool.size * window.out_width + place % pool.size) * window.out_channels
    return out


@kernel
def _corner(pixel, window, pool):
    """First neuron of the pool window of a pooled pixel."""
    y, x = pixel // pool.width, pixel % pool.width
    return (y * window.out_width + x) * pool.size * window.out_channels


# -- readout and loss ------------------------------------------------------------------------------


@kernel
def read(u, choice, readout, table, c, window, pool, y, counters):
    """Twin of `reference.read`."""
    size = choice.shape[1]
    channels = window.out_channels
    places = _places(window, pool)
    a = np.empty(size, np.int32)
    top = np.int64(c.activation_max)
    activity = np.int64(0)
    for b in range(u.shape[0]):
        for pixel in range(size // channels):
            corner = _corner(pixel, window, pool)
            for o in range(channels):
                j = pixel * channels + o
                a[j] = table[np.int64(u[b, corner + o + places[choice[b, j]]]) + c.u_max]
                activity += a[j]
        for k in range(y.shape[1]):
            total = np.int64(0)
            for j in range(size):
                total += np.int64(readout[k, j]) * np.int64(a[j])
            y[b, k] = min(max(rounded(total, c.readout_shift), -top), top)
    counters[A_SUM] += activity


@kernel
def output_errors(y, labels, c, step, sample, delta, predicted, counters):
    """Twin of `reference.output_errors`."""
    half = np.int64(c.activation_max + 1)
    classes = y.shape[1]
    words = np.zeros((classes + 3) // 4, np.uint64)
    for b in range(y.shape[0]):
        label = np.int64(labels[b])
        if c.dropout:
            random_words(c.seed, step, c.layer, DRAW_DROPOUT, sample + b, words)
        best = np.int64(0)
        highest = np.int64(-1)
        for k in range(classes):
            dropped = c.dropout > 0 and _lane(words, k) < c.dropout
            output = np.int64(0) if dropped else np.int64(y[b, k]) + half
            error = output - (2 * half if k == label else np.int64(0))
            delta[b, k] = np.int64(0) if dropped or label < 0 else error
            if label >= 0:
                counters[LOSS] += error * error
            if output > highest:
                best = np.int64(k)
                highest = output
        predicted[b] = best
        counters[ERRORS] += label >= 0 and best != label
    return largest(delta)


# -- errors ----------------------------------------------------------------------------------------


@kernel
def _error_code(x, left, right, half, some, top):
    """``x * 2**left / 2**right`` to the nearest, a tie to even, clipped to +-top."""
    return min(max(_nearest(np.int64(x) << left, right, half, some), -top), top)


@kernel
def _split(shift):
    """A shift to the right as (left, right, 2**right >> 1, [right > 0])."""
    shift = np.int64(shift)
    right = max(shift, np.int64(0))
    return max(-shift, np.int64(0)), right, (np.int64(1) << right) >> np.int64(1), np.int64(right > 0)


@kernel
def spread(delta, shift, feedback, c, v):
    """Twin of `reference.spread`."""
    left, right, half, some = _split(shift)
    top = np.int64(c.error_max)
    size = v.shape[1]
    for b in range(delta.shape[0]):
        target = v[b]
        target[:] = 0
        for k in range(delta.shape[1]):
            error = _error_code(delta[b, k], left, right, half, some, top)
            if error:
                row = feedback[k]
                for j in range(size):
                    target[j] += error * row[j]
    return largest(v)


@kernel
def local_peak(v, shift, choice, u, derivative, quiet, c, window, pool):
    """Twin of `reference.local_peak`."""
    left, right, half, some = _split(shift)
    top, penalty = np.int64(c.error_max), np.int64(c.rate_penalty)
    places = np.int64(c.penalty_places)
    rest = np.int64(-c.quiet_penalty * quiet)
    peak = abs(rest) if v.shape[1] < u.shape[1] else np.int64(0)
    channels = window.out_channels
    within = _places(window, pool)
    for b in range(u.shape[0]):
        for pixel in range(v.shape[1] // channels):
            corner = _corner(pixel, window, pool)
            for o in range(channels):
                j = pixel * channels + o
                error = (_error_code(v[b, j], left, right, half, some, top) << places) + penalty
                code = np.int64(u[b, corner + o + within[choice[b, j]]])
                peak = max(peak, abs(error * derivative[code + c.u_max] + rest))
    return peak


@kernel
def errors(v, shift, last_shift, choice, u, derivative, quiet, c, window, pool, e):
    """Twin of `reference.errors`."""
    left, right, half, some = _split(shift)
    last_left, last_right, last_half, last_some = _split(last_shift)
    top, penalty = np.int64(c.error_max), np.int64(c.rate_penalty)
    places = np.int64(c.penalty_places)
    rest = np.int64(-c.quiet_penalty * quiet)
    rest_code = _error_code(rest, last_left, last_right, last_half, last_some, top)
    channels = window.out_channels
    within = _places(window, pool)
    for b in range(u.shape[0]):
        if v.shape[1] < u.shape[1]:
            e[b, :] = rest_code
        for pixel in range(v.shape[1] // channels):
            corner = _corner(pixel, window, pool)
            for o in range(channels):
                j = pixel * channels + o
                i = corner + o + within[choice[b, j]]
                error = (_error_code(v[b, j], left, right, half, some, top) << places) + penalty
                h = error * derivative[np.int64(u[b, i]) + c.u_max] + rest
                e[b, i] = _error_code(h, last_left, last_right, last_half, last_some, top)


# -- weights ---------------------------------------------------------------------------------------


@kernel
def _stochastic_step(gradient, shift, lane, c):
    """Twin of `reference.stochastic_step`; what would leave 62 bits when shifted left is clipped anyway."""
    bits = np.int64(c.random_bits)
    top = np.int64(c.step_max)
    v = lane >> (np.int64(16) - bits)
    if not c.inclusive_random:
        left, right, _, _ = _split(shift - bits)
        if left > 0:  # shift < 16, so that the bound stays below 2**41
            bound = (top + np.int64(1)) << np.int64(shift)
            gradient = min(max(gradient, -bound), bound)
        return min(max((((gradient << left) >> right) + v) >> bits, -top), top)
    if gradient == 0:
        return np.int64(0)
    size = abs(gradient)
    whole = size >> shift
    up = rounded(size - (whole << shift), shift - (bits - 1)) >= (v + np.int64(1)) >> np.int64(1)
    n = min(whole + np.int64(up), top)
    return n if gradient > 0 else -n


@kernel
def step_settings(shift, c, peak, settings):
    """What `step_tile` needs to know of a step of gradients up to `peak`; whether its 32 and 16 bits are enough."""
    bits = np.int64(c.random_bits)
    places = bits - np.int64(c.inclusive_random)
    left, right, half, some = _split(shift - places)
    if (
        peak >= 1 << 30 or shift > 30 or (peak << left) >= 1 << 30 or c.step_max >= 1 << 14
        or c.master_max + c.step_max >= 1 << 15 or c.weight_shift < 0 or c.weight_shift > 14 or places < 1
    ):  # fmt: skip
        return False
    settings[LEFT] = left
    settings[RIGHT] = right
    settings[HALF] = half
    settings[SOME] = some
    settings[PLACES] = places
    settings[LANE] = 16 - bits
    settings[WHOLE] = shift
    settings[STEP_MAX] = c.step_max
    settings[TOP] = c.master_max
    left, right, half, some = _split(c.weight_shift)
    settings[W_RIGHT] = right
    settings[W_HALF] = half
    settings[W_SOME] = some
    settings[W_TOP] = c.weight_max
    return True


@kernel
def update(master, gradient, shift, c, step, draw, weight, counters):
    """Twin of `reference.update`; `master` of 16 bits moves 32 weights at a time."""
    shift = np.int64(shift)
    words = np.empty(BLOCK, np.uint64)
    key = absorb(random_key(c.seed, step, c.layer, draw), 0)
    settings = np.zeros(SETTINGS, np.int32)
    tallies = np.zeros(TALLIES, np.int32)
    fast = master.itemsize == 2 and step_settings(shift, c, largest(gradient), settings)
    for start in range(0, master.size, 4 * BLOCK):
        stop = min(start + 4 * BLOCK, master.size)
        _fill_words(key, start // 4, words, (stop - start + 3) // 4)
        i = start
        if fast:
            groups = (stop - start) // GROUP
            short = master.view(np.int16)
            if c.inclusive_random:
                step_tile_inclusive(gradient, i, words, 0, settings, short, weight, i, tallies, groups)
            else:
                step_tile(gradient, i, words, 0, settings, short, weight, i, tallies, groups)
            i += groups * GROUP
        _steps(gradient, i, stop, shift, c, words, i - start, master, weight, tallies)
        counters[W_CLIPPED] += np.int64(tallies[0])
        counters[W_CHANGED] += np.int64(tallies[1])
        tallies[:] = 0


@kernel
def _steps(gradient, start, stop, shift, c, words, lanes_at, master, weight, tallies):
    """Move weights one by one."""
    top, forward = np.int64(c.master_max), np.int64(c.weight_max)
    left, right, half, some = _split(c.weight_shift)
    for i in range(start, stop):
        old = np.int64(master[i])
        moved = old - _stochastic_step(np.int64(gradient[i]), shift, _lane(words, lanes_at + i - start), c)
        code = min(max(moved, -top), top)
        tallies[0] += code != moved
        tallies[1] += code != old
        master[i] = code
        weight[i] = _error_code(code, left, right, half, some, forward)
