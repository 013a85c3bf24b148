"""What do the layers of Keras become that only move values: flattened, reshaped, with axes exchanged, cut out?

Nothing is moved at once: the places are kept until a layer needs an order (`intsnn.models.keras.axes`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....errors import ShapeError
from ..axes import MAX_VALUES, Value, placed, value_places
from ..builder import Builder
from ..graph import FIRST, LAST, Layer, short

__all__ = ["expand", "flatten", "nothing", "permute", "reshape", "reshaped", "sliced", "squeeze", "transpose"]


def nothing(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Layers that do nothing once a network is trained."""
    return b.one(layer, inputs)


def flatten(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Flatten."""
    x = b.padded(layer, b.one(layer, inputs))
    if len(x.keras) == 1:
        return x
    # Keras >= 2.2 writes data_format, and for channels_first goes through channels last; before that it did not
    explicit = layer.data_format()
    if explicit == FIRST and b.layout == LAST:
        raise layer.unsupported("channels_first and channels_last are mixed in one network")
    places = value_places(x, b.layout)
    if explicit == FIRST and len(x.keras) > 1:
        places = np.moveaxis(places, 0, -1)
    return b.vector(layer, placed(x, places.reshape(-1), b.layout), "")


def reshape(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Reshape."""
    return reshaped(b, layer, b.one(layer, inputs), layer.get("target_shape", "dims"))


def reshaped(b: Builder, layer: Layer, x: Value, target: Any) -> Value:
    """The values of `x` in another shape, that of Keras without the batch."""
    x = b.padded(layer, x)
    size = math.prod(x.keras)
    if (
        not isinstance(target, list)
        or not 1 <= len(target) <= 8
        or not all(type(n) is int and (n == -1 or 1 <= n <= MAX_VALUES) for n in target)
        or target.count(-1) > 1
    ):
        raise layer.bad(f"target_shape is {short(target)}; sizes, at most one of them -1, are needed")
    known = math.prod(n for n in target if n != -1)
    if size % known or (-1 not in target and known != size):
        raise ShapeError(f"{layer}: {size} values do not fit {target}")
    places = value_places(x, b.layout).reshape([size // known if n == -1 else n for n in target])
    y = placed(x, places, b.layout)
    if len(target) == 1 and len(x.keras) > 1 and b.whole(x):
        return b.vector(layer, y, "")
    # an input that is reshaped at once comes in as an image
    return b.usual(layer, y, "") if len(target) <= 3 and b.node(x.node).takes_input else y


def permute(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Permute."""
    dims = layer.get("dims")
    return transpose(b, layer, b.one(layer, inputs), dims if isinstance(dims, list) else [dims])


def transpose(b: Builder, layer: Layer, x: Value, dims: Any) -> Value:
    """The axes of `x` in the order `dims`, which counts from 1."""
    x = b.padded(layer, x)
    if (
        not isinstance(dims, list)
        or not all(type(n) is int for n in dims)
        or sorted(dims) != list(range(1, len(x.keras) + 1))
    ):
        raise layer.bad(f"dims is {short(dims)}; the axes 1 to {len(x.keras)} in another order are needed")
    return placed(x, value_places(x, b.layout).transpose([n - 1 for n in dims]), b.layout)


def sliced(b: Builder, layer: Layer, x: Value, index: tuple) -> Value:
    """What an index takes out of `x`; it is of numbers, slices, Ellipsis and None, the batch first."""
    x = b.padded(layer, x)
    rank = len(x.keras) + 1
    explicit = [part for part in index if part is not None and part is not Ellipsis]
    if index and index[0] not in (slice(None), Ellipsis):
        raise layer.unsupported("takes some samples out of the batch; slices of each sample alone are taken")
    if len(explicit) > rank or (index and index[0] is Ellipsis and len(explicit) >= rank):
        raise layer.bad(f"its slices are of {len(explicit)} axes, its tensor has {rank}")
    try:
        places = value_places(x, b.layout)[None][index]
    except IndexError:
        raise layer.bad(f"its slices do not fit a tensor of {x.keras}") from None
    places = places[0] if places.ndim else places
    if not places.ndim or not places.size:
        raise layer.unsupported("its slices leave a single number, or nothing, of a sample")
    return placed(x, places, b.layout)


def _axes(layer: Layer, axis: Any, rank: int) -> list[int]:
    axes = axis if isinstance(axis, list) else [axis]
    if not all(type(n) is int and -rank <= n < rank for n in axes):
        raise layer.bad(f"axis is {short(axis)} on a tensor of {rank} axes")
    return [n % rank for n in axes]


def squeeze(b: Builder, layer: Layer, x: Value, axis: Any) -> Value:
    """Without the axes of size 1 that `axis` names, all where it is None or empty; the batch is axis 0."""
    x = b.padded(layer, x)
    rank = len(x.keras) + 1
    axes = [k + 1 for k, n in enumerate(x.keras) if n == 1] if axis in (None, []) else _axes(layer, axis, rank)
    if 0 in axes or any(x.keras[n - 1] != 1 for n in axes) or len(set(axes)) >= len(x.keras):
        raise layer.bad(f"axis is {short(axis)}; axes of size 1 of a tensor of {x.keras} are needed")
    places = value_places(x, b.layout).reshape([n for k, n in enumerate(x.keras) if k + 1 not in axes])
    y = placed(x, places, b.layout)
    return b.vector(layer, y, "") if places.ndim == 1 and b.whole(x) else y


def expand(b: Builder, layer: Layer, x: Value, axis: Any) -> Value:
    """With a new axis of size 1."""
    x = b.padded(layer, x)
    (place,) = _axes(layer, axis, len(x.keras) + 2)[:1]
    if place == 0:
        raise layer.unsupported("puts an axis before the batch")
    return placed(x, np.expand_dims(value_places(x, b.layout), place - 1), b.layout)
