"""What is a tensor of the file here? Nodes are collected, and of each tensor which of their values it holds, and where.

A batch of one sample is followed through the graph. What only moves values (Reshape, Transpose, Slice, Pad, ...) makes
no node: a `Placed` value says where each value lies, and a node is written when an operation needs the values in place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import IntsnnError
from ...formats.arguments import shown
from ...formats.fixed import Fixed
from ...formats.weights import Bipolar
from ...network.float_moves import FloatSelect
from ...network.float_nodes import FloatFlatten
from ...network.node import FloatNode
from .files import ModelFile
from .graph import OnnxNode

__all__ = ["MAX_VALUES", "Assembly", "Codes", "Coding", "Given", "Placed", "drawn"]

MAX_VALUES = 1 << 24  # of one tensor, for one sample


@dataclass(frozen=True, eq=False)
class Placed:
    """A tensor of the graph, ``(1, *dims)`` in the file.

    Attributes
    ----------
    node : str
        The node that holds its values.
    dims : tuple of int
        Its sizes without the batch.
    places : numpy.ndarray or None
        Of shape `dims`: the place of each value in the flat value of `node`, -1 for a zero; None: one after another.
    """

    node: str
    dims: tuple[int, ...]
    places: np.ndarray | None = None

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> Placed:
        """What a function that only moves values, and puts -1 for zeros, makes of it; it gets an array of `dims`."""
        places = self.places
        if places is None:
            places = np.arange(math.prod(self.dims)).reshape(self.dims)
        found = move(places)
        return Placed(self.node, found.shape, found)

    def relabelled(self, dims: Sequence[int]) -> Placed:
        """The same values, one after another, with other sizes."""
        places = None if self.places is None else self.places.reshape(dims)
        return Placed(self.node, tuple(dims), places)


@dataclass(frozen=True)
class Coding:
    """Codes of ``low .. high`` that are worth ``scale * (code - zero)``."""

    scale: float
    zero: int
    low: int
    high: int


@dataclass(frozen=True, eq=False)
class Codes:
    """Whole numbers and scales, arrays of one shape; a constant is their product."""

    values: np.ndarray
    scale: np.ndarray
    form: Fixed | Bipolar

    def turned(self, turn: Callable[[np.ndarray], np.ndarray]) -> Codes:
        """With the axes of both arrays moved."""
        return Codes(turn(self.values), turn(self.scale), self.form)


Given = Placed | np.ndarray | None  # an input of an operation: computed, constant or left out


def drawn(dims: Sequence[int]) -> tuple[int, ...]:
    """Shape of a node whose value has the sizes `dims`: maps, with one row where there is one axis; else a vector."""
    if len(dims) == 3:
        return tuple(dims)
    return (dims[0], 1, dims[1]) if len(dims) == 2 else (math.prod(dims),)


class Assembly:
    """Nodes so far, and what was taken from the file for them.

    Attributes
    ----------
    nodes, shapes : dict of str to FloatNode, dict of str to tuple
        Nodes by name, in order, and the shape of the value of each.
    tensors, notes : list of dict, list of str
        What was read and done to its axes; remarks for the user.
    ends : dict of str to (str, tuple of str)
        Names of tensors that are not computed wholly: why no operation may read them, and which may all the same.
    codes : dict of str to Codes
        Of constants by name: the whole numbers that they are worth.
    coded : dict of str to Codes
        Of nodes by name: those of its weight.
    codings : dict of str to Coding
        Tensors by name that are codes in the file, and stand for their real values here.
    input_coding, input_type : Coding or None, int
        How the input is quantised; the number of its type in the file.
    narrow : dict of str to int
        Numbers of the types of constants by name, of those that numpy has no type for.
    """

    def __init__(self, file: ModelFile) -> None:
        self.file = file
        self.nodes: dict[str, FloatNode] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.tensors: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.ends: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.codes: dict[str, Codes] = {}
        self.coded: dict[str, Codes] = {}
        self.codings: dict[str, Coding] = {}
        self.input_coding: Coding | None = None
        self.input_type = 0
        self.narrow: dict[str, int] = {}
        self._settled: dict[tuple, tuple[Placed, Placed]] = {}

    def note(self, text: str) -> None:
        """Keep a remark, once."""
        if text not in self.notes:
            self.notes.append(text)

    def unique(self, name: str) -> str:
        """`name`, or with a number behind it: no node, and no part of one, has it."""
        found, count = name, 1
        while found in self.nodes or any(f"{found}/{part}" in self.nodes for part in ("spread", "crop")):
            count += 1
            found = f"{name}_{count}"
        return found

    def emit(
        self, kind: type[FloatNode], op: OnnxNode, part: str, reads: Sequence[str], dims: Sequence[int] | None = None,
        **options: Any,
    ) -> Placed:  # fmt: skip
        """Add a node for an operation and say where its value is; `dims` are its sizes in the file, if others."""
        name = self.unique(f"{op.name}/{part}" if part else op.name)
        try:
            node = kind(name=name, inputs=tuple(reads), source=op.source, **options)
        except IntsnnError as error:
            raise op.bad(str(error)) from None
        return self.add(op, node, dims)

    def add(self, op: OnnxNode, node: FloatNode, dims: Sequence[int] | None = None) -> Placed:
        """Add a node that was made for an operation."""
        try:
            shape = node.output_shape([self.shapes[name] for name in node.inputs])
        except IntsnnError as error:
            raise op.bad(str(error)) from None
        if math.prod(shape) > MAX_VALUES:
            raise op.bad(f"its result {shape} has more than {MAX_VALUES} values")
        self.nodes[node.name] = node
        self.shapes[node.name] = shape
        return Placed(node.name, shape if dims is None else tuple(dims))

    def settle(self, op: OnnxNode, view: Placed) -> Placed:
        """A node that holds the values in place: maps for two or three axes, else a vector."""
        shape = drawn(view.dims)
        places = view.places
        if self.shapes[view.node] == shape and places is None:
            return view
        key = (view.node, id(places), shape)
        if key in self._settled:
            return replace(self._settled[key][1], dims=view.dims)
        size = math.prod(self.shapes[view.node])
        plain = places is None or (places.size == size and np.array_equal(places.reshape(-1), np.arange(size)))
        if plain and shape == self.shapes[view.node]:
            found = Placed(view.node, view.dims)
        elif plain and len(shape) == 1:
            found = self.emit(FloatFlatten, op, "flat", (view.node,), view.dims)
        else:
            self.file.charge(8 * math.prod(shape), str(op))
            places = np.arange(size) if places is None else places
            found = self.emit(FloatSelect, op, "moved", (view.node,), view.dims, places=places.reshape(shape))
        self._settled[key] = (view, found)  # the view keeps the array of its key alive
        return found

    def maps(self, op: OnnxNode, view: Placed) -> Placed:
        """Settled signals ``(C, L)`` or maps ``(C, H, W)``; anything else is refused."""
        if len(view.dims) not in (2, 3):
            raise op.unsupported(
                f"its input has the shape {(1, *view.dims)}; signals (N, C, L) and images (N, C, H, W) are taken"
            )
        return self.settle(op, view)

    def computed(self, op: OnnxNode, inputs: Sequence[Given], index: int = 0) -> Placed:
        """Input `index`, which has to be computed from the input of the network."""
        found = inputs[index] if index < len(inputs) else None
        if not isinstance(found, Placed):
            raise op.unsupported(f"its input {index} is {'left out' if found is None else 'a constant'}; "
                                 "a value that depends on the input is needed there")  # fmt: skip
        return found

    def constant(self, op: OnnxNode, inputs: Sequence[Given], index: int, role: str) -> np.ndarray:
        """Input `index`, which has to be known: an initialiser or what follows from them."""
        found = inputs[index] if index < len(inputs) else None
        if not isinstance(found, np.ndarray):
            raise op.unsupported(
                f"its {role} is {'left out' if found is None else 'computed from the input'}; a constant is needed"
            )
        return found

    def optional(self, op: OnnxNode, inputs: Sequence[Given], index: int, role: str) -> np.ndarray | None:
        """As `constant`; None where it is left out."""
        found = inputs[index] if index < len(inputs) else None
        return None if found is None else self.constant(op, inputs, index, role)

    def weights(self, op: OnnxNode, inputs: Sequence[Given], index: int, role: str, axes: str = "none") -> np.ndarray:
        """A constant of floats, which is reported; `axes` says what will be done to its axes."""
        found = self.constant(op, inputs, index, role)
        if found.dtype.kind != "f":
            raise op.unsupported(f"its {role} is of {found.dtype}; floats are needed")
        if not found.size or not np.isfinite(found).all():
            raise op.bad(f"its {role} of shape {found.shape} has no values, or some that are not finite")
        self.report(op, index, role, found, axes)
        return found

    def report(self, op: OnnxNode, index: int, role: str, value: np.ndarray, axes: str = "none") -> None:
        """Note an array that was read."""
        self.tensors.append(
            {
                "layer": op.name,
                "role": role,
                "path": op.inputs[index],
                "shape": value.shape,
                "dtype": str(value.dtype),
                "min": float(value.min()),
                "max": float(value.max()),
                "permutation": axes,
            }  # fmt: skip
        )

    def keep(self, op: OnnxNode, view: Placed, turn: Callable[[np.ndarray], np.ndarray], factor: float = 1.0) -> Placed:
        """Note the codes of the weight (input 1) of an operation, if it has some, for the node of `view`."""
        codes = self.codes.get(op.inputs[1])
        if codes is not None:
            turned = codes.turned(turn)
            self.coded[view.node] = Codes(turned.values, turned.scale * factor, turned.form)
        return view

    def indices(self, op: OnnxNode, value: np.ndarray, what: str) -> tuple[int, ...]:
        """A constant of whole numbers in a row as a tuple."""
        if value.dtype.kind not in "iu" or value.ndim > 1 or value.size > 64:
            raise op.bad(f"its {what} are {shown(value)}; up to 64 whole numbers are needed")
        return tuple(int(n) for n in value.reshape(-1))
