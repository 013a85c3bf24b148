"""What do functions become that a network applies to tensors without a layer: ``x / 255``, ``tf.nn.relu(x)``?

Keras 2 saves them as TFOpLambda and SlicingOpLambda with the name of the function, Keras 3 as operations with a class.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..axes import Value
from ..builder import Builder
from ..graph import FIRST, MAX_SIDE, Layer, Ref, short
from .activations import activation_named, clipped, leaky, softmax
from .arithmetic import beside, scaled_value, subtracted, total
from .shaping import expand, nothing, reshaped, sliced, squeeze, transpose
from .windows import pool_all, put_zeros

__all__ = ["operates", "operator"]

_MISSING = object()


class _Arguments:
    """Arguments of a call, by position or name; tensors are values."""

    def __init__(self, layer: Layer, inputs: list[Value]) -> None:
        self.layer = layer
        self.values = dict(zip(layer.inbound, inputs, strict=True))

    def get(self, place: int, *names: str, default: Any = _MISSING) -> Any:
        """The argument, or the option of the configuration, or `default`."""
        found = default
        if place < len(self.layer.arguments):
            found = self.layer.arguments[place]
        else:
            for holder in (self.layer.options, self.layer.config):
                name = next((name for name in names if name in holder), None)
                if name is not None:
                    found = holder[name]
                    break
        if found is _MISSING:
            raise self.layer.bad(f"it has no argument {names[0]!r}")
        return self._made(found)

    def _made(self, item: Any) -> Any:
        if isinstance(item, Ref):
            return self.values[item.name]
        return [self._made(part) for part in item] if isinstance(item, list) else item

    def tensor(self, place: int, *names: str) -> Value:
        found = self.get(place, *names)
        if not isinstance(found, Value):
            raise self.layer.bad(f"its argument {names[0]!r} is {short(found)}; a tensor is needed")
        return found

    def number(self, place: int, *names: str, default: Any = _MISSING) -> float:
        found = self.get(place, *names, default=default)
        if type(found) not in (int, float):
            raise self.layer.bad(f"its argument {names[0]!r} is {short(found)}; a number is needed")
        return float(found)


def operates(layer: Layer) -> bool:
    """Whether it is a function of tensors; HDF5 files of Keras 3 do not say it, but what a layer has is not there."""
    if layer.operator or layer.kind not in _FUNCTIONS or "trainable" in layer.config:
        return layer.operator
    return len(layer.arguments) > 1 or "newshape" in layer.config or layer.kind in _NEVER_LAYERS


def _name(layer: Layer) -> str:
    """Name of the function that a layer of operators applies."""
    if layer.kind in ("TFOpLambda", "SlicingOpLambda"):
        function = layer.get("function", default="")
        return function.removeprefix("compat.v1.") if isinstance(function, str) else ""
    return layer.kind


def operator(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Append what a function of tensors becomes."""
    name = _name(layer)
    function = _FUNCTIONS.get(name)
    if function is None:
        why = _WHY.get(name, "sums, products with constants, relu, and functions that move values are taken")
        raise layer.unsupported(f"applies the function {short(name)} to a tensor: {why}")
    return function(b, layer, _Arguments(layer, inputs))


def _two(a: _Arguments) -> tuple[Any, Any]:
    return a.get(0, "x", "x1"), a.get(1, "y", "x2", "bias", "value")


def _plus(b: Builder, layer: Layer, a: _Arguments) -> Value:
    x, y = _two(a)
    if isinstance(x, Value) and isinstance(y, Value):
        return total(b, layer, [x, y])
    return scaled_value(b, layer, x, 1.0, y) if isinstance(x, Value) else scaled_value(b, layer, y, 1.0, x)


def _minus(b: Builder, layer: Layer, a: _Arguments) -> Value:
    x, y = _two(a)
    if isinstance(x, Value) and isinstance(y, Value):
        return subtracted(b, layer, [x, y])
    return (
        scaled_value(b, layer, x, 1.0, _by(layer, y, lambda c: -c))
        if isinstance(x, Value)
        else scaled_value(b, layer, y, -1.0, x)
    )


def _times(b: Builder, layer: Layer, a: _Arguments) -> Value:
    x, y = _two(a)
    if isinstance(x, Value) and isinstance(y, Value):
        raise layer.unsupported("multiplies two tensors; a product with a constant is taken")
    return scaled_value(b, layer, x, y, 0.0) if isinstance(x, Value) else scaled_value(b, layer, y, x, 0.0)


def _over(b: Builder, layer: Layer, a: _Arguments) -> Value:
    x, y = _two(a)
    if isinstance(y, Value):
        raise layer.unsupported("divides by a tensor; a constant is taken")
    return scaled_value(b, layer, x, _by(layer, y, lambda c: 1 / c), 0.0)


def _by(layer: Layer, constant: Any, function: Callable[[Any], Any]) -> Any:
    """A function of every number of a constant."""
    if isinstance(constant, list):
        return [_by(layer, part, function) for part in constant]
    if type(constant) not in (int, float):
        raise layer.bad(f"a constant is {short(constant)}; numbers are needed")
    try:
        return function(constant)
    except ZeroDivisionError:
        raise layer.bad("divides by 0") from None


def _negative(b: Builder, layer: Layer, a: _Arguments) -> Value:
    return scaled_value(b, layer, a.tensor(0, "x"), -1.0, 0.0)


def _named(name: str) -> Callable[[Builder, Layer, _Arguments], Value]:
    def function(b: Builder, layer: Layer, a: _Arguments) -> Value:
        return activation_named(b, layer, a.tensor(0, "x", "features", "logits"), name)

    return function


def _leaky(b: Builder, layer: Layer, a: _Arguments) -> Value:
    return leaky(b, layer, a.tensor(0, "x", "features"), a.number(1, "negative_slope", "alpha", default=0.2))


def _softmax(b: Builder, layer: Layer, a: _Arguments) -> Value:
    axis = a.get(1, "axis", default=-1)
    return softmax(b, replace(layer, config={"axis": -1 if axis is None else axis}), [a.tensor(0, "x", "logits")])


def _clip(b: Builder, layer: Layer, a: _Arguments) -> Value:
    low = a.number(1, "x_min", "clip_value_min", "min_value")
    return clipped(b, layer, a.tensor(0, "x", "t"), low, a.number(2, "x_max", "clip_value_max", "max_value"))


def _concat(b: Builder, layer: Layer, a: _Arguments) -> Value:
    values = a.get(0, "xs", "values")
    if not isinstance(values, list) or not all(isinstance(x, Value) for x in values):
        raise layer.unsupported("sets constants beside tensors; tensors alone are taken")
    return beside(b, layer, values, a.get(1, "axis", default=-1))


def _same(b: Builder, layer: Layer, a: _Arguments) -> Value:
    return nothing(b, layer, [a.tensor(0, "x", "input")])


def _cast(b: Builder, layer: Layer, a: _Arguments) -> Value:
    kind = a.get(1, "dtype", default="float32")
    if kind not in ("float16", "bfloat16", "float32", "float64"):
        raise layer.unsupported(f"casts to {short(kind)}; real numbers are taken")
    return a.tensor(0, "x")


def _reshape(b: Builder, layer: Layer, a: _Arguments) -> Value:
    shape = a.get(1, "newshape", "shape")
    if not isinstance(shape, list) or not shape or shape[0] not in (-1, None):
        raise layer.unsupported(f"reshapes to {short(shape)}; (-1, sizes of a sample) is taken")
    return reshaped(b, layer, a.tensor(0, "x", "tensor"), shape[1:] or [1])


def _transpose(b: Builder, layer: Layer, a: _Arguments) -> Value:
    axes = a.get(1, "axes", "perm", default=None)
    if not isinstance(axes, list) or not axes or axes[0] != 0:
        raise layer.unsupported(f"exchanges the axes to {short(axes)}; the batch has to stay first")
    return transpose(b, layer, a.tensor(0, "x", "a"), axes[1:])


def _squeeze(b: Builder, layer: Layer, a: _Arguments) -> Value:
    return squeeze(b, layer, a.tensor(0, "x", "input"), a.get(1, "axis", default=None))


def _expand(b: Builder, layer: Layer, a: _Arguments) -> Value:
    return expand(b, layer, a.tensor(0, "x", "input"), a.get(1, "axis"))


def _pool(maximum: bool) -> Callable[[Builder, Layer, _Arguments], Value]:
    def function(b: Builder, layer: Layer, a: _Arguments) -> Value:
        x, axis = a.tensor(0, "x", "input_tensor"), a.get(1, "axis", default=None)
        rank = len(x.keras) + 1
        places = list(range(2, rank)) if b.layout == FIRST else list(range(1, rank - 1))
        axes = axis if isinstance(axis, list) else [axis]
        if not places or not all(type(n) is int for n in axes) or sorted(n % rank for n in axes) != places:
            raise layer.unsupported(
                f"takes one value over axis {short(axis)}; all positions of a map ({places}) are taken"
            )
        x = b.usual(layer, x)
        return pool_all(b, layer, x, maximum, bool(a.get(2, "keepdims", default=False)))

    return function


def _pad(b: Builder, layer: Layer, a: _Arguments) -> Value:
    sides, mode = a.get(1, "paddings", "pad_width"), a.get(2, "mode", default="constant")
    x = b.usual(layer, a.tensor(0, "x", "tensor"))
    value = a.get(3, "constant_values", default=0) or 0
    if not isinstance(mode, str) or mode.lower() != "constant" or value != 0:
        raise layer.unsupported("pads with other values than 0; zeros are taken")
    rank = len(x.keras) + 1
    if (
        not isinstance(sides, list)
        or len(sides) != rank
        or not all(
            isinstance(p, list) and len(p) == 2 and all(type(n) is int and 0 <= n <= 1024 for n in p) for p in sides
        )
    ):
        raise layer.bad(f"its padding is {short(sides)}; integers in 0..1024 for each side of {rank} axes are needed")
    maps = sides[2:] if b.layout == FIRST else sides[1:-1]
    if sum(map(sum, sides)) != sum(map(sum, maps)) or not maps:
        raise layer.unsupported("pads the batch or the channels; zeros around maps are taken")
    both = [(0, 0)] * (2 - len(maps)) + [(p[0], p[1]) for p in maps]
    return put_zeros(b, x, (both[0], both[1]))


def _getitem(b: Builder, layer: Layer, a: _Arguments) -> Value:
    spec = a.get(1, "slice_spec", "key")
    index = tuple(_slice(layer, part) for part in (spec if isinstance(spec, list) else [spec]))
    return sliced(b, layer, a.tensor(0, "x", "tensor"), index)


def _slice(layer: Layer, part: Any) -> Any:
    if isinstance(part, dict):
        if part.get("class_name") == "__ellipsis__":
            return Ellipsis
        ends = part.get("config") if part.get("class_name") == "__slice__" else part
        if isinstance(ends, dict):
            found = [ends.get(name) for name in ("start", "stop", "step")]
            if all(n is None or (type(n) is int and abs(n) <= MAX_SIDE**2) for n in found) and found[2] != 0:
                return slice(*found)
    if part is None or (type(part) is int and abs(part) <= MAX_SIDE):
        return part
    raise layer.unsupported(f"is indexed by {short(part)}; numbers and slices are taken")


# the only way from the name of a function in a file to code
_FUNCTIONS: dict[str, Callable[[Builder, Layer, _Arguments], Value]] = {
    **dict.fromkeys(("Add", "__operators__.add", "math.add", "nn.bias_add"), _plus),
    **dict.fromkeys(("Subtract", "math.subtract"), _minus),
    **dict.fromkeys(("Multiply", "math.multiply"), _times),
    **dict.fromkeys(("TrueDivide", "Divide", "math.truediv", "math.divide"), _over),
    **dict.fromkeys(("Negative", "math.negative"), _negative),
    **dict.fromkeys(("Relu", "nn.relu"), _named("relu")),
    **dict.fromkeys(("Relu6", "nn.relu6"), _named("relu6")),
    **dict.fromkeys(("Sigmoid", "math.sigmoid"), _named("sigmoid")),
    "HardTanh": _named("hard_tanh"),
    **dict.fromkeys(("LeakyRelu", "nn.leaky_relu"), _leaky),
    **dict.fromkeys(("Softmax", "nn.softmax"), _softmax),
    **dict.fromkeys(("Clip", "clip_by_value"), _clip),
    **dict.fromkeys(("Concatenate", "concat"), _concat),
    **dict.fromkeys(("Identity", "StopGradient", "identity", "stop_gradient"), _same),
    **dict.fromkeys(("Cast", "cast"), _cast),
    **dict.fromkeys(("Reshape", "reshape"), _reshape),
    **dict.fromkeys(("Transpose", "transpose"), _transpose),
    **dict.fromkeys(("Squeeze", "squeeze"), _squeeze),
    **dict.fromkeys(("ExpandDims", "expand_dims"), _expand),
    **dict.fromkeys(("Mean", "math.reduce_mean"), _pool(False)),
    **dict.fromkeys(("Max", "math.reduce_max"), _pool(True)),
    **dict.fromkeys(("Pad", "pad"), _pad),
    **dict.fromkeys(("GetItem", "__operators__.getitem"), _getitem),
}

# names that no layer has
_NEVER_LAYERS = ("Negative", "Relu", "Relu6", "Sigmoid", "HardTanh", "LeakyRelu", "Clip", "StopGradient", "Cast",
                 "Transpose", "Squeeze", "ExpandDims", "Mean", "Max", "Pad", "GetItem")  # fmt: skip

_WHY = {
    "MatMul": "a product of tensors has no counterpart; use a Dense layer",
    "Matmul": "a product of tensors has no counterpart; use a Dense layer",
    "linalg.matmul": "a product of tensors has no counterpart; use a Dense layer",
    "shape": "the size of the batch is not known; write -1 for it",
    "math.tanh": "its curve has no counterpart in spikes; train with hard_tanh or relu",
    "Tanh": "its curve has no counterpart in spikes; train with hard_tanh or relu",
}
