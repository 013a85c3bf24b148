"""Operations of other frameworks that are several nodes here: every importer writes them with these functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..formats.arguments import instance, shown, text, whole, wholes
from .float_moves import FloatSelect
from .float_nodes import FloatConv2d, FloatUpsample2d
from .node import FloatNode, Padding, Pair

__all__ = ["TransposedWindow", "cropping", "transposed_convolution", "zero_padding"]


@dataclass(frozen=True)
class TransposedWindow:
    """How a kernel lies on the output of a transposed convolution.

    Attributes
    ----------
    stride, dilation : (int, int)
    padding : ((int, int), (int, int))
        What is cut off the full result at ``((top, bottom), (left, right))``.
    extra : (int, int)
        Rows and columns that are added at the bottom and right ("output padding").
    groups : int
    """

    stride: Pair = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    extra: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        for name, least in (("stride", 1), ("extra", 0), ("dilation", 1)):
            object.__setattr__(self, name, _pair(getattr(self, name), f"TransposedWindow.{name}", least))
        object.__setattr__(self, "padding", _sides(self.padding, "TransposedWindow.padding"))
        object.__setattr__(self, "groups", whole(self.groups, "TransposedWindow.groups", 1, 1 << 31))


def _pair(value: Any, what: str, least: int) -> Pair:
    found = wholes(value, what, least, 1 << 20, error=ShapeError, needed="two whole numbers are needed")
    if len(found) != 2:
        raise ShapeError(f"{what}: found {shown(value)}; two whole numbers are needed")
    return found[0], found[1]


def _map(shape: Sequence[int]) -> tuple[int, ...]:
    found = wholes(shape, "shape", 1, 1 << 31)
    if len(found) != 3:
        raise ShapeError(f"shape: found {shown(shape)}; (C, H, W) is needed")
    return found


def _sides(sides: Any, what: str) -> Padding:
    needed = f"{what}: found {shown(sides)}; ((top, bottom), (left, right)), each at least 0, is needed"
    if not isinstance(sides, list | tuple) or len(sides) != 2:
        raise ShapeError(needed)
    found = [wholes(side, what, 0, 1 << 20, error=ShapeError) for side in sides]
    if any(len(side) != 2 for side in found):
        raise ShapeError(needed)
    return (found[0][0], found[0][1]), (found[1][0], found[1][1])


def cropping(
    name: str, reads: str, shape: Sequence[int], crop: Padding, **options: Any
) -> FloatSelect:  # fmt: skip
    """The node called `name` that cuts ``((top, bottom), (left, right))`` off the maps ``(C, H, W)`` of `reads`.

    `options` go to the node. Raises `ShapeError` where nothing is left.
    """
    channels, height, width = _map(shape)
    (top, bottom), (left, right) = _sides(crop, "crop")
    if top + bottom >= height or left + right >= width:
        raise ShapeError(f"layer {text(name, 'name')!r}: cutting {crop} off maps of {height} x {width} leaves nothing")
    places = np.arange(channels * height * width).reshape(channels, height, width)
    return FloatSelect(
        name=name, inputs=(reads,), places=places[:, top : height - bottom, left : width - right], **options
    )  # fmt: skip


def zero_padding(name: str, reads: str, shape: Sequence[int], padding: Padding, **options: Any) -> FloatSelect:
    """The node called `name` that puts zeros ``((top, bottom), (left, right))`` around the maps of `source`."""
    found = _map(shape)
    sides = _sides(padding, "padding")
    places = np.pad(np.arange(math.prod(found)).reshape(found), ((0, 0), *sides), constant_values=-1)
    return FloatSelect(name=name, inputs=(reads,), places=places, **options)


def transposed_convolution(
    name: str,
    reads: str,
    shape: Sequence[int],
    weight: np.ndarray,
    *,
    bias: np.ndarray | None = None,
    window: TransposedWindow | None = None,
    origin: str = "",
) -> list[FloatNode]:
    """A transposed convolution: zeros between the values, then a convolution with the kernel turned.

    Parameters
    ----------
    name, reads : str
        Of the last of the nodes, whose value is the result; of the node that is read.
    shape : (C, H, W)
        Of the maps that are read.
    weight : numpy.ndarray
        ``(I, O / groups, kh, kw)``, as PyTorch and ONNX store it.
    bias : numpy.ndarray or None
        ``(O,)``.
    window : TransposedWindow, optional
    origin : str
        `source` of the nodes: where they came from, for messages.

    Returns
    -------
    list of FloatNode
        One to three nodes, in order.

    Raises
    ------
    ShapeError
        Where weight and maps do not fit, or nothing is left.
    """
    channels, height, width = _map(shape)
    w = instance(window, "window", TransposedWindow, none=True) or TransposedWindow()
    stride, padding, extra, dilation, groups = w.stride, w.padding, w.extra, w.dilation, w.groups
    weight = np.asarray(weight)
    if weight.ndim != 4 or weight.shape[0] != channels or groups < 1 or channels % groups:
        raise ShapeError(
            f"layer {text(name, 'name')!r}: a transposed weight (I, O / groups, kh, kw) of {weight.shape} in {groups} "
            f"groups does not fit maps of {channels} channels"
        )
    out, (kh, kw) = weight.shape[1], weight.shape[2:]
    turned = weight.reshape(groups, channels // groups, out, kh, kw).transpose(0, 2, 1, 3, 4)[..., ::-1, ::-1]
    turned = np.ascontiguousarray(turned.reshape(groups * out, channels // groups, kh, kw))
    nodes: list[FloatNode] = []
    if max(stride) > 1:
        nodes.append(
            FloatUpsample2d(name=f"{name}/spread", inputs=(reads,), source=origin, factor=stride, mode="zeros")
        )
        height, width, reads = (height - 1) * stride[0] + 1, (width - 1) * stride[1] + 1, f"{name}/spread"
    # full correlation needs dilation * (k - 1) zeros on each side; `padding` takes them away again, and more perhaps
    wanted = [
        (d * (k - 1) - before, d * (k - 1) - after + more)
        for k, d, (before, after), more in zip((kh, kw), dilation, padding, extra, strict=True)
    ]
    if min(min(pair) for pair in wanted) < 0:
        crop: Any = tuple((max(-before, 0), max(-after, 0)) for before, after in wanted)
        nodes.append(cropping(f"{name}/crop", reads, (channels, height, width), crop, source=origin))
        reads = f"{name}/crop"
    pads: Any = tuple((max(before, 0), max(after, 0)) for before, after in wanted)
    nodes.append(
        FloatConv2d(
            name=name, inputs=(reads,), source=origin, weight=turned, bias=bias, padding=pads, dilation=dilation,
            groups=groups,
        )
    )  # fmt: skip
    return nodes
