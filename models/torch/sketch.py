"""What is each tensor of a PyTorch network here? Nodes are collected, and moves are put off until something computes.

A tensor is a `Signal`: the node whose value it is, and where in that value each of its elements lies. Views,
permutations, slices and zeros around an image only change these places, so that a chain of them becomes one node, or
none where the order stays. Knows no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...errors import FormatError, ShapeError, UnsupportedError
from ...formats.arguments import flag, real, shown, whole
from ...network.float_moves import FloatSelect
from ...network.float_nodes import FloatBatchNorm, FloatFlatten, FloatInput
from ...network.floating import FloatNetwork
from ...network.node import FloatNode

__all__ = ["Signal", "Sketch", "Spot"]

Pair = tuple[int, int]
Places = Callable[[np.ndarray], np.ndarray]
MAX_VALUES = 1 << 24  # of one sample in one node, as files hold them
MAX_SIDE = 1 << 20


@dataclass(frozen=True, eq=False)
class Spot:
    """One layer or call of the PyTorch network, with checked access to its options; it names itself in messages.

    Attributes
    ----------
    name, kind : str
        ``"features.0"``, ``"Conv2d"``.
    options : mapping
        By the names of PyTorch; a value that is absent or None is at its default.
    arrays : mapping of str to numpy.ndarray
        By the names of PyTorch; those that the layer does not have are absent.
    """

    name: str
    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"layer {self.name[:80]!r} ({self.kind[:40]})"

    def bad(self, message: str) -> FormatError:
        return FormatError(f"{self}: {message}")

    def misfit(self, message: str) -> ShapeError:
        return ShapeError(f"{self}: {message}")

    def unsupported(self, message: str) -> UnsupportedError:
        return UnsupportedError(f"{self}: {message}")

    def get(self, name: str, default: Any = None) -> Any:
        found = self.options.get(name)
        return default if found is None else found

    def whole(self, name: str, default: Any = None, low: int = 0, high: int = MAX_SIDE) -> int:
        return whole(self.get(name, default), f"{self}: {name}", low, high)

    def real(self, name: str, default: Any = None) -> float:
        return real(self.get(name, default), f"{self}: {name}", allowed="a number is needed")

    def flag(self, name: str, default: bool = False) -> bool:
        return flag(self.get(name, default), f"{self}: {name}")

    def pair(self, name: str, default: Any = None, low: int = 1, flat: int = 1) -> Pair:
        """Rows and columns: one number or two; of a one-dimensional layer one, with `flat` for the rows."""
        value = self.get(name, default)
        found = list(value) if isinstance(value, list | tuple) else [value]
        found = [whole(item, f"{self}: {name}", low, MAX_SIDE) for item in found]
        if self.kind.endswith("1d"):
            if len(found) != 1:
                raise self.bad(f"{name} is {shown(value)}; one whole number is needed")
            return flat, found[0]
        if len(found) not in (1, 2):
            raise self.bad(f"{name} is {shown(value)}; one or two whole numbers are needed")
        return found[0], found[-1]

    def array(self, name: str, shape: Sequence[int | None]) -> np.ndarray:
        """The array called `name`, which has to have `shape` (None: any size) and to be of floats."""
        if name not in self.arrays:
            raise self.bad(f"it has no array {name!r}")
        found = self.arrays[name]
        if found.dtype not in (np.float32, np.float64):
            raise self.unsupported(f"its {name} is of {found.dtype}; float32 or float64 is needed")
        if found.ndim != len(shape) or any(w is not None and w != f for w, f in zip(shape, found.shape, strict=True)):
            wish = ", ".join("any" if n is None else str(n) for n in shape)
            raise self.misfit(f"its {name} is {found.shape}; ({wish}) is needed")
        return found


@dataclass(frozen=True, eq=False)
class Signal:
    """A tensor of the PyTorch network.

    Attributes
    ----------
    node : str
        Whose value it is.
    shape : tuple of int
        In PyTorch, without the batch.
    places : numpy.ndarray or None
        Of that shape without the border: places in the flat value of the node, -1 for a zero; None: all in order.
    border : tuple of (int, int)
        Zeros still to be put around, for each of the last axes.
    ending : str
        What made it, if that may only stand at the end of a network.
    storage : object
        The same for all tensors that may share memory in PyTorch.
    """

    node: str
    shape: tuple[int, ...]
    places: np.ndarray | None = None
    border: tuple[Pair, ...] = ()
    ending: str = ""
    storage: object = field(default_factory=object)

    @property
    def inner(self) -> tuple[int, ...]:
        """The shape without the border."""
        kept = len(self.shape) - len(self.border)
        ends = zip(self.shape[kept:], self.border, strict=True)
        return (*self.shape[:kept], *(size - sum(pads) for size, pads in ends))

    def spots(self) -> np.ndarray:
        """The places of all elements, those of the border among them."""
        places = self.places if self.places is not None else np.arange(math.prod(self.inner)).reshape(self.inner)
        if not self.border:
            return places
        pads = [(0, 0)] * (places.ndim - len(self.border)) + list(self.border)
        return np.pad(places, pads, constant_values=-1)

    def moved(self, move: Places) -> Signal:
        """The same elements elsewhere: what `move` makes of their places."""
        places = move(self.spots())
        return Signal(self.node, places.shape, places, ending=self.ending, storage=self.storage)

    def reshaped(self, shape: tuple[int, ...]) -> Signal:
        """The same elements in the same order in another shape."""
        if self.places is None and not self.border:
            return replace(self, shape=shape)
        return self.moved(lambda places: places.reshape(shape))


class Sketch:
    """The nodes so far.

    Attributes
    ----------
    nodes, shapes : list of FloatNode, dict of str to tuple
        In order, and the shape of each value without the batch.
    notes : list of str
        Remarks for the user.
    """

    def __init__(self) -> None:
        self.nodes: list[FloatNode] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.notes: list[str] = []

    def begin(self, shape: tuple[int, ...], name: str = "input") -> Signal:
        """The input, of a shape of one to three axes."""
        if not 1 <= len(shape) <= 3 or min(shape) < 1 or math.prod(shape) > MAX_VALUES:
            raise ShapeError(
                f"input_shape: found {shape}; (N,), (C, L) or (C, H, W), without the batch and with at most "
                f"{MAX_VALUES} values, is needed"
            )
        node = FloatInput(name=name, shape=self._ours(shape), source="input")
        self.nodes.append(node)
        self.shapes[name] = node.shape
        return Signal(name, shape)

    def emit(self, cls: type[FloatNode], at: Spot, inputs: Sequence[str], part: str = "", **options: Any) -> str:
        """Add a node and return its name: that of the layer, with `part` for what it needs before or behind it."""
        return self.add(cls(name=self.free(at, part), inputs=tuple(inputs), source=f"{at.kind} {at.name}", **options))

    def add(self, node: FloatNode) -> str:
        """Add a node that was made, whose name is free."""
        shape = node.output_shape([self.shapes[name] for name in node.inputs])
        if math.prod(shape) > MAX_VALUES:
            raise ShapeError(f"layer {node.name!r}: its output {shape} has more than {MAX_VALUES} values")
        self.nodes.append(node)
        self.shapes[node.name] = shape
        return node.name

    def free(self, at: Spot, part: str = "") -> str:
        """A name for a node of a layer that no node has yet."""
        base = name = f"{at.name}/{part}" if part else at.name
        count = 1
        while name in self.shapes:
            count += 1
            name = f"{base}_{count}"
        return name

    @staticmethod
    def _ours(shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a node for a tensor: maps of one row for ``(C, L)``, a vector for what has no channels."""
        if len(shape) == 2:
            return shape[0], 1, shape[1]
        return shape if len(shape) == 3 else (math.prod(shape),)

    def node_of(self, at: Spot, x: Signal) -> str:
        """The node whose value `x` is in the shape of a node, ``(C, 1, L)`` for ``(C, L)``; made where needed."""
        if x.ending:
            raise at.unsupported(f"it reads a {x.ending}, which is taken at the end of a network only")
        return self._node(at, x, self._ours(x.shape))

    def _node(self, at: Spot, x: Signal, shape: tuple[int, ...]) -> str:
        if math.prod(shape) > MAX_VALUES:
            raise at.misfit(f"it reads {x.shape}, more than {MAX_VALUES} values")
        places, held = x.spots().reshape(shape), self.shapes[x.node]
        straight = places.size == math.prod(held) and np.array_equal(places.ravel(), np.arange(places.size))
        if straight and shape == held:
            return x.node
        if straight and len(shape) == 1:
            return self.emit(FloatFlatten, at, (x.node,), "flat")
        return self.emit(FloatSelect, at, (x.node,), "moved", places=places)

    def same_order(self, at: Spot, x: Signal) -> str:
        """The node of `x` for what treats every value alike: the one that it is all of, whatever its shape."""
        if x.ending or x.border or x.places is not None:
            return self.node_of(at, x)
        return x.node

    def image(self, at: Spot, x: Signal) -> Signal:
        """`x`, which has to have channels and as many other axes as the layer has in its name."""
        flat = at.kind.endswith("1d")
        if len(x.shape) != (2 if flat else 3):
            raise at.misfit(f"it reads {x.shape}; {'(C, L)' if flat else '(C, H, W)'} is needed, without the batch")
        return x

    def result(self, at: Spot, cls: type[FloatNode], x: Signal, **options: Any) -> Signal:
        """A node over maps, and its value in the rank of `x`: ``(C, L)`` again for ``(C, L)``."""
        return self.value(self.emit(cls, at, (self.node_of(at, x),), **options), len(x.shape))

    def value(self, name: str, rank: int) -> Signal:
        """The value of a node as a tensor of `rank` axes."""
        shape = self.shapes[name]
        return Signal(name, (shape[0], shape[2]) if rank == 2 else shape)

    def alike(self, at: Spot, cls: type[FloatNode], x: Signal, ending: str = "", **options: Any) -> Signal:
        """A node that treats every value alike, in the shape of `x`."""
        return Signal(self.emit(cls, at, (self.same_order(at, x),), **options), x.shape, ending=ending)

    def scaled(self, at: Spot, x: Signal, scale: Any, shift: Any) -> Signal:
        """``scale * x + shift``, floats or arrays of them that are broadcast to the shape of `x`."""
        shape = x.shape or (1,)
        scale, shift = (np.broadcast_to(np.asarray(v), x.shape).reshape(shape[0], -1) for v in (scale, shift))
        if len(shape) <= 3 and all((v == v[:, :1]).all() for v in (scale, shift)):
            gamma, beta, source = scale[:, 0], shift[:, 0], self.node_of(at, x)
        else:  # a number for each value
            flat = self.node_of(at, x.reshaped((math.prod(shape),)))
            gamma, beta, source = scale.reshape(-1), shift.reshape(-1), flat
        zero, one = np.zeros(len(gamma)), np.ones(len(gamma))
        name = self.emit(
            FloatBatchNorm, at, (source,), gamma=np.ascontiguousarray(gamma), beta=np.ascontiguousarray(beta),
            mean=zero, variance=one, epsilon=0.0,
        )  # fmt: skip
        return Signal(name, x.shape)

    def finish(self, x: Any, metadata: dict[str, Any]) -> FloatNetwork:
        """The network whose result is `x`."""
        if not isinstance(x, Signal):
            raise UnsupportedError(f"the network returns {shown(x)}; one tensor that depends on the input is taken")
        name = self._node(Spot("output", "output"), x, self._ours(x.shape))
        return FloatNetwork(tuple(self.nodes), name, metadata | {"notes": self.notes} if self.notes else metadata)
