"""What did rounding the multipliers of joins and readouts change? The quantised ANN with those factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ...network.float_nodes import FloatConv2d
from ...network.floating import FloatNetwork
from ...network.node import FloatNode

__all__ = ["with_factors"]


def with_factors(
    graph: FloatNetwork, made: Mapping[str, Any], joins: Mapping[str, np.ndarray], shortened: Mapping[str, np.ndarray]
) -> FloatNetwork:
    """The quantised ANN `graph` with the rounded factors of its branches.

    `made`: the integer layers, whose codes are taken; `joins`: connection or branch to its real factor (C,);
    `shortened`: connection to what its codes were divided by (C,).
    """
    nodes: list[FloatNode] = []
    node: Any
    for node in graph.nodes:
        if node.joins:
            inputs = []
            for i, name in enumerate(node.inputs):
                factor = joins.get(f"{node.name}_scale_{i}")
                if factor is not None and len(graph.shapes[name]) == 3:
                    extra = f"{node.name}_scale_{i}"
                    nodes.append(
                        FloatConv2d(name=extra, inputs=(name,), weight=factor.reshape(-1, 1, 1, 1), groups=len(factor))
                    )
                    name = extra
                inputs.append(name)
            node = replace(node, inputs=tuple(inputs))
        elif node.weighted and node.name in joins:
            codes = made[node.name].weight  # shortened and emptied, perhaps
            scale = node.scale * shortened.get(node.name, 1.0) * joins[node.name]
            node = replace(node, codes=codes, scale=scale, weight=None)
        nodes.append(node)
    return FloatNetwork(tuple(nodes), graph.output, graph.metadata)
