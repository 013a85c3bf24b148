"""Rounding weights so that later ones make up for earlier ones: what few bits need where nothing is trained.

Nearest codes minimise the error of each weight. What counts is the error of the sums: here each layer in turn looks at
the inputs that it gets from the layers quantised before it, takes the weights that would give the sums of the
unquantised network from those, rounds them one input after the other (the error of each is spread over the inputs
that are still to come, by the covariance of the inputs), and fits scale and bias to the sums at the end.

Source: E. Frantar, D. Alistarh, "Optimal Brain Compression", NeurIPS 2022, and E. Frantar et al., "GPTQ", ICLR 2023,
for the rounding; target and fit are our own additions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..network.floating import FloatNetwork, block_size
from .weights import Width, quantise_weights, quantised_node

__all__ = ["compensate"]

SAMPLES = 1000  # of the calibration data
LEAST = 64  # samples, whatever memory they take
MEMORY = 1 << 30  # bytes of the values of a layer and the one before, of two networks
ROWS = 20_000  # positions of a convolution that are looked at
DAMPING = 0.01  # of the mean variance of the inputs, added to each
LARGEST = 4096  # inputs of an output; a layer with more keeps its nearest codes


def compensate(
    network: FloatNetwork, inputs: np.ndarray, widths: Mapping[str, Width], correct_bias: bool = True
) -> FloatNetwork:
    """`network` with its convolutions and dense layers rounded, one after the other.

    Parameters
    ----------
    network : FloatNetwork
        Weights not quantised; activations may be.
    inputs : (N, *shape) float
        Calibration samples, scaled.
    widths : mapping of layer name to Width
        Of every convolution and dense layer.
    correct_bias : bool
        Fit the biases, too; else they stay as they are.
    """
    cells = max(int(np.prod(shape, dtype=object)) for shape in network.shapes.values())
    x = inputs[: max(LEAST, min(SAMPLES, MEMORY // (4 * 4 * cells)))].astype(np.float32)
    last_use = {name: node.name for node in network.nodes for name in node.inputs}
    batch = block_size(network, x.itemsize)
    exact: dict[str, np.ndarray] = {}  # values of the unquantised network, and those that the quantised one gives
    found: dict[str, np.ndarray] = {}
    nodes = []
    node: Any
    for node in network.nodes:
        made = node
        if node.weighted:
            wanted, seen = (node.rows(values[node.inputs[0]], ROWS) for values in (exact, found))
            made = _layer(node, wanted, seen, widths[node.name], correct_bias)
        nodes.append(made)
        for values, one in ((exact, node), (found, made)):
            values[node.name] = _apply(one, [values[name] for name in node.inputs] or [x], batch)
            for name in set(node.inputs):
                if last_use[name] == node.name:
                    del values[name]
    return FloatNetwork(tuple(nodes), network.output, network.metadata)


def _apply(node, arrays: list[np.ndarray], batch: int) -> np.ndarray:
    """Value of one node, some samples at a time."""
    count = len(arrays[0])
    return np.concatenate([node.apply([a[i : i + batch] for a in arrays]) for i in range(0, count, batch)])


def _layer(node, exact: np.ndarray, found: np.ndarray, width: Width, correct_bias: bool):
    """The quantised node; `exact` are inputs of the unquantised network, `found` those that it will really get."""
    outputs, groups = node.weight.shape[0], exact.shape[1]
    weight = node.weight.astype(np.float64).reshape(groups, outputs // groups, -1)
    wanted = _sums(exact, weight)  # (rows, groups, outputs of a group)
    # a bias takes up every mean, so only what varies about it is left to the weights
    x = found - found.mean(axis=0) if correct_bias else found
    missing = wanted - wanted.mean(axis=0) if correct_bias else wanted
    spreads = []
    if found.shape[2] <= LARGEST:
        for g in range(groups):
            spread = x[:, g].T @ x[:, g] / len(x)
            spread[np.diag_indices_from(spread)] += DAMPING * np.diag(spread).mean() or 1.0
            lacking = x[:, g].T @ (missing[:, g] - x[:, g] @ weight[g].T) / len(x)
            weight[g] += np.linalg.solve(spread, lacking).T
            spreads.append(spread)
    codes, scale = quantise_weights(weight.reshape(outputs, -1), width.bits, width.per_channel)
    codes, steps = codes.reshape(weight.shape), scale.reshape(groups, -1)
    for g, spread in enumerate(spreads):
        codes[g] = _round(weight[g], spread, steps[g], width.bits)
    answers = _sums(found, codes.astype(np.float64))
    scale = _fit(wanted, answers, steps, width.per_channel, correct_bias).reshape(outputs)
    bias = node.bias
    if correct_bias:
        shift = wanted.mean(axis=0).reshape(outputs) - scale * answers.mean(axis=0).reshape(outputs)
        bias = shift if bias is None else bias.astype(np.float64) + shift
    node = replace(node, bias=bias)
    return quantised_node(node, codes.reshape(node.weight.shape), scale, width.bits)


def _sums(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """``(rows, groups, inputs)`` by ``(groups, outputs, inputs)``: ``(rows, groups, outputs)``."""
    return np.stack([rows[:, g] @ weight[g].T for g in range(len(weight))], axis=1)


def _round(weight: np.ndarray, spread: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    """Codes of ``(outputs, inputs)`` weights, input after input, the one that varies most first.

    The error of a weight is taken up by the inputs that are still to come, as far as they vary with it: by the rows of
    the Cholesky factor of the inverse of `spread`.
    """
    order = np.argsort(-np.diag(spread), kind="stable")
    weight = weight[:, order].copy()
    factor = np.linalg.cholesky(np.linalg.inv(spread[np.ix_(order, order)])).T
    top = (1 << (bits - 1)) - 1
    codes = np.empty(weight.shape, np.int64)
    for i, column in enumerate(order):
        now = weight[:, i]
        code = np.where(now >= 0, 1, -1) if bits == 1 else np.clip(np.floor(now / scale + 0.5), -top, top)
        codes[:, column] = code
        error = (now - code * scale) / factor[i, i]
        weight[:, i + 1 :] -= np.outer(error, factor[i, i + 1 :])
    return codes


def _fit(wanted, answers, scale: np.ndarray, per_channel: bool, centred: bool) -> np.ndarray:
    """Scales ``(groups, outputs)`` with which the codes come nearest to the sums that are wanted."""
    if centred:
        wanted, answers = wanted - wanted.mean(axis=0), answers - answers.mean(axis=0)
    both, own = (wanted * answers).mean(axis=0), np.square(answers).mean(axis=0)
    if not per_channel:
        both, own = np.full(scale.shape, both.sum()), np.full(scale.shape, own.sum())
    fitted = both / np.where(own > 0, own, 1.0)
    return np.where((own > 0) & (fitted > scale * 1e-3), fitted, scale)  # a scale stays positive
