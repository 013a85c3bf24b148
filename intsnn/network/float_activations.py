"""Activations of a float network with two sides: those that let negative values through, and the sigmoid at its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..formats.arguments import real
from .node import FloatNode

__all__ = ["FloatHardTanh", "FloatLeakyReLU", "FloatSigmoid"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatHardTanh(FloatNode):
    """``min(max(x, -limit), limit)``; `limit` None means no limit: a value that is to have levels of both signs."""

    limit: float | None = 1.0

    activates = True
    two_sided = True

    @property
    def max_value(self) -> float | None:
        """The limit, as a ReLU calls its own."""
        return self.limit

    def output_shape(self, shapes):
        if self.limit is not None:
            words = "it has to be positive or None"
            found = real(self.limit, f"layer {self.name!r}: limit", np.nextafter(0, 1), allowed=words)
            object.__setattr__(self, "limit", found)
        return shapes[0]

    def apply(self, arrays):
        return arrays[0] if self.limit is None else np.clip(arrays[0], -self.limit, self.limit)


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatLeakyReLU(FloatNode):
    """``x`` where it is positive, else ``slope * x``."""

    slope: float = 0.01

    leaks = True

    def output_shape(self, shapes):
        found = real(self.slope, f"layer {self.name!r}: slope", 0, 1, allowed="a number from 0 to 1 is needed")
        object.__setattr__(self, "slope", found)
        return shapes[0]

    def apply(self, arrays):
        x = arrays[0]
        return np.where(x > 0, x, x * x.dtype.type(self.slope))


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatSigmoid(FloatNode):
    """``1 / (1 + exp(-x))``, element by element; at the end of a network, where the sign of x decides."""

    orders = True

    def apply(self, arrays):
        x = arrays[0]
        small = np.exp(-np.abs(x))  # never overflows
        return np.where(x >= 0, 1 / (1 + small), small / (1 + small)).astype(x.dtype)
