"""Bring a float network to the form that converts: linear layers, ReLUs, pools, flattens and adds.

Every rewrite keeps the function: BatchNorm is folded per channel, a final softmax is dropped (argmax does
not see it), a ReLU behind a max-pool moves before it (both are monotone).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import UnsupportedError
from ..formats.arguments import instance
from ..network.float_nodes import FloatConv2d
from ..network.floating import FloatNetwork
from ..network.node import FloatNode

__all__ = ["fold"]


class _Graph:
    """A float network under rewriting: nodes by name in topological order."""

    def __init__(self, network: FloatNetwork) -> None:
        self.nodes: dict[str, Any] = {node.name: node for node in network.nodes}
        self.output = network.output
        self.network = network

    def readers(self, name: str) -> list[str]:
        return [node.name for node in self.nodes.values() if name in node.inputs]

    def drop(self, name: str) -> None:
        """Remove a node with one input; its readers read that input."""
        source = self.nodes.pop(name).inputs[0]
        for other in self.readers(name):
            node = self.nodes[other]
            self.nodes[other] = replace(node, inputs=tuple(source if i == name else i for i in node.inputs))
        if self.output == name:
            self.output = source

    def build(self) -> FloatNetwork:
        """The rewritten network, sorted again."""
        order: list[FloatNode] = []
        done: set[str] = set()
        while len(order) < len(self.nodes):
            for name, node in self.nodes.items():
                if name not in done and set(node.inputs) <= done:
                    order.append(node)
                    done.add(name)
        return FloatNetwork(tuple(order), self.output, self.network.metadata)


def fold(network: FloatNetwork) -> FloatNetwork:
    """`network` with BatchNorm folded, softmax dropped and ReLUs in front of max-pools.

    Raises
    ------
    UnsupportedError
        For a graph that has no spiking form, naming the layer and why.
    """
    graph = _Graph(instance(network, "network", FloatNetwork))
    for name in list(graph.nodes):
        node = graph.nodes[name]
        if node.orders:
            if name != graph.output:
                raise UnsupportedError(
                    f"layer {name!r}: a softmax inside the network has no integer form; only at the end"
                )
            graph.drop(name)
    for name in list(graph.nodes):
        if graph.nodes[name].scales:
            _raise_pools(graph, name)
    for name in list(graph.nodes):
        if graph.nodes[name].scales:
            _fold_batch_norm(graph, name)
    for name in list(graph.nodes):
        if _clips(graph.nodes[name]):
            _raise_relu(graph, name)
    for name in list(graph.nodes):
        if name in graph.nodes and _clips(graph.nodes[name]):
            _drop_second_relu(graph, name)
    for node in graph.nodes.values():
        if node.chooses and not _spikes(graph, node.inputs[0]):
            raise UnsupportedError(
                f"layer {node.name!r}: a max-pool of values without a ReLU has no spiking form; put a ReLU before or "
                "behind it"
            )
        if reason := node.no_integers():
            raise UnsupportedError(f"layer {node.name!r}: {reason}")
    return graph.build()


def _fold_batch_norm(graph: _Graph, name: str) -> None:
    norm = graph.nodes[name]
    source = graph.nodes[norm.inputs[0]]
    scale, shift = norm.scale_shift()
    if source.weighted and len(graph.readers(source.name)) == 1:
        weight = source.weight.astype(np.float64) * scale.reshape(-1, *(1,) * (source.weight.ndim - 1))
        bias = shift if source.bias is None else source.bias.astype(np.float64) * scale + shift
        graph.nodes[source.name] = replace(source, weight=weight, bias=bias)
        graph.drop(name)
        return
    readers = graph.readers(name)
    if len(graph.network.shapes[name]) == 3:  # its own 1x1 depthwise convolution
        graph.nodes[name] = FloatConv2d(
            name=name, inputs=norm.inputs, source=norm.source, weight=scale.reshape(-1, 1, 1, 1), bias=shift,
            groups=scale.shape[0],
        )  # fmt: skip
    elif len(readers) == 1 and graph.nodes[readers[0]].weighted and graph.nodes[readers[0]].rank == 2:  # dense
        reader = graph.nodes[readers[0]]
        weight = reader.weight.astype(np.float64)
        bias = weight @ shift + (0 if reader.bias is None else reader.bias.astype(np.float64))
        graph.nodes[reader.name] = replace(reader, weight=weight * scale, bias=bias)
        graph.drop(name)
    else:
        raise UnsupportedError(
            f"layer {name!r}: this BatchNormalization follows no linear layer and feeds no single dense layer; "
            "it cannot be folded"
        )


def _raise_pools(graph: _Graph, name: str) -> None:
    """Move max-pools from behind a BatchNorm of spikes to before it: where it never falls, both orders are one."""
    norm = graph.nodes[name]
    while _spikes(graph, norm.inputs[0]) and (norm.scale_shift()[0] >= 0).all():
        readers = graph.readers(name)
        pool = graph.nodes[readers[0]] if len(readers) == 1 and name != graph.output else None
        if pool is None or not pool.chooses:
            return
        for other in graph.readers(pool.name):
            node = graph.nodes[other]
            graph.nodes[other] = replace(node, inputs=tuple(name if i == pool.name else i for i in node.inputs))
        if graph.output == pool.name:
            graph.output = name
        graph.nodes[pool.name] = replace(pool, inputs=norm.inputs)
        norm = graph.nodes[name] = replace(norm, inputs=(pool.name,))


def _raise_relu(graph: _Graph, name: str) -> None:
    """Move a ReLU from behind a max-pool to before it."""
    relu = graph.nodes[name]
    pool = graph.nodes[relu.inputs[0]]
    while pool.chooses and not _spikes(graph, pool.inputs[0]):
        if len(graph.readers(pool.name)) != 1:
            raise UnsupportedError(
                f"layer {pool.name!r}: a max-pool of values without a ReLU feeds more than the ReLU {name!r}"
            )
        below = pool.inputs[0]
        readers = graph.readers(name)
        for other in readers:
            node = graph.nodes[other]
            graph.nodes[other] = replace(node, inputs=tuple(pool.name if i == name else i for i in node.inputs))
        if graph.output == name:
            graph.output = pool.name
        relu = replace(relu, inputs=(below,))
        graph.nodes[name] = relu
        graph.nodes[pool.name] = replace(pool, inputs=(name,))
        pool = graph.nodes[below]


def _drop_second_relu(graph: _Graph, name: str) -> None:
    """A ReLU of what is already between 0 and its limit changes nothing."""
    relu = graph.nodes[name]
    source = graph.nodes[relu.inputs[0]]
    while source.passive:
        source = graph.nodes[source.inputs[0]]
    if _clips(source) and (
        relu.max_value is None or (source.max_value is not None and source.max_value <= relu.max_value)
    ):
        graph.drop(name)


def _spikes(graph: _Graph, name: str) -> bool:
    """Whether the values of `name` are spike counts or input codes (not sums of products)."""
    node = graph.nodes[name]
    if node.chooses or node.permutes:
        return _spikes(graph, node.inputs[0])
    return _clips(node) or node.takes_input


def _clips(node: FloatNode) -> bool:
    """Whether it is an activation that has no levels yet."""
    return node.activates and not node.quantised
