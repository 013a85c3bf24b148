"""What does each layer of Keras become? A closed table from the name of a class to the function that writes its nodes.

What a name in a file can reach is what stands in `BUILDERS`; `REASONS` says why some well-known layers do not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ...errors import ImportRefused, ShapeError
from ...network.float_nodes import (
    FloatAdd,
    FloatAffine,
    FloatAvgPool2d,
    FloatBatchNorm,
    FloatConv2d,
    FloatFlatten,
    FloatInput,
    FloatMaxPool2d,
    FloatReLU,
)
from .builder import MAX_VALUES, Builder, Value
from .graph import FIRST, LAST, MAX_SIDE, Layer, short

__all__ = ["BUILDERS", "REASONS"]


def _conv(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    x = b.one(layer, inputs)
    b.check_layout(layer, x)
    filters = layer.integer("filters", "nb_filter")
    if layer.get("kernel_size") is None:
        kernel = (layer.integer("nb_row", high=MAX_SIDE), layer.integer("nb_col", high=MAX_SIDE))
    else:
        kernel = layer.pair("kernel_size")
    stride, dilation = layer.pair("strides", "subsample", default=[1, 1]), layer.pair("dilation_rate", default=[1, 1])
    groups = layer.integer("groups", default=1)
    channels = x.shape[0]
    if channels % groups or filters % groups:
        raise layer.bad(f"groups is {groups}, which does not divide {channels} input and {filters} output channels")
    if layer.keras1 and b.layout == FIRST:
        shape, name, axes = (filters, channels // groups, *kernel), "OIHW", (0, 1, 2, 3)
    else:
        shape, name, axes = (*kernel, channels // groups, filters), "HWIO->OIHW", (3, 2, 0, 1)
    bias = layer.flag("use_bias", "bias")
    w = b.weights(layer, {"kernel": shape} | ({"bias": (filters,)} if bias else {}))
    weight = w["kernel"].transpose(axes)
    b.report("kernel", name)
    weight = _unflip(b, layer, weight)
    padding = b.spaces(layer, x, kernel, stride, dilation)
    y = b.emit(
        FloatConv2d,
        layer,
        "",
        (x.node,),
        weight=np.ascontiguousarray(weight),
        bias=w.get("bias"),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    return b.activate(layer, y)


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


def _depthwise(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    x = b.one(layer, inputs)
    b.check_layout(layer, x)
    channels, kernel = x.shape[0], layer.pair("kernel_size")
    stride, dilation = layer.pair("strides", default=[1, 1]), layer.pair("dilation_rate", default=[1, 1])
    if b.backend == "theano":
        raise layer.unsupported("depthwise kernels of the Theano backend; save the network with another backend")
    multiplier = layer.integer("depth_multiplier", default=1)
    separable = layer.kind == "SeparableConv2D"
    out = layer.integer("filters") if separable else channels * multiplier
    role = "depthwise_kernel" if separable else "kernel"
    expected: dict[str, tuple] = {role: (*kernel, channels, multiplier)}
    if separable:
        expected["pointwise_kernel"] = (1, 1, channels * multiplier, out)
    if layer.flag("use_bias"):
        expected["bias"] = (out,)
    w = b.weights(layer, expected)
    weight = np.ascontiguousarray(w[role].transpose(2, 3, 0, 1)).reshape(channels * multiplier, 1, *kernel)
    b.report(role, "HWCM->(CM)1HW")
    y = b.emit(
        FloatConv2d,
        layer,
        "depthwise" if separable else "",
        (x.node,),
        weight=weight,
        bias=None if separable else w.get("bias"),
        stride=stride,
        padding=b.spaces(layer, x, kernel, stride, dilation),
        dilation=dilation,
        groups=channels,
    )
    if separable:
        weight = np.ascontiguousarray(w["pointwise_kernel"].transpose(3, 2, 0, 1))
        b.report("pointwise_kernel", "HWIO->OIHW")
        y = b.emit(FloatConv2d, layer, "", (y.node,), weight=weight, bias=w.get("bias"))
    return b.activate(layer, y)


def _dense(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    x = b.one(layer, inputs)
    x = b.padded(layer, x)
    units = layer.integer("units", "output_dim")
    if x.grid or (x.image and b.layout == FIRST):
        raise layer.unsupported("a dense layer over the columns of an image; flatten it first")
    expected = {"kernel": (x.shape[0], units)} | ({"bias": (units,)} if layer.flag("use_bias", "bias") else {})
    w = b.weights(layer, expected)
    weight = w["kernel"]
    if x.order is not None:
        weight = weight[x.order]
        b.report("kernel", "rows H,W,C->C,H,W")
    weight = np.ascontiguousarray(weight.T)
    b.report("kernel", "(in, out)->(out, in)")
    if x.image:  # over the channels of each pixel, which is a 1x1 convolution
        y = b.emit(FloatConv2d, layer, "", (x.node,), weight=weight[:, :, None, None], bias=w.get("bias"))
    else:
        y = b.emit(FloatAffine, layer, "", (x.node,), weight=weight, bias=w.get("bias"))
    return b.activate(layer, y)


def _batch_norm(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    x = b.padded(layer, b.one(layer, inputs))
    if layer.get("mode", default=0) != 0:
        raise layer.unsupported(f"mode {short(layer.get('mode'))} normalises with the batch at hand; mode 0 is taken")
    axis = layer.get("axis", default=-1)
    if isinstance(axis, list) and len(axis) == 1:
        axis = axis[0]
    rank = 4 if x.image else 2
    if type(axis) is not int or not -rank <= axis < rank or x.grid:
        raise layer.bad(f"axis is {short(axis)} on a tensor of {rank} axes")
    if axis % rank != (1 if rank == 2 or b.layout == FIRST else 3):
        raise layer.unsupported(f"axis {axis} is not the channel axis ({b.layout}); only that is taken")
    channels = x.shape[0]
    roles = [r for r, on in (("gamma", layer.flag("scale")), ("beta", layer.flag("center"))) if on]
    w = b.weights(layer, {role: (channels,) for role in [*roles, "mean", "variance"]})
    values = {"gamma": np.ones(channels, np.float32), "beta": np.zeros(channels, np.float32)} | w
    if x.order is not None:
        values = {role: value[x.order] for role, value in values.items()}
        for role in w:
            b.report(role, "H,W,C->C,H,W")
    epsilon = layer.number("epsilon", default=1e-3)
    if not epsilon >= 0 or not (values["variance"] + epsilon > 0).all():
        raise layer.bad(f"variance + epsilon ({epsilon:g}) is not positive everywhere")
    if "running_std" in next((t["path"] for t in reversed(b.tensors) if t["role"] == "variance"), ""):
        b.notes.append(f"layer {layer.name!r}: 'running_std' of Keras 1 was read as a variance")
    y = b.emit(FloatBatchNorm, layer, "", (x.node,), epsilon=epsilon, **values)
    return replace(y, order=x.order)


def _activation(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    return b.activate(layer, b.one(layer, inputs))


def _softmax(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    if layer.get("axis", default=-1) not in (-1, [-1], 1):
        raise layer.unsupported(f"axis {short(layer.get('axis'))}; the last axis is taken")
    return b.activate(layer, b.one(layer, inputs), "softmax")


def _relu(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    x = b.padded(layer, b.one(layer, inputs))
    limit = None if layer.get("max_value") is None else layer.number("max_value")
    if layer.number("negative_slope", default=0.0) or layer.number("threshold", default=0.0):
        raise layer.unsupported(
            "negative_slope or threshold is not 0; a plain ReLU, with or without max_value, is taken"
        )
    if limit is not None and limit <= 0:
        raise layer.bad(f"max_value is {limit}; it has to be positive")
    y = b.emit(FloatReLU, layer, "", (x.node,), max_value=limit)
    return replace(y, order=x.order, grid=x.grid)


def _pool(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    x = b.one(layer, inputs)
    b.check_layout(layer, x)
    maximum = layer.kind.startswith("Max")
    kernel = layer.pair("pool_size", default=[2, 2])
    stride = layer.pair("strides", default=list(kernel))
    same = layer.padding() == "same"
    if same and b.backend == "theano":
        raise layer.unsupported("padding 'same' of the Theano backend, which pads in its own way; 'valid' is taken")
    pending = x.pad
    # zeros around an image never win after a ReLU and count in a mean: only then they can be padding of the pool itself
    folds = pending is not None and not same and all(max(p) < k for p, k in zip(pending, kernel, strict=True))
    folds = folds and (not maximum or b.node(x.node).activates)
    if not folds:
        x = b.padded(layer, x)
    options = {"kernel": kernel, "stride": stride, "padding": b.spaces(layer, x, kernel, stride)}
    if maximum:
        return b.emit(FloatMaxPool2d, layer, "", (x.node,), **options)
    return b.emit(FloatAvgPool2d, layer, "", (x.node,), count_include_pad=bool(folds), **options)


def _global_average(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    x = b.padded(layer, b.one(layer, inputs))
    b.check_layout(layer, x)
    size = x.shape[1:]
    keep = layer.flag("keepdims", default=False)
    y = b.emit(FloatAvgPool2d, layer, "" if keep else "pool", (x.node,), kernel=size, stride=size)
    return y if keep else b.emit(FloatFlatten, layer, "", (y.node,))


def _zero_padding(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    x = b.one(layer, inputs)
    b.check_layout(layer, x)
    value = layer.get("padding", default=[1, 1])
    if type(value) is int:
        value = [value, value]
    if isinstance(value, list) and len(value) == 4:  # Keras 1: top, bottom, left, right
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
        raise layer.bad(f"padding is {short(layer.get('padding'))}; integers in 0..1024 for each side are needed")
    old = x.pad or ((0, 0), (0, 0))
    return replace(x, pad=tuple((a + c, e + d) for (a, e), (c, d) in zip(old, value, strict=True)))


def _hwc_order(shape: tuple[int, ...]) -> np.ndarray | None:
    channels, height, width = shape
    if channels == 1 or height * width == 1:
        return None
    return np.arange(math.prod(shape)).reshape(height, width, channels).transpose(2, 0, 1).reshape(-1)


def _flatten(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    x = b.padded(layer, b.one(layer, inputs))
    if not x.image:
        return x
    # Keras >= 2.2 writes data_format, and for channels_first goes through channels last; before that it did not
    explicit = layer.data_format()
    if explicit == FIRST and (b.layout == LAST or x.grid):
        raise layer.unsupported("channels_first and channels_last are mixed in one network")
    order = None
    if b.layout == LAST or explicit == FIRST:
        order = _hwc_order(x.shape)
    return replace(b.emit(FloatFlatten, layer, "", (x.node,)), order=order)


def _reshape(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    x = b.padded(layer, b.one(layer, inputs))
    target = layer.get("target_shape", "dims")
    size = math.prod(x.shape)
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
    target = [size // known if n == -1 else n for n in target]
    if len(target) == 1:
        if not x.image:
            return x
        order = _hwc_order(x.shape) if b.layout == LAST else None
        return replace(b.emit(FloatFlatten, layer, "", (x.node,)), order=order)
    if len(target) == 3:
        shape = tuple(target) if b.layout == FIRST else (target[2], target[0], target[1])
        if shape == x.shape:
            return replace(x, grid=False)
        node = b.node(x.node)
        if node.takes_input:  # the data come in as images anyway
            if len(b.nodes) != 1:
                raise layer.unsupported("reshapes an input that another branch uses as it is")
            b.nodes.clear()
            b.shapes.clear()
            if shape[0] > 1 and b.layout == LAST:
                b.notes.append(f"the input is taken as images {shape} (C, H, W), not as vectors in H, W, C order")
            return b.emit(FloatInput, replace(layer, name=node.name), "", (), shape=shape)
        if (
            node.permutes
            and b.shapes[node.inputs[0]] == shape
            and (shape[1:] == (1, 1) or (x.order is None) == (b.layout == FIRST))
        ):
            return Value(node.inputs[0], shape)  # back to what was flattened before
    raise layer.unsupported(f"reshapes {x.shape} to {target}; reshaping is taken at the input, to a vector, and back")


def _same_order(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def _add(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    if layer.kind == "Merge":
        if layer.get("mode", default="sum") != "sum":
            raise layer.unsupported(f"merge mode {short(layer.get('mode'))}; 'sum' is taken")
        if layer.get("layers"):
            raise layer.unsupported("nested models; a flat Functional model is taken")
    inputs = [b.padded(layer, x) for x in inputs]
    if len(inputs) < 2:
        raise layer.bad(f"it has {len(inputs)} inputs; two or more are needed")
    first = inputs[0].order
    if not all(_same_order(x.order, first) for x in inputs):
        raise layer.unsupported("adds vectors of which only some come from a flatten")
    return replace(b.emit(FloatAdd, layer, "", [x.node for x in inputs]), order=first)


def _nothing(b: Builder, layer: Layer, inputs: list[Value]) -> Value:
    return b.one(layer, inputs)


# the only way from a name in a file to code
BUILDERS: dict[str, Callable[[Builder, Layer, list[Value]], Value]] = {
    "Conv2D": _conv,
    "Convolution2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _depthwise,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "BatchNormalizationV1": _batch_norm,
    "BatchNormalizationV2": _batch_norm,
    "Activation": _activation,
    "ReLU": _relu,
    "Softmax": _softmax,
    "MaxPooling2D": _pool,
    "AveragePooling2D": _pool,
    "GlobalAveragePooling2D": _global_average,
    "ZeroPadding2D": _zero_padding,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Add": _add,
    "Merge": _add,
    **dict.fromkeys(
        (
            "ActivityRegularization",
            "AlphaDropout",
            "Dropout",
            "GaussianDropout",
            "GaussianNoise",
            "RandomContrast",
            "RandomFlip",
            "RandomRotation",
            "RandomTranslation",
            "RandomZoom",
            "SpatialDropout2D",
        ),
        _nothing,
    ),
}

REASONS = {
    "Lambda": "it carries Python code, which is never run",
    "Permute": "it mixes image axes; bring the network into one axis order first",
    "LSTM": "recurrent layers have no conversion to spikes here",
    "GRU": "recurrent layers have no conversion to spikes here",
    "SimpleRNN": "recurrent layers have no conversion to spikes here",
    "Rescaling": "take it out of the model and give its scale as the input scale",
    "GlobalMaxPooling2D": "use GlobalAveragePooling2D, or MaxPooling2D over the whole image",
    "LeakyReLU": "negative outputs have no spikes; use ReLU",
    "Sequential": "nested models are not taken; build one flat model",
    "Functional": "nested models are not taken; build one flat model",
    "Model": "nested models are not taken; build one flat model",
}
