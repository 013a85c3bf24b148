"""What are the layers of a float network? Each says its shape and value, and what it becomes in integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FormatError, IntsnnError
from ..formats.arguments import choice, flag, real, shown, wholes
from ..layers.pooling import MaxPool2d, SumPool2d
from ..layers.reshape import Flatten, Upsample2d
from .node import (
    FloatNode,
    Padding,
    Pair,
    check_pool_padding,
    check_vector,
    image,
    outputs,
    pad,
    shape_error,
    taps,
    windows,
)  # fmt: skip

__all__ = [
    "FloatAdd",
    "FloatAffine",
    "FloatAvgPool2d",
    "FloatBatchNorm",
    "FloatConv2d",
    "FloatFlatten",
    "FloatInput",
    "FloatMaxPool2d",
    "FloatReLU",
    "FloatSoftmax",
    "FloatUpsample2d",
]


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatInput(FloatNode):
    """The input; ``shape`` is ``(C, H, W)`` or ``(N,)``, without the batch."""

    shape: tuple[int, ...]

    arity = (0, 0)
    takes_input = True

    def output_shape(self, shapes):
        try:
            found = wholes(self.shape, "shape", 1, 1 << 31)
        except IntsnnError:
            found = ()
        if len(found) not in (1, 3):
            seen = f"({', '.join(map(shown, self.shape[:8]))})" if isinstance(self.shape, tuple) else shown(self.shape)
            raise shape_error(self, f"the input shape is {seen}; it has to be (C, H, W) or (N,), each >= 1")
        return found

    def apply(self, arrays):
        (x,) = arrays  # the samples, in any form
        return x.reshape(len(x), *self.shape)

    def becomes(self, converter, sources):
        converter.feed(self.name, self.shape)


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

    weighted = True
    rank = 4  # of the weights

    weight: np.ndarray
    bias: np.ndarray | None = None
    stride: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    def output_shape(self, shapes):
        channels, height, width = image(self, shapes[0])
        if self.weight.ndim != 4 or 0 in self.weight.shape:
            raise shape_error(self, f"the weight is {self.weight.shape}; it has to be (O, I / groups, kh, kw)")
        out, per_group, kh, kw = self.weight.shape
        if self.groups < 1 or channels != per_group * self.groups or out % self.groups:
            raise shape_error(
                self, f"weight {self.weight.shape} with groups={self.groups} does not fit {channels} input channels"
            )
        check_vector(self, "bias", self.bias, out)
        size = windows(self, (height, width), (kh, kw), self.stride, self.padding, self.dilation)
        return (out, *size)

    def apply(self, arrays):
        x = arrays[0]
        weight = self.weight.astype(x.dtype, copy=False)
        out, per_group, kh, kw = weight.shape
        x = pad(x, self.padding, 0.0)
        n = x.shape[0]
        height, width = outputs(x.shape[2:], (kh, kw), self.stride, self.dilation)
        # channels first, samples inside: one large product per group instead of one per sample
        columns = np.empty((x.shape[1], kh, kw, n, height, width), x.dtype)
        for i, j, view in taps(x.transpose(1, 0, 2, 3), (kh, kw), self.stride, self.dilation, (height, width)):
            columns[:, i, j] = view
        columns = columns.reshape(self.groups, per_group * kh * kw, n * height * width)
        kernel = weight.reshape(self.groups, out // self.groups, per_group * kh * kw)
        y = np.matmul(kernel, columns).reshape(out, n, height, width).transpose(1, 0, 2, 3)
        y = np.ascontiguousarray(y)
        if self.bias is not None:
            y += self.bias.astype(x.dtype, copy=False)[:, None, None]
        return y

    def cells(self, shape):
        return super().cells(shape) // self.weight.shape[0] * int(np.prod(self.weight.shape[1:])) * self.groups

    def rows(self, values: np.ndarray, most: int) -> np.ndarray:
        """What single outputs see of `values`, ``(rows, groups, inputs)``: at `most` positions, always the same."""
        height, width = self.weight.shape[2:]
        padded = np.pad(values, ((0, 0), (0, 0), *self.padding))
        (sy, sx), (dy, dx) = self.stride, self.dilation
        span = ((height - 1) * dy + 1, (width - 1) * dx + 1)
        seen = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(2, 3))[:, :, ::sy, ::sx, ::dy, ::dx]
        samples, _, rows, columns = seen.shape[:4]
        chosen = np.arange(samples * rows * columns)
        if len(chosen) > most:
            chosen = np.sort(np.random.default_rng(0).choice(len(chosen), most, replace=False))
        sample, y, x = np.unravel_index(chosen, (samples, rows, columns))
        return seen[sample, :, y, x].reshape(len(chosen), self.groups, -1).astype(np.float64)


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatAffine(FloatNode):
    """``weight @ x + bias`` with ``weight`` ``(out, in)`` and ``bias`` ``(out,)`` or None; the input is a vector."""

    weighted = True
    rank = 2  # of the weights

    weight: np.ndarray
    bias: np.ndarray | None = None

    def output_shape(self, shapes):
        if len(shapes[0]) != 1:
            raise shape_error(self, f"a dense layer needs a vector, its input is {shapes[0]}; flatten it first")
        if self.weight.ndim != 2 or self.weight.shape[1] != shapes[0][0]:
            raise shape_error(self, f"weight (out, in) is {self.weight.shape}, the input has {shapes[0][0]} values")
        check_vector(self, "bias", self.bias, self.weight.shape[0])
        return (self.weight.shape[0],)

    def apply(self, arrays):
        x = arrays[0]
        y = x @ self.weight.astype(x.dtype, copy=False).T
        if self.bias is not None:
            y += self.bias.astype(x.dtype, copy=False)
        return y

    def rows(self, values: np.ndarray, most: int) -> np.ndarray:
        """What single outputs see of `values`, ``(samples, 1, inputs)``, of all samples."""
        return values.reshape(len(values), 1, -1).astype(np.float64)


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatBatchNorm(FloatNode):
    """``gamma * (x - mean) / sqrt(variance + epsilon) + beta`` per channel (axis 1 of the batch)."""

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float

    scales = True

    def output_shape(self, shapes):
        epsilon = real(self.epsilon, f"layer {self.name!r}: epsilon", 0, allowed="a number from 0 is needed")
        object.__setattr__(self, "epsilon", epsilon)
        for name in ("gamma", "beta", "mean", "variance"):
            check_vector(self, name, getattr(self, name), shapes[0][0])
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

    activates = True

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

    passive = True
    chooses = True

    def output_shape(self, shapes):
        channels, *size = image(self, shapes[0])
        check_pool_padding(self)
        return (channels, *windows(self, size, self.kernel, self.stride, self.padding))

    def apply(self, arrays):
        x = pad(arrays[0], self.padding, -np.inf)
        y = None
        for _, _, view in taps(x, self.kernel, self.stride):
            y = view.copy() if y is None else np.maximum(y, view, out=y)
        return y

    def becomes(self, converter, sources):
        converter.add(self.name, MaxPool2d(self.kernel, self.stride, self.padding), *sources)
        converter.units[self.name] = converter.units[sources[0]]


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatAvgPool2d(FloatNode):
    """Mean of each window; ``count_include_pad`` says whether padding zeros count in the divisor."""

    kernel: Pair
    stride: Pair
    padding: Padding = ((0, 0), (0, 0))
    count_include_pad: bool = False

    passive = True

    def output_shape(self, shapes):
        flag(self.count_include_pad, f"layer {self.name!r}: count_include_pad")
        channels, *size = image(self, shapes[0])
        check_pool_padding(self)
        return (channels, *windows(self, size, self.kernel, self.stride, self.padding))

    def apply(self, arrays):
        x = pad(arrays[0], self.padding, 0.0)
        y: Any = None
        for _, _, view in taps(x, self.kernel, self.stride):
            y = view.copy() if y is None else np.add(y, view, out=y)
        if self.count_include_pad or not any(map(any, self.padding)):
            y /= self.kernel[0] * self.kernel[1]
        else:
            ones = pad(np.ones((1, 1, *arrays[0].shape[2:]), x.dtype), self.padding, 0.0)
            y /= sum(view for _, _, view in taps(ones, self.kernel, self.stride))
        return y

    def becomes(self, converter, sources):
        converter.add(self.name, SumPool2d(self.kernel, self.stride, self.padding), *sources)
        converter.units[self.name] = np.asarray(converter.units[sources[0]]) / (self.kernel[0] * self.kernel[1])

    def no_integers(self):
        if self.count_include_pad or not any(map(any, self.padding)):
            return ""
        return (
            "an average pool whose windows have different sizes (padding not counted) has no common threshold; use "
            "valid padding or count the padding"
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatUpsample2d(FloatNode):
    """Enlarges by whole factors (rows, columns).

    `mode` ``"nearest"`` repeats every value; ``"zeros"`` puts ``factor - 1`` zeros between neighbours, which makes the
    convolution behind it a transposed one.
    """

    factor: Pair
    mode: str = "nearest"

    passive = True
    moves_only = True

    def output_shape(self, shapes):
        channels, height, width = image(self, shapes[0])
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

    def becomes(self, converter, sources):
        converter.add(self.name, Upsample2d(self.factor, self.mode), *sources)
        converter.units[self.name] = converter.units[sources[0]]


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatFlatten(FloatNode):
    """``(C, H, W)`` to a vector, in that order."""

    passive = True
    moves_only = True
    permutes = True
    regroups = True

    def output_shape(self, shapes):
        return (int(np.prod(shapes[0], dtype=object)),)

    def apply(self, arrays):
        return arrays[0].reshape(arrays[0].shape[0], -1)

    def becomes(self, converter, sources):
        shape, units = converter.shapes[self.inputs[0]], np.asarray(converter.units[sources[0]])
        if units.ndim and len(shape) == 3:
            units = np.repeat(units, int(np.prod(shape[1:])))
        converter.add(self.name, Flatten(), *sources)
        converter.units[self.name] = units


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatAdd(FloatNode):
    """Sum of two or more branches of the same shape."""

    arity = (2, 1 << 16)
    joins = True

    def output_shape(self, shapes):
        if any(shape != shapes[0] for shape in shapes):
            raise shape_error(self, f"the branches to add have shapes {shapes}; they have to be equal")
        return shapes[0]

    def apply(self, arrays):
        y = arrays[0] + arrays[1]
        for x in arrays[2:]:
            y += x
        return y

    def becomes(self, converter, sources):
        converter.join(self.name, sources)


@dataclass(frozen=True, eq=False, kw_only=True)
class FloatSoftmax(FloatNode):
    """Softmax over axis 1 of the batch."""

    orders = True

    def apply(self, arrays):
        y = np.exp(arrays[0] - arrays[0].max(axis=1, keepdims=True))
        y /= y.sum(axis=1, keepdims=True)
        return y
