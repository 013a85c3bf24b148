"""Layers that move values and compute none."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FormatError, ShapeError
from ..formats.arguments import choice
from ..formats.integers import whole_array
from . import primitives
from .base import Bound, Build, Layer, ParameterSize, Shape, Value, least_bits, objects, one_map, pair
from .schedule import Schedule

__all__ = ["Concat", "Flatten", "Moving", "Select", "Upsample2d"]

UPSAMPLINGS = ("nearest", "zeros")


class Moving(Layer, kind=False):
    """A layer that only says from where each output comes: `output_shape`, `places` and `bound` are left to say."""

    moves_only = True
    passive = True
    monotone = True

    @abstractmethod
    def places(self, shape: Shape) -> np.ndarray:
        """Index of the input ``(C, H, W)`` that each output is, in the shape of the output; -1: 0."""

    def lower(self, build: Build, inputs: Sequence[Value], schedule: Schedule) -> Value:
        return build(primitives.Copy(self.places(inputs[0].shape)), inputs[0])

    def spread(self, spikes: np.ndarray, inputs: Sequence[np.ndarray], shape: Shape) -> np.ndarray | None:
        places = self.places(inputs[0].shape)
        return np.where(places < 0, 0, inputs[0].reshape(-1)[places])


@dataclass(frozen=True)
class Flatten(Moving):
    """``(C, H, W)`` to ``(C * H * W,)``, in that order."""

    permutes = True

    def output_shape(self, name: str, inputs: Sequence[Shape]) -> Shape:
        return (math.prod(inputs[0]),)

    def places(self, shape: Shape) -> np.ndarray:
        return np.arange(math.prod(shape))

    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        area = math.prod(shapes[0][1:])
        return Bound(*(np.repeat(part, area) for part in inputs[0].parts))


@dataclass(frozen=True)
class Upsample2d(Moving):
    """Enlarges maps by whole factors (rows, columns).

    `mode` ``"nearest"`` repeats every value, H becomes ``factor * H``; ``"zeros"`` puts ``factor - 1`` zeros between
    neighbours, H becomes ``factor * (H - 1) + 1``: in front of a `Conv2d` that is a transposed convolution.
    """

    factor: tuple[int, int] | int = 2
    mode: str = "nearest"

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", pair(self.factor, "Upsample2d.factor"))
        choice(self.mode, "Upsample2d.mode", UPSAMPLINGS)

    def sizes(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the result."""
        rows, columns = pair(self.factor, "Upsample2d.factor")
        if self.mode == "nearest":
            return rows * height, columns * width
        return rows * (height - 1) + 1, columns * (width - 1) + 1

    def output_shape(self, name: str, inputs: Sequence[Shape]) -> Shape:
        channels, height, width = one_map(name, self, inputs)
        return (channels, *self.sizes(height, width))

    def places(self, shape: Shape) -> np.ndarray:
        source = np.arange(math.prod(shape)).reshape(shape)
        rows, columns = pair(self.factor, "Upsample2d.factor")
        if self.mode == "nearest":
            return source.repeat(rows, axis=1).repeat(columns, axis=2)
        large = np.full((shape[0], *self.sizes(*shape[1:])), -1)
        large[:, ::rows, ::columns] = source
        return large

    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        return inputs[0].with_zero() if self.mode == "zeros" else Bound(*inputs[0].parts)


@dataclass(frozen=True, eq=False)
class Select(Moving):
    """Each output is one value of the input, or 0: cropping, another order of channels or axes, a slice.

    `indices` has the shape of the output, ``(C, H, W)`` or ``(N,)``: where each value is in the flat input, -1 for 0.

    Raises `ShapeError` for indices of another rank, and `FormatError` for one that is not in the input.
    """

    indices: np.ndarray

    def __post_init__(self) -> None:
        found = whole_array(self.indices, "Select.indices")
        if found.ndim not in (1, 3) or not found.size:
            raise ShapeError(f"Select.indices: found shape {found.shape}; (C, H, W) or (N,) is needed")
        object.__setattr__(self, "indices", found)

    def output_shape(self, name: str, inputs: Sequence[Shape]) -> Shape:
        low, high, size = int(self.indices.min()), int(self.indices.max()), math.prod(inputs[0])
        if low < -1 or high >= size:
            raise FormatError(f"{name} (Select): found indices {low} to {high}; -1 (a zero) to {size - 1} are possible")
        return self.indices.shape

    def places(self, shape: Shape) -> np.ndarray:
        return self.indices

    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        found = self.indices.reshape(len(self.indices), -1)
        area = math.prod(shapes[0][1:])
        comes = [np.unique(np.where(row < 0, -1, row // area)).tolist() for row in found]  # channels, -1: a zero
        parts = [[0, *part.tolist()] for part in inputs[0].parts]
        ends = [
            objects([end([part[c + 1] for c in row]) for row in comes], len(found))
            for part, end in zip(parts, (min, max, min, max), strict=True)
        ]
        return Bound(*ends)

    def parameters(self) -> list[ParameterSize]:
        return [ParameterSize("indices", "indices", least_bits(self.indices))]


@dataclass(frozen=True)
class Concat(Layer):
    """Branches side by side: channels of maps of one size, or values of vectors."""

    arity = (2, None)
    gathers = True
    moves_only = True
    monotone = True

    def output_shape(self, name: str, inputs: Sequence[Shape]) -> Shape:
        if len(inputs) < 2 or any(len(shape) != len(inputs[0]) or shape[1:] != inputs[0][1:] for shape in inputs):
            raise ShapeError(
                f"{name} (Concat): found inputs of shapes {tuple(inputs)}; at least two are needed, alike in all but "
                "the channels"
            )
        return (sum(shape[0] for shape in inputs), *inputs[0][1:])

    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        return Bound(*(np.concatenate(parts) for parts in zip(*(bound.parts for bound in inputs), strict=True)))

    def lower(self, build: Build, inputs: Sequence[Value], schedule: Schedule) -> Value:
        return build(primitives.Copy(np.arange(math.prod(build.shape)).reshape(build.shape)), *inputs)

    def spread(self, spikes: np.ndarray, inputs: Sequence[np.ndarray], shape: Shape) -> np.ndarray | None:
        return np.concatenate(inputs)
