"""Layers of a float network that compute nothing: values are chosen, put in another order, or set side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..errors import ShapeError
from ..formats.integers import whole_array
from .node import FloatNode, shape_error

__all__ = ["FloatConcat", "FloatSelect"]


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatSelect(FloatNode):
    """Each output is one value of the input, or 0: cropping, another order of channels or axes, a slice.

    Parameters
    ----------
    places : numpy.ndarray
        Integers of the shape of the output, ``(C, H, W)`` or ``(N,)``: place of each in the flat input, -1 for 0.
    """

    places: np.ndarray = field(metadata={"integers": True})

    passive = True
    moves_only = True

    def __post_init__(self) -> None:
        super().__post_init__()
        found = whole_array(self.places, f"layer {self.name!r}: places")
        if found.ndim not in (1, 3) or not found.size:
            raise ShapeError(f"layer {self.name!r}: places of shape {found.shape}; (C, H, W) or (N,) is needed")
        object.__setattr__(self, "places", found)

    def output_shape(self, shapes):
        size = math.prod(shapes[0])
        low, high = int(self.places.min()), int(self.places.max())
        if low < -1 or high >= size:
            raise shape_error(self, f"its places are {low} to {high}; -1 (a zero) to {size - 1} are possible")
        return self.places.shape

    def apply(self, arrays):
        x = arrays[0].reshape(len(arrays[0]), -1)
        if self.places.min() < 0:
            x = np.concatenate([x, np.zeros((len(x), 1), x.dtype)], axis=1)  # place -1
        return x[:, self.places.reshape(-1)].reshape(len(x), *self.places.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatConcat(FloatNode):
    """Branches set side by side: channels of maps of one size, or values of vectors."""

    arity = (2, 1 << 16)
    gathers = True

    def output_shape(self, shapes):
        if any(len(shape) != len(shapes[0]) or shape[1:] != shapes[0][1:] for shape in shapes):
            raise shape_error(self, f"the branches have shapes {shapes}; all but the channels have to be equal")
        return (sum(shape[0] for shape in shapes), *shapes[0][1:])

    def apply(self, arrays):
        return np.concatenate(arrays, axis=1)
