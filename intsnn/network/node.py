"""What is a layer of a float network? What each of them answers, and the windows that the answers are made of.

Passes over a network read the facts of a node (`FloatNode.weighted`, `FloatNode.passive`, …) and never ask for its
class. The kinds are in `intsnn.network.float_nodes`, and those with codes and levels in `intsnn.network.quantised`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

import numpy as np

from ..errors import ConversionError, FormatError, ShapeError, UnsupportedError
from ..formats.arguments import array_of, sequence, shown, text, whole, wholes
from ..layers.base import Layer, positions

__all__ = ["FloatNode"]

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


class Converting(Protocol):
    """What takes the integer layers of nodes (`intsnn.conversion.spikes`).

    Attributes
    ----------
    shapes : mapping of node to shape
    units : dict of layer to float or (C,)
        Real value of one count or unit of charge.
    """

    shapes: Mapping[str, tuple[int, ...]]
    units: dict[str, Any]

    def add(self, name: str, layer: Layer, *sources: str) -> None:
        """Add a layer to the integer network."""

    def feed(self, name: str, shape: tuple[int, ...]) -> None:
        """Add the input of the network."""

    def connect(self, node: Any, source: str) -> None:
        """Add the connection that a node with codes becomes."""

    def fire(self, node: Any, source: str) -> None:
        """Add the neurons that a node with levels becomes."""

    def join(self, name: str, sources: list[str]) -> None:
        """Add a sum of branches."""

    def gather(self, name: str, sources: list[str]) -> None:
        """Add branches side by side."""

    def negate(self, name: str, signs: np.ndarray, source: str) -> None:
        """Add channels with other signs."""


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

    Attributes
    ----------
    arity : (int, int)
        How many inputs are possible, at least and at most.
    takes_input, joins, gathers : bool
        Whether it is what comes in; whether it adds up branches; whether it sets branches side by side.
    weighted, activates, quantised, two_sided : bool
        Whether it multiplies by weights (`weight`, `bias`); whether it is what becomes neurons; whether it has codes
        or levels; whether an activation lets negative values through.
    passive, moves_only, permutes, chooses : bool
        Whether its values are those of its only input in the same unit: moved, averaged or chosen; whether they are
        copied; whether each is there once, in another order; whether each is the largest of several.
    regroups, negates, leaks : bool
        Whether the channels behind it are others than those before it; whether it only changes signs; whether it is a
        ReLU that lets a part of what is negative through.
    scales, orders : bool
        Whether `scale_shift` per channel is all that it does; whether only the order of values is left behind it.
    """

    name: str
    inputs: tuple[str, ...] = ()
    source: str = ""

    arity: ClassVar[tuple[int, int]] = (1, 1)
    takes_input: ClassVar[bool] = False
    joins: ClassVar[bool] = False
    gathers: ClassVar[bool] = False
    weighted: ClassVar[bool] = False
    activates: ClassVar[bool] = False
    quantised: ClassVar[bool] = False
    two_sided: ClassVar[bool] = False
    passive: ClassVar[bool] = False
    moves_only: ClassVar[bool] = False
    permutes: ClassVar[bool] = False
    chooses: ClassVar[bool] = False
    regroups: ClassVar[bool] = False
    negates: ClassVar[bool] = False
    leaks: ClassVar[bool] = False
    scales: ClassVar[bool] = False
    orders: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_node(self)
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name in ARRAYS and (value is not None or item.name != "bias"):
                found = float_array(value, f"layer {self.name!r}: {item.name}")
                object.__setattr__(self, item.name, found)

    def output_shape(self, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
        """Shape of the value without the batch; `ShapeError` where `shapes` of the inputs do not fit."""
        return shapes[0]

    @abstractmethod
    def apply(self, arrays: list[np.ndarray]) -> np.ndarray:
        """Its value, from those of its inputs; the batch comes first."""

    def cells(self, shape: tuple[int, ...]) -> int:
        """Values of one sample that are held at a time while those of `shape` are computed."""
        return int(np.prod(shape, dtype=object))

    def becomes(self, converter: Converting, sources: list[str]) -> None:
        """Add to the integer network what it is there; `sources` are the layers of its inputs.

        Raises `ConversionError` for weights and activations without codes, `UnsupportedError` for what has no form.
        """
        kind = type(self).__name__
        if self.weighted or self.activates:
            raise ConversionError(f"layer {self.name!r} ({kind}) is not quantised; quantise the network first")
        raise UnsupportedError(f"layer {self.name!r}: a {kind} has no integer form; fold it first")

    def no_integers(self) -> str:
        """Why it has no integer form as it is, or nothing."""
        return ""

    def details(self) -> dict[str, Any]:
        """What a description says of it besides its shape and window; of arrays it says the ends."""
        return {}


# -- windows ----------------------------------------------------------------------------------------------------------


def taps(x, kernel, stride, dilation=(1, 1), size=None):
    """Yield ``(i, j, view)``: what every output position sees at tap (i, j) of the kernel."""
    height, width = size or outputs(x.shape[2:], kernel, stride, dilation)
    for i in range(kernel[0]):
        top = i * dilation[0]
        rows = slice(top, top + (height - 1) * stride[0] + 1, stride[0])
        for j in range(kernel[1]):
            left = j * dilation[1]
            yield i, j, x[:, :, rows, left : left + (width - 1) * stride[1] + 1 : stride[1]]


def outputs(size, kernel, stride, dilation=(1, 1)):
    return tuple(positions(*axis) for axis in zip(size, kernel, stride, dilation, strict=True))


def pad(x, padding, value):
    if not any(map(any, padding)):
        return x
    return np.pad(x, ((0, 0), (0, 0), *padding), constant_values=value)


def shape_error(node: FloatNode, message: str) -> ShapeError:
    where = f" ({node.source})" if node.source else ""
    return ShapeError(f"layer {node.name!r}{where}: {message}")


def image(node: FloatNode, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != 3:
        raise shape_error(node, f"its input is {shape}; it has to be (C, H, W)")
    return shape


def check_vector(node: FloatNode, name: str, value: np.ndarray | None, size: int) -> None:
    if value is not None and value.shape != (size,):
        raise shape_error(node, f"{name} is {value.shape}; it has to be ({size},)")


def check_pool_padding(node: Any) -> None:
    for pads, k in zip(node.padding, node.kernel, strict=True):
        if max(pads) >= k:
            raise shape_error(node, f"padding {node.padding} leaves windows of {node.kernel} with padding only")


def windows(node, size, kernel, stride, padding, dilation=(1, 1)):
    if min(*kernel, *stride, *dilation) < 1 or min(*padding[0], *padding[1]) < 0:
        raise shape_error(
            node, f"kernel {kernel}, stride {stride}, dilation {dilation} have to be >= 1 and padding {padding} >= 0"
        )
    padded = tuple(n + sum(p) for n, p in zip(size, padding, strict=True))
    result = outputs(padded, kernel, stride, dilation)
    if min(result) < 1:
        raise shape_error(node, f"a window of {kernel} does not fit the padded input of {padded}")
    return result
