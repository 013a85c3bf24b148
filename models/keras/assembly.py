"""How is a network put together from a configuration and the arrays of a file? Or what all stands against it?"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...errors import ImportRefused, IntsnnError, UnsupportedError
from ...network.float_moves import FloatSelect
from ...network.float_nodes import FloatFlatten
from ...network.floating import FloatNetwork
from .architecture import ModelGraph, graph_of
from .axes import MAX_VALUES, Value, our_shape
from .builder import Builder
from .entrance import entrance, layout_of
from .files import Source
from .graph import Layer
from .guess import plausible
from .layers.operators import operates, operator
from .layers.table import BUILDERS, REASONS
from .weights import Shelf

__all__ = ["assembled", "reading_problems"]


def assembled(source: Source, backend: str | None, given: Sequence[int] | None) -> FloatNetwork:
    """The network in `source`; raises for the first thing in it that cannot be read."""
    return _Assembly(source, backend, given).network()


def reading_problems(source: Source, backend: str | None, given: Sequence[int] | None) -> list[str]:
    """Everything in `source` that cannot be read, a sentence each; empty if it can."""
    found: list[str] = []
    try:
        _Assembly(source, backend, given, found).network()
    except IntsnnError as error:
        if str(error) not in found:
            found.append(str(error))
    return found


class _Assembly:
    """`found` collects what is wrong with layers; None: the first raises."""

    def __init__(
        self, source: Source, backend: str | None, given: Sequence[int] | None, found: list[str] | None = None
    ) -> None:
        config = source.config
        self.source, self.given, self.found = source, given, found
        self.version = source.keras_version or config.get("keras_version")
        told = source.backend or config.get("backend")
        self.backend = backend or (told if isinstance(told, str) else None) or _only_backend(self.version)
        self.architecture: ModelGraph = graph_of(config, source.label)
        layers = self.architecture.layers
        entrances = {layer.name for layer in layers if layer.kind == "InputLayer"}
        readers = sum(name in entrances for layer in layers for name in layer.inbound)
        self.shelf = Shelf(source, self.architecture.listed)
        self.b = Builder(self.shelf, self.backend, layout_of(layers, self.backend), readers > 1)
        self.values: dict[str, Value] = {}

    def network(self) -> FloatNetwork:
        for layer in self.architecture.layers:
            before = len(self.b.nodes)
            try:
                self._read(layer)
            except IntsnnError as error:
                if self.found is None:
                    raise
                self.found.append(str(error))
                self._stand_in(layer, before)
        output = self.architecture.output
        if self.found:
            raise UnsupportedError(self.found[0])
        last = next(layer for layer in self.architecture.layers if layer.name == output)
        result = _finish(self.b, self.values[output], last)
        if group := self.shelf.left():
            raise ImportRefused(
                f"{self.source.label}: the file has weights for {group!r}, which the architecture does not use",
                code="weights",
                where=group,
            )
        metadata = {
            "format": self.source.format,
            "keras_version": self.version if isinstance(self.version, str) else None,
            "backend": self.backend,
            "source": os.path.basename(self.source.label),
            "source_sha256": self.source.sha256,
            "tensors": self.b.tensors,
            "notes": self.b.notes,
        }
        return FloatNetwork(tuple(self.b.nodes), result.node, metadata)

    def _read(self, layer: Layer) -> None:
        """Append what a layer becomes; behind one that has no value only the layer itself is looked at."""
        b, layers = self.b, self.architecture.layers
        if layer.kind == "InputLayer":
            if any(node.takes_input for node in b.nodes):
                raise layer.unsupported("a second input; exactly one is taken")
            self.values[layer.name] = entrance(b, layer, layers, self.given, None)
            return
        _check(layer)
        if any(name not in self.values for name in layer.inbound):
            return
        if layer.inbound:
            inputs = [self.values[name] for name in layer.inbound]
        elif not b.nodes and layer is layers[0]:
            kernel = self.shelf.arrays(layer.path)
            features = kernel[0].value.shape[0] if layer.kind == "Dense" and kernel and kernel[0].value.ndim else None
            inputs = [entrance(b, layer, layers, self.given, features)]
        else:
            raise layer.bad("it has no input")
        builder = operator if operates(layer) else BUILDERS[layer.kind]
        self.values[layer.name] = builder(b, layer, inputs)

    def _stand_in(self, layer: Layer, before: int) -> None:
        """Give a layer that cannot be read a value of a plausible shape, if one can be told."""
        b = self.b
        inputs = [self.values[name] for name in layer.inbound if name in self.values]
        if len(b.nodes) > before and b.last is not None and not b.nodes[-1].takes_input:
            self.values[layer.name] = b.last  # its activation is what cannot be read
            return
        keras = plausible(layer.kind, layer.config, [value.keras for value in inputs], b.layout)
        if keras is None or not 1 <= len(keras) <= 3 or int(np.prod(keras, dtype=object)) > MAX_VALUES:
            return
        node = FloatSelect(
            name=b.name(layer, "unread"), inputs=(inputs[0].node,), places=np.full(our_shape(keras, b.layout), -1)
        )
        self.values[layer.name] = b.add(layer, node, len(keras))


def _check(layer: Layer) -> None:
    """Raise for a layer that cannot be read, whatever comes into it."""
    if layer.fault is not None:
        raise layer.fault
    if operates(layer):
        return
    if layer.kind not in BUILDERS:
        why = REASONS.get(layer.kind, f"the layers that can be taken are {', '.join(sorted(BUILDERS))}")
        raise layer.unsupported(f"is not supported: {why}")
    policy = layer.get("dtype")
    if isinstance(policy, dict) and "Quantized" in str(policy.get("class_name")):
        raise layer.unsupported("quantised by Keras; save the network before it is quantised")
    if layer.complaint:
        raise layer.unsupported(layer.complaint)


def _only_backend(version: Any) -> str | None:
    """Keras 2.4 and later 2.x ran on TensorFlow alone, and nothing since runs on Theano."""
    match = re.match(r"(\d+)\.(\d+)", version) if isinstance(version, str) else None
    return "tensorflow" if match and (int(match[1]), int(match[2])) >= (2, 4) else None


def _finish(b: Builder, value: Value, layer: Layer) -> Value:
    """The result: classes in the order of Keras, or maps."""
    value = b.usual(layer, value)
    if value.image and value.shape[1:] == (1, 1):
        value = b.emit(FloatFlatten, layer, "classes", (value,))
    behind = {value.node}
    for node in reversed(b.nodes):
        if node.orders and node.name not in behind:
            raise UnsupportedError(
                f"layer {node.name!r} ({node.source}): softmax and sigmoid are only taken at the end, where nothing "
                "but the order of the values counts; train with relu in between"
            )
        if node.name in behind and node.moves_only:
            behind.update(node.inputs)
    return value
