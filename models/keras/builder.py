"""How does a Keras network become nodes here? They are collected, and with them all that is known about axes.

Kernels become ``(O, I, kh, kw)`` cross-correlations and images ``(C, H, W)``; the rows of a dense layer follow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import ImportRefused, ShapeError, UnsupportedError
from ...network.float_moves import FloatSelect
from ...network.float_nodes import FloatConv2d, FloatFlatten, FloatInput
from ...network.node import FloatNode
from .axes import MAX_VALUES, Value, in_our_axes, our_shape, placed, value_places
from .graph import LAST, Layer
from .weights import Shelf

__all__ = ["Builder"]

_BOOKKEEPING = ("count", "mask", "threshold", "pruning_step")  # of Normalization, and of pruning


class Builder:
    """Nodes so far, and what was taken from the file for them.

    Attributes
    ----------
    nodes, shapes : list of FloatNode, dict of str to tuple
        Nodes in order, and the output shape of each for one sample.
    tensors, notes : list of dict, list of str
        What was read and done to its axes; remarks for the user.
    shelf : Shelf
        Arrays of each layer.
    branches : bool
        Whether several layers read the input.
    """

    def __init__(self, shelf: Shelf, backend: str | None, layout: str, branches: bool) -> None:
        self.shelf, self.backend, self.layout, self.branches = shelf, backend, layout, branches
        self.nodes: list[FloatNode] = []
        self.tensors: list[dict] = []
        self.notes: list[str] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.last: Value | None = None  # what was appended last
        self._report: dict[str, dict] = {}  # entries of `tensors` by role, for the layer at hand

    def name(self, layer: Layer, part: str = "") -> str:
        """A free name for a node of `layer`: its own if that is free and `part` does not say otherwise."""
        name = base = f"{layer.name}/{part}" if part else layer.name
        count = 1
        while part and name in self.shapes:
            count += 1
            name = f"{base}_{count}"
        return name

    def emit(self, cls: type[FloatNode], layer: Layer, part: str, inputs: Sequence[Value], **options: Any) -> Value:
        """Append a node that reads `inputs`; a signal stays one, and whatever else has three axes is an image."""
        names = tuple(value.node for value in inputs)
        node = cls(name=self.name(layer, part), inputs=names, source=f"{layer.kind} {layer.name}", **options)
        return self.add(layer, node, len(inputs[0].keras) if inputs and inputs[0].image else 3)

    def add(self, layer: Layer, node: FloatNode, rank: int) -> Value:
        """Append a node as it is; `rank` is that of its tensor in Keras, if it has positions."""
        shape = node.output_shape([self.shapes[n] for n in node.inputs])
        if math.prod(shape) > MAX_VALUES:
            raise layer.bad(f"its output {shape} is too large")
        self.nodes.append(node)
        self.shapes[node.name] = shape
        size = shape[1:] if rank == 3 else shape[2:]
        keras = shape if len(shape) == 1 else (*size, shape[0]) if self.layout == LAST else (shape[0], *size)
        self.last = Value(node.name, shape, keras)
        return self.last

    def each(self, cls: type[FloatNode], layer: Layer, part: str, x: Value, **options: Any) -> Value:
        """Append a node that treats all values alike, wherever they are."""
        x = self.padded(layer, x)
        return replace(x, node=self.emit(cls, layer, part, (x,), **options).node)

    def node(self, name: str) -> FloatNode:
        return next(node for node in reversed(self.nodes) if node.name == name)

    def padded(self, layer: Layer, value: Value) -> Value:
        """Put pending zeros around an image by a 1x1 convolution that copies each channel."""
        if value.pad is None:
            return value
        ones = np.ones((value.shape[0], 1, 1, 1), np.float32)
        return self.emit(FloatConv2d, layer, "pad", (value,), weight=ones, padding=value.pad, groups=value.shape[0])

    # -- axes ---------------------------------------------------------------------------------------------------------

    def usual(self, layer: Layer, value: Value, part: str = "axes") -> Value:
        """The same tensor with its axes in the usual order: by another name for them, else by a node that moves."""
        value = self.padded(layer, value)
        if value.places is None:
            return value
        if not 1 <= len(value.keras) <= 3:
            raise layer.unsupported(
                f"works on a tensor of {len(value.keras)} axes; vectors, signals and images are taken"
            )
        shape = our_shape(value.keras, self.layout)
        places = in_our_axes(value.places, self.layout)
        same = self.whole(value) and bool((places.reshape(-1) == np.arange(places.size)).all())
        if same and shape == value.shape:
            return replace(value, places=None)
        node = self.node(value.node)
        if (
            node.takes_input
            and len(value.shape) == 1
            and self.whole(value)
            and not self.branches
            and len(self.nodes) == 1
        ):
            return self._input_as(layer, value, shape, same)
        if same and node.permutes and self.shapes[node.inputs[0]] == shape:
            return replace(value, node=node.inputs[0], shape=shape, places=None)  # back to what was flattened before
        if same and len(shape) == 1:
            y = self.emit(FloatFlatten, layer, part, (value,))
        else:
            y = self.emit(FloatSelect, layer, part, (value,), places=places)
        return replace(y, keras=value.keras)

    def _input_as(self, layer: Layer, value: Value, shape: tuple[int, ...], same: bool) -> Value:
        """A vector that is an image at once comes in as one."""
        self.nodes.clear()
        self.shapes.clear()
        if not same:
            self.notes.append(f"the input is taken as images {shape} (C, H, W), not as vectors in H, W, C order")
        node = FloatInput(name=value.node, source=f"{layer.kind} {value.node}", shape=shape)
        return replace(self.add(layer, node, len(value.keras)), keras=value.keras)

    def whole(self, value: Value) -> bool:
        """Whether a tensor has every value of its node once."""
        if value.places is None:
            return True
        size = math.prod(value.shape)
        return value.places.size == size and np.bincount(value.places.reshape(-1), minlength=size).max(initial=1) == 1

    def vector(self, layer: Layer, value: Value, part: str = "flat") -> Value:
        """A tensor of one axis as all of a node that is a vector, in an order of its own."""
        value = self.padded(layer, value)
        if not self.whole(value):
            value = self.usual(layer, value)
        if len(value.shape) == 1:
            return value
        places = value_places(value, self.layout)
        return placed(self.emit(FloatFlatten, layer, part, (value,)), places, self.layout)

    def order(self, value: Value) -> np.ndarray | None:
        """Of a vector: position j here is position ``order[j]`` in Keras; None where they are the same."""
        return None if value.places is None else np.argsort(value.places, kind="stable")

    def maps(self, layer: Layer, value: Value) -> Value:
        """The input of a layer that needs channels and positions."""
        if (layer.data_format() or self.layout) != self.layout:
            raise layer.unsupported("channels_first and channels_last are mixed in one network")
        if len(value.keras) != layer.rank + 1:
            needed = "an image" if layer.rank == 2 else "a signal"
            raise ShapeError(f"{layer}: it needs {needed} with channels, its input in Keras is {value.keras}")
        return value if value.image else self.usual(layer, value)

    def weights(self, layer: Layer, expected: Mapping[str, tuple[int | None, ...]]) -> dict[str, np.ndarray]:
        """Take a layer's arrays by role; ``expected`` has the roles in the order of the file, and their shapes."""
        taken = self.shelf.take(layer.path)
        arrays = [a for a in taken if a.role not in _BOOKKEEPING and (a.role or a.real or a.value.ndim)]
        roles = ["kernel" if a.role == "depthwise_kernel" and "kernel" in expected else a.role for a in arrays]
        wanted = list(expected)
        where = {"code": "weights", "where": layer.name}
        if len(arrays) != len(wanted):
            raise ImportRefused(
                f"{layer}: the file has {len(arrays)} arrays for it "
                f"({', '.join(a.path for a in arrays) or 'none'}), {len(wanted)} are needed ({', '.join(wanted)})",
                **where,
            )
        if sorted(roles) == sorted(wanted):
            chosen = dict(zip(roles, arrays, strict=True))
        elif any(role and role not in wanted for role in roles) or len({r for r in roles if r}) < sum(map(bool, roles)):
            raise ImportRefused(
                f"{layer}: its arrays are {', '.join(a.path for a in arrays)}; {', '.join(wanted)} are needed",
                **where,
            )
        else:
            chosen = dict(zip(wanted, arrays, strict=True))
        for role, shape in expected.items():
            found = chosen[role].value.shape
            if len(found) != len(shape) or any(w is not None and w != f for w, f in zip(shape, found, strict=True)):
                wish = ", ".join("any" if n is None else str(n) for n in shape)
                raise ShapeError(
                    f"{layer}: its {role} ({chosen[role].path}) is {found}, the architecture needs ({wish})"
                )
            if not chosen[role].real:
                raise UnsupportedError(
                    f"{layer}: its {role} ({chosen[role].path}) has type {chosen[role].kind}; float16, float32 and "
                    "float64 weights are read (save the network before it is quantised)"
                )
        self._report = {}
        for role, array in chosen.items():
            value = array.value
            entry = {
                "layer": layer.name,
                "role": role,
                "path": array.path,
                "shape": value.shape,
                "dtype": str(value.dtype),
                "min": float(value.min()) if value.size else 0.0,
                "max": float(value.max()) if value.size else 0.0,
                "permutation": "none",
            }
            self.tensors.append(entry)
            self._report[role] = entry
        return {role: array.value for role, array in chosen.items()}

    def report(self, role: str, text: str) -> None:
        entry = self._report[role]
        entry["permutation"] = text if entry["permutation"] == "none" else f"{entry['permutation']}, {text}"

    def spaces(self, layer: Layer, value: Value, kernel, stride, dilation=(1, 1)) -> tuple:
        """Explicit padding of a window layer, pending zeros included."""
        pending = value.pad or ((0, 0), (0, 0))
        if layer.padding() == "valid":
            return pending
        if layer.padding() == "causal":  # every position sees those before it
            (rows, (before, after)) = pending
            return rows, (before + (kernel[1] - 1) * dilation[1], after)
        result = []
        for n, k, s, d, (before, after) in zip(value.shape[1:], kernel, stride, dilation, pending, strict=True):
            n, k = n + before + after, (k - 1) * d + 1
            total = max((-(-n // s) - 1) * s + k - n, 0)
            low = total // 2
            if self.backend == "theano":  # centres the window: half the kernel before, whatever the stride
                low = k // 2
                total = low + max((-(-n // s) - 1) * s + k - n - low, 0)
            result.append((before + low, after + total - low))
        return tuple(result)

    def one(self, layer: Layer, inputs: list[Value]) -> Value:
        if len(inputs) != 1:
            raise layer.bad(f"it has {len(inputs)} inputs; one is needed")
        return inputs[0]
