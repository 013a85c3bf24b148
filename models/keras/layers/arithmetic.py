"""What does arithmetic on tensors of Keras become: sums, differences, means of branches, and constants?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ....network.float_moves import FloatConcat
from ....network.float_nodes import FloatAdd, FloatBatchNorm
from ..axes import Value, in_our_axes, placed, value_places
from ..builder import Builder
from ..graph import FIRST, Layer, short

__all__ = ["added", "average", "beside", "concatenate", "merge", "scaled_value", "subtracted", "total"]


def _part(b: Builder, layer: Layer, part: str) -> str:
    return "" if layer.name not in b.shapes else part


def scaled_value(b: Builder, layer: Layer, x: Value, scale: Any, offset: Any) -> Value:
    """``scale * x + offset`` with constants that are one number, or one for each channel."""
    x = b.padded(layer, x)
    numbers = [_numbers(layer, constant) for constant in (scale, offset)]
    if any(a.size > 1 for a in numbers):
        x = b.vector(layer, x) if len(x.keras) == 1 else b.usual(layer, x)
    elif numbers[0].item() == 1 and numbers[1].item() == 0:
        return x
    channels = x.shape[0]
    gamma, beta = (_by_channel(b, layer, x, a) for a in numbers)
    ones = np.ones(channels, np.float32)
    y = b.emit(
        FloatBatchNorm, layer, _part(b, layer, "scale"), (x,), gamma=gamma, beta=beta, mean=0 * ones, variance=ones,
        epsilon=0.0,
    )  # fmt: skip
    return replace(x, node=y.node)


def _numbers(layer: Layer, constant: Any) -> np.ndarray:
    try:
        found = np.asarray(constant)
    except ValueError:
        found = np.asarray("")
    if found.dtype.kind not in "iuf" or not found.size or not np.isfinite(found).all():
        raise layer.bad(f"a constant is {short(constant)}; finite numbers are needed")
    return found.astype(np.float64)


def _by_channel(b: Builder, layer: Layer, x: Value, numbers: np.ndarray) -> np.ndarray:
    channels = x.shape[0]
    if numbers.size == 1:
        return np.full(channels, numbers.item(), np.float32)
    if numbers.ndim == len(x.keras) + 1 and len(numbers) == 1:
        numbers = numbers[0]  # the batch
    try:
        numbers = np.broadcast_to(numbers, x.keras)
    except ValueError:
        raise layer.bad(f"a constant of shape {numbers.shape} does not fit a tensor of {x.keras}") from None
    if len(x.keras) == 1:
        order = b.order(x)
        return (numbers if order is None else numbers[order]).astype(np.float32)
    numbers = in_our_axes(numbers, b.layout).reshape(channels, -1)
    if (numbers != numbers[:, :1]).any():
        raise layer.unsupported(
            "a constant that differs from position to position; one number for each channel is taken"
        )
    return numbers[:, 0].astype(np.float32)


def _alike(b: Builder, layer: Layer, inputs: list[Value]) -> list[Value]:
    """Branches whose values are in the same places."""
    inputs = [b.padded(layer, x) for x in inputs]
    first = inputs[0]
    for x in inputs[1:]:
        if x.keras != first.keras:
            raise layer.unsupported(f"combines tensors of {first.keras} and {x.keras}; equal shapes are taken")
    same = all((x.places is None) == (first.places is None) and x.shape == first.shape for x in inputs)
    if same and (first.places is None or all(np.array_equal(value_places(x, b.layout), first.places) for x in inputs)):
        return inputs
    return [b.usual(layer, x) for x in inputs]


def total(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """The sum of branches."""
    if len(inputs) < 2:
        raise layer.bad(f"it has {len(inputs)} inputs; two or more are needed")
    inputs = _alike(b, layer, inputs)
    return replace(inputs[0], node=b.emit(FloatAdd, layer, _part(b, layer, "sum"), inputs).node)


def added(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Add."""
    return total(b, layer, inputs)


def subtracted(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Subtract."""
    if len(inputs) != 2:
        raise layer.bad(f"it has {len(inputs)} inputs; two are needed")
    name = replace(layer, name=f"{layer.name}/minus")
    return total(b, layer, [inputs[0], scaled_value(b, name, inputs[1], -1.0, 0.0)])


def average(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Average."""
    name = replace(layer, name=f"{layer.name}/total")
    return scaled_value(b, layer, total(b, name, inputs), 1 / len(inputs), 0.0)


def beside(b: Builder, layer: Layer, inputs: list[Value], axis: Any) -> Value:
    """Branches side by side along `axis`, which has to be that of the channels."""
    if not inputs:
        raise layer.bad("it has no inputs; one or more are needed")
    rank = len(inputs[0].keras) + 1
    if any(len(x.keras) + 1 != rank for x in inputs):
        raise layer.bad(
            f"its inputs have shapes {', '.join(str(x.keras) for x in inputs)}; equal numbers of axes are needed"
        )
    if type(axis) is not int or not -rank <= axis < rank:
        raise layer.bad(f"axis is {short(axis)} on tensors of {rank} axes")
    if axis % rank != (1 if b.layout == FIRST else rank - 1):
        raise layer.unsupported(f"axis {axis} is not the channel axis ({b.layout}); only that is taken")
    if len(inputs) == 1:
        return inputs[0]
    if rank > 2:
        return b.emit(FloatConcat, layer, "", [b.usual(layer, x) for x in inputs])
    inputs = [b.vector(layer, x) for x in inputs]
    starts = np.cumsum([0, *(x.shape[0] for x in inputs)])
    places = [value_places(x, b.layout) + start for x, start in zip(inputs, starts, strict=False)]
    return placed(b.emit(FloatConcat, layer, "", inputs), np.concatenate(places), b.layout)


def concatenate(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Concatenate."""
    return beside(b, layer, inputs, layer.get("axis", "concat_axis", default=-1))


def merge(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Merge of Keras 1."""
    mode = layer.get("mode", default="sum")
    if layer.get("layers"):
        raise layer.unsupported("a Merge that holds models of its own; save it as a Functional model")
    if mode == "concat":
        return concatenate(b, layer, inputs)
    if mode == "ave":
        return average(b, layer, inputs)
    if mode != "sum":
        raise layer.unsupported(f"merge mode {short(mode)}; 'sum', 'ave' and 'concat' are taken")
    return total(b, layer, inputs)
