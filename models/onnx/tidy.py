"""Which nodes can be fewer? Constants become biases, zeros around maps padding; the input has the shape of its use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...network.node import FloatNode, Padding
from .builder import Assembly

__all__ = ["Draft", "tidied"]


class Draft:
    """Nodes under rewriting, in order: those that the output needs.

    Attributes
    ----------
    nodes : dict of str to FloatNode
    readers : dict of str to list of str
        Of each node, the nodes that read it.
    output : str
    """

    def __init__(self, nodes: dict[str, FloatNode], output: str) -> None:
        self.output = output
        self.nodes: dict[str, Any] = _needed(nodes, output)
        self.readers: dict[str, list[str]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for name in node.inputs:
                self.readers[name].append(node.name)

    def bypass(self, name: str) -> None:
        """Take a node out: what reads it reads its input."""
        source = self.nodes.pop(name).inputs[0]
        readers = self.readers.pop(name)
        for other in readers:
            node = self.nodes[other]
            self.nodes[other] = replace(node, inputs=tuple(source if i == name else i for i in node.inputs))
        self.readers[source] = [other for other in self.readers[source] if other != name] + readers
        self.output = source if self.output == name else self.output

    def only_reader(self, name: str) -> str | None:
        """The one node that reads a node, which is not the output; or None."""
        readers = self.readers[name]
        return readers[0] if len(readers) == 1 and name != self.output else None

    def swap(self, first: str, second: str) -> None:
        """Put a node before the one that it alone reads."""
        below = self.nodes[first].inputs[0]
        readers = self.readers[second]
        for other in readers:
            node = self.nodes[other]
            self.nodes[other] = replace(node, inputs=tuple(first if i == second else i for i in node.inputs))
        self.nodes[first] = replace(self.nodes[first], inputs=(second,))
        self.nodes[second] = replace(self.nodes[second], inputs=(below,))
        self.readers[below] = [second if other == first else other for other in self.readers[below]]
        self.readers[first], self.readers[second] = readers, [first]
        self.output = first if self.output == second else self.output

    def sorted(self) -> tuple[FloatNode, ...]:
        """The nodes that the output needs, each behind those that it reads."""
        order: dict[str, FloatNode] = {}
        todo = [next(name for name, node in self.nodes.items() if node.takes_input), self.output]
        todo.reverse()
        while todo:
            name = todo[-1]
            missing = [each for each in self.nodes[name].inputs if each not in order]
            if missing:
                todo += missing[::-1]
            else:
                order.setdefault(name, self.nodes[todo.pop()])
        return tuple(order.values())


def _needed(nodes: dict[str, FloatNode], output: str) -> dict[str, FloatNode]:
    wanted, kept = {output}, []
    for name, node in reversed(list(nodes.items())):
        if name in wanted or node.takes_input:
            wanted.update(node.inputs)
            kept.append((name, node))
    return dict(reversed(kept))


def tidied(b: Assembly, output: str) -> Draft:
    """The nodes that `output` needs, with fewer of them."""
    draft = Draft(b.nodes, output)
    for name in list(draft.nodes):
        node = draft.nodes[name]
        if node.scales:
            _bias(draft, name)
        elif node.moves_only and hasattr(node, "places"):
            _padding(b, draft, name)
    _input(b, draft)
    return draft


def _bias(draft: Draft, name: str) -> None:
    """A constant that is added to what a layer without a bias computes becomes its bias."""
    node = draft.nodes[name]
    source = draft.nodes[node.inputs[0]]
    plain = node.epsilon == 0 and (node.gamma == 1).all() and (node.variance == 1).all() and not node.mean.any()
    if plain and source.weighted and source.bias is None and draft.only_reader(source.name) == name:
        draft.nodes[source.name] = replace(source, bias=node.beta.astype(source.weight.dtype))
        draft.bypass(name)


def _padding(b: Assembly, draft: Draft, name: str) -> None:
    """Zeros around maps that convolutions alone read become their padding."""
    node, readers = draft.nodes[name], draft.readers[name]
    sides = _around(node.places, b.shapes[node.inputs[0]])
    convolutions = all(draft.nodes[other].weighted and draft.nodes[other].rank == 4 for other in readers)
    if sides is None or not convolutions or not readers:
        return
    (top, bottom), (left, right) = sides
    for other in readers:
        (a, c), (d, e) = draft.nodes[other].padding
        draft.nodes[other] = replace(draft.nodes[other], padding=((a + top, c + bottom), (d + left, e + right)))
    draft.bypass(name)


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


def _input(b: Assembly, draft: Draft) -> None:
    """The input is taken in the shape that the only node behind it gives it."""
    name = next(name for name, node in draft.nodes.items() if node.takes_input)
    only = draft.only_reader(name)
    reader = draft.nodes[only] if only else None
    if reader is None or not reader.moves_only or not hasattr(reader, "places") or reader.name == draft.output:
        return
    places, shape = reader.places, draft.nodes[name].shape
    if places.size == int(np.prod(shape)) and np.array_equal(places.reshape(-1), np.arange(places.size)):
        b.note(f"the input {shape} is taken as {places.shape}, the shape in which it is used")
        draft.nodes[name] = replace(draft.nodes[name], shape=places.shape)
        draft.bypass(reader.name)
