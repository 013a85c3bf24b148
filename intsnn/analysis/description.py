"""What is in a network: kind, shape, numbers, thresholds, widths and bytes of every layer.

One function for the three kinds of network that a file can hold; the rows are plain values, as JSON takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import FormatError
from ..files.network_file import stored_bytes
from ..formats.arguments import array_of, instance, shown
from ..formats.fixed import Fixed
from ..network.floating import FloatNetwork
from ..network.quantised import QuantisedNetwork
from ..network.spiking import Network

__all__ = ["Description", "describe", "float_bytes", "span", "span_text"]


@dataclass(frozen=True)
class Description:
    """What `describe` found.

    Attributes
    ----------
    kind : str
        ``"network"``, ``"quantised-ann"`` or ``"float"``.
    title : str
        The kind in words.
    facts : dict
        What holds for the whole network.
    layers : list of dict
        One per layer in the order of computation: ``name, kind, shape, inputs`` and what the kind has of ``format,
        threshold, levels, scale, bias, sum_bits, state_bits, state_bits_needed, parameters, bytes``, and ``kernel,
        stride, padding, dilation, groups`` of what has a window. Arrays are given by their ends, as `span` says.
        ``sum_bits``: the least signed width that holds every sum of one step; ``state_bits``: the declared width of a
        membrane, or the least one of a readout; ``state_bits_needed``: the least width in which a membrane never
        overflows (None where none is proven); ``bytes``: arrays as they are stored, weights packed.
    totals : dict
        ``parameters``, ``weight_bytes``, ``bytes``; of a spiking network ``neurons`` and ``membrane_bytes`` (all
        membranes of one sample, packed) as well.
    """

    kind: str
    title: str
    facts: dict[str, Any] = field(default_factory=dict)
    layers: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)


def span(values) -> dict[str, int | float]:
    """Least and largest of an array as plain numbers, ``{"low": 3889, "high": 9923}``."""
    values = array_of(values, "values")
    if values.dtype.kind not in "iuf" or not values.size or not np.isfinite(values).all():
        raise FormatError(f"values: found {shown(values)}; finite numbers, at least one, are needed")
    return {"low": values.min().item(), "high": values.max().item()}


def span_text(ends: Mapping[str, int | float]) -> str:
    """What `span` gave, for people: ``"8"`` or ``"3889 to 9923"``."""
    low, high = (str(end) if isinstance(end, int) else f"{end:.3g}" for end in (ends["low"], ends["high"]))
    return low if low == high else f"{low} to {high}"


def float_bytes(network: FloatNetwork) -> dict[str, int]:
    """Bytes of a float network as float32: ``weights``, and ``all`` that was trained (biases, batch normalisation)."""
    instance(network, "network", FloatNetwork)
    arrays = [(name, array.size) for node in network.nodes for name, array in _arrays(node).items()]
    return {"weights": 4 * sum(size for name, size in arrays if name == "weight"), "all": 4 * sum(n for _, n in arrays)}


def describe(network: Network | QuantisedNetwork | FloatNetwork) -> Description:
    """Everything about `network` that can be said without running it."""
    instance(network, "network", Network, QuantisedNetwork, FloatNetwork)
    if isinstance(network, Network):
        return _spiking(network)
    return _quantised(network) if isinstance(network, QuantisedNetwork) else _float(network)


def _arrays(node) -> dict[str, np.ndarray]:
    """Trained arrays of a float layer (`codes` and `scale` of quantised ones are not among them)."""
    names = ("weight", "bias", "gamma", "beta", "mean", "variance")
    return {name: value for name in names if isinstance(value := getattr(node, name, None), np.ndarray)}


def _stored(sizes: dict[str, int]) -> tuple[int, int]:
    """Bytes of the weights and of all arrays of a layer."""
    return sizes.get("weight", sizes.get("codes", 0)), sum(v for k, v in sizes.items() if k != "attributes")


def _geometry(layer) -> str:
    """Kernel, stride, padding, dilation and groups, as far as they are not the usual."""
    kernel = getattr(layer, "kernel_size", getattr(layer, "kernel", None))
    weight = getattr(layer, "weight", None)
    if kernel is None and weight is not None and np.ndim(weight) == 4:
        kernel = weight.shape[2:]
    if kernel is None:
        return ""
    words = ["x".join(map(str, kernel))]
    stride, padding = tuple(layer.stride), layer.padding
    if stride != (1, 1):
        words.append(f"/{stride[0]}" if stride[0] == stride[1] else "/" + "x".join(map(str, stride)))
    if any(p for pads in padding for p in pads):
        (top, bottom), (left, right) = padding
        words.append(f"pad {top}" if top == bottom == left == right else f"pad {top},{bottom},{left},{right}")
    if tuple(getattr(layer, "dilation", (1, 1))) != (1, 1):
        words.append("dilation " + "x".join(map(str, layer.dilation)))
    if getattr(layer, "groups", 1) > 1:
        words.append(f"{layer.groups} groups")
    return " ".join(words)


def _window(layer) -> dict[str, Any]:
    """The numbers of `_geometry`, all of them."""
    if not _geometry(layer):
        return {}
    kernel = getattr(layer, "kernel_size", getattr(layer, "kernel", None))
    sizes = layer.weight.shape[2:] if kernel is None else kernel
    return {
        "kernel": [int(n) for n in sizes],
        "stride": [int(n) for n in layer.stride],
        "padding": [[int(n) for n in pair] for pair in layer.padding],
        "dilation": [int(n) for n in getattr(layer, "dilation", (1, 1))],
        "groups": int(getattr(layer, "groups", 1)),
    }


def _ends(details: Mapping[str, Any]) -> dict[str, Any]:
    """What a layer says of itself, arrays by their ends."""
    return {name: span(value) if isinstance(value, np.ndarray) else value for name, value in details.items()}


def _spiking(network: Network) -> Description:
    bounds, sizes = network.bounds(), stored_bytes(network)
    rows, membranes, weights_all, parameters_all = [], 0, 0, 0
    for name in network.order:
        layer = network.nodes[name]
        weights, total = _stored(sizes[name])
        row: dict[str, Any] = {
            "name": name, "kind": type(layer).__name__, "shape": list(network.shapes[name]),
            "inputs": list(network.inputs_of(name)), "detail": _geometry(layer), "bytes": total, **_window(layer),
        }  # fmt: skip
        row |= _ends(layer.details())
        bound = bounds[name]
        if layer.fires:
            count = int(np.prod(network.shapes[name]))
            needed = bound.membrane_format
            row |= {"neurons": count, "state_bits_needed": None if needed is None else needed.bits}
            membranes += count * row["state_bits"]
        elif layer.answers and not layer.spikes:
            row["state_bits"] = _signed_bits(bound.total_format)
        elif not (layer.spikes or layer.takes_input or layer.moves_only):
            row["sum_bits"] = _signed_bits(bound.step_format)
        rows.append(row)
        weights_all += weights
        parameters_all += row.get("parameters", 0)
    facts = {
        "t_drive": network.t_drive,
        "levels": network.levels,
        "settling_bound": network.settling_bound,
        "recurrent": network.recurrent,
        **network.metadata,
    }
    totals = {
        "parameters": parameters_all,
        "weight_bytes": weights_all,
        "bytes": sum(row["bytes"] for row in rows),
        "neurons": sum(row.get("neurons", 0) for row in rows),
        "membrane_bytes": -(-membranes // 8),
    }
    return Description("network", "integer spiking network", facts, rows, totals)


def _signed_bits(fmt: Fixed) -> int:
    """Bits of a signed accumulator for the same range."""
    return fmt.bits + (0 if fmt.signed else 1)


def _quantised(network: QuantisedNetwork) -> Description:
    graph, sizes = network.graph, stored_bytes(network)
    rows, weights_all = [], 0
    for node in graph.nodes:
        weights, total = _stored(sizes[node.name])
        row: dict[str, Any] = {
            "name": node.name, "kind": type(node).__name__, "shape": list(graph.shapes[node.name]),
            "inputs": list(node.inputs), "detail": _geometry(node), "bytes": total, **_window(node),
        }  # fmt: skip
        row |= _ends(node.details())
        if node.takes_input:
            row["format"] = str(network.input_format)
        rows.append(row)
        weights_all += weights
    totals = {
        "parameters": sum(row.get("parameters", 0) for row in rows),
        "weight_bytes": weights_all,
        "bytes": sum(row["bytes"] for row in rows),
    }
    facts = {"levels": network.levels, "input_scale": str(network.input_scale), "output": graph.output}
    return Description("quantised-ann", "quantised ANN", facts, rows, totals)


def _float(network: FloatNetwork) -> Description:
    rows = []
    for node in network.nodes:
        arrays = _arrays(node)
        row: dict[str, Any] = {
            "name": node.name, "kind": type(node).__name__, "shape": list(network.shapes[node.name]),
            "inputs": list(node.inputs), "detail": _geometry(node), "bytes": sum(a.nbytes for a in arrays.values()),
            **_window(node),
        }  # fmt: skip
        if arrays:
            row["parameters"] = sum(a.size for a in arrays.values())
            row["format"] = "/".join(sorted({str(a.dtype) for a in arrays.values()}))
        if "weight" in arrays:
            row["weight"] = span(arrays["weight"])
        if (bias := getattr(node, "bias", None)) is not None:
            row["bias"] = span(bias)
        if (top := getattr(node, "max_value", None)) is not None:
            row |= {"detail": f"up to {top:g}", "max_value": float(top)}
        rows.append(row)
    known = ("format", "keras_version", "backend", "source", "source_sha256", "notes")
    facts = {name: network.metadata[name] for name in known if network.metadata.get(name)}
    total = sum(row["bytes"] for row in rows)
    totals = {
        "parameters": sum(row.get("parameters", 0) for row in rows),
        "weight_bytes": sum(_arrays(n)["weight"].nbytes for n in network.nodes if "weight" in _arrays(n)),
        "bytes": total,
    }
    return Description("float", "trained float network", facts, rows, totals)
