"""Static bounds: how large every sum and membrane can become, proven from weights and formats.

Every stream carries, per channel, the range of one step and the range of its running total. The
running total is what makes membranes bounded: a capped neuron has a net count in [0, max_count] at any
time, so the charge that reaches the next layer is bounded for any number of steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import RangeError
from ..formats.fixed import Fixed
from ..layers.base import (
    Add,
    Affine,
    AvgPool2d,
    Conv2d,
    Flatten,
    Input,
    MaxPool2d,
    Readout,
    Scale,
    SumPool2d,
    Upsample2d,
)
from ..layers.neurons import Neuron

__all__ = ["TOTAL_BITS", "Bound", "analyse", "check_totals", "fits"]

TOTAL_BITS = 63  # signed; one less than the type that holds it: V0 and the sum of a step may be added


@dataclass(frozen=True, eq=False)
class Bound:
    """Ranges of one stream, one Python integer per channel (dtype object).

    Attributes
    ----------
    low, high : (C,)
        One step.
    total_low, total_high : (C,)
        Running total after any number of the steps asked for.
    v_low, v_high : (C,) or None
        Membrane, before and after reset (neurons only).
    """

    low: np.ndarray
    high: np.ndarray
    total_low: np.ndarray
    total_high: np.ndarray
    v_low: np.ndarray | None = None
    v_high: np.ndarray | None = None

    @property
    def step_format(self) -> Fixed:
        """Narrowest format that holds every sum of one step."""
        return Fixed.for_range(int(self.low.min()), int(self.high.max()))

    @property
    def total_format(self) -> Fixed:
        """Narrowest format that holds every running total."""
        return Fixed.for_range(int(self.total_low.min()), int(self.total_high.max()))

    @property
    def membrane_format(self) -> Fixed | None:
        """Narrowest format in which the membrane never overflows."""
        if self.v_low is None or self.v_high is None:
            return None
        return Fixed.for_range(int(self.v_low.min()), int(self.v_high.max()))


def fits(low: np.ndarray, high: np.ndarray, bits: int) -> bool:
    """Whether every range lies within a signed integer of `bits`."""
    return int(low.min()) >= -(1 << (bits - 1)) and int(high.max()) < 1 << (bits - 1)


def _objects(values, size: int) -> np.ndarray:
    """One Python integer per channel."""
    array = np.empty(size, dtype=object)
    array[:] = np.broadcast_to(np.asarray(values), (size,)).tolist()
    return array


def _zero(array: np.ndarray, function) -> np.ndarray:
    return _objects([function(0, x) for x in array.tolist()], len(array))


def _weighted(weight: np.ndarray, low: np.ndarray, high: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Range of ``sum(weight * x)`` per output channel, x of input channel i in [low_i, high_i]."""
    positive = np.maximum(weight, 0)
    negative = np.minimum(weight, 0)
    if weight.ndim == 4:
        positive, negative = positive.sum(axis=(2, 3)), negative.sum(axis=(2, 3))
    outputs, inputs = positive.shape
    largest = max(abs(int(low.min())), abs(int(high.max())), abs(int(low.max())), abs(int(high.min())))
    per_row = max(int(positive.sum(axis=1).max()), -int(negative.sum(axis=1).min()))
    exact = np.int64 if largest * per_row < 1 << 61 else object
    positive, negative = positive.astype(exact), negative.astype(exact)
    low, high = low.astype(exact), high.astype(exact)
    lows, highs = [], []
    per_group = outputs // groups
    for g in range(groups):
        rows = slice(g * per_group, (g + 1) * per_group)
        columns = slice(g * inputs, (g + 1) * inputs)
        lows.extend((positive[rows] @ low[columns] + negative[rows] @ high[columns]).tolist())
        highs.extend((positive[rows] @ high[columns] + negative[rows] @ low[columns]).tolist())
    return _objects(lows, outputs), _objects(highs, outputs)


def _connection(layer: Affine | Conv2d, source: Bound, driven: int) -> Bound:
    low, high = source.low, source.high
    total_low, total_high = source.total_low, source.total_high
    if isinstance(layer, Conv2d) and np.any(layer.padding):
        low, high = _zero(low, min), _zero(high, max)  # a padded tap contributes nothing
        total_low, total_high = _zero(total_low, min), _zero(total_high, max)
    if layer.delay:
        low, high = _zero(low, min), _zero(high, max)  # nothing arrives in the first step
    groups = getattr(layer, "groups", 1)
    ranges = []
    for bottom, top in ((low, high), (total_low, total_high)):
        bottom, top = _weighted(layer.weight, bottom, top, groups)
        factor = _objects(layer.multiplier, len(bottom))
        one, two = bottom * factor, top * factor
        ranges.append((np.minimum(one, two), np.maximum(one, two)))
    (low, high), (total_low, total_high) = ranges
    if layer.bias is not None:
        bias = _objects(layer.bias, len(low))
        if layer.bias_mode == "step":
            step_low, step_high, total = _zero(bias, min), _zero(bias, max), bias * driven
        elif layer.bias_mode == "once":
            step_low, step_high, total = _zero(bias, min), _zero(bias, max), bias
        else:
            step_low, step_high, total = bias // max(driven, 1), -(-bias // max(driven, 1)), bias
            step_low, step_high = _zero(step_low, min), _zero(step_high, max)
        low, high = low + step_low, high + step_high
        total_low, total_high = total_low + _zero(total, min), total_high + _zero(total, max)
    return Bound(low, high, total_low, total_high)


def _most(layer: Neuron, steps: int) -> int:
    """Largest net count after `steps` steps."""
    most = steps * layer.max_spikes_per_step
    return most if layer.max_count is None else min(layer.max_count, most)


def _neuron(layer: Neuron, source: Bound, steps: int, driven: int) -> Bound:
    size = len(source.low)
    spikes, most = layer.max_spikes_per_step, _most(layer, steps)
    ones = _objects(1, size)
    v_low = v_high = None
    leaks = layer.v_decay.kind != "none" or layer.u_format is not None or layer.refractory.kind != "none"
    if not leaks and layer.reset == "subtract":
        bias, theta = _objects(layer.bias, size), _objects(layer.threshold, size)
        start = _objects(layer.v_initial, size)
        q_low = source.total_low + _zero(bias * driven, min)
        q_high = source.total_high + _zero(bias * driven, max)
        lowest = np.minimum(start + q_low - theta * most, start)
        # after a positive spike v >= 0, and from there the charge can only fall from its top to its bottom
        recent = np.minimum(start + _zero(q_low, min), _zero(q_low, min) - _zero(q_high, max))
        v_low = np.maximum(lowest, recent)
        v_high = np.maximum(start + q_high, start)
    return Bound(ones * (-spikes if layer.signed else 0), ones * spikes, ones * 0, ones * most, v_low, v_high)


def analyse(network, steps: int, driven: int, levels: bool = False) -> dict[str, Bound]:
    """Bounds of every node of `network` for at most `steps` steps, the first `driven` of them driven.

    With `levels` the totals are those of the integer ANN: a neuron has any level up to its cap, whatever the steps.

    Returns a dict from node name to `Bound`. Valid while no format overflows; that is what they are used to prove.
    (Steps and totals of sums, spikes and counts are valid in any case.)
    """
    bounds: dict[str, Bound] = {}
    pending = list(network.order)
    for name in pending:
        layer = network.nodes[name]
        sources = []
        for source in network.inputs_of(name):
            if source not in bounds:  # a recurrent edge: what comes back is bounded by the neuron alone
                bounds[source] = _recurrent(network, source, steps)
            sources.append(bounds[source])
        size = network.shapes[name][0]
        if isinstance(layer, Input):
            low, high = _objects(layer.low, size), _objects(layer.high, size)
            bound = Bound(_zero(low, min), _zero(high, max), _zero(low * driven, min), _zero(high * driven, max))
        elif isinstance(layer, Affine | Conv2d):
            bound = _connection(layer, sources[0], driven)
        elif isinstance(layer, Neuron):
            bound = _neuron(layer, sources[0], steps, driven)
            if levels:
                top = _objects(layer.max_count or network.levels, size)
                bound = Bound(bound.low, bound.high, bound.total_low, top)
        else:
            bound = _passive(layer, sources, network.shapes[network.inputs_of(name)[0]], steps)
        bounds[name] = bound
    return bounds


def _recurrent(network, name: str, steps: int) -> Bound:
    layer = network.nodes[name]
    size = network.shapes[name][0]
    ones = _objects(1, size)
    low = -layer.max_spikes_per_step if layer.signed else 0
    return Bound(ones * low, ones * layer.max_spikes_per_step, ones * 0, ones * _most(layer, steps))


def _passive(layer, sources: list[Bound], shape: tuple[int, ...], steps: int) -> Bound:
    first = sources[0]
    parts = (first.low, first.high, first.total_low, first.total_high)
    if isinstance(layer, Add):
        for other in sources[1:]:
            parts = tuple(
                a + b for a, b in zip(parts, (other.low, other.high, other.total_low, other.total_high), strict=True)
            )
        return Bound(*parts)
    if isinstance(layer, Flatten):
        repeat = int(np.prod(shape[1:])) if len(shape) == 3 else 1
        return Bound(*(np.repeat(part, repeat) for part in parts))
    if isinstance(layer, Scale):
        factor = _objects(layer.scale, len(first.low))
        scaled = [part * factor for part in parts]
        return Bound(
            np.minimum(scaled[0], scaled[1]), np.maximum(scaled[0], scaled[1]),
            np.minimum(scaled[2], scaled[3]), np.maximum(scaled[2], scaled[3]),
        )  # fmt: skip
    if isinstance(layer, SumPool2d | AvgPool2d):
        area = int(np.prod(layer.kernel_size))
        parts = (_zero(parts[0], min), _zero(parts[1], max), _zero(parts[2], min), _zero(parts[3], max))
        if isinstance(layer, SumPool2d):
            return Bound(*(part * area for part in parts))
        low, high = parts[0] - 1, parts[1] + 1  # rounding per step can add up
        return Bound(low, high, low * steps, high * steps)
    if isinstance(layer, MaxPool2d):
        low, high = _zero(parts[2], min), _zero(parts[3], max)
        span = np.minimum(parts[1] - parts[0], high - low)
        step = np.maximum(_zero(parts[1], max), -_zero(parts[0], min))
        return Bound(-np.minimum(step, span + step), step, low, high)
    if isinstance(layer, Upsample2d) and layer.mode == "zeros":
        return Bound(_zero(parts[0], min), _zero(parts[1], max), _zero(parts[2], min), _zero(parts[3], max))
    if isinstance(layer, Readout | Upsample2d):
        return Bound(*parts)
    raise TypeError(type(layer).__name__)


def check_totals(network, bounds: dict[str, Bound], steps: int, driven: int, everywhere: bool = False) -> None:
    """Refuse a run of which a running total could leave `TOTAL_BITS` bits.

    Totals are kept by readouts, by max-pools (of their inputs too: the same bound) and as counts by neurons;
    `everywhere` (in the integer ANN) by every node. Bounds are of formats and weights, not of the data: every path
    refuses the same runs, before it begins.

    Raises
    ------
    RangeError
        Naming the first layer, the number that its total could reach, and what would help.
    """
    for name in network.order:
        layer = network.nodes[name]
        keeps = isinstance(layer, Neuron | MaxPool2d) or (isinstance(layer, Readout) and layer.kind != "first_spike")
        bound = bounds[name]
        if (keeps or everywhere) and not fits(bound.total_low, bound.total_high, TOTAL_BITS):
            low, high = int(bound.total_low.min()), int(bound.total_high.max())
            raise RangeError(
                f"{name} ({type(layer).__name__}): its total over {steps} steps, {driven} of them driven, can reach "
                f"{high if high >= -low else low}, which needs more than {TOTAL_BITS} bits; run fewer steps, cap the "
                "counts of neurons (max_count), or use smaller weights, multipliers or input formats"
            )
