"""What do the activations of Keras become, as an option of a layer, as layers of their own and as functions?"""

from __future__ import annotations

from dataclasses import replace

from ....network.float_activations import FloatHardTanh, FloatLeakyReLU, FloatSigmoid
from ....network.float_nodes import FloatReLU, FloatSoftmax
from ..axes import Value
from ..builder import Builder
from ..graph import FIRST, Layer, short

__all__ = ["activated", "activation", "activation_named", "clipped", "leaky", "leaky_relu", "relu", "softmax"]

_SLOPE = 0.2  # of the function leaky_relu; the layer has its own

_CURVE = "its curve has no counterpart in spikes, which are a ReLU with levels; train with relu or leaky_relu"
_WHY = {
    "elu": _CURVE,
    "celu": _CURVE,
    "selu": _CURVE,
    "gelu": _CURVE,
    "mish": _CURVE,
    "glu": "it multiplies two values of the network; train with relu",
    "exponential": _CURVE,
    "softplus": _CURVE,
    "softsign": "it saturates like tanh without straight parts; train with hard_tanh or relu",
    "silu": "it multiplies a value by its sigmoid; train with relu6",
    "swish": "it multiplies a value by its sigmoid; train with relu6",
    "hard_silu": "it multiplies a value by its hard sigmoid; train with relu6",
    "hard_swish": "it multiplies a value by its hard sigmoid; train with relu6",
    "hard_sigmoid": "its levels do not begin at 0; train with relu6, or use sigmoid at the end",
    "tanh": "it is curved everywhere; train with hard_tanh or relu",
    "log_softmax": "the logarithm changes the values, though not their order; save the network with softmax or linear",
    "threshold": "it jumps; train with relu",
}


def activated(b: Builder, layer: Layer, value: Value) -> Value:
    """Append the activation that is an option of `layer`."""
    told = layer.get("activation")
    if isinstance(told, dict) and isinstance(told.get("config"), dict):  # a layer as an activation
        kind = told.get("class_name")
        inner = {"ReLU": relu, "LeakyReLU": leaky_relu, "Softmax": softmax}.get(kind if isinstance(kind, str) else "")
        registered = told.get("registered_name")
        if inner is None or (isinstance(registered, str) and ">" in registered):
            raise layer.unsupported(
                f"activation {short(kind)}; names of functions, ReLU, LeakyReLU and Softmax are taken"
            )
        return inner(b, replace(layer, config=told["config"]), [value])
    return activation_named(b, layer, value, layer.activation())


def activation_named(b: Builder, layer: Layer, value: Value, name: str) -> Value:
    """Append the activation of that name."""
    if name == "linear":
        return value
    part = "" if layer.name not in b.shapes else name
    if name in ("relu", "relu6"):
        return b.each(FloatReLU, layer, part, value, max_value=6.0 if name == "relu6" else None)
    if name == "leaky_relu":
        return leaky(b, layer, value, _SLOPE)
    if name == "hard_tanh":
        return b.each(FloatHardTanh, layer, part, value)
    if name == "sigmoid":
        return b.each(FloatSigmoid, layer, part, value)
    if name == "softmax":
        return _softmax(b, layer, value)
    why = _WHY.get(name, "it is no function of Keras" if ">" in name else "only straight lines have one")
    raise layer.unsupported(
        f"activation {short(name)} has no integer spiking counterpart: {why} (relu, relu6, leaky_relu, hard_tanh, "
        "linear, and softmax or sigmoid at the end are taken)"
    )


def _softmax(b: Builder, layer: Layer, value: Value) -> Value:
    value = b.vector(layer, value) if len(value.keras) == 1 else b.usual(layer, value)
    part = "" if layer.name not in b.shapes else "softmax"
    return replace(value, node=b.emit(FloatSoftmax, layer, part, (value,)).node)


def leaky(b: Builder, layer: Layer, value: Value, slope: float) -> Value:
    """Append a ReLU with a slope below 0."""
    part = "" if layer.name not in b.shapes else "leaky_relu"
    if slope == 0:
        return b.each(FloatReLU, layer, part, value)
    if not 0 < slope <= 1:
        raise layer.unsupported(f"a slope of {slope:g} below 0; slopes from 0 to 1 are taken")
    return b.each(FloatLeakyReLU, layer, part, value, slope=slope)


def clipped(b: Builder, layer: Layer, value: Value, low: float, high: float) -> Value:
    """Append a clip: from 0, or on both sides alike."""
    part = "" if layer.name not in b.shapes else "clip"
    if low == 0 and high > 0:
        return b.each(FloatReLU, layer, part, value, max_value=high)
    if low == -high and high > 0:
        return b.each(FloatHardTanh, layer, part, value, limit=high)
    raise layer.unsupported(f"clips to {low:g} .. {high:g}; 0 .. a and -a .. a are taken")


def activation(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Activation."""
    return activated(b, layer, b.one(layer, inputs))


def softmax(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Softmax."""
    x = b.one(layer, inputs)
    axis = layer.get("axis", default=-1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    rank = len(x.keras) + 1
    channels = 1 if b.layout == FIRST else rank - 1
    if type(axis) is not int or not -rank <= axis < rank or axis % rank != channels:
        raise layer.unsupported(f"axis {short(axis)}; the axis of the channels is taken")
    return _softmax(b, layer, x)


def relu(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """ReLU, with a limit or a slope."""
    x = b.one(layer, inputs)
    limit = None if layer.get("max_value") is None else layer.number("max_value")
    slope = layer.number("negative_slope", "alpha", default=0.0)
    if layer.number("threshold", default=0.0):
        raise layer.unsupported("threshold is not 0; a ReLU that begins at 0 is taken")
    if limit is not None and limit <= 0:
        raise layer.bad(f"max_value is {limit}; it has to be positive")
    if slope and limit is not None:
        raise layer.unsupported("negative_slope and max_value together; one of the two is taken")
    if slope:
        return leaky(b, layer, x, slope)
    return b.each(FloatReLU, layer, "" if layer.name not in b.shapes else "relu", x, max_value=limit)


def leaky_relu(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """LeakyReLU."""
    return leaky(b, layer, b.one(layer, inputs), layer.number("negative_slope", "alpha", default=0.3))
