"""Where is each value of a Keras tensor in the node that stands for it? Axes are relabelled here, nothing is computed.

Images ``(H, W, C)`` or ``(C, H, W)`` of Keras are ``(C, H, W)`` here, signals ``(L, C)`` or ``(C, L)`` are
``(C, 1, L)``, vectors ``(N,)``. Whatever else a network makes of the axes on its way (flattened, reshaped, exchanged,
sliced) is kept as a table of places until a layer needs the usual order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .graph import FIRST

__all__ = ["MAX_VALUES", "Value", "in_our_axes", "our_shape", "placed", "value_places"]

MAX_VALUES = 1 << 24  # of one layer's output for one sample


@dataclass(frozen=True, eq=False)
class Value:
    """What a Keras tensor is here.

    Attributes
    ----------
    node, shape : str, tuple of int
        The node and the shape of its value, ``(C, H, W)`` or ``(N,)``.
    keras : tuple of int
        Shape in Keras, without the batch.
    places : numpy.ndarray or None
        Of the shape in Keras: place of each value in the flat value of the node; None for the usual order.
    pad : ((top, bottom), (left, right)) or None
        Zeros still to be put around an image.
    """

    node: str
    shape: tuple[int, ...]
    keras: tuple[int, ...]
    places: np.ndarray | None = None
    pad: tuple | None = None

    @property
    def image(self) -> bool:
        """Whether it has channels and positions in the usual order."""
        return len(self.shape) == 3 and self.places is None


def our_shape(keras: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """Shape of the node for a tensor of 1 to 3 axes in the usual order."""
    if len(keras) == 1:
        return keras
    channels, size = (keras[0], keras[1:]) if layout == FIRST else (keras[-1], keras[:-1])
    return (channels, *((1, *size) if len(size) == 1 else size))


def in_our_axes(array: np.ndarray, layout: str) -> np.ndarray:
    """An array over the axes of Keras (1 to 3), over ours."""
    if array.ndim > 1 and layout != FIRST:
        array = np.moveaxis(array, -1, 0)
    return array[:, None] if array.ndim == 2 else array


def _usual(keras: tuple[int, ...], layout: str) -> np.ndarray:
    if len(keras) < 2 or layout == FIRST:
        return np.arange(math.prod(keras)).reshape(keras)
    return np.moveaxis(np.arange(math.prod(keras)).reshape(keras[-1], *keras[:-1]), 0, -1)


def value_places(value: Value, layout: str) -> np.ndarray:
    """Place of each value of a tensor in its node, in the shape of Keras."""
    return _usual(value.keras, layout) if value.places is None else value.places


def placed(value: Value, places: np.ndarray, layout: str) -> Value:
    """The tensor whose values are at `places` in the node of `value`."""
    keras = places.shape
    usual = len(keras) <= 3 and our_shape(keras, layout) == value.shape and (places == _usual(keras, layout)).all()
    return replace(value, keras=keras, places=None if usual else places, pad=None)
