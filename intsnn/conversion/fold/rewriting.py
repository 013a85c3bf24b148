"""A float network under rewriting: nodes by name, whose readers and inputs can be changed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from ...errors import UnsupportedError
from ...network.float_moves import FloatSelect
from ...network.float_nodes import FloatConv2d
from ...network.floating import FloatNetwork
from ...network.node import FloatNode

__all__ = ["Rewriting", "clips", "is_counts", "is_spikes", "scaled_by_itself"]


class Rewriting:
    """Nodes by name in topological order, or near it: `build` sorts them again.

    With `collects` what has no integer form is noted in `refused`, layer and reason, and rewriting goes on as if it had
    one; without it ends in an `UnsupportedError`.
    """

    def __init__(self, network: FloatNetwork, collects: bool = False) -> None:
        self.nodes: dict[str, Any] = {node.name: node for node in network.nodes}
        self.output = network.output
        self.network = network
        self.refused: list[tuple[str, str]] | None = [] if collects else None

    def refuse(self, name: str, reason: str) -> None:
        """Note that the layer `name` has no integer form, or raise."""
        if self.refused is None:
            raise UnsupportedError(f"layer {name!r}: {reason}")
        self.refused.append((name, reason))

    def readers(self, name: str) -> list[str]:
        """Names of the nodes that read `name`."""
        return [node.name for node in self.nodes.values() if name in node.inputs]

    def reroute(self, readers: Iterable[str], old: str, new: str) -> None:
        """Let `readers` read `new` where they read `old`."""
        for other in readers:
            node = self.nodes[other]
            self.nodes[other] = replace(node, inputs=tuple(new if name == old else name for name in node.inputs))

    def drop(self, name: str) -> None:
        """Remove a node with one input; its readers read that input."""
        source = self.nodes.pop(name).inputs[0]
        self.reroute(self.readers(name), name, source)
        if self.output == name:
            self.output = source

    def put(self, node: FloatNode) -> str:
        """Add a node under its name, or that name with a number where there is one already; the name it got."""
        name, count = node.name, 1
        while name in self.nodes:
            count += 1
            name = f"{node.name}_{count}"
        self.nodes[name] = node if name == node.name else replace(node, name=name)
        return name

    def build(self) -> FloatNetwork:
        """The rewritten network, sorted again, without what nothing reads any more."""
        needed, waiting = set(), [self.output]
        while waiting:
            name = waiting.pop()
            if name not in needed:
                needed.add(name)
                waiting += self.nodes[name].inputs
        order: list[FloatNode] = []
        done: set[str] = set()
        while len(order) < len(needed):
            for name, node in self.nodes.items():
                if name in needed and name not in done and set(node.inputs) <= done:
                    order.append(node)
                    done.add(name)
        return FloatNetwork(tuple(order), self.output, self.network.metadata)


def clips(node: FloatNode) -> bool:
    """Whether it is an activation that has no levels yet."""
    return node.activates and not node.quantised


def is_spikes(draft: Rewriting, name: str) -> bool:
    """Whether the values of `name` are spike counts or input codes, each as it was (not sums)."""
    node = draft.nodes[name]
    if node.chooses or node.moves_only or node.gathers or node.negates:
        return all(is_spikes(draft, source) for source in node.inputs)
    return clips(node) or node.takes_input


def is_counts(draft: Rewriting, name: str) -> bool:
    """Whether the values of `name` are made of spike counts or input codes, moved and added up."""
    node = draft.nodes[name]
    if node.passive or node.gathers or node.joins or node.negates:
        return all(is_counts(draft, source) for source in node.inputs)
    return clips(node) or node.takes_input


def scaled_by_itself(draft: Rewriting, name: str) -> None:
    """Write a BatchNorm as a 1x1 convolution of each channel by itself; values of a vector become channels and back."""
    norm, shape = draft.nodes[name], draft.network.shapes[name]
    (scale, shift), inputs, flat = norm.scale_shift(), norm.inputs, len(shape) == 1
    places = np.arange(shape[0])
    if flat:
        inputs = (draft.put(FloatSelect(name=f"{name}/channels", inputs=inputs, places=places.reshape(-1, 1, 1))),)
    own = FloatConv2d(
        name=f"{name}/scale" if flat else name, inputs=inputs, source=norm.source, weight=scale.reshape(-1, 1, 1, 1),
        bias=shift, groups=len(scale),
    )  # fmt: skip
    draft.nodes[name] = FloatSelect(name=name, inputs=(draft.put(own),), places=places) if flat else own
