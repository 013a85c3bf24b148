"""Layers that bring branches together: sums, and the factors of their terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..formats.integers import whole_array
from . import primitives
from .base import Bound, Build, Layer, ParameterSize, Shape, Value, least_bits
from .schedule import Schedule

__all__ = ["Add", "Scale"]


@dataclass(frozen=True)
class Add(Layer):
    """Sum of two or more inputs of one shape (residual join)."""

    arity = (2, None)

    def output_shape(self, name: str, inputs: Sequence[Shape]) -> Shape:
        if len(inputs) < 2 or any(shape != inputs[0] for shape in inputs):
            raise ShapeError(f"{name} (Add): found inputs of shapes {inputs}; at least two of one shape are needed")
        return inputs[0]

    def shape_in_a_loop(self, known: Sequence[Shape]) -> Shape | None:
        return known[0] if known else None

    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        return Bound(*(reduce(np.add, parts) for parts in zip(*(bound.parts for bound in inputs), strict=True)))

    def lower(self, build: Build, inputs: Sequence[Value], schedule: Schedule) -> Value:
        return build(primitives.Sum(), *inputs)

    def spread(self, spikes: np.ndarray, inputs: Sequence[np.ndarray], shape: Shape) -> np.ndarray | None:
        return reduce(np.add, inputs)


@dataclass(frozen=True, eq=False)
class Scale(Layer):
    """Multiplies each channel by an integer: `scale` one integer or ``(C,)``."""

    scale: np.ndarray | int = 1

    def __post_init__(self) -> None:
        scale = whole_array(self.scale, "Scale.scale")
        if scale.ndim > 1:
            raise ShapeError(f"Scale.scale: found shape {scale.shape}; give one integer or one per channel")
        object.__setattr__(self, "scale", scale)

    def output_shape(self, name: str, inputs: Sequence[Shape]) -> Shape:
        (shape,) = inputs
        scale = np.asarray(self.scale)
        if scale.ndim and scale.shape[0] != shape[0]:
            raise ShapeError(f"{name} (Scale): found {scale.shape[0]} scales for {shape[0]} channels")
        return shape

    def bound(self, inputs: Sequence[Bound], shapes: Sequence[Shape], schedule: Schedule) -> Bound:
        return inputs[0].times(self.scale)

    def lower(self, build: Build, inputs: Sequence[Value], schedule: Schedule) -> Value:
        return build(primitives.Times(np.asarray(self.scale)), inputs[0])

    def spread(self, spikes: np.ndarray, inputs: Sequence[np.ndarray], shape: Shape) -> np.ndarray | None:
        return inputs[0]

    def details(self) -> dict[str, Any]:
        return {"multiplier": np.asarray(self.scale)}

    def parameters(self) -> list[ParameterSize]:
        return [ParameterSize("scales", "scale", least_bits(self.scale), 1)]
