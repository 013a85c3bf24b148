"""What do operators with weights, windows and activations become? A function each, from a node of the file to ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...errors import IntsnnError
from ...network.composed import TransposedWindow, transposed_convolution, zero_padding
from ...network.float_activations import FloatHardTanh, FloatLeakyReLU, FloatSigmoid
from ...network.float_nodes import (
    FloatAffine,
    FloatAvgPool2d,
    FloatBatchNorm,
    FloatConv2d,
    FloatMaxPool2d,
    FloatReLU,
    FloatSoftmax,
    FloatUpsample2d,
)
from ...network.node import FloatNode, Pair
from .builder import MAX_VALUES, Assembly, Given, Placed
from .graph import OnnxNode
from .moves import SHAPERS
from .windows import FileWindow, whole_factors, window_of

__all__ = ["LAYERS", "along"]

NO_LIMIT = 3e38  # bounds of a Clip from here on are none: the least and largest float


# -- weights ----------------------------------------------------------------------------------------------------------


def _flat_kernel(op: OnnxNode, weight: np.ndarray, axes: int) -> np.ndarray:
    """A kernel of one axis as one of a single row."""
    if weight.ndim != axes + 2:
        raise op.bad(f"its weight is {weight.shape}; an input of {axes} axes behind the channels needs {axes + 2} axes")
    return weight[:, :, None] if axes == 1 else weight


def _bias(b: Assembly, op: OnnxNode, inputs: Sequence[Given], index: int) -> np.ndarray | None:
    given = index < len(inputs) and inputs[index] is not None
    return b.weights(op, inputs, index, "bias") if given else None


def _conv(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    x = b.maps(op, b.computed(op, inputs))
    axes = len(x.dims) - 1
    weight = _flat_kernel(op, b.weights(op, inputs, 1, "weight"), axes)
    window = window_of(op, x.dims[1:], weight.shape[-axes:])
    y = b.emit(
        FloatConv2d, op, "", (x.node,), weight=weight, bias=_bias(b, op, inputs, 2), stride=window.stride,
        padding=window.padding, dilation=window.dilation, groups=op.integer("group", 1),
    )  # fmt: skip
    return b.keep(op, _like(b, y, axes), lambda codes: _flat_kernel(op, codes, axes))


def _like(b: Assembly, y: Placed, axes: int) -> Placed:
    """Maps that are signals in the file where there is one axis behind the channels."""
    channels, height, width = b.shapes[y.node]
    return Placed(y.node, (channels, width) if axes == 1 else (channels, height, width))


def _conv_transpose(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    x = b.maps(op, b.computed(op, inputs))
    axes = len(x.dims) - 1
    weight = _flat_kernel(op, b.weights(op, inputs, 1, "weight", "(I, O/g, ...)->(O, I/g, ...), turned"), axes)
    window, extra = _transposed_window(op, x.dims[1:], weight.shape[-axes:])
    shape = b.shapes[x.node]
    spread = [(n - 1) * s + 1 for n, s in zip(shape[1:], window.stride, strict=True)]
    if shape[0] * math.prod(spread) > MAX_VALUES:
        raise op.bad(f"its input with zeros between the values has more than {MAX_VALUES} values")
    name, bias = b.unique(op.name), _bias(b, op, inputs, 2)
    placed = TransposedWindow(window.stride, window.padding, extra, window.dilation, op.integer("group", 1))

    def nodes(kernel: np.ndarray) -> list[Any]:
        try:
            return transposed_convolution(
                name, x.node, shape, kernel, bias=bias, window=placed, origin=op.source
            )  # fmt: skip
        except IntsnnError as error:
            raise op.bad(str(error)) from None

    for node in nodes(weight):
        y = b.add(op, node)
    return b.keep(op, _like(b, y, axes), lambda a: nodes(_flat_kernel(op, a, axes).astype(np.float64))[-1].weight)


def _transposed_window(op: OnnxNode, sizes: Sequence[int], kernel: Sequence[int]) -> tuple[FileWindow, Pair]:
    """FileWindow and output padding; the sizes that are asked for, or "same", are what is cut off."""
    axes = len(sizes)
    window = window_of(op, sizes, kernel, same=False)
    extra = op.sizes("output_padding", axes, 0, 0)
    wanted = op.integers("output_shape")
    auto = op.text("auto_pad", "NOTSET")
    if auto.startswith("SAME") and wanted is None:
        wanted = tuple(n * s for n, s in zip(sizes, window.stride[-axes:], strict=True))
    if wanted is not None:
        wanted = wanted[-axes:]
        cuts = []
        for n, k, s, d, e, size in zip(
            sizes, kernel, window.stride[-axes:], window.dilation[-axes:], extra, wanted, strict=False
        ):
            total = s * (n - 1) + e + (k - 1) * d + 1 - size
            if total < 0 or size < 1:
                raise op.unsupported(f"its output_shape {list(wanted)} is more than the kernel reaches")
            low = total // 2 if auto == "SAME_UPPER" else total - total // 2
            cuts.append((low, total - low))
        if len(cuts) != axes:
            raise op.bad(f"output_shape has {len(wanted)} sizes; {axes} are needed")
        window = window.padded(cuts)
    return window, (0, extra[0]) if axes == 1 else (extra[0], extra[1])


def along(b: Assembly, op: OnnxNode, x: Placed, axis: int, make: Callable[[Placed], Placed]) -> Placed:
    """What `make` does to values along an axis of `dims`, which becomes that of the channels for it, and back."""
    if axis == 0 and 1 <= len(x.dims) <= 3:
        return make(b.settle(op, x))
    others = x.dims[:axis] + x.dims[axis + 1 :]
    count = math.prod(others)
    if count == 1:
        y = make(b.settle(op, x.relabelled((x.dims[axis],))))
    else:
        y = make(b.settle(op, x.moved(lambda p: np.moveaxis(p, axis, 0).reshape(x.dims[axis], count))))
    size = math.prod(y.dims) // count
    y = y.relabelled((size, *others))
    return y if count == 1 and axis == 0 else y.moved(lambda p: np.moveaxis(p, 0, axis))


def _dense(
    b: Assembly, op: OnnxNode, x: Placed, weight: np.ndarray, bias: np.ndarray | None, keep: Callable[..., None]
) -> Placed:
    """A product with ``(out, in)`` of the last axis; `keep` gets its node, and whether that is a convolution."""

    def make(view: Placed) -> Placed:
        if len(b.shapes[view.node]) == 1:
            y = b.emit(FloatAffine, op, "", (view.node,), weight=weight, bias=bias)
            keep(y, False)
            return y
        y = b.emit(FloatConv2d, op, "", (view.node,), weight=weight[:, :, None, None], bias=bias)
        keep(y, True)
        return _like(b, y, len(view.dims) - 1)

    if not x.dims or x.dims[-1] != weight.shape[1]:
        raise op.bad(f"its weight takes {weight.shape[1]} values, its input has the shape {(1, *x.dims)}")
    return along(b, op, x, len(x.dims) - 1, make)


def _gemm(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    x = b.computed(op, inputs)
    if op.integer("transA", 0):
        raise op.unsupported("transA mixes the samples of a batch; only transB is taken")
    if len(x.dims) != 1:
        raise op.bad(f"its input has the shape {(1, *x.dims)}; (N, values) is needed, flatten it first")
    turned = op.integer("transB", 0)
    weight = b.weights(op, inputs, 1, "weight", "none" if turned else "(in, out)->(out, in)")
    if weight.ndim != 2:
        raise op.bad(f"its weight is {weight.shape}; two axes are needed")
    weight = weight if turned else weight.T
    bias = _bias(b, op, inputs, 2)
    alpha, beta = op.number("alpha", 1.0), op.number("beta", 1.0)
    if bias is not None:
        if bias.ndim > 2 or bias.size not in (1, weight.shape[0]):
            raise op.bad(f"its bias is {bias.shape}; one number for each of {weight.shape[0]} outputs is needed")
        bias = np.broadcast_to(bias.reshape(-1), weight.shape[:1]) * bias.dtype.type(beta)
    weight = weight if alpha == 1 else weight * weight.dtype.type(alpha)

    def keep(y: Placed, maps: bool) -> None:
        b.keep(op, y, lambda a: _as_kernel(a if turned else a.T, maps), alpha)

    return _dense(b, op, x, np.ascontiguousarray(weight), bias, keep)


def _as_kernel(matrix: np.ndarray, maps: bool) -> np.ndarray:
    return matrix[:, :, None, None] if maps else matrix


def _matmul(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    if len(inputs) == 2 and all(isinstance(each, Placed) for each in inputs):
        raise op.unsupported(
            "multiplies two values that both depend on the input (attention); that has no integer form"
        )
    x = b.computed(op, inputs)
    weight = b.weights(op, inputs, 1, "weight", "(in, out)->(out, in)")
    while weight.ndim > 2 and weight.shape[0] == 1:
        weight = weight[0]
    if weight.ndim != 2:
        raise op.unsupported(f"its weight is {weight.shape}; one matrix (in, out) is taken")
    shape = weight.shape

    def keep(y: Placed, maps: bool) -> None:
        b.keep(op, y, lambda a: _as_kernel(a.reshape(shape).T, maps))

    return _dense(b, op, x, np.ascontiguousarray(weight.T), None, keep)


def _batch_norm(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    x = b.computed(op, inputs)
    if op.integer("training_mode", 0) or op.integer("spatial", 1) != 1:
        raise op.unsupported("it normalises with the batch at hand, or each position; export the network in eval mode")
    roles = ("gamma", "beta", "mean", "variance")
    values = {role: b.weights(op, inputs, k + 1, role) for k, role in enumerate(roles)}
    if not 1 <= len(x.dims) <= 3:
        raise op.unsupported(f"its input has the shape {(1, *x.dims)}; vectors, signals and images are taken")
    x = b.settle(op, x)
    return b.emit(FloatBatchNorm, op, "", (x.node,), x.dims, epsilon=op.number("epsilon", 1e-5), **values)


# -- windows ----------------------------------------------------------------------------------------------------------


def _max_pool(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    x, window = _pooled(b, op, inputs)
    y = b.emit(
        FloatMaxPool2d, op, "", (x.node,), kernel=window.kernel, stride=window.stride, padding=window.reached()
    )  # fmt: skip
    return _like(b, y, len(x.dims) - 1)


def _pooled(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> tuple[Placed, FileWindow]:
    x = b.maps(op, b.computed(op, inputs))
    axes = len(x.dims) - 1
    kernel = op.integers("kernel_shape")
    if kernel is None or len(kernel) != axes:
        raise op.bad(f"kernel_shape is {kernel}; {axes} sizes are needed")
    window = window_of(op, x.dims[1:], op.sizes("kernel_shape", axes, 1), ceil=bool(op.integer("ceil_mode", 0)))
    if window.dilation != (1, 1):
        raise op.unsupported(f"a pool with dilation {window.dilation}; only windows without gaps are taken")
    return x, window


def _average_pool(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    x, window = _pooled(b, op, inputs)
    counts = bool(op.integer("count_include_pad", 0))
    padding, node = window.reached(), x.node
    if counts and padding != window.padding:
        # zeros of the padding count, places behind it do not: the first are put there, the second are padding
        if math.prod(n + sum(p) for n, p in zip(b.shapes[node][1:], padding, strict=True)) > MAX_VALUES:
            raise op.bad(f"its padded input has more than {MAX_VALUES} values")
        if window.padding != ((0, 0), (0, 0)):
            select = zero_padding(b.unique(f"{op.name}/pad"), node, b.shapes[node], window.padding, source=op.source)
            node = b.add(op, select).node
        padding, counts = window.surplus, False
    y = b.emit(
        FloatAvgPool2d, op, "", (node,), kernel=window.kernel, stride=window.stride, padding=padding,
        count_include_pad=counts,
    )  # fmt: skip
    return _like(b, y, len(x.dims) - 1)


def _whole_pool(kind: type[FloatNode]) -> Callable[..., Placed]:
    def pool(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
        x = b.maps(op, b.computed(op, inputs))
        size = b.shapes[x.node][1:]
        y = b.emit(kind, op, "", (x.node,), kernel=size, stride=size)
        return _like(b, y, len(x.dims) - 1)

    return pool


def _reduce(kind: type[FloatNode]) -> Callable[..., Placed]:
    """Mean or largest value over axes: a pool over all of them."""

    def reduce(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
        x = b.computed(op, inputs)
        rank = len(x.dims) + 1
        axes = op.integers("axes")
        if axes is None:
            found = b.optional(op, inputs, 1, "axes")
            axes = None if found is None else b.indices(op, found, "axes")
        if not axes and op.integer("noop_with_empty_axes", 0):
            return x
        if not axes or any(not -rank <= axis < rank or axis % rank == 0 for axis in axes):
            raise op.unsupported(f"it goes over the axes {axes or 'of the batch'}; axes from 1 to {rank - 1} are taken")
        gone = sorted({axis % rank - 1 for axis in axes})
        kept = [k for k in range(rank - 1) if k not in gone]
        dims = [1 if k in gone else n for k, n in enumerate(x.dims) if k in kept or op.integer("keepdims", 1)]
        if gone != list(range(1, rank - 1)):
            size = math.prod(x.dims[k] for k in kept)
            x = x.moved(lambda p: p.transpose(*kept, *gone).reshape(size, -1))
        x = b.maps(op, x)
        window = b.shapes[x.node][1:]
        return b.emit(kind, op, "", (x.node,), kernel=window, stride=window).relabelled(dims)

    return reduce


def _resize(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    x = b.computed(op, inputs)
    factors = whole_factors(b, op, inputs, (1, *x.dims))
    if all(factor == 1 for factor in factors):
        return x
    x = b.maps(op, x)
    axes = len(x.dims) - 1
    y = b.emit(FloatUpsample2d, op, "", (x.node,), factor=(1, factors[0]) if axes == 1 else factors)
    return _like(b, y, axes)


# -- activations ------------------------------------------------------------------------------------------------------


def _by_value(b: Assembly, op: OnnxNode, x: Placed, kind: type[FloatNode], **options: float | None) -> Placed:
    """An activation of each value: of a shape that no node has, before it is given that shape."""
    if x.places is not None or 1 <= len(x.dims) <= 3:
        x = b.settle(op, x)
    return b.emit(kind, op, "", (x.node,), x.dims, **options)


def _relu(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    return _by_value(b, op, b.computed(op, inputs), FloatReLU)


def _clip(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    bounds: list[float | None] = []
    for index, name in ((1, "min"), (2, "max")):
        found = b.optional(op, inputs, index, name)
        if found is not None and found.size != 1:
            raise op.bad(f"its {name} is {found.shape}; one number is needed")
        value = (op.number(name, 0.0) if op.has(name) else None) if found is None else float(found.reshape(-1)[0])
        bounds.append(None if value is None or abs(value) >= NO_LIMIT else value)
    x, (low, high) = b.computed(op, inputs), bounds
    if low is None and high is None:
        return x
    if low == 0 and (high is None or high > 0):
        return _by_value(b, op, x, FloatReLU, max_value=high)
    if low is not None and high is not None and low == -high and high > 0:
        return _by_value(b, op, x, FloatHardTanh, limit=high)
    raise op.unsupported(f"it clips to {low} .. {high}; 0 .. limit, and -limit .. limit, are taken")


def _maximum(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    views = [each for each in inputs if isinstance(each, Placed)]
    zeros = all(not each.any() for each in inputs if isinstance(each, np.ndarray))
    if len(views) != 1 or len(inputs) != 2 or not zeros or any(
        each.size != 1 for each in inputs if isinstance(each, np.ndarray)
    ):  # fmt: skip
        raise op.unsupported("a maximum other than that with 0, which is a ReLU")
    return _by_value(b, op, views[0], FloatReLU)


def _leaky(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    slope = op.number("alpha", 0.01)
    if op.kind == "PRelu":
        slopes = b.weights(op, inputs, 1, "slope")
        slope = float(slopes.reshape(-1)[0])
        if (slopes != slopes.reshape(-1)[0]).any():
            raise op.unsupported("slopes that differ between channels; one for all is taken")
    if not 0 <= slope <= 1:
        raise op.unsupported(f"its slope is {slope:g}; 0 to 1 is taken")
    return _by_value(b, op, b.computed(op, inputs), FloatLeakyReLU, slope=slope)


def _sigmoid(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    return _by_value(b, op, b.computed(op, inputs), FloatSigmoid)


def _softmax(b: Assembly, op: OnnxNode, inputs: Sequence[Given]) -> Placed:
    x = b.computed(op, inputs)
    rank = len(x.dims) + 1
    old = op.opset < 13  # over all axes from this one on
    axis = op.integer("axis", 1 if old else -1)
    if not -rank <= axis < rank or axis % rank == 0:
        raise op.unsupported(f"its axis is {axis}; 1 to {rank - 1} is taken")
    axis = axis % rank - 1
    if op.kind == "LogSoftmax":
        b.note(f"node {op.name!r}: of LogSoftmax the softmax is computed; the order of the outputs is the same")
        b.ends[op.outputs[0]] = (f"{op}: its logarithm is only left out at the end of the network", tuple(SHAPERS))

    def make(view: Placed) -> Placed:
        return b.emit(FloatSoftmax, op, "", (view.node,), view.dims)

    if old and axis < len(x.dims) - 1:
        lead = x.dims[:axis]
        flat = x.relabelled((*lead, math.prod(x.dims[axis:])))
        return along(b, op, flat, axis, make).relabelled(x.dims)
    return along(b, op, x, axis, make)


LAYERS: dict[str, Callable[[Assembly, OnnxNode, Sequence[Given]], Placed]] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "GlobalAveragePool": _whole_pool(FloatAvgPool2d),
    "GlobalMaxPool": _whole_pool(FloatMaxPool2d),
    "LeakyRelu": _leaky,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "Max": _maximum,
    "MaxPool": _max_pool,
    "PRelu": _leaky,
    "ReduceMax": _reduce(FloatMaxPool2d),
    "ReduceMean": _reduce(FloatAvgPool2d),
    "Relu": _relu,
    "Resize": _resize,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
    "Upsample": _resize,
}
