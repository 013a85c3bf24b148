"""How do tensors of Keras become tensors here? Nodes are collected, and with them all that is known about axes.

Everything about axes is settled here and in ``keras_layers``: kernels become ``(O, I, kh, kw)`` cross-correlations,
images ``(C, H, W)``, and the rows of a dense layer after a flatten follow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...errors import ImportRefused, ShapeError
from ...network.float_nodes import FloatConv2d, FloatReLU, FloatSoftmax
from ...network.node import FloatNode
from .files import Source
from .graph import Layer

__all__ = ["MAX_VALUES", "Builder", "Value"]

MAX_VALUES = 1 << 24  # of one layer's output for one sample


@dataclass(frozen=True, eq=False)
class Value:
    """What a Keras tensor is here."""

    node: str
    shape: tuple[int, ...]  # (C, H, W) or (N,)
    order: np.ndarray | None = None  # vectors: position j here is position order[j] in Keras
    pad: tuple | None = None  # zeros still to be put around an image, ((top, bottom), (left, right))
    grid: bool = False  # an input of rank 2 in Keras, (H, W) without channels

    @property
    def image(self) -> bool:
        return len(self.shape) == 3


class Builder:
    """Nodes so far, and what was taken from the file for them.

    Attributes
    ----------
    nodes, shapes : list of FloatNode, dict of str to tuple
        Nodes in order, and the output shape of each for one sample.
    tensors, notes : list of dict, list of str
        What was read and done to its axes; remarks for the user.
    used : set of str
        Groups of the file whose arrays were taken.
    """

    def __init__(self, source: Source, backend: str | None, layout: str, groups: dict[str, str]) -> None:
        self.source, self.backend, self.layout, self.groups = source, backend, layout, groups
        self.nodes: list[FloatNode] = []
        self.tensors: list[dict] = []
        self.notes: list[str] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.used: set[str] = set()
        self._report: dict[str, dict] = {}  # entries of `tensors` by role, for the layer at hand

    def emit(self, cls: type[FloatNode], layer: Layer, part: str, inputs: Sequence[str], **options: Any) -> Value:
        name = base = f"{layer.name}/{part}" if part else layer.name
        count = 1
        while part and name in self.shapes:
            count += 1
            name = f"{base}_{count}"
        node = cls(name=name, inputs=tuple(inputs), source=f"{layer.kind} {layer.name}", **options)
        shape = node.output_shape([self.shapes[n] for n in inputs])
        if math.prod(shape) > MAX_VALUES:
            raise layer.bad(f"its output {shape} is too large")
        self.nodes.append(node)
        self.shapes[name] = shape
        return Value(name, shape)

    def node(self, name: str) -> FloatNode:
        return next(node for node in self.nodes if node.name == name)

    def padded(self, layer: Layer, value: Value) -> Value:
        """Put pending zeros around an image by a 1x1 convolution that copies each channel."""
        if value.pad is None:
            return value
        ones = np.ones((value.shape[0], 1, 1, 1), np.float32)
        inputs = (value.node,)
        return self.emit(FloatConv2d, layer, "pad", inputs, weight=ones, padding=value.pad, groups=value.shape[0])

    def weights(self, layer: Layer, expected: Mapping[str, tuple[int | None, ...]]) -> dict[str, np.ndarray]:
        """Take a layer's arrays by role; ``expected`` has the roles in the order of the file, and their shapes."""
        group = self.groups[layer.name]
        arrays = self.source.weights.get(group, [])
        self.used.add(group)
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

    def check_layout(self, layer: Layer, value: Value) -> None:
        if not value.image or value.grid:
            raise ShapeError(f"{layer}: it needs an image with channels, not a vector")
        if (layer.data_format() or self.layout) != self.layout:
            raise layer.unsupported("channels_first and channels_last are mixed in one network")

    def spaces(self, layer: Layer, value: Value, kernel, stride, dilation=(1, 1)) -> tuple:
        """Explicit padding of a window layer, pending zeros included."""
        pending = value.pad or ((0, 0), (0, 0))
        if layer.padding() == "valid":
            return pending
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

    def activate(self, layer: Layer, value: Value, name: str | None = None) -> Value:
        name = name or layer.activation()
        if name == "linear":
            return value
        if name not in ("relu", "relu6", "softmax"):
            raise layer.unsupported(
                f"activation {name!r} has no integer spiking counterpart; relu, relu6, linear, and softmax at "
                "the end are taken"
            )
        value = self.padded(layer, value)
        if name == "softmax":
            if value.image and value.shape[1:] != (1, 1):
                raise layer.unsupported("softmax over an image; it is taken over a vector at the end")
            result = self.emit(FloatSoftmax, layer, self._part(layer, name), (value.node,))
        else:
            limit = 6.0 if name == "relu6" else None
            result = self.emit(FloatReLU, layer, self._part(layer, name), (value.node,), max_value=limit)
        return replace(result, order=value.order, grid=value.grid)

    def _part(self, layer: Layer, part: str) -> str:
        return "" if layer.name not in self.shapes else part

    def one(self, layer: Layer, inputs: list[Value]) -> Value:
        if len(inputs) != 1:
            raise layer.bad(f"it has {len(inputs)} inputs; one is needed")
        return inputs[0]
