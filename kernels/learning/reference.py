"""Integer DECOLLE in plain Python integers: the specification of local learning (``docs/learning.md``).

One function for each equation of one layer and one step, in the order of a step. The compiled twins in `compiled.py`
and `sums.py` have the same names and signatures and give the same integers.

Layout: one row per sample, maps as ``(H * W * C)``, channel fastest; weights ``(kernel height, kernel width, in,
out)``. A dense layer is a 1x1 window over one pixel. Samples are independent of each other in every function except
`accumulate`, which adds them up, and the functions that answer a maximum: maxima and sums of parts are those of the
whole, so that any split of a batch gives the same integers.
"""

from ..layers.reference import windows
from ..numbers.modes import Rounding
from ..numbers.reference import random_word, round_shift
from .parameters import (
    A_SUM,
    DRAW_DROPOUT,
    DRAW_P,
    DRAW_Q,
    ERRORS,
    LANES,
    LOSS,
    P_CLIPPED,
    Q_CLIPPED,
    SPIKES,
    U_CLIPPED,
    U_SUM,
    W_CHANGED,
    W_CLIPPED,
)

__all__ = [
    "accumulate",
    "accumulate_bias",
    "charge",
    "errors",
    "exponent",
    "fire",
    "largest",
    "local_peak",
    "output_errors",
    "read",
    "spread",
    "traces",
    "update",
]

HALF_EVEN = Rounding.RND_CONV


def clip(x, low, high):
    """`x` brought into [low, high]."""
    return min(max(x, low), high)


def rounded(x, shift):
    """``x / 2**shift`` to the nearest integer, a tie to the even one; a negative shift is exact."""
    return round_shift(x, shift, HALF_EVEN) if shift > 0 else x << -shift


def random_16(c, step, draw, sample, element):
    """16 random bits: lane ``element % 4`` of the word of ``element // 4``."""
    word = random_word(c.seed, step, c.layer, draw, sample, element // LANES)
    return word >> 16 * (element % LANES) & 0xFFFF


def exponent(largest):
    """Round(log2(`largest`)), the power of two by which a tensor is normalised; 0 for 0.

    The nearest in the logarithm: 2**e goes up to 2**(e + 1) at the square root of 2, which no integer meets.
    """
    if largest == 0:
        return 0
    floor = largest.bit_length() - 1
    return floor + (largest * largest >> 2 * floor + 1)


def largest(x):
    """max|x|."""
    return max(abs(int(value)) for value in x.reshape(-1).tolist())


# -- forward ---------------------------------------------------------------------------------------


def traces(p, q, x, decay_p, gain_p, decay_q, gain_q, c, step, sample, counters):
    """One step of both traces, in place; P takes the old Q.

    ``p = clip(round((decay_p * p + gain_p * q) / 2**places), 0, p_max)``
    ``q = clip(round((decay_q * q + gain_q * x) / 2**places), 0, q_max)``

    Parameters
    ----------
    p, q : (B, n)
        Codes, updated.
    x : (B, n)
        Input spikes, 0 or more.
    decay_p, gain_p, decay_q, gain_q : (n,)
        Constants of each input element, `places` binary places.
    c : LearnParameters
        Rounding is ``trace_rounding``; STOCHASTIC draws 16 bits an element, the highest of the `places`.
    step, sample : int
        Keys of the random bits; `sample` is the number of the first row.
    counters : (COUNTERS,)
        Counts what was clipped at the top.
    """

    def settle(value, top, b, i, draw, counter):
        word = 0
        if c.trace_rounding == Rounding.STOCHASTIC:
            word = random_16(c, step, draw, sample + b, i) << 16 >> 32 - c.places
        code = round_shift(value, c.places, c.trace_rounding, word)
        counters[counter] += code > top
        return clip(code, 0, top)

    for b in range(p.shape[0]):
        for i in range(p.shape[1]):
            old_p, old_q, spikes = int(p[b, i]), int(q[b, i]), int(x[b, i])
            p[b, i] = settle(int(decay_p[i]) * old_p + int(gain_p[i]) * old_q, c.p_max, b, i, DRAW_P, P_CLIPPED)
            q[b, i] = settle(int(decay_q[i]) * old_q + int(gain_q[i]) * spikes, c.q_max, b, i, DRAW_Q, Q_CLIPPED)


def charge(p, weight, window, out):
    """``out[b, pixel, o] = sum of weight * p`` over the window of each output pixel; padding counts as zero."""
    taps, rows = list(windows(window)), weight.tolist()
    for b in range(p.shape[0]):
        values = p[b].tolist()
        for pixel, inside in taps:
            sums = [0] * window.out_channels
            for source, ky, kx in inside:
                for channel in range(window.channels):
                    value = values[source * window.channels + channel]
                    if value:
                        for o, w in enumerate(rows[ky][kx][channel]):
                            sums[o] += w * value
            for o, total in enumerate(sums):
                out[b, pixel * window.out_channels + o] = total


def _pools(window, pool):
    """Yield ``(pooled element, [elements of its window in row order])``."""
    channels = window.out_channels
    for y in range(pool.height):
        for x in range(pool.width):
            corner = (y * window.out_width + x) * pool.size
            pixels = [corner + dy * window.out_width + dx for dy in range(pool.size) for dx in range(pool.size)]
            for channel in range(channels):
                yield (y * pool.width + x) * channels + channel, [pixel * channels + channel for pixel in pixels]


def fire(charges, bias, c, window, pool, r, u, choice, spikes, counters):
    """Membrane, spikes, refractory state and spike max-pool of one step.

    ``u = clip(round((charge_gain * charge + bias_gain * bias - refractory_gain * r) / 2**charge_places), +-u_max)``
    ``s = [u >= threshold]``
    ``r = clip(round((refractory_decay * r + refractory_step * s) / 2**places), 0, r_max)``

    Parameters
    ----------
    charges : (B, N)
        Sums of `charge`.
    bias : (O,)
        Forward codes of the bias.
    r : (B, N), updated; u : (B, N), written
    choice : (B, M), written
        Which place of its pool window, in row order, holds the first largest u.
    spikes : (B, M), written
        1 where any neuron of the window fires.
    counters : (COUNTERS,)
        ``U_CLIPPED``, ``SPIKES`` (before the pool), ``U_SUM``.
    """
    for b in range(u.shape[0]):
        for i, total in enumerate(charges[b].tolist()):
            sums = c.charge_gain * total + c.bias_gain * int(bias[i % window.out_channels])
            value = rounded(sums - c.refractory_gain * int(r[b, i]), c.charge_places)
            code = clip(value, -c.u_max, c.u_max)
            fired = int(code >= c.threshold)
            u[b, i] = code
            r[b, i] = clip(rounded(c.refractory_decay * int(r[b, i]) + c.refractory_step * fired, c.places), 0, c.r_max)
            counters[U_CLIPPED] += code != value
            counters[SPIKES] += fired
            counters[U_SUM] += code
        for j, elements in _pools(window, pool):
            codes = [int(u[b, i]) for i in elements]
            choice[b, j] = codes.index(max(codes))
            spikes[b, j] = max(codes) >= c.threshold


# -- readout and loss ------------------------------------------------------------------------------


def _chosen(choice, window, pool):
    """The neuron that stands for each pooled element of one sample."""
    return [elements[int(choice[j])] for j, elements in _pools(window, pool)]


def read(u, choice, readout, table, c, window, pool, y, counters):
    """Fixed random readout of pooled activity: ``y[k] = clip(round(sum_j readout[k, j] * a[j] / 2**readout_shift))``.

    ``a[j] = table[u_max + max u of the window]`` is the quantised sigmoid.

    Parameters
    ----------
    readout : (classes, M)
    table : (2 * u_max + 1,)
    y : (B, classes), written; codes in -activation_max .. activation_max
    counters : (COUNTERS,)
        ``A_SUM``.
    """
    rows = readout.tolist()
    for b in range(u.shape[0]):
        a = [int(table[int(u[b, i]) + c.u_max]) for i in _chosen(choice[b], window, pool)]
        counters[A_SUM] += sum(a)
        for k, row in enumerate(rows):
            total = sum(w * x for w, x in zip(row, a, strict=True))
            y[b, k] = clip(rounded(total, c.readout_shift), -c.activation_max, c.activation_max)


def output_errors(y, labels, c, step, sample, delta, predicted, counters):
    """Prediction, loss and its derivative by the readouts.

    The output is ``(y / h + 1) / 2`` with ``h = activation_max + 1`` and the target 1 for the label, 0 elsewhere. In
    units of 1 / 2h, ``delta = y + h - 2h * target``, and the loss is ``sum of delta**2`` (in units of 1 / 8h**2). A
    readout that is dropped has an output of 0, which counts in the loss, and no delta. The first largest output is the
    prediction.

    Parameters
    ----------
    labels : (B,)
        ``NO_LABEL``: only a prediction is made.
    delta : (B, classes), written; predicted : (B,), written

    Returns
    -------
    int
        max|delta|.
    """
    half = c.activation_max + 1
    for b in range(y.shape[0]):
        label, outputs = int(labels[b]), []
        for k in range(y.shape[1]):
            dropped = random_16(c, step, DRAW_DROPOUT, sample + b, k) < c.dropout
            outputs.append(0 if dropped else int(y[b, k]) + half)
            target = 2 * half if k == label else 0
            delta[b, k] = 0 if dropped or label < 0 else outputs[k] - target
            if label >= 0:
                counters[LOSS] += (outputs[k] - target) ** 2
        predicted[b] = outputs.index(max(outputs))
        counters[ERRORS] += label >= 0 and predicted[b] != label
    return largest(delta)


# -- errors ----------------------------------------------------------------------------------------


def error_code(x, shift, c):
    """Quantised error: ``x / 2**shift`` to the nearest code, a tie to the even one, clipped to +-error_max."""
    return clip(rounded(x, shift), -c.error_max, c.error_max)


def spread(delta, shift, feedback, c, v):
    """Errors of the readouts sent back through the fixed feedback: ``v[j] = sum_k E(delta[k]) * feedback[k, j]``.

    `feedback` is ``(classes, M)``, `shift` is ``exponent(max|delta|) - error_places``. Returns max|v|.
    """
    columns = feedback.T.tolist()
    for b in range(delta.shape[0]):
        codes = [error_code(int(value), shift, c) for value in delta[b].tolist()]
        for j, column in enumerate(columns):
            v[b, j] = sum(e * w for e, w in zip(codes, column, strict=True))
    return largest(v)


def _local(v, shift, choice, u, derivative, quiet, c, window, pool):
    """Errors of all neurons of one sample before the last quantisation.

    ``h = (E(v) * 2**penalty_places + rate_penalty) * derivative[u] - quiet_penalty * quiet`` for the neuron that stands
    for its pool window; for the others only the last term.
    """
    h = [-c.quiet_penalty * quiet] * len(u)
    for j, i in enumerate(_chosen(choice, window, pool)):
        error = (error_code(int(v[j]), shift, c) << c.penalty_places) + c.rate_penalty
        h[i] += error * int(derivative[int(u[i]) + c.u_max])
    return h


def local_peak(v, shift, choice, u, derivative, quiet, c, window, pool):
    """max|h| of the errors of all neurons; `shift` is ``exponent(max|v|) - error_places``."""
    return max(
        max(abs(h) for h in _local(v[b], shift, choice[b], u[b], derivative, quiet, c, window, pool))
        for b in range(u.shape[0])
    )


def errors(v, shift, last_shift, choice, u, derivative, quiet, c, window, pool, e):
    """``e = E(h)``, the errors that weights learn from; `last_shift` is ``exponent(max|h|) - error_places``.

    `derivative` ``(2 * u_max + 1,)`` is the table of the slope of the sigmoid, `quiet` 1 or 0.
    """
    for b in range(u.shape[0]):
        for i, h in enumerate(_local(v[b], shift, choice[b], u[b], derivative, quiet, c, window, pool)):
            e[b, i] = error_code(h, last_shift, c)


# -- weights ---------------------------------------------------------------------------------------


def accumulate(p, e, window, gradient):
    """Add the gradients of all samples: ``gradient[ky, kx, i, o] += sum of p * e`` over the output pixels.

    The sums are exact. `gradient` has the shape of the weights.
    """
    for b in range(p.shape[0]):
        values = p[b].tolist()
        for pixel, inside in windows(window):
            for o in range(window.out_channels):
                error = int(e[b, pixel * window.out_channels + o])
                if error == 0:
                    continue
                for source, ky, kx in inside:
                    for channel in range(window.channels):
                        gradient[ky, kx, channel, o] += values[source * window.channels + channel] * error


def accumulate_bias(e, gradient):
    """``gradient[o] += sum of e`` over samples and output pixels; `gradient` ``(O,)``."""
    for row in e.tolist():
        for i, error in enumerate(row):
            gradient[i % len(gradient)] += error


def stochastic_step(gradient, shift, lane, c):
    """``gradient / 2**shift`` rounded at random to an integer, at most `step_max` either way.

    With `random_bits` = b and a lane of b random bits v this is ``(floor(gradient * 2**b / 2**shift) + v) >> b``: the
    floor, and one more with the probability of the fraction to b places; exact values never move.

    With `inclusive_random` it is the size that is rounded, as in the original: one more where the fraction f has
    ``round(f * 2**(b - 1)) >= round(v / 2)``, a tie of the first to even and of the second up. There an exact value
    moves once in 2**b, unless it is 0.
    """
    v = lane >> 16 - c.random_bits
    if not c.inclusive_random:
        return clip((gradient << c.random_bits >> shift) + v >> c.random_bits, -c.step_max, c.step_max)
    if gradient == 0:
        return 0
    whole = abs(gradient) >> shift
    fraction = abs(gradient) - (whole << shift)
    up = rounded(fraction, shift - (c.random_bits - 1)) >= v + 1 >> 1
    n = min(whole + up, c.step_max)
    return n if gradient > 0 else -n


def update(master, gradient, shift, c, step, draw, weight, counters):
    """Move the master weights by the quantised gradient and renew the forward weights.

    ``n = stochastic_step(g, shift)``, ``master = clip(master - n, -master_max, master_max)``,
    ``weight = clip(round(master / 2**weight_shift), -weight_max, weight_max)``, a tie to even.

    Parameters
    ----------
    master, weight : (n,), updated
        Flat, in the order ``(kernel height, kernel width, in, out)``, which also numbers the random bits.
    gradient : (n,)
    shift : int
        Exponent of the gradient's normalisation plus the shift of the learning rate, 0 or more.
    draw : int
        DRAW_WEIGHT or DRAW_BIAS.
    counters : (COUNTERS,)
        ``W_CLIPPED``, ``W_CHANGED``.
    """
    for i in range(master.shape[0]):
        moved = int(master[i]) - stochastic_step(int(gradient[i]), shift, random_16(c, step, draw, 0, i), c)
        code = clip(moved, -c.master_max, c.master_max)
        counters[W_CLIPPED] += code != moved
        counters[W_CHANGED] += code != master[i]
        master[i] = code
        weight[i] = clip(rounded(code, c.weight_shift), -c.weight_max, c.weight_max)
