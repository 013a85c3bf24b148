"""What do the layers of Keras without weights become that look at maps: pools, padding, cropping, enlarging?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ....errors import ShapeError
from ....network.composed import cropping
from ....network.float_nodes import FloatAvgPool2d, FloatFlatten, FloatMaxPool2d, FloatUpsample2d
from ..axes import Value
from ..builder import Builder
from ..graph import Layer, short

__all__ = ["crop", "global_pool", "pool", "pool_all", "put_zeros", "upsampling", "zeros_around"]


def pool(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """MaxPooling and AveragePooling."""
    x = b.maps(layer, b.one(layer, inputs))
    maximum = layer.kind.startswith("Max")
    kernel = layer.plane("pool_size", "pool_length", default=2 if layer.rank == 1 else [2, 2])
    stride = layer.plane("strides", "stride", default=kernel[1] if layer.rank == 1 else list(kernel))
    same = layer.padding() == "same"
    if same and b.backend == "theano":
        raise layer.unsupported("padding 'same' of the Theano backend, which pads in its own way; 'valid' is taken")
    pending = x.pad
    # zeros around an image never win after a ReLU and count in a mean: only then they can be padding of the pool itself
    folds = pending is not None and not same and all(max(p) < k for p, k in zip(pending, kernel, strict=True))
    folds = folds and (not maximum or (b.node(x.node).activates and not b.node(x.node).two_sided))
    if not folds:
        x = b.padded(layer, x)
    options: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": b.spaces(layer, x, kernel, stride)}
    if maximum:
        return b.emit(FloatMaxPool2d, layer, "", (x,), **options)
    return b.emit(FloatAvgPool2d, layer, "", (x,), count_include_pad=bool(folds), **options)


def global_pool(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """GlobalAveragePooling and GlobalMaxPooling."""
    x = b.padded(layer, b.maps(layer, b.one(layer, inputs)))
    return pool_all(b, layer, x, "Max" in layer.kind, layer.flag("keepdims", default=False))


def pool_all(b: Builder, layer: Layer, x: Value, maximum: bool, keep: bool) -> Value:
    """One value of each map: its largest, or the mean; `keep`: as a map of one position."""
    cls = FloatMaxPool2d if maximum else FloatAvgPool2d
    y = b.emit(cls, layer, "" if keep else "pool", (x,), kernel=x.shape[1:], stride=x.shape[1:])
    return y if keep else b.emit(FloatFlatten, layer, "", (y,))


def _sides(layer: Layer, *keys: str, default: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    """What is put around or cut off, ``((top, bottom), (left, right))``."""
    value = layer.get(*keys, default=default)
    if layer.rank == 1:
        value = [0, value] if type(value) is int or (isinstance(value, list) and len(value) == 2) else "?"
    elif type(value) is int:
        value = [value, value]
    elif isinstance(value, list) and len(value) == 4:  # Keras 1: top, bottom, left, right
        value = [value[:2], value[2:]]
    if isinstance(value, list) and len(value) == 2:
        value = [[n, n] if type(n) is int else n for n in value]
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(
            isinstance(p, list) and len(p) == 2 and all(type(n) is int and 0 <= n <= 1024 for n in p) for p in value
        )
    ):
        raise layer.bad(f"{keys[0]} is {short(layer.get(*keys))}; integers in 0..1024 for each side are needed")
    return (value[0][0], value[0][1]), (value[1][0], value[1][1])


def zeros_around(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """ZeroPadding; what comes next takes the zeros as its own padding where it can."""
    x = b.maps(layer, b.one(layer, inputs))
    return put_zeros(b, x, _sides(layer, "padding", default=1 if layer.rank == 1 else [1, 1]))


def put_zeros(b: Builder, x: Value, sides: tuple[tuple[int, int], tuple[int, int]]) -> Value:
    """Remember zeros around maps, beside those that are to be put there already."""
    old = x.pad or ((0, 0), (0, 0))
    return replace(x, pad=tuple((a + c, e + d) for (a, e), (c, d) in zip(old, sides, strict=True)))


def crop(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Cropping."""
    x = b.padded(layer, b.maps(layer, b.one(layer, inputs)))
    sides = _sides(layer, "cropping", default=[1, 1] if layer.rank == 1 else [0, 0])
    for size, (before, after) in zip(x.shape[1:], sides, strict=True):
        if before + after >= size:
            raise ShapeError(f"{layer}: cropping {sides} leaves nothing of maps of {x.shape[1:]}")
    if not any(map(any, sides)):
        return x
    node = cropping(b.name(layer), x.node, x.shape, sides, source=f"{layer.kind} {layer.name}")
    return b.add(layer, node, len(x.keras))


def upsampling(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """UpSampling by repetition."""
    x = b.padded(layer, b.maps(layer, b.one(layer, inputs)))
    way = layer.get("interpolation", default="nearest")
    if way != "nearest":
        raise layer.unsupported(f"interpolation {short(way)}; 'nearest' is taken")
    factor = layer.plane("size", "length", default=2 if layer.rank == 1 else [2, 2])
    return b.emit(FloatUpsample2d, layer, "", (x,), factor=factor)
