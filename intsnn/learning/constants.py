"""From real constants to the integers of a layer that learns: the one place where real numbers are rounded.

All of it is exact rational arithmetic (the sigmoid: decimal arithmetic of 60 digits), rounded half to even once. The
same description and seed give the same integers on every machine. Nothing here runs during learning.
"""

from __future__ import annotations

import decimal
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

import numpy as np

from ..errors import FormatError
from ..formats.integers import smallest_dtype
from ..kernels.learning.parameters import (
    DRAW_FEEDBACK,
    DRAW_READOUT,
    DRAW_START,
    DRAW_TAU_MEMBRANE,
    DRAW_TAU_SYNAPSE,
    LearnParameters,
    Pool,
)
from ..kernels.parameters import Window
from .rule import Dense, LearningNetwork, Rule

__all__ = ["LayerConstants", "for_batch", "layer_constants", "sigmoid_tables", "starting_weights"]

ROOM = 61  # bits that sums of the membrane may take
UNIT = 1 << 32  # of uniform random numbers


@dataclass(frozen=True, eq=False)
class LayerConstants:
    """Everything fixed about one layer.

    Attributes
    ----------
    window, pool : Window, Pool
    parameters : LearnParameters
    decay_p, gain_p, decay_q, gain_q : (inputs,) int64
    readout, feedback : (classes, pooled) int8 or int16
    table, slope : (2 * u_max + 1,) int64
        Quantised sigmoid and its slope by U code.
    scales : dict of str to Fraction
        Real value of code 1 of ``p, q, r, u, y, weight, charge``.
    sums, gradients : int
        Greatest |charge| and greatest |p * e| summed over one sample.
    """

    window: Window
    pool: Pool
    parameters: LearnParameters
    decay_p: np.ndarray
    gain_p: np.ndarray
    decay_q: np.ndarray
    gain_q: np.ndarray
    readout: np.ndarray
    feedback: np.ndarray
    table: np.ndarray
    slope: np.ndarray
    scales: dict[str, Fraction]
    sums: int
    gradients: int

    @property
    def inputs(self) -> int:
        """Input elements of one sample."""
        return self.decay_p.size

    @property
    def neurons(self) -> int:
        """Neurons of one sample."""
        return self.window.out_height * self.window.out_width * self.window.out_channels

    @property
    def outputs(self) -> int:
        """Elements of one sample after the pool."""
        return self.pool.height * self.pool.width * self.window.out_channels


def log2_round(square: Fraction) -> int:
    """Round(log2(x)) of the positive x whose square is given: exact, no tie exists for the squares that occur."""
    n = square.numerator.bit_length() - square.denominator.bit_length()
    exponent = n - (Fraction(2) ** n > square)  # 2**exponent <= square < 2**(exponent + 1)
    return (exponent + 1) // 2


def _words(count: int, seed: int, layer: int, draw: int) -> list[int]:
    """Uniform random integers in 0 .. 2**32 - 1."""
    from ..kernels.learning.compiled import random_words  # compiled code is loaded when first needed

    out = np.empty(count, np.uint64)
    random_words(seed, 0, layer, draw, 0, out)
    return (out >> np.uint64(32)).tolist()


def _uniform_codes(count: int, limit: Fraction, top: int, seed: int, layer: int, draw: int) -> np.ndarray:
    """Uniform reals in [-limit, limit), rounded half to even to codes in -top .. top."""
    a, b = limit.numerator, limit.denominator
    codes = [_divide((2 * word - UNIT) * a, UNIT * b) for word in _words(count, seed, layer, draw)]
    return np.clip(np.array(codes, np.int64), -top, top)


def _divide(a: int, b: int) -> int:
    """a / b to the nearest integer, a tie to even; b > 0."""
    floor, rest = divmod(a, b)
    return floor + (2 * rest > b or (2 * rest == b and floor & 1))


def time_constants(
    pair: tuple[Fraction, Fraction], count: int, seed: int, layer: int, draw: int
) -> tuple[list[int], int]:
    """Time constants of `count` elements as integers over a common denominator."""
    low, high = pair
    denominator = (low.denominator * high.denominator) * UNIT
    a, b = int(low * denominator), int((high - low) * denominator)
    if b == 0:
        return [a] * count, denominator
    return [a + b * word // UNIT for word in _words(count, seed, layer, draw)], denominator


@lru_cache(maxsize=32)
def sigmoid_tables(u_max: int, step: Fraction, bits: int, inclusive: bool, slope_bits: int) -> tuple:
    """Codes of the sigmoid and of its slope at U = -u_max .. u_max, in steps of `step`.

    The sigmoid has the grid 2**-bits and the greatest code 2**bits, or one less unless `inclusive`; the slope, at most
    1/4, has the grid 2**-(slope_bits + 2) and the greatest code 2**slope_bits - 1.
    """
    with decimal.localcontext(decimal.Context(prec=60)):
        values = []
        for code in range(u_max + 1):
            x = decimal.Decimal(code * step.numerator) / decimal.Decimal(step.denominator)
            values.append(1 / (1 + (-x).exp()))
        values = [1 - x for x in values[:0:-1]] + values
        even = decimal.ROUND_HALF_EVEN
        table = [int((x * 2**bits).to_integral_value(even)) for x in values]
        slope = [int((x * (1 - x) * 2 ** (slope_bits + 2)).to_integral_value(even)) for x in values]
    top = (1 << bits) - (not inclusive)
    return tuple(min(x, top) for x in table), tuple(min(x, (1 << slope_bits) - 1) for x in slope)


def _window(layer, here: tuple[int, int, int], neurons: tuple[int, int, int]) -> Window:
    kernel, stride, padding = (1, 1, 0) if isinstance(layer, Dense) else (layer.kernel, layer.stride, layer.padding)
    (h, w, c), (rows, columns, channels) = here, neurons
    return Window(h, w, c, rows, columns, channels, kernel, kernel, stride, stride, padding, padding)


def _fan_in(window: Window) -> int:
    return window.kernel_height * window.kernel_width * window.channels


def _start_limit(rule: Rule, fan_in: int) -> Fraction:
    """Weights begin uniform in +- this: 1 / sqrt(fan_in), at least one and a half forward steps."""
    root = Fraction(1 << 20, math.isqrt(fan_in << 40))
    return max(root, Fraction(3, 2) / (1 << rule.widths.weight - 1))


@dataclass(frozen=True, eq=False)
class _Traces:
    """Of both traces: factors by input element, and the real values of their code 1."""

    arrays: dict[str, np.ndarray]
    p_scale: Fraction
    q_scale: Fraction
    p_max: int
    q_max: int


def _traces(rule: Rule, inputs: int, seed: int, index: int) -> _Traces:
    """Codes p = P / p_scale, q = Q / q_scale, with P += gain * Q and Q += gain * spike after each decay."""
    w, one = rule.widths, 1 << rule.widths.constant
    tau_m, unit = time_constants(rule.tau_membrane, inputs, seed, index, DRAW_TAU_MEMBRANE)
    tau_s, unit_s = time_constants(rule.tau_synapse, inputs, seed, index, DRAW_TAU_SYNAPSE)
    top_m, top_s = max(tau_m), max(tau_s)
    gain = Fraction(unit << w.membrane, top_m**2 << w.synapse) * one  # of P from code 1 of Q, for tau 1 / unit
    rise = Fraction(unit_s << w.synapse, top_s**2) / rule.trace_cap * one  # of Q from one spike
    arrays = {
        "decay_p": [_divide((t - unit) * one, t) for t in tau_m],
        "gain_p": [_divide(t * gain.numerator, gain.denominator) for t in tau_m],
        "decay_q": [_divide((t - unit_s) * one, t) for t in tau_s],
        "gain_q": [_divide(t * rise.numerator, rise.denominator) for t in tau_s],
    }
    p_max, q_max = (_top(rule, bits) for bits in (w.membrane, w.synapse))
    if max(
        p_max * one + q_max * max(arrays["gain_p"]), q_max * one + 255 * max(arrays["gain_q"])
    ) >= 1 << ROOM:  # fmt: skip
        raise FormatError(f"{w}: the sums of the traces would leave 64 bits; take fewer constant places")
    return _Traces(
        {name: np.array(values, np.int64) for name, values in arrays.items()},
        Fraction(top_s**2 * top_m**2, unit_s**2 * unit**2) * rule.trace_cap / (1 << w.membrane),
        Fraction(top_s**2, unit_s**2) * rule.trace_cap / (1 << w.synapse),
        p_max,
        q_max,
    )


def _top(rule: Rule, bits: int) -> int:
    """Greatest code of a trace of so many bits."""
    return (1 << bits) - (not rule.inclusive_codes)


@dataclass(frozen=True)
class _Membrane:
    """U = charge * (value of code 1) + bias - R, R = r * r_scale, in steps of `step`."""

    step: Fraction
    u_max: int
    r_max: int
    r_scale: Fraction
    shift: int
    charge_value: Fraction
    bias_value: Fraction
    gains: list[int]
    places: int
    sums: int


def _membrane(rule: Rule, fan_in: int, traces: _Traces) -> _Membrane:
    """What turns sums of weights into codes of U.

    Raises
    ------
    FormatError
        Sums that would leave 64 bits.
    """
    w = rule.widths
    step = rule.state_range / ((1 << w.state - 1) - 1)
    u_max = rule.state_clamp * ((1 << w.state - 1) - 1)
    # the original divides the sums by a power of two where narrow weights begin larger than 1 / sqrt(fan in)
    shift = max(0, log2_round(Fraction(9 * fan_in, 4) / (1 << 2 * (w.weight - 1))))
    weight_value = _weight_value(rule)
    charge_value = traces.p_scale * rule.weight_scale * weight_value / (1 << shift)
    bias_value = rule.bias_scale * weight_value / (1 << shift)
    r_max, r_scale = _top(rule, w.refractory), 1 / (1 - rule.refractory_decay) / (1 << w.refractory)
    weight_max = _weight_max(rule)
    sums = fan_in * weight_max * traces.p_max
    full = (
        sums * charge_value + weight_max * bias_value + r_max * r_scale * rule.refractory_decay + u_max * step
    ) / step
    places = min(48, ROOM - 1 - (int(full) + 1).bit_length())
    gains = [
        round(x / step * (1 << max(places, 0))) for x in (charge_value, bias_value, r_scale * rule.refractory_decay)
    ]
    if places < 1 or gains[0] < 1 << 8 or sums >= 1 << 62:
        raise FormatError(
            f"{w}: a sum of {fan_in} weights would leave 64 bits beside a state step of {float(step):.3g}; "
            "take narrower traces or weights"
        )
    return _Membrane(step, u_max, r_max, r_scale, shift, charge_value, bias_value, gains, places, sums)


def _weight_value(rule: Rule) -> Fraction:
    """Real value of code 1 of a forward weight."""
    return Fraction(1, 1 << rule.widths.weight - 1)


def _weight_max(rule: Rule) -> int:
    return (1 << rule.widths.weight - 1) - 1


def _readout(rule: Rule, classes: int, outputs: int, seed: int, index: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Readout and feedback ``(classes, outputs)``, and the places that the size of their codes is divided by.

    Codes of a grid of ``2**(S - 1)``, its size divided by a power of two near its standard deviation.
    """
    w = rule.widths
    s_top = (1 << w.readout - 1) - 1
    spread = 1 - Fraction(3, 2) / (1 << w.readout - 1)
    places = max(0, log2_round(4 * outputs * spread**2))
    count, grid = classes * outputs, Fraction(1 << w.readout - 1)
    readout = _uniform_codes(count, grid, s_top, seed, index, DRAW_READOUT)
    feedback = _uniform_codes(count, grid, s_top, seed, index, DRAW_FEEDBACK)
    feedback = np.where(readout != 0, np.abs(feedback) * np.sign(readout), feedback)  # sign-concordant
    kind = smallest_dtype(-s_top, s_top)
    return readout.reshape(classes, outputs).astype(kind), feedback.reshape(classes, outputs).astype(kind), places


def _parameters(
    rule: Rule, seed: int, index: int, traces: _Traces, membrane: _Membrane, readout_places: int
) -> LearnParameters:
    """What the kernels read of a layer; the penalties are 0 until the batch is known."""
    w, one = rule.widths, 1 << rule.widths.constant
    return LearnParameters(
        p_max=traces.p_max,
        q_max=traces.q_max,
        r_max=membrane.r_max,
        places=w.constant,
        trace_rounding=int(rule.trace_rounding),
        refractory_decay=round(rule.refractory_decay * one),
        refractory_step=round(one / membrane.r_scale),
        u_max=membrane.u_max,
        threshold=math.ceil(rule.threshold / membrane.step),
        charge_gain=membrane.gains[0],
        bias_gain=membrane.gains[1],
        refractory_gain=membrane.gains[2],
        charge_places=membrane.places,
        readout_shift=(w.readout - 1) + w.sigmoid + readout_places - (w.activation - 1),
        activation_max=(1 << w.activation - 1) - 1,
        dropout=round(rule.dropout * (1 << 16)),
        error_max=(1 << w.error - 1) - 1,
        error_places=w.error - 1,
        penalty_places=0,
        rate_penalty=0,
        quiet_penalty=0,
        quiet_sum=0,
        quiet_factor=0,
        random_bits=w.random,
        inclusive_random=int(rule.inclusive_random),
        step_max=(1 << w.gradient) - 2 if rule.step_limit is None else rule.step_limit,
        master_max=(1 << w.gradient - 1) - 1,
        weight_max=_weight_max(rule),
        weight_shift=w.gradient - w.weight,
        seed=seed,
        layer=index,
    )


def layer_constants(network: LearningNetwork, index: int, seed: int) -> LayerConstants:
    """The integers of layer `index`; the penalties are those of `for_batch` with one sample.

    Raises
    ------
    FormatError
        Widths or constants whose sums would leave 64 bits.
    """
    rule, w, layer = network.rule, network.rule.widths, network.layers[index]
    here, neurons, pooled = network.geometry()[index]
    window = _window(layer, here, neurons)
    inputs, outputs = here[0] * here[1] * here[2], pooled[0] * pooled[1] * pooled[2]
    traces = _traces(rule, inputs, seed, index)
    membrane = _membrane(rule, _fan_in(window), traces)
    readout, feedback, readout_places = _readout(rule, network.classes, outputs, seed, index)
    table, slope = sigmoid_tables(membrane.u_max, membrane.step, w.sigmoid, rule.inclusive_codes, w.slope)
    parameters = _parameters(rule, seed, index, traces, membrane, readout_places)
    constants = LayerConstants(
        window=window,
        pool=Pool(1 if isinstance(layer, Dense) else layer.pool, *pooled[:2]),
        parameters=parameters,
        **traces.arrays,
        readout=readout,
        feedback=feedback,
        table=np.array(table, np.int64),
        slope=np.array(slope, np.int64),
        scales={
            "p": traces.p_scale, "q": traces.q_scale, "r": membrane.r_scale, "u": membrane.step,
            "y": Fraction(1, 1 << w.activation - 1), "weight": _weight_value(rule), "charge": membrane.charge_value,
            "bias": membrane.bias_value, "sum": Fraction(1, 1 << membrane.shift),
            "readout": Fraction(1, 1 << w.readout - 1 + readout_places), "sigmoid": Fraction(1, 1 << w.sigmoid),
        },
        sums=membrane.sums,
        gradients=window.out_height * window.out_width * traces.p_max * parameters.error_max,
    )  # fmt: skip
    return for_batch(constants, rule, 1)


def for_batch(constants: LayerConstants, rule: Rule, samples: int) -> LayerConstants:
    """`constants` with the penalties of a batch of `samples`.

    In units of the normalised error (code 2**(E - 1) is 1) the derivative of the loss by a pooled activity grows by
    ``rate_penalty / (samples * outputs)``, and that by a U falls by ``quiet_penalty / (samples * neurons)`` while the
    mean of U is below `quiet_level`. Both are rounded to `penalty_places` more places than the error, as many as
    keep three bits of the smaller.
    """
    c, slope_places = constants.parameters, rule.widths.slope + 2
    activities, neurons = samples * constants.outputs, samples * constants.neurons
    rate = rule.rate_penalty / (activities if rule.mean_penalties else 1) * (1 << c.error_places)
    quiet = rule.quiet_penalty / (neurons if rule.mean_penalties else 1) * (1 << c.error_places)
    least = min((x for x in (rate, quiet * (1 << slope_places)) if x > 0), default=Fraction(8))
    places = 0
    while least * (1 << places) < 8 and places < 56 - c.error_places - slope_places:
        places += 1
    # quiet while mean U < level, that is sum of u * step < level * neurons
    bound = rule.quiet_level * neurons / constants.scales["u"]
    values = {
        "penalty_places": places,
        "rate_penalty": round(rate * (1 << places)),
        "quiet_penalty": round(quiet * (1 << places + slope_places)),
        "quiet_sum": bound.numerator,
        "quiet_factor": bound.denominator,
    }
    if max(values["rate_penalty"], values["quiet_penalty"] >> slope_places) >= 1 << 56 - slope_places:
        raise FormatError(f"Rule: penalties of {float(rate):.3g} and {float(quiet):.3g} error codes leave 64 bits")
    return replace(constants, parameters=c._replace(**values))


def starting_weights(network: LearningNetwork, index: int, constants: LayerConstants, seed: int) -> np.ndarray:
    """Master weights at the start, ``(kernel height, kernel width, in, out)``; biases start at 0."""
    w, c, window = network.rule.widths, constants.parameters, constants.window
    shape = (window.kernel_height, window.kernel_width, window.channels, window.out_channels)
    kind = np.int16 if c.master_max < 1 << 15 else np.int32
    if network.rule.zero_start:
        return np.zeros(shape, kind)
    limit = _start_limit(network.rule, _fan_in(window)) * (1 << w.gradient - 1)
    codes = _uniform_codes(int(np.prod(shape)), limit, c.master_max, seed, index, DRAW_START)
    return codes.reshape(shape).astype(kind)
