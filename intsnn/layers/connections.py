"""Connections: weights times what comes in."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..errors import RangeError, ShapeError
from ..formats.arguments import choice, instance, whole
from ..formats.fixed import Fixed
from ..formats.integers import whole_array
from ..formats.weights import Bipolar, Levels, WeightFormat
from ..kernels.parameters import Window
from . import primitives
from .base import (
    Bound,
    Build,
    Layer,
    ParameterSize,
    Shape,
    StateSize,
    Value,
    at_least_zero,
    at_most_zero,
    least_bits,
    objects,
    one_map,
    padding_pairs,
    pair,
    window,
    windows,
)  # fmt: skip
from .schedule import Schedule, bias_total

__all__ = ["Affine", "Conv2d"]

BIAS_MODES = ("step", "spread", "once")


@dataclass(frozen=True, eq=False)
class _Connection(Layer):
    """What `Affine` and `Conv2d` share: ``current_t = multiplier * sum(weight * spikes_t) + bias_t``.

    `bias_mode` says how a bias B is spread over the T driven steps: ``"step"`` adds B in every
    driven step, ``"spread"`` adds ``floor((t+1)B/T) - floor(tB/T)`` (B in total), ``"once"`` adds B at t = 0.
    """

    weight: np.ndarray = field(metadata={"weights": "weight_format"})
    bias: np.ndarray | None = None
    weight_format: WeightFormat = Fixed(8)
    bias_mode: str = "step"
    multiplier: np.ndarray | int = 1
    delay: int = 0

    weighted = True
    rank: ClassVar[int]  # of the weights
    groups = 1  # type: ignore[assignment]

    def __post_init__(self) -> None:
        rank, name = self.rank, type(self).__name__
        weight = whole_array(self.weight, f"{name}.weight")
        if weight.ndim != rank or 0 in weight.shape:
            raise ShapeError(f"{name}.weight: found shape {weight.shape}; {rank} axes, none empty, are needed")
        outputs = weight.shape[0]
        instance(self.weight_format, f"{name}.weight_format", Fixed, Bipolar, Levels)
        if isinstance(self.weight_format, Fixed):
            low, high = self.weight_format.min, self.weight_format.max
            if weight.min() < low or weight.max() > high:
                raise RangeError(
                    f"{name}.weight: values {weight.min()} to {weight.max()} do not fit {self.weight_format} "
                    f"({low} to {high}); quantise them or widen the format"
                )
        else:
            allowed = np.asarray((-1, 1) if isinstance(self.weight_format, Bipolar) else self.weight_format.table)
            outside = ~np.isin(weight, allowed)
            if outside.any():
                raise RangeError(
                    f"{name}.weight: value {weight[outside][0]} is not a level of {self.weight_format}; "
                    f"allowed are {sorted(set(allowed.tolist()))}"
                )
        object.__setattr__(self, "weight", weight)
        for field_name in ("bias", "multiplier"):
            value = getattr(self, field_name)
            if value is None and field_name == "bias":
                continue
            array = whole_array(value, f"{name}.{field_name}")
            if array.shape not in ((), (outputs,)):
                raise ShapeError(f"{name}.{field_name}: found shape {array.shape}; give one integer or {outputs}")
            full = np.ascontiguousarray(np.broadcast_to(array, (outputs,)))
            full.setflags(write=False)
            object.__setattr__(self, field_name, full)
        choice(self.bias_mode, f"{name}.bias_mode", BIAS_MODES)
        object.__setattr__(self, "delay", whole(self.delay, f"{name}.delay", 0, 1, allowed="0 or 1 step is possible"))

    @property
    def _padded(self) -> bool:
        return False

    @abstractmethod
    def _window(self, shape: Shape, out: Shape) -> Window:
        """Geometry from an input of `shape` to an output of shape `out`."""

    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        low, high, total_low, total_high = inputs[0].parts
        if self._padded:  # a padded tap contributes nothing
            low, high = at_most_zero(low), at_least_zero(high)
            total_low, total_high = at_most_zero(total_low), at_least_zero(total_high)
        if self.delay:
            low, high = at_most_zero(low), at_least_zero(high)  # nothing arrives in the first step
        ranges = []
        for bottom, top in ((low, high), (total_low, total_high)):
            bottom, top = weighted_range(self.weight, bottom, top, self.groups)
            factor = objects(self.multiplier, len(bottom))
            one, two = bottom * factor, top * factor
            ranges.append((np.minimum(one, two), np.maximum(one, two)))
        (low, high), (total_low, total_high) = ranges
        if self.bias is not None:
            bias, driven = objects(self.bias, len(low)), schedule.driven
            if self.bias_mode == "step":
                step_low, step_high, total = at_most_zero(bias), at_least_zero(bias), bias * driven
            elif self.bias_mode == "once":
                step_low, step_high, total = at_most_zero(bias), at_least_zero(bias), bias
            else:
                step_low, step_high, total = bias // max(driven, 1), -(-bias // max(driven, 1)), bias
                step_low, step_high = at_most_zero(step_low), at_least_zero(step_high)
            low, high = low + step_low, high + step_high
            total_low, total_high = total_low + at_most_zero(total), total_high + at_least_zero(total)
        return Bound(low, high, total_low, total_high)

    def lower(self, build: Build, inputs: Sequence[Value], schedule: Schedule) -> Value:
        (source,) = inputs
        bias, mode, delay = self.bias, self.bias_mode, self.delay
        if schedule.totals:  # what all steps add up to, whenever they are
            bias, mode, delay = None if bias is None else bias_total(bias, mode, schedule), "once", 0
        seen, multiplier = self._window(source.shape, build.shape), np.asarray(self.multiplier)
        weight = self.weight.reshape(*self.weight.shape, *(1,) * (4 - self.weight.ndim))
        return build(primitives.Connect(weight, seen, multiplier, bias, mode, delay), source)

    def details(self) -> dict[str, Any]:
        size = self.weight.size + (0 if self.bias is None else self.bias.size)
        found = {"format": str(self.weight_format), "parameters": size, "multiplier": np.asarray(self.multiplier)}
        return found if self.bias is None else {**found, "bias": self.bias, "bias_mode": self.bias_mode}

    def parameters(self) -> list[ParameterSize]:
        found = [ParameterSize("weights", "weight", self.weight_format.bits)]
        if self.bias is not None:
            found.append(ParameterSize("biases", "bias", least_bits(self.bias), 0))
        return [*found, ParameterSize("scales", "multiplier", least_bits(self.multiplier), 1)]

    def states(self, shapes, shape, bounds, bound) -> list[StateSize]:
        if not self.delay:
            return []
        bits = bounds[0].step_format.bits
        return [StateSize("spikes", "delay line", math.prod(shapes[0]), bits, bits)]

    @abstractmethod
    def fan_out(self, shape: Shape, target: Shape) -> np.ndarray:
        """Weights that a spike at each position of the input reaches: ``(H, W)``, or one number if dense."""


@dataclass(frozen=True, eq=False)
class Affine(_Connection):
    """Dense connection: `weight` ``(out, in)``, input ``(in,)`` (put `Flatten` before it), output ``(out,)``.

    Raises `ShapeError`, `RangeError` or `FormatError` for weights, biases or modes that cannot be.
    """

    rank = 2

    def output_shape(self, name: str, inputs: Sequence[Shape]) -> Shape:
        (shape,) = inputs
        if shape != (self.weight.shape[1],):
            hint = "; put a Flatten before it" if len(shape) == 3 else ""
            raise ShapeError(f"{name} (Affine): found input {shape}, weights take ({self.weight.shape[1]},){hint}")
        return (self.weight.shape[0],)

    def shape_in_a_loop(self, known: Sequence[Shape]) -> Shape | None:
        return (self.weight.shape[0],)

    def _window(self, shape: Shape, out: Shape) -> Window:
        return Window(1, 1, shape[0], 1, 1, out[0])

    def fan_out(self, shape: Shape, target: Shape) -> np.ndarray:
        return np.asarray(self.weight.shape[0])


@dataclass(frozen=True, eq=False)
class Conv2d(_Connection):
    """Cross-correlation: `weight` ``(O, I / groups, kh, kw)``, `padding` may be asymmetric.

    Raises `ShapeError`, `RangeError` or `FormatError` for weights, biases or modes that cannot be.
    """

    stride: tuple[int, int] | int = 1
    padding: tuple | int = 0
    dilation: tuple[int, int] | int = 1
    groups: int = 1

    rank = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "stride", pair(self.stride, "Conv2d.stride"))
        object.__setattr__(self, "dilation", pair(self.dilation, "Conv2d.dilation"))
        object.__setattr__(self, "padding", padding_pairs(self.padding, "Conv2d.padding"))
        object.__setattr__(self, "groups", whole(self.groups, "Conv2d.groups", 1, error=ShapeError))
        if self.weight.shape[0] % self.groups:
            raise ShapeError(f"Conv2d.groups: {self.groups} does not divide the {self.weight.shape[0]} output channels")

    @property
    def _padded(self) -> bool:
        return bool(np.any(self.padding))

    def output_shape(self, name: str, inputs: Sequence[Shape]) -> Shape:
        shape = one_map(name, self, inputs)
        outputs, per_group, *kernel = self.weight.shape
        if shape[0] != per_group * self.groups:
            raise ShapeError(
                f"{name} (Conv2d): found {shape[0]} input channels, weights take {per_group} x {self.groups}"
            )
        return windows(name, self, shape, outputs, tuple(kernel), self.stride, self.padding, self.dilation)

    def _window(self, shape: Shape, out: Shape) -> Window:
        return window(shape, out, self.weight.shape[2:], self.stride, self.padding, self.dilation, self.groups)

    def fan_out(self, shape: Shape, target: Shape) -> np.ndarray:
        seen = []
        for i, (stride, pads, dilation) in enumerate(zip(self.stride, self.padding, self.dilation, strict=True)):  # type: ignore[arg-type]
            side = np.zeros(shape[1 + i], np.int64)
            for k in range(self.weight.shape[2 + i]):
                at = np.arange(target[1 + i]) * stride - pads[0] + k * dilation
                np.add.at(side, at[(at >= 0) & (at < len(side))], 1)
            seen.append(side)
        return np.outer(*seen) * (self.weight.shape[0] // self.groups)


def weighted_range(weight: np.ndarray, low: np.ndarray, high: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
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
    return objects(lows, outputs), objects(highs, outputs)
