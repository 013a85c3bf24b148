"""What does each layer of a trained float network compute?

Frozen nodes, channels first: images are ``(C, H, W)``, vectors ``(N,)``, batches first, convolutions are plain
cross-correlations and padding is explicit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..errors import FormatError, IntsnnError, ShapeError
from ..formats.arguments import (
    array_of,
    choice,
    flag,
    real,
    sequence,
    shown,
    text,
    whole,
    wholes,
)
from ..layers.base import positions

__all__ = [
    "FloatAdd",
    "FloatAffine",
    "FloatAvgPool2d",
    "FloatBatchNorm",
    "FloatConv2d",
    "FloatFlatten",
    "FloatInput",
    "FloatMaxPool2d",
    "FloatNode",
    "FloatReLU",
    "FloatSoftmax",
    "FloatUpsample2d",
]

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

ARRAYS = ("weight", "bias", "gamma", "beta", "mean", "variance")
SIZES = {"kernel": 1, "stride": 1, "dilation": 1, "factor": 1}  # pairs, and their least value
LARGEST_SIDE = 1 << 20


def float_array(value, what: str) -> np.ndarray:
    """`value` as a read-only array of finite floats."""
    found = array_of(value, what)
    if found.dtype.kind != "f" or not np.isfinite(found).all():
        raise FormatError(f"{what} has to be finite floats, found {shown(found)}")
    view = found.view()
    view.flags.writeable = False
    return view


def check_node(node: FloatNode) -> None:
    """Refuse a name, an input, a size or a padding of a node that cannot be; sizes become pairs of int."""
    text(node.name, f"{type(node).__name__}.name")
    where = f"layer {node.name[:60]!r}"
    object.__setattr__(node, "inputs", sequence(node.inputs, f"{where}: inputs", "names of layers are needed"))
    for name in node.inputs:
        text(name, f"{where}: a name in inputs")
    text(node.source, f"{where}: source")
    for name, least in SIZES.items():
        if hasattr(node, name):
            object.__setattr__(node, name, _two(getattr(node, name), f"{where}: {name}", least))
    if hasattr(node, "padding"):
        pads = node.padding
        if not isinstance(pads, list | tuple) or len(pads) != 2:
            raise ShapeError(f"{where}: padding: found {shown(pads)}; ((top, bottom), (left, right)) is needed")
        object.__setattr__(node, "padding", tuple(_two(p, f"{where}: padding", 0) for p in pads))
    if hasattr(node, "groups"):
        object.__setattr__(node, "groups", whole(node.groups, f"{where}: groups", 1, error=ShapeError))


def _two(value, what: str, least: int) -> Pair:
    found = wholes(value, what, least, LARGEST_SIDE, error=ShapeError, needed="two whole numbers are needed")
    if len(found) != 2:
        raise ShapeError(f"{what}: found {shown(value)}; two whole numbers are needed")
    return found[0], found[1]


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatNode(ABC):
    """One operation of a float network.

    Parameters
    ----------
    name : str
        Unique in its network.
    inputs : tuple of str
        Names of the nodes it reads, all of them earlier in the network.
    source : str
        Where it came from in the file, for messages and reports.
    """

    name: str
    inputs: tuple[str, ...] = ()
    source: str = ""

    arity = (1, 1)

    def __post_init__(self) -> None:
        check_node(self)
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ARRAYS and (value is not None or item.name != "bias"):
                found = float_array(value, f"layer {self.name!r}: {item.name}")
                object.__setattr__(self, item.name, found)

    def output_shape(self, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
        """Shape of the output, from those of the inputs, without the batch."""
        return shapes[0]

    @abstractmethod
    def apply(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Output of a batch ``(B, *shape)``, from those of the inputs."""


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatInput(FloatNode):
    """The input; ``shape`` is ``(C, H, W)`` or ``(N,)``, without the batch."""

    shape: tuple[int, ...]

    arity = (0, 0)

    def output_shape(self, shapes):
        try:
            found = wholes(self.shape, "shape", 1, 1 << 31)
        except IntsnnError:
            found = ()
        if len(found) not in (1, 3):
            seen = f"({', '.join(map(shown, self.shape[:8]))})" if isinstance(self.shape, tuple) else shown(self.shape)
            raise _shape_error(self, f"the input shape is {seen}; it has to be (C, H, W) or (N,), each >= 1")
        return found

    def apply(self, arrays):
        (x,) = arrays  # the samples, in any form
        return x.reshape(len(x), *self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatConv2d(FloatNode):
    """Cross-correlation in two dimensions.

    Parameters
    ----------
    weight : numpy.ndarray
        ``(O, I / groups, kh, kw)``, float32 or float64.
    bias : numpy.ndarray or None
        ``(O,)``.
    stride, dilation : (int, int)
        Rows, columns.
    padding : ((int, int), (int, int))
        Zeros added at ``((top, bottom), (left, right))``.
    groups : int
        Input and output channels are split into this many independent groups.
    """

    rank = 4  # of the weights

    weight: np.ndarray
    bias: np.ndarray | None = None
    stride: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    def output_shape(self, shapes):
        channels, height, width = _image(self, shapes[0])
        if self.weight.ndim != 4 or 0 in self.weight.shape:
            raise _shape_error(self, f"the weight is {self.weight.shape}; it has to be (O, I / groups, kh, kw)")
        out, per_group, kh, kw = self.weight.shape
        if self.groups < 1 or channels != per_group * self.groups or out % self.groups:
            raise _shape_error(
                self, f"weight {self.weight.shape} with groups={self.groups} does not fit {channels} input channels"
            )
        _check_vector(self, "bias", self.bias, out)
        size = _window(self, (height, width), (kh, kw), self.stride, self.padding, self.dilation)
        return (out, *size)

    def apply(self, arrays):
        x = arrays[0]
        weight = self.weight.astype(x.dtype, copy=False)
        out, per_group, kh, kw = weight.shape
        x = _pad(x, self.padding, 0.0)
        n = x.shape[0]
        height, width = _outputs(x.shape[2:], (kh, kw), self.stride, self.dilation)
        # channels first, samples inside: one large product per group instead of one per sample
        columns = np.empty((x.shape[1], kh, kw, n, height, width), x.dtype)
        for i, j, view in _taps(x.transpose(1, 0, 2, 3), (kh, kw), self.stride, self.dilation, (height, width)):
            columns[:, i, j] = view
        columns = columns.reshape(self.groups, per_group * kh * kw, n * height * width)
        kernel = weight.reshape(self.groups, out // self.groups, per_group * kh * kw)
        y = np.matmul(kernel, columns).reshape(out, n, height, width).transpose(1, 0, 2, 3)
        y = np.ascontiguousarray(y)
        if self.bias is not None:
            y += self.bias.astype(x.dtype, copy=False)[:, None, None]
        return y


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatAffine(FloatNode):
    """``weight @ x + bias`` with ``weight`` ``(out, in)`` and ``bias`` ``(out,)`` or None; the input is a vector."""

    rank = 2  # of the weights

    weight: np.ndarray
    bias: np.ndarray | None = None

    def output_shape(self, shapes):
        if len(shapes[0]) != 1:
            raise _shape_error(self, f"a dense layer needs a vector, its input is {shapes[0]}; flatten it first")
        if self.weight.ndim != 2 or self.weight.shape[1] != shapes[0][0]:
            raise _shape_error(self, f"weight (out, in) is {self.weight.shape}, the input has {shapes[0][0]} values")
        _check_vector(self, "bias", self.bias, self.weight.shape[0])
        return (self.weight.shape[0],)

    def apply(self, arrays):
        x = arrays[0]
        y = x @ self.weight.astype(x.dtype, copy=False).T
        if self.bias is not None:
            y += self.bias.astype(x.dtype, copy=False)
        return y


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatBatchNorm(FloatNode):
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` per channel (axis 1 of the batch)."""

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float

    def output_shape(self, shapes):
        epsilon = real(self.epsilon, f"layer {self.name!r}: epsilon", 0, allowed="a number from 0 is needed")
        object.__setattr__(self, "epsilon", epsilon)
        for name in ("gamma", "beta", "mean", "variance"):
            _check_vector(self, name, getattr(self, name), shapes[0][0])
        if not self.epsilon >= 0 or not (self.variance + self.epsilon > 0).all():
            raise FormatError(f"layer {self.name!r}: variance + epsilon has to be positive in every channel")
        return shapes[0]

    def scale_shift(self) -> tuple[np.ndarray, np.ndarray]:
        """Return float64 ``(scale, shift)``, each ``(channels,)``: the layer is ``scale * x + shift``."""
        scale = self.gamma.astype(np.float64) / np.sqrt(self.variance.astype(np.float64) + self.epsilon)
        return scale, self.beta - scale * self.mean

    def apply(self, arrays):
        x = arrays[0]
        spatial = (1,) * (x.ndim - 2)
        scale, shift = (v.astype(x.dtype).reshape(-1, *spatial) for v in self.scale_shift())
        return x * scale + shift


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatReLU(FloatNode):
    """``min(max(x, 0), max_value)``; ``max_value`` None means no upper limit."""

    max_value: float | None = None

    def output_shape(self, shapes):
        if self.max_value is not None:
            words = "it has to be positive or None"
            top = real(self.max_value, f"layer {self.name!r}: max_value", np.nextafter(0, 1), allowed=words)
            object.__setattr__(self, "max_value", top)
        return shapes[0]

    def apply(self, arrays):
        return np.clip(arrays[0], 0, self.max_value)


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatMaxPool2d(FloatNode):
    """Largest value of each window; padding never wins."""

    kernel: Pair
    stride: Pair
    padding: Padding = ((0, 0), (0, 0))

    def output_shape(self, shapes):
        channels, *size = _image(self, shapes[0])
        _check_pool_padding(self)
        return (channels, *_window(self, size, self.kernel, self.stride, self.padding))

    def apply(self, arrays):
        x = _pad(arrays[0], self.padding, -np.inf)
        y = None
        for _, _, view in _taps(x, self.kernel, self.stride):
            y = view.copy() if y is None else np.maximum(y, view, out=y)
        return y


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatAvgPool2d(FloatNode):
    """Mean of each window; ``count_include_pad`` says whether padding zeros count in the divisor."""

    kernel: Pair
    stride: Pair
    padding: Padding = ((0, 0), (0, 0))
    count_include_pad: bool = False

    def output_shape(self, shapes):
        flag(self.count_include_pad, f"layer {self.name!r}: count_include_pad")
        channels, *size = _image(self, shapes[0])
        _check_pool_padding(self)
        return (channels, *_window(self, size, self.kernel, self.stride, self.padding))

    def apply(self, arrays):
        x = _pad(arrays[0], self.padding, 0.0)
        y: Any = None
        for _, _, view in _taps(x, self.kernel, self.stride):
            y = view.copy() if y is None else np.add(y, view, out=y)
        if self.count_include_pad or not any(map(any, self.padding)):
            y /= self.kernel[0] * self.kernel[1]
        else:
            ones = _pad(np.ones((1, 1, *arrays[0].shape[2:]), x.dtype), self.padding, 0.0)
            y /= sum(view for _, _, view in _taps(ones, self.kernel, self.stride))
        return y


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatUpsample2d(FloatNode):
    """Enlarges by whole factors (rows, columns).

    `mode` ``"nearest"`` repeats every value; ``"zeros"`` puts ``factor - 1`` zeros between neighbours, which makes the
    convolution behind it a transposed one.
    """

    factor: Pair
    mode: str = "nearest"

    def output_shape(self, shapes):
        channels, height, width = _image(self, shapes[0])
        choice(self.mode, f"layer {self.name!r}: mode", ("nearest", "zeros"))
        rows, columns = self.factor
        if self.mode == "nearest":
            return (channels, rows * height, columns * width)
        return (channels, rows * (height - 1) + 1, columns * (width - 1) + 1)

    def apply(self, arrays):
        x, (rows, columns) = arrays[0], self.factor
        if self.mode == "nearest":
            return x.repeat(rows, axis=2).repeat(columns, axis=3)
        height, width = x.shape[2:]
        y = np.zeros((*x.shape[:2], rows * (height - 1) + 1, columns * (width - 1) + 1), x.dtype)
        y[:, :, ::rows, ::columns] = x
        return y


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatFlatten(FloatNode):
    """``(C, H, W)`` to a vector, in that order."""

    def output_shape(self, shapes):
        return (int(np.prod(shapes[0], dtype=object)),)

    def apply(self, arrays):
        return arrays[0].reshape(arrays[0].shape[0], -1)


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatAdd(FloatNode):
    """Sum of two or more branches of the same shape."""

    arity = (2, 1 << 16)

    def output_shape(self, shapes):
        if any(shape != shapes[0] for shape in shapes):
            raise _shape_error(self, f"the branches to add have shapes {shapes}; they have to be equal")
        return shapes[0]

    def apply(self, arrays):
        y = arrays[0] + arrays[1]
        for x in arrays[2:]:
            y += x
        return y


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatSoftmax(FloatNode):
    """Softmax over axis 1 of the batch."""

    def apply(self, arrays):
        y = np.exp(arrays[0] - arrays[0].max(axis=1, keepdims=True))
        y /= y.sum(axis=1, keepdims=True)
        return y


def _taps(x, kernel, stride, dilation=(1, 1), size=None):
    """Yield ``(i, j, view)``: what every output position sees at tap (i, j) of the kernel."""
    height, width = size or _outputs(x.shape[2:], kernel, stride, dilation)
    for i in range(kernel[0]):
        top = i * dilation[0]
        rows = slice(top, top + (height - 1) * stride[0] + 1, stride[0])
        for j in range(kernel[1]):
            left = j * dilation[1]
            yield i, j, x[:, :, rows, left : left + (width - 1) * stride[1] + 1 : stride[1]]


def _outputs(size, kernel, stride, dilation=(1, 1)):
    return tuple(positions(*axis) for axis in zip(size, kernel, stride, dilation, strict=True))


def _pad(x, padding, value):
    if not any(map(any, padding)):
        return x
    return np.pad(x, ((0, 0), (0, 0), *padding), constant_values=value)


def _shape_error(node: FloatNode, message: str) -> ShapeError:
    where = f" ({node.source})" if node.source else ""
    return ShapeError(f"layer {node.name!r}{where}: {message}")


def _image(node: FloatNode, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 3:
        raise _shape_error(node, f"its input is {shape}; it has to be (C, H, W)")
    return shape


def _check_vector(node: FloatNode, name: str, value: np.ndarray | None, size: int) -> None:
    if value is not None and value.shape != (size,):
        raise _shape_error(node, f"{name} is {value.shape}; it has to be ({size},)")


def _check_pool_padding(node: FloatMaxPool2d | FloatAvgPool2d) -> None:
    for pads, k in zip(node.padding, node.kernel, strict=True):
        if max(pads) >= k:
            raise _shape_error(node, f"padding {node.padding} leaves windows of {node.kernel} with padding only")


def _window(node, size, kernel, stride, padding, dilation=(1, 1)):
    if min(*kernel, *stride, *dilation) < 1 or min(*padding[0], *padding[1]) < 0:
        raise _shape_error(
            node, f"kernel {kernel}, stride {stride}, dilation {dilation} have to be >= 1 and padding {padding} >= 0"
        )
    padded = tuple(n + sum(p) for n, p in zip(size, padding, strict=True))
    result = _outputs(padded, kernel, stride, dilation)
    if min(result) < 1:
        raise _shape_error(node, f"a window of {kernel} does not fit the padded input of {padded}")
    return result
