"""Layers of a float network that compute nothing: values are chosen, put in another order, or set side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..errors import ConversionError, ShapeError
from ..formats.arguments import shown
from ..formats.integers import whole_array
from ..layers.reshape import Select
from .node import FloatNode, check_vector, shape_error

__all__ = ["FloatConcat", "FloatSelect", "FloatSigns"]


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
    regroups = True

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

    def becomes(self, converter, sources):
        shape, (source,) = converter.shapes[self.inputs[0]], sources
        converter.add(self.name, Select(self.places), source)
        units = np.asarray(converter.units[source])
        if units.ndim:  # of each place; a channel of the output has one
            each = np.repeat(units, math.prod(shape[1:]))[np.maximum(self.places, 0)]
            rows = np.where(self.places < 0, np.nan, each).reshape(len(self.places), -1)
            units = np.nanmax(np.where(np.isnan(rows).all(axis=1, keepdims=True), units.max(), rows), axis=1)
            if np.any(np.abs(rows - units[:, None]) > 0):
                raise ConversionError(
                    f"layer {self.name!r}: it brings values in different units into one channel; put a ReLU before it"
                )
        converter.units[self.name] = units

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

    def becomes(self, converter, sources):
        converter.gather(self.name, sources)

    def apply(self, arrays):
        return np.concatenate(arrays, axis=1)


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatSigns(FloatNode):
    """Each channel as it is or negated: `signs` ``(C,)``, integers 1 and -1."""

    signs: np.ndarray = field(metadata={"integers": True})

    negates = True

    def __post_init__(self) -> None:
        super().__post_init__()
        found = whole_array(self.signs, f"layer {self.name!r}: signs")
        if found.ndim != 1 or not np.isin(found, (-1, 1)).all():
            raise ShapeError(
                f"layer {self.name!r}: signs: found {shown(self.signs)}; 1 and -1 of shape (C,) are needed"
            )
        object.__setattr__(self, "signs", found)

    def output_shape(self, shapes):
        check_vector(self, "signs", self.signs, shapes[0][0])
        return shapes[0]

    def becomes(self, converter, sources):
        converter.negate(self.name, self.signs, sources[0])

    def apply(self, arrays):
        x = arrays[0]
        return x * self.signs.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 2))
