"""Layers that move values and compute none."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..formats.arguments import choice
from . import primitives
from .base import Bound, Build, Layer, Shape, Value, one_map, pair
from .schedule import Schedule

__all__ = ["Flatten", "Moving", "Upsample2d"]

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
