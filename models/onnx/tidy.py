"""Which nodes can be fewer? Constants become biases, zeros around maps padding; the input has the shape of its use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...network.node import FloatNode, Padding
from .builder import Assembly

__all__ = ["tidied"]


def tidied(b: Assembly, output: str) -> tuple[list[FloatNode], str]:
    """The nodes that `output` needs, with fewer of them, and the name of the output."""
    nodes: dict[str, Any] = _needed(b.nodes, output)
    readers: dict[str, list[str]] = {name: [] for name in nodes}
    for node in nodes.values():
        for name in node.inputs:
            readers[name].append(node.name)
    for name in list(nodes):
        node = nodes[name]
        if node.scales:
            output = _bias(nodes, readers, name, output)
        elif node.moves_only and hasattr(node, "places"):
            output = _padding(b, nodes, readers, name, output)
    _input(b, nodes, readers, output)
    return list(_needed(nodes, output).values()), output


def _needed(nodes: dict[str, FloatNode], output: str) -> dict[str, FloatNode]:
    wanted, kept = {output}, []
    for name, node in reversed(list(nodes.items())):
        if name in wanted or node.takes_input:
            wanted.update(node.inputs)
            kept.append((name, node))
    return dict(reversed(kept))


def _bypass(nodes: dict[str, Any], readers: dict[str, list[str]], name: str, output: str) -> str:
    """Take a node out: what reads it reads its input; the name of the output then."""
    source = nodes.pop(name).inputs[0]
    for other in readers[name]:
        nodes[other] = replace(nodes[other], inputs=tuple(source if i == name else i for i in nodes[other].inputs))
    readers[source] = [other for other in readers[source] if other != name] + readers.pop(name)
    return source if output == name else output


def _bias(nodes: dict[str, Any], readers: dict[str, list[str]], name: str, output: str) -> str:
    """A constant that is added to what a layer without a bias computes becomes its bias."""
    node = nodes[name]
    source = nodes[node.inputs[0]]
    plain = node.epsilon == 0 and (node.gamma == 1).all() and (node.variance == 1).all() and not node.mean.any()
    if not plain or not source.weighted or source.bias is not None or readers[source.name] != [name]:
        return output
    nodes[source.name] = replace(source, bias=node.beta.astype(source.weight.dtype))
    return _bypass(nodes, readers, name, output)


def _padding(b: Assembly, nodes: dict[str, Any], readers: dict[str, list[str]], name: str, output: str) -> str:
    """Zeros around maps that convolutions alone read become their padding."""
    node = nodes[name]
    sides = _around(node.places, b.shapes[node.inputs[0]])
    convolutions = all(nodes[other].weighted and nodes[other].rank == 4 for other in readers[name])
    if sides is None or not convolutions or not readers[name]:
        return output
    (top, bottom), (left, right) = sides
    for other in readers[name]:
        (a, c), (d, e) = nodes[other].padding
        nodes[other] = replace(nodes[other], padding=((a + top, c + bottom), (d + left, e + right)))
    return _bypass(nodes, readers, name, output)


def _around(places: np.ndarray, shape: tuple[int, ...]) -> Padding | None:
    """Zeros at ``((top, bottom), (left, right))`` of maps of `shape`, where `places` are that and no more."""
    if places.ndim != 3 or len(shape) != 3 or places.shape[0] != shape[0]:
        return None
    inside = places[0] >= 0
    if not inside.any():
        return None
    top, left = int(inside.any(axis=1).argmax()), int(inside.any(axis=0).argmax())
    bottom, right = places.shape[1] - shape[1] - top, places.shape[2] - shape[2] - left
    if min(top, bottom, left, right) < 0:
        return None
    plain = np.arange(int(np.prod(shape))).reshape(shape)
    wanted = np.pad(plain, ((0, 0), (top, bottom), (left, right)), constant_values=-1)
    return ((top, bottom), (left, right)) if np.array_equal(places, wanted) else None


def _input(b: Assembly, nodes: dict[str, Any], readers: dict[str, list[str]], output: str) -> None:
    """The input is taken in the shape that the only node behind it gives it."""
    name = next(name for name, node in nodes.items() if node.takes_input)
    reader = nodes[readers[name][0]] if len(readers[name]) == 1 else None
    if reader is None or not reader.moves_only or not hasattr(reader, "places") or reader.name == output:
        return
    places = reader.places
    if places.size == int(np.prod(nodes[name].shape)) and np.array_equal(places.reshape(-1), np.arange(places.size)):
        b.note(f"the input {nodes[name].shape} is taken as {places.shape}, the shape in which it is used")
        nodes[name] = replace(nodes[name], shape=places.shape)
        _bypass(nodes, readers, reader.name, output)
