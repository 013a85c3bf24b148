"""What do the layers of Keras with weights become: convolutions, dense layers, normalisations?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ....errors import ImportRefused
from ....network.composed import TransposedWindow, transposed_convolution
from ....network.float_nodes import FloatAffine, FloatBatchNorm, FloatConv2d
from ..axes import Value
from ..builder import Builder
from ..graph import FIRST, MAX_SIDE, Layer, short
from .activations import activated
from .arithmetic import scaled_value

__all__ = [
    "batch_norm", "convolution", "dense_layer", "depthwise_convolution", "normalization", "rescaling",
    "transposed",
]  # fmt: skip


def _kernel_axes(layer: Layer, kernel: tuple[int, int], *rest: int) -> tuple[int, ...]:
    """Shape of a kernel in the file: that of a signal has no rows."""
    return (*kernel[2 - layer.rank :], *rest)


def _with_rows(layer: Layer, kernel: np.ndarray) -> np.ndarray:
    return kernel if layer.rank == 2 else kernel[None]


def _steps(layer: Layer) -> tuple[tuple[int, int], tuple[int, int]]:
    """Stride and dilation."""
    one = 1 if layer.rank == 1 else [1, 1]
    return layer.plane("strides", "subsample", default=one), layer.plane("dilation_rate", default=one)


def convolution(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Conv1D, Conv2D."""
    x = b.maps(layer, b.one(layer, inputs))
    filters = layer.integer("filters", "nb_filter")
    if layer.rank == 2 and layer.get("kernel_size") is None:
        kernel = (layer.integer("nb_row", high=MAX_SIDE), layer.integer("nb_col", high=MAX_SIDE))
    else:
        kernel = layer.plane("kernel_size")
    stride, dilation = _steps(layer)
    groups = layer.integer("groups", default=1)
    channels = x.shape[0]
    if channels % groups or filters % groups:
        raise layer.bad(f"groups is {groups}, which does not divide {channels} input and {filters} output channels")
    shape = _kernel_axes(layer, kernel, channels // groups, filters)
    name, axes = "HWIO->OIHW" if layer.rank == 2 else "LIO->OI1L", (3, 2, 0, 1)
    if layer.keras1 and b.layout == FIRST:
        shape, name, axes = (filters, channels // groups, *kernel), "OIHW", (0, 1, 2, 3)
    bias = layer.flag("use_bias", "bias")
    w = b.weights(layer, {"kernel": shape} | ({"bias": (filters,)} if bias else {}))
    weight = _with_rows(layer, w["kernel"]).transpose(axes)
    b.report("kernel", name)
    weight = _unflip(b, layer, weight)
    y = b.emit(
        FloatConv2d, layer, "", (x,), weight=np.ascontiguousarray(weight), bias=w.get("bias"), stride=stride,
        padding=b.spaces(layer, x, kernel, stride, dilation), dilation=dilation, groups=groups,
    )  # fmt: skip
    return activated(b, layer, y)


def _unflip(b: Builder, layer: Layer, weight: np.ndarray) -> np.ndarray:
    """Theano's kernels are those of a true convolution."""
    if weight.shape[2:] == (1, 1):
        return weight
    if b.backend is None:
        raise ImportRefused(
            f"{layer}: the file does not say whether its kernels come from Theano, where "
            "they are stored flipped; give backend='theano' or 'tensorflow' (--backend)",
            code="backend",
            where=layer.name,
        )
    if b.backend != "theano":
        return weight
    b.report("kernel", "rows and columns flipped")
    return weight[:, :, ::-1, ::-1]


def depthwise_convolution(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """DepthwiseConv1D, DepthwiseConv2D, and with a pointwise one behind it SeparableConv1D, SeparableConv2D."""
    x = b.maps(layer, b.one(layer, inputs))
    channels, kernel = x.shape[0], layer.plane("kernel_size")
    stride, dilation = _steps(layer)
    if b.backend == "theano":
        raise layer.unsupported("depthwise kernels of the Theano backend; save the network with another backend")
    multiplier = layer.integer("depth_multiplier", default=1)
    separable = layer.kind.startswith("Separable")
    out = layer.integer("filters") if separable else channels * multiplier
    role = "depthwise_kernel" if separable else "kernel"
    expected: dict[str, tuple] = {role: _kernel_axes(layer, kernel, channels, multiplier)}
    if separable:
        expected["pointwise_kernel"] = _kernel_axes(layer, (1, 1), channels * multiplier, out)
    if layer.flag("use_bias"):
        expected["bias"] = (out,)
    w = b.weights(layer, expected)
    weight = _with_rows(layer, w[role]).transpose(2, 3, 0, 1)
    weight = np.ascontiguousarray(weight).reshape(channels * multiplier, 1, *kernel)
    b.report(role, "HWCM->(CM)1HW" if layer.rank == 2 else "LCM->(CM)11L")
    y = b.emit(
        FloatConv2d, layer, "depthwise" if separable else "", (x,), weight=weight,
        bias=None if separable else w.get("bias"), stride=stride,
        padding=b.spaces(layer, x, kernel, stride, dilation), dilation=dilation, groups=channels,
    )  # fmt: skip
    if separable:
        weight = np.ascontiguousarray(_with_rows(layer, w["pointwise_kernel"]).transpose(3, 2, 0, 1))
        b.report("pointwise_kernel", "HWIO->OIHW" if layer.rank == 2 else "LIO->OI1L")
        y = b.emit(FloatConv2d, layer, "", (y,), weight=weight, bias=w.get("bias"))
    return activated(b, layer, y)


def transposed(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Conv1DTranspose, Conv2DTranspose; what is cut off is what TensorFlow cuts off."""
    x = b.padded(layer, b.maps(layer, b.one(layer, inputs)))
    if b.backend == "theano":
        raise layer.unsupported("transposed kernels of the Theano backend; save the network with another backend")
    filters, kernel = layer.integer("filters"), layer.plane("kernel_size")
    stride, dilation = _steps(layer)
    if layer.integer("groups", default=1) != 1:
        raise layer.unsupported("groups in a transposed convolution; 1 is taken")
    more = None
    if layer.get("output_padding") is not None:
        more = layer.plane("output_padding", low=0)
        more = (0, more[1]) if layer.rank == 1 else more
    expected: dict[str, tuple] = {"kernel": _kernel_axes(layer, kernel, filters, x.shape[0])}
    if layer.flag("use_bias"):
        expected["bias"] = (filters,)
    w = b.weights(layer, expected)
    weight = _with_rows(layer, w["kernel"]).transpose(3, 2, 0, 1)
    b.report("kernel", "HWOI->IOHW, turned" if layer.rank == 2 else "LOI->IO1L, turned")
    padding, extra = [], []
    for axis in (0, 1):
        span, step = (kernel[axis] - 1) * dilation[axis] + 1, stride[axis]
        wanted = _length(layer, x.shape[1 + axis], span, step, None if more is None else more[axis])
        full = (x.shape[1 + axis] - 1) * step + span
        before = max(full - wanted, 0) // 2 if layer.padding() == "same" else 0
        padding.append((before, max(full - before - wanted, 0)))
        extra.append(max(wanted - (full - before), 0))
    nodes = transposed_convolution(
        b.name(layer), x.node, x.shape, weight, bias=w.get("bias"), origin=f"{layer.kind} {layer.name}",
        window=TransposedWindow(stride, (padding[0], padding[1]), (extra[0], extra[1]), dilation),
    )  # fmt: skip
    y = x
    for node in nodes:
        y = b.add(layer, node, len(x.keras))
    return activated(b, layer, y)


def _length(layer: Layer, size: int, span: int, step: int, more: int | None) -> int:
    """Positions of a transposed convolution along one axis, as Keras counts them."""
    same = layer.padding() == "same"
    if more is None:
        return size * step + (0 if same else max(span - step, 0))
    if more >= step:
        raise layer.bad(f"output_padding is {more}, which is not less than the stride {step}")
    return (size - 1) * step + span + more - (2 * (span // 2) if same else 0)


def dense_layer(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Dense."""
    x = b.padded(layer, b.one(layer, inputs))
    units = layer.integer("units", "output_dim")
    if len(x.keras) > 1 and (b.layout == FIRST or not x.image):
        raise layer.unsupported("a dense layer over the columns of an image; flatten it first")
    x = x if x.image else b.vector(layer, x)
    expected = {"kernel": (x.shape[0], units)} | ({"bias": (units,)} if layer.flag("use_bias", "bias") else {})
    w = b.weights(layer, expected)
    weight = w["kernel"]
    order = None if x.image else b.order(x)
    if order is not None:
        weight = weight[order]
        b.report("kernel", "rows H,W,C->C,H,W")
    weight = np.ascontiguousarray(weight.T)
    b.report("kernel", "(in, out)->(out, in)")
    if x.image:  # over the channels of each pixel, which is a 1x1 convolution
        y = b.emit(FloatConv2d, layer, "", (x,), weight=weight[:, :, None, None], bias=w.get("bias"))
    else:
        y = b.emit(FloatAffine, layer, "", (x,), weight=weight, bias=w.get("bias"))
    return activated(b, layer, y)


def _channel_axis(b: Builder, layer: Layer, x: Value) -> None:
    axis = layer.get("axis", default=-1)
    if isinstance(axis, list) and len(axis) == 1:
        axis = axis[0]
    rank = len(x.keras) + 1
    if type(axis) is not int or not -rank <= axis < rank:
        raise layer.bad(f"axis is {short(axis)} on a tensor of {rank} axes")
    if axis % rank != (1 if b.layout == FIRST else rank - 1):
        raise layer.unsupported(f"axis {axis} is not the channel axis ({b.layout}); only that is taken")


def _channels_of(b: Builder, layer: Layer, x: Value) -> Value:
    """A vector in any order, or maps: what has something of its own for each channel."""
    return b.vector(layer, x) if len(x.keras) == 1 else b.usual(layer, x)


def batch_norm(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """BatchNormalization."""
    x = _channels_of(b, layer, b.padded(layer, b.one(layer, inputs)))
    if layer.get("mode", default=0) != 0:
        raise layer.unsupported(f"mode {short(layer.get('mode'))} normalises with the batch at hand; mode 0 is taken")
    if layer.get("renorm") or layer.get("virtual_batch_size"):
        raise layer.unsupported("renorm or virtual_batch_size; a plain BatchNormalization is taken")
    _channel_axis(b, layer, x)
    channels = x.shape[0]
    roles = [r for r, on in (("gamma", layer.flag("scale")), ("beta", layer.flag("center"))) if on]
    w = b.weights(layer, {role: (channels,) for role in [*roles, "mean", "variance"]})
    values = {"gamma": np.ones(channels, np.float32), "beta": np.zeros(channels, np.float32)} | w
    order = b.order(x)
    if order is not None:
        values = {role: value[order] for role, value in values.items()}
        for role in w:
            b.report(role, "H,W,C->C,H,W")
    epsilon = layer.number("epsilon", default=1e-3)
    if not epsilon >= 0 or not (values["variance"] + epsilon > 0).all():
        raise layer.bad(f"variance + epsilon ({epsilon:g}) is not positive everywhere")
    if "running_std" in next((t["path"] for t in reversed(b.tensors) if t["role"] == "variance"), ""):
        b.notes.append(f"layer {layer.name!r}: 'running_std' of Keras 1 was read as a variance")
    y = b.emit(FloatBatchNorm, layer, "", (x,), epsilon=epsilon, **values)
    return replace(x, node=y.node)


def rescaling(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Rescaling: ``scale * x + offset``."""
    x = b.padded(layer, b.one(layer, inputs))
    return scaled_value(b, layer, x, layer.get("scale", default=1.0), layer.get("offset", default=0.0))


def normalization(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    """Normalization by a mean and a variance that the file has as weights, or as options."""
    x = b.padded(layer, b.one(layer, inputs))
    axis = layer.get("axis")
    if axis in ([], ()):
        axis = None
    if axis is not None:
        _channel_axis(b, layer, x)
    mean, variance = layer.get("mean"), layer.get("variance")
    if mean is None and variance is None:
        shape = () if axis is None else (x.keras[0 if b.layout == FIRST else -1],)
        w = b.weights(layer, {"mean": shape, "variance": shape})
        mean, variance = w["mean"], w["variance"]
        if len(shape) and b.layout == FIRST:
            mean, variance = (a.reshape(-1, *(1,) * (len(x.keras) - 1)) for a in (mean, variance))
    try:
        mean, variance = np.asarray(mean, np.float64), np.asarray(variance, np.float64)
    except (TypeError, ValueError):
        raise layer.bad("its mean or variance is no array of numbers") from None
    if not (variance >= 0).all() or not np.isfinite(mean).all() or not np.isfinite(variance).all():
        raise layer.bad("its mean and variance have to be finite, and the variance at least 0")
    deviation = np.maximum(np.sqrt(variance), 1e-7)  # as Keras guards the division
    if layer.flag("invert", default=False):
        return scaled_value(b, layer, x, deviation, mean)
    return scaled_value(b, layer, x, 1 / deviation, -mean / deviation)
