"""In how few bits a neuron can run: the choice of its vector kernel, proven from formats and bounds.

The general neuron takes anything and counts in 64 bits. A neuron whose values provably fit 16, 32 or 64 bits, without
random bits, refractory traces and several spikes a step, runs as vectors of that width (`kernels/neurons/narrow.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ....formats.fixed import Overflow, Rounding
from ....layers.base import Bound
from ....layers.neurons import Decay, Neuron

__all__ = ["Narrow", "narrowest"]

WIDTHS = (16, 32, 64)
TYPES = {16: np.int16, 32: np.int32, 64: np.int64}
COUNT_TYPES: dict[int, type[np.signedinteger]] = {16: np.int16, 32: np.int32, 64: np.int32}


@dataclass(frozen=True, eq=False)
class Narrow:
    """A vector kernel for one neuron layer.

    Attributes
    ----------
    constants : (CONSTANTS,) int64
    rows : (TABLE_ROWS, channels) integers of the width
        What differs from channel to channel.
    table : (TABLE_ROWS, row) integers of the width
        The same, repeated; see `intsnn.kernels.neurons.narrow.narrow_run`, like `period`.
    period : int
    state_type, count_type : integer types
        Of u, v and refractory counters; of net counts.
    capped, counted : bool
        Whether the cap on counts can bind; whether net counts are needed to run at all.
    reach : dict of str to (int, int)
        Least and largest u and v that are proven.
    """

    constants: np.ndarray
    rows: np.ndarray
    table: np.ndarray
    period: int
    state_type: type
    count_type: type
    capped: bool
    counted: bool
    reach: dict[str, tuple[int, int]]


class _Unfit(Exception):
    """This width does not do."""


@dataclass(frozen=True)
class _Range:
    """Least and largest value of something."""

    low: int
    high: int

    def __add__(self, other: _Range) -> _Range:
        return _Range(self.low + other.low, self.high + other.high)

    def also(self, other: _Range) -> _Range:
        """What lies in both."""
        return _Range(max(self.low, other.low), min(self.high, other.high))

    def inside(self, other: _Range) -> bool:
        return other.low <= self.low and self.high <= other.high

    @property
    def with_zero(self) -> _Range:
        return _Range(min(self.low, 0), max(self.high, 0))

    @property
    def largest(self) -> int:
        return max(-self.low, self.high)


def _range(array) -> _Range:
    """Of per-channel values; of none: zero."""
    values = np.asarray(array, dtype=object).ravel().tolist() or [0]
    return _Range(int(min(values)), int(max(values)))


def _format_range(low: int, high: int, mode: Overflow) -> _Range:
    return _Range(-high if mode == Overflow.SAT_SYM and low < 0 else low, high)


def _rest(rounding: Rounding, places: int) -> tuple[int, int]:
    """What the rest of a shift by `places` must exceed to round up, of x >= 0 and of x < 0."""
    if not places:  # there is no rest; of an odd number one less is to be exceeded under RND_CONV
        return 1, 1
    half, never = (1 << places) >> 1, (1 << places) - 1
    from_half, above_half = half - 1, half  # half up: the rest is half - 1 at most if it is to go down
    return {
        Rounding.TRN: (never, never),
        Rounding.TRN_ZERO: (never, 0),
        Rounding.RND: (from_half, from_half),
        Rounding.RND_CONV: (above_half, above_half),
        Rounding.RND_INF: (from_half, above_half),
        Rounding.RND_ZERO: (above_half, from_half),
        Rounding.RND_MIN_INF: (above_half, above_half),
    }[rounding]


def _settles(kind: Decay, change: _Range, start: _Range, steps: int) -> _Range:
    """Where states stay that begin in `start` and leak, then take `change`, in each of `steps` steps."""
    found = [_settles_alone(one, change, start, steps) for one in kind.distinct()]
    return _Range(min(r.low for r in found), max(r.high for r in found))


def _settles_alone(kind: Decay, change: _Range, start: _Range, steps: int) -> _Range:
    shift, multiplier, amount = (int(n) for n in (kind.shift, kind.multiplier, kind.amount))
    start, change = start.with_zero, change.with_zero
    grows = _Range(start.low + steps * change.low, start.high + steps * change.high)
    if kind.kind == "shift":
        keeps, whole = (1 << shift) - 1, 1 << shift
    elif kind.kind == "multiply":
        keeps, whole = multiplier, 1 << shift
    elif kind.kind == "subtract" and change.largest <= amount:
        keeps, whole = 0, 1
    else:
        return grows
    if keeps == whole:
        return grows

    def limit(most: int) -> int:  # x <= x * keeps / whole + 1 + most holds up to here
        return -(-(most + 1) * whole // (whole - keeps))

    balance = _Range(-limit(-change.low), limit(change.high))
    return grows.also(_Range(min(start.low, balance.low), max(start.high, balance.high)))


class _Fit:
    """Everything for one width; `_Unfit` is raised where it does not do."""

    def __init__(self, layer: Neuron, width: int, steps: int) -> None:
        from ....kernels.neurons import vector as span

        self.layer, self.width, self.steps, self.names = layer, width, steps, span
        self.limits = _Range(-(1 << (width - 1)), (1 << (width - 1)) - 1)
        self.constants = np.zeros(span.CONSTANTS, np.int64)
        self.reach: dict[str, tuple[int, int]] = {}
        self.rows: dict[int, Any] = {}  # of the table: those of leaks

    def require(self, *ranges: _Range) -> None:
        if not all(r.inside(self.limits) for r in ranges):
            raise _Unfit

    def clamp(self, limits: _Range, mode: Overflow, at: int) -> None:
        """Constants that bring values into `limits`."""
        k, span = self.names, limits.high - limits.low
        if mode == Overflow.TRAP or (mode == Overflow.WRAP and span & (span + 1)):
            raise _Unfit
        kind = k.WRAP if mode == Overflow.WRAP else k.SATURATE
        self.put(at, {k.CLAMP: kind, k.LOW: limits.low, k.HIGH: limits.high, k.SPAN: span})

    def table(self, channels: int) -> tuple[np.ndarray, np.ndarray, int]:
        """`rows` of so many channels, and `_table` of them."""
        k, layer = self.names, self.layer
        fires = np.asarray(layer.threshold) + int(layer.compare == ">")
        first = {k.FIRE: fires, k.DROP: layer.threshold, k.NEGATIVE: layer.v_negative if layer.signed else 0}
        rows = np.zeros((k.TABLE_ROWS, channels), TYPES[self.width])
        for row, given in (self.rows | first | {k.BIAS: layer.bias}).items():
            rows[row] = given
        return rows, *_table(rows)

    def put(self, at: int, values: dict[int, int]) -> None:
        """Constants from number `at` on."""
        for place, value in values.items():
            self.constants[at + place] = value

    def leak(self, kind: Decay, state: _Range, at: int) -> None:
        """Constants of a decay of values in `state`, and its rows of the table."""
        from ....kernels import parameters as P

        k, row = self.names, self.names.LEAKS[at]
        shift, factor = np.asarray(kind.shift, np.int64), np.asarray(kind.multiplier, np.int64)
        if kind.kind == "none" or (kind.kind == "multiply" and np.all(factor == 1 << shift)):
            return
        if kind.kind == "subtract":
            self.require(_range(kind.amount))
            self.put(at, {k.KIND: P.SUBTRACT})
            self.rows[row + k.NUMBER] = kind.amount
            return
        if kind.rounding == Rounding.STOCHASTIC:
            raise _Unfit
        even, rounded = int(kind.rounding == Rounding.RND_CONV), int(kind.rounding != Rounding.TRN)
        self.put(at, {k.ROUNDED: rounded, k.EVEN: even})
        if kind.kind == "multiply":
            self.product(kind.rounding, shift, factor, state, at)
            return
        if shift.max() >= self.width:
            raise _Unfit
        self.put(at, {k.KIND: P.SHIFT, k.LEAST: int(kind.at_least_one), k.COUNTS: 1})
        limits = np.array([_rest(kind.rounding, n) for n in shift.ravel().tolist()])
        self.rows |= {row + k.NUMBER: shift, row + k.MASK: (1 << shift) - 1}
        self.rows |= {row + k.ABOVE: limits[:, 0], row + k.ABOVE_NEGATIVE: limits[:, 1]}

    def product(self, rounding: Rounding, shift: np.ndarray, factor: np.ndarray, state: _Range, at: int) -> None:
        """Constants and rows of ``round(x * factor / 2**shift)``: of all channels with the same places."""
        from ....kernels.parameters import MULTIPLY

        k, row, places = self.names, self.names.LEAKS[at], int(shift.max())
        counts = 0 if not factor.any() else 1 if factor.all() else 2
        if self.width == 16 and places <= 16:
            product, places = 16, 16
        else:
            product = 0
        factor = factor << (places - shift)  # the same quotient: a rounding that draws no bits sees no difference
        if product:
            above = np.minimum(factor >> 15, 1)  # does not fit: one less, and x is added
            factor = factor - (above << 16)
            self.rows[row + k.MASK] = -above
        else:
            most = int(factor.max())
            self.require(_Range(0, most))  # so that lanes of 16 bits find room in products of 32
            products = (w for w in (32, 64) if self.width <= w and places < w)
            product = next((w for w in products if state.largest * most < 1 << (w - 1)), 0)
            if not product:
                raise _Unfit
        up, negative = _rest(rounding, places)
        self.rows[row + k.NUMBER] = factor
        self.put(at, {k.KIND: MULTIPLY, k.COUNTS: counts, k.PRODUCT: product, k.PLACES: places})
        self.put(at, {k.UP: up, k.UP_NEGATIVE: negative, k.REST: (1 << places) - 1})

    def state(
        self, kind: Decay, change: _Range, limits: _Range, mode: Overflow, settles: _Range, proven: _Range, at: int
    ):
        """Constants of a state with its leak; where it then is.

        `settles` is where it stays even if it saturates, `proven` where it stays as long as it does not.
        """
        k = self.names
        if proven.inside(limits):
            found = proven
        else:
            found = limits if mode == Overflow.WRAP else limits.also(settles)
            self.clamp(limits if mode == Overflow.WRAP else limits.also(self.limits), mode, at)
            if self.width > 16:  # 16 bits have a saturating addition
                self.require(found.with_zero + change.with_zero)
        self.require(found, change)
        self.leak(kind, found.with_zero, at)
        self.reach["u" if at == k.U else "v"] = (found.low, found.high)
        return found


def _fit(
    layer: Neuron,
    width: int,
    current: Bound,
    own: Bound,
    current_type,
    steps: int,
    shape: tuple[int, ...],
    counts: bool,
) -> Narrow:
    from ....kernels import parameters as P

    fit = _Fit(layer, width, steps)
    k, theta = fit.names, _range(layer.threshold)
    if layer.max_spikes_per_step > 1 or layer.refractory.kind == "trace":
        raise _Unfit
    # 1. acc
    flow = _Range(_range(current.low).low, _range(current.high).high).with_zero
    if layer.acc_format is not None:
        limits = _format_range(layer.acc_format.min, layer.acc_format.max, layer.acc_overflow)
        if not flow.inside(limits):  # it happens in the type of the current
            whole, wraps = (
                _range((np.iinfo(current_type).min, np.iinfo(current_type).max)),
                layer.acc_overflow == Overflow.WRAP,
            )
            if wraps and not limits.inside(whole):
                raise _Unfit
            fit.clamp(limits.also(whole), layer.acc_overflow, k.ACC)
            flow = limits if wraps else flow.also(limits)
    fit.require(flow)
    # 2. u
    if layer.u_format is not None:
        if layer.u_shift >= width:
            raise _Unfit
        fit.put(0, {k.HAS_U: 1, k.U_SHIFT: layer.u_shift})
        change = _Range(flow.low << layer.u_shift, flow.high << layer.u_shift)
        ends = layer.u_range or (layer.u_format.min, layer.u_format.max)
        limits = _format_range(*ends, layer.u_overflow)
        settles = _settles(layer.u_decay, change, _Range(0, 0), steps)
        flow = fit.state(layer.u_decay, change, limits, layer.u_overflow, settles, settles, k.U)
    # 3. v
    change = flow.with_zero + _range(layer.bias).with_zero
    if layer.reset_delay and layer.reset == "subtract":
        change = change + _Range(-theta.high, theta.high if layer.signed else 0)
    limits = _format_range(layer.v_format.min, layer.v_format.max, layer.v_overflow)
    start, least = _range(layer.v_initial), _range(layer.v_negative)
    if layer.signed and layer.reset == "subtract":  # a negative spike can leave v this high
        start = _Range(start.low, max(start.high, least.high + theta.high))
    settles = proven = _settles(layer.v_decay, change, start, steps)
    exact = not fit.constants[k.ACC + k.CLAMP]  # the bounds hold as long as nothing overflows
    if exact and own.v_low is not None and own.v_high is not None:
        proven = proven.also(_Range(_range(own.v_low).low, _range(own.v_high).high)).with_zero
    fit.state(layer.v_decay, change, limits, layer.v_overflow, settles, proven, k.V)
    if layer.signed and layer.reset == "subtract" and not layer.reset_delay and fit.constants[k.V + k.CLAMP]:
        if least.high + theta.high - 1 > limits.high:  # adding the threshold back could overflow a second time
            raise _Unfit
    # 4. compare and reset
    strict = int(layer.compare == ">")
    fit.require(theta, theta + _Range(strict, strict), least if layer.signed else theta)
    cap = layer.max_count if layer.max_count is not None and layer.max_count < steps else None  # others: never reached
    capped = cap is not None
    counted = capped or layer.signed or counts
    fit.require(_Range(layer.least(steps), cap or 0))  # a deeper floor is never reached
    if cap is not None:
        fit.put(0, {k.CAPPED: 1, k.MOST: cap})
    elif counted and steps > np.iinfo(COUNT_TYPES[width]).max:
        raise _Unfit
    held = layer.refractory.kind == "counter"
    if held:
        fit.require(_Range(0, layer.refractory.steps))
        fit.put(0, {k.HOLDS: 1, k.HOLD: layer.refractory.steps})
    reset = {"none": P.RESET_NONE, "subtract": P.RESET_SUBTRACT, "zero": P.RESET_ZERO}[layer.reset]
    fit.put(0, {k.BIASED: int(np.any(layer.bias)), k.RESET: reset, k.LATE: layer.reset_delay})
    fit.put(0, {k.SIGNED: int(layer.signed), k.FEWEST: layer.least(steps), k.COUNTED: int(counted)})
    fit.constants[k.LEVEL] = next(n for n, absent in enumerate(k.ABSENT) if not fit.constants[list(absent)].any())
    return Narrow(fit.constants, *fit.table(shape[0]), TYPES[width], COUNT_TYPES[width], capped, counted, fit.reach)


def _table(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Rows of per-channel values, repeated until vectors of neurons find them side by side; and their period."""
    from ....kernels.neurons.vector import lanes_of

    lanes = lanes_of(8 * values.itemsize)
    if (values == values[:, :1]).all():
        values = values[:, :1]
    period = -(-lanes // values.shape[1]) * values.shape[1]
    columns = np.arange(period + lanes) % values.shape[1]
    return np.ascontiguousarray(values[:, columns]), period


def narrowest(
    layer: Neuron,
    current: Bound,
    own: Bound,
    current_type,
    steps: int,
    shape: tuple[int, ...],
    counts: bool = True,
    widths: tuple[int, ...] = WIDTHS,
) -> Narrow | None:
    """The narrowest vector kernel for `layer`, or None if only the general one does.

    Parameters
    ----------
    layer : Neuron
    current, own : Bound
        Of what flows in, and of the neuron; for at most `steps` steps.
    current_type : integer type
        Of what flows in.
    steps : int
        How many steps a sample is run at most.
    shape : tuple of int
        Of the layer, channels first.
    counts : bool
        Whether net counts are asked for.
    widths : tuple of int
        Those to choose from, the narrowest first.
    """
    for width in widths:
        try:
            return _fit(layer, width, current, own, current_type, steps, shape, counts)
        except _Unfit:
            continue
    return None
