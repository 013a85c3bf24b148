"""Pools: windows of a map become one value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FormatError, ShapeError
from ..formats.fixed import Rounding
from ..formats.notation import as_rounding
from . import primitives
from .base import (
    Bound,
    Build,
    Layer,
    Shape,
    StateSize,
    Value,
    at_least_zero,
    at_most_zero,
    one_map,
    padding_pairs,
    pair,
    window,
    windows,
)  # fmt: skip
from .schedule import Schedule

__all__ = ["AvgPool2d", "MaxPool2d", "SumPool2d"]


@dataclass(frozen=True)
class _Pool(Layer):
    kernel_size: tuple[int, int] | int = 2
    stride: tuple[int, int] | int | None = None
    padding: tuple | int = 0

    def __post_init__(self) -> None:
        name = type(self).__name__
        kernel_size = pair(self.kernel_size, f"{name}.kernel_size")
        stride = pair(kernel_size if self.stride is None else self.stride, f"{name}.stride")
        padding = padding_pairs(self.padding, f"{name}.padding")
        object.__setattr__(self, "kernel_size", kernel_size)
        object.__setattr__(self, "stride", stride)
        object.__setattr__(self, "padding", padding)
        for pads, size in zip(padding, kernel_size, strict=True):
            if max(pads) >= size:
                raise ShapeError(f"{name}.padding: {self.padding} leaves windows of kernel {self.kernel_size} empty")

    @property
    def _cells(self) -> int:
        """Values of a window."""
        return math.prod(pair(self.kernel_size, "kernel_size"))

    def output_shape(self, name: str, inputs: Sequence[Shape]) -> Shape:
        shape = one_map(name, self, inputs)
        return windows(name, self, shape, shape[0], self.kernel_size, self.stride, self.padding)

    def _pool(self, kind: str, source: Value, shape: Shape) -> primitives.Reduce:
        return primitives.Reduce(window(source.shape, shape, self.kernel_size, self.stride, self.padding), kind)

    def spread(self, spikes: np.ndarray, inputs: Sequence[np.ndarray], shape: Shape) -> np.ndarray | None:
        padded = np.pad(inputs[0], ((0, 0), *self.padding))  # type: ignore[misc]
        (ky, kx), (sy, sx) = pair(self.kernel_size, "kernel_size"), pair(self.stride, "stride")
        out = np.zeros(shape, np.int64)
        for y in range(ky):
            for x in range(kx):
                out += padded[:, y:, x:][:, : (shape[1] - 1) * sy + 1 : sy, : (shape[2] - 1) * sx + 1 : sx]
        return out


@dataclass(frozen=True)
class SumPool2d(_Pool):
    """Sum over windows; padding counts as zero. `stride` defaults to `kernel_size`."""

    passive = True

    @property
    def area(self) -> int:
        """Values of a window, all added up."""
        return self._cells

    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        return Bound(*(part * self._cells for part in inputs[0].with_zero().parts))

    def lower(self, build: Build, inputs: Sequence[Value], schedule: Schedule) -> Value:
        return build(self._pool("sum", inputs[0], build.shape), inputs[0])


@dataclass(frozen=True)
class AvgPool2d(_Pool):
    """Window sum divided by the window size and rounded to an integer in every step.

    Rounding per step loses charge; converted networks use `SumPool2d` with a scaled threshold instead.
    Padding counts as zero and belongs to the window size.
    """

    rounding: Rounding = Rounding.RND

    rounds = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rounding", as_rounding(self.rounding, "AvgPool2d.rounding"))
        if self.rounding is Rounding.STOCHASTIC:
            raise FormatError("AvgPool2d.rounding: STOCHASTIC is for neuron states; choose a deterministic mode")

    @property
    def cells(self) -> int:
        """Values of a window, summed before the average."""
        return self._cells

    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        seen = inputs[0].with_zero()
        low, high = seen.low - 1, seen.high + 1  # rounding per step can add up
        return Bound(low, high, low * schedule.limit, high * schedule.limit)

    def lower(self, build: Build, inputs: Sequence[Value], schedule: Schedule) -> Value:
        (source,) = inputs
        summed = Bound(*(part * self.cells for part in self.bound([source.bound], [source.shape], schedule).parts))
        total = build(self._pool("sum", source, build.shape), source, part="sum", bound=summed)
        return build(primitives.Divide(self.cells, self.rounding), total)

    def no_ann(self, name: str, levels: int | None) -> list[str]:
        return [f"{name} rounds in every step (AvgPool2d; SumPool2d is exact)"]


@dataclass(frozen=True)
class MaxPool2d(_Pool):
    """Exact maximum of spike counts: the output is the step difference of ``max_i C_i(t)``.

    Each output spike is in {-1, 0, +1} where the inputs are; padding never wins over a count of zero.
    """

    spikes = True
    answers = True
    passive = True
    monotone = True

    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        source = inputs[0]
        low, high = at_most_zero(source.total_low), at_least_zero(source.total_high)
        span = np.minimum(source.high - source.low, high - low)
        step = np.maximum(at_least_zero(source.high), -at_most_zero(source.low))
        return Bound(-np.minimum(step, span + step), step, low, high)

    def lower(self, build: Build, inputs: Sequence[Value], schedule: Schedule) -> Value:
        return build(self._pool("max", inputs[0], build.shape), inputs[0])

    def spread(self, spikes: np.ndarray, inputs: Sequence[np.ndarray], shape: Shape) -> np.ndarray | None:
        return spikes

    def states(self, shapes, shape, bounds, bound) -> list[StateSize]:
        bits, step = bound.total_format.bits, bound.step_format.bits
        return [
            StateSize("counts", "count", math.prod(shapes[0]), bits),
            StateSize("counts", "best", math.prod(shape), bits),
            StateSize("spikes", "out", math.prod(shape), step, step),
        ]
