"""What comes into a Keras network? The shape that its configuration says, or the user, and what its axes mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import ShapeError
from ...network.float_nodes import FloatInput
from .axes import Value, our_shape, placed
from .builder import Builder
from .graph import FIRST, LAST, MAX_SIDE, Layer, short

__all__ = ["entrance", "layout_of"]


def layout_of(layers: Sequence[Layer], backend: str | None) -> str:
    """Where the channels of a network are: what its layers say, those that only flatten asked last."""
    for flat in (False, True):
        for layer in layers:
            if (layer.kind == "Flatten") == flat and (found := layer.data_format()) is not None:
                return found
    return FIRST if backend == "theano" and any(layer.keras1 for layer in layers) else LAST


def entrance(
    b: Builder, layer: Layer, layers: Sequence[Layer], given: Sequence[int] | None, features: int | None
) -> Value:
    """Append the input, whose shape is that in `layer`, the user's, or that of the first dense kernel.

    Two axes are a signal, unless `layers` begin to use them as an image without channels.
    """
    source = replace(layer, kind="InputLayer", name=layer.name if layer.kind == "InputLayer" else "input")
    keras = _told(layer, source)
    if keras is None and features is not None and given is None:
        keras = (features,)
    grid = keras is not None and len(keras) == 2 and not _signals(layers)
    if given is not None:
        keras = _given(b, given, keras, grid)
    if keras is None or None in keras:
        found = "" if keras is None else f" ({', '.join('any' if n is None else str(n) for n in keras)})"
        raise source.bad(
            f"the model leaves the input shape open{found}; say it with --input-shape C,H,W (input_shape=(C, H, W))"
        )
    if len(keras) > 3:
        raise source.unsupported(f"an input of shape {keras}; vectors, signals and images are taken")
    shape = (1, *keras) if grid else our_shape(keras, b.layout)
    node = FloatInput(name=source.name, source=f"{source.kind} {source.name}", shape=shape)
    value = replace(b.add(source, node, len(keras)), keras=keras)
    return placed(value, np.arange(keras[0] * keras[1]).reshape(keras), b.layout) if grid else value


def _told(layer: Layer, source: Layer) -> tuple[Any, ...] | None:
    shape = layer.get("batch_input_shape", "batch_shape")
    if isinstance(shape, list) and shape and isinstance(shape[0], list) and len(shape) == 1:
        shape = shape[0]
    if shape is None and layer.get("input_shape") is not None:
        shape = [None, *layer.get("input_shape")] if isinstance(layer.get("input_shape"), list) else "?"
    if shape is None and layer.get("input_dim") is not None:
        shape = [None, layer.get("input_dim")]
    if shape is None:
        return None
    if (
        not isinstance(shape, list)
        or not 2 <= len(shape) <= 5
        or not all(n is None or (type(n) is int and 1 <= n <= MAX_SIDE * 16) for n in shape[1:])
    ):
        raise source.bad(f"the input shape is {short(shape)}; (batch, sizes from 1 to {MAX_SIDE * 16}) is needed")
    return tuple(shape[1:])


def _given(b: Builder, given: Sequence[int], keras: tuple[Any, ...] | None, grid: bool) -> tuple[int, ...]:
    """The shape in Keras of what the user says in our axes, checked against what the file says."""
    given = tuple(given)
    if len(given) == 2:
        given = (given[0], 1, given[1])  # a signal
    wanted = None
    if keras is not None and len(keras) <= 3:
        wanted = (1, *keras) if grid else our_shape(keras, b.layout)
    if keras is not None and (
        wanted is None
        or len(wanted) != len(given)
        or any(w not in (None, g) for w, g in zip(wanted, given, strict=True))
    ):
        raise ShapeError(f"input_shape {given} does not fit the model's {keras if wanted is None else wanted}")
    if grid:
        return given[1:]
    if len(given) == 1:
        return given
    size = given[2:] if keras is not None and len(keras) == 2 else given[1:]
    return (given[0], *size) if b.layout == FIRST else (*size, given[0])


def _signals(layers: Sequence[Layer]) -> bool:
    """Whether inputs of two axes have channels along one of them, as the first layer that minds takes them."""
    if any("1D" in layer.kind for layer in layers):
        return True
    for layer in layers:
        if layer.kind in ("Dense", "BatchNormalization"):
            return True
        if layer.kind in ("Flatten", "Reshape", "Permute") or layer.operator:
            return False
    return False
