"""Post-training quantisation: a float network and calibration data to a quantised ANN.

Activation clips by least square error on the calibration set, symmetric weight scales per output channel by
least square error, biases corrected by the mean of the weight error. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from ..errors import ConversionError
from ..formats.arguments import array_of, choice, flag, instance, shown, whole, whole_or_none
from ..formats.fixed import Fixed
from ..network.floating import FloatNetwork, blocks, forward
from ..network.node import FloatNode
from ..network.quantised import InputScale, QuantHardTanh, QuantisedNetwork, QuantReLU
from .compensate import compensate
from .weights import Width, quantise_weights, quantised_node

__all__ = ["ROUNDINGS", "Calibration", "Quantisation", "calibrate", "quantise_network"]

ROUNDINGS = ("auto", "nearest", "compensated")
JUDGED = 1000  # held-back calibration samples at most, on which auto compares
ENOUGH = 1.1  # auto looks no further where rounding the weights adds no more than this to the error of the activations
BINS = 4096
FINE = 1 << 16  # levels that stand for "clipped, not rounded" when the loss is split into stages


@dataclass(frozen=True, eq=False)
class Quantisation:
    """Result of `quantise_network` and what led to it.

    Attributes
    ----------
    network : QuantisedNetwork
    stages : tuple of (name, FloatNetwork)
        Networks in between, each with one more loss: clip, activation levels, weights, bias correction.
    zeroed, clipped : dict of layer name to int
        Weights that became zero, and weights beyond the largest code.
    rounding : str
        ``"nearest"`` or ``"compensated"``: what was done.
    errors : dict of str to float
        What ``"auto"`` decided by: squared error of the outputs on held-back calibration samples, over their variance,
        with the activations rounded only (``"activations"``) and with each rounding of the weights that was tried.
    """

    network: QuantisedNetwork
    stages: tuple[tuple[str, FloatNetwork], ...]
    zeroed: dict[str, int]
    clipped: dict[str, int]
    rounding: str = "nearest"
    errors: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What the calibration data say, whatever the widths: one serves any number of calls of `quantise_network`.

    Attributes
    ----------
    network : FloatNetwork
        What ran on the data.
    inputs : (N, *shape) float
        Scaled samples.
    input_scale : InputScale
    histograms : dict of ReLU to (counts, upper end)
    means : dict of activation bits to dict of linear layer to the mean of its input
        Filled as it is asked for.
    """

    network: FloatNetwork
    inputs: np.ndarray
    input_scale: InputScale
    histograms: dict[str, tuple[np.ndarray, float]]
    means: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)


def calibrate(network: FloatNetwork, raw: np.ndarray, input_scale: InputScale | None = None) -> Calibration:
    """Run a folded float network on calibration samples `raw` ``(N, *shape)``; default scale raw / 255.

    Raises `ConversionError` without samples.
    """
    instance(network, "network", FloatNetwork)
    raw = array_of(raw, "raw")
    if raw.ndim < 2 or raw.dtype.kind not in "biu":
        raise ConversionError(f"calibration: raw: found {shown(raw)}; integers (N, *shape) are needed")
    instance(input_scale, "input_scale", InputScale, none=True)
    if len(raw) == 0:
        raise ConversionError("calibration: found no samples; give at least a few hundred training samples")
    scale = input_scale or InputScale()
    x = scale.apply(raw)
    return Calibration(network, x, scale, _histograms(network, x))


def _histograms(network: FloatNetwork, x: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """Histogram of the sizes of what enters each activation and does not become 0, as (counts, upper end)."""
    nodes = {node.name: node for node in network.nodes if _rounded(node)}
    names = sorted({node.inputs[0] for node in nodes.values()})
    tops = dict.fromkeys(nodes, 0.0)

    def sizes(node, values: np.ndarray) -> np.ndarray:
        return np.abs(values) if node.two_sided else values

    for values in blocks(network, x, record=names):
        for name, node in nodes.items():
            tops[name] = max(tops[name], float(sizes(node, values[node.inputs[0]]).max()))
    counts = {name: np.zeros(BINS, np.int64) for name in nodes}
    for values in blocks(network, x, record=names):
        for name, node in nodes.items():
            found = sizes(node, values[node.inputs[0]])
            counts[name] += np.histogram(found[found > 0], bins=BINS, range=(0, tops[name] or 1.0))[0]
    return {name: (counts[name], tops[name]) for name in nodes}


def tied(network: FloatNetwork) -> dict[str, str]:
    """The activations, and for each the first one whose levels have to be worth as much as its own.

    They meet in front of a linear layer or side by side, with nothing between them that could bring them to one unit.
    """
    leaders: dict[str, str] = {node.name: node.name for node in network.nodes if _rounded(node)}
    reach: dict[str, set[str]] = {}  # the activations that a value is made of, by nothing but moving and adding
    for node in network.nodes:
        if node.activates:
            reach[node.name] = {node.name}
            continue
        found = set().union(*(reach[name] for name in node.inputs)) if node.inputs else set()
        reach[node.name] = set() if node.weighted or node.takes_input else found
        meeting = sorted(leaders[name] for name in found if name in leaders)
        if (node.weighted or node.gathers) and len(set(meeting)) > 1:
            order = list(leaders)
            first = min(meeting, key=order.index)
            leaders = {name: first if leader in meeting else leader for name, leader in leaders.items()}
    return leaders


def best_clip(counts: np.ndarray, top: float, levels: int, max_value: float | None = None) -> float:
    """Clip of least square error for `levels` steps, from a histogram of positive values over [0, top]."""
    return _shared_clip([(counts, top, max_value)], levels)


def _shared_clip(histograms: Sequence[tuple[np.ndarray, float, float | None]], levels: int) -> float:
    """One clip for several activations, each with its counts over [0, top] and its own limit: the least error of all.

    A small range beside a large one has a histogram as fine as any, and a limit holds for its own values only.
    """
    alive = [(counts, top, most) for counts, top, most in histograms if top > 0 and counts.any()]
    if not alive:  # dead layers: any clip is right
        return max((most for *_, most in histograms if most), default=1.0)
    limit = max(min(top, most) if most else top for _, top, most in alive)
    wanted = []
    for counts, top, most in alive:
        centres = (np.arange(BINS) + 0.5) * (top / BINS)
        wanted.append((np.minimum(centres, most) if most else centres, counts))
    best, clip = np.inf, limit
    for candidate in limit * np.linspace(0.05, 1.0, 191):
        step, error = candidate / levels, 0.0
        for values, counts in wanted:
            rounded = np.minimum(np.floor(values / step + 0.5), levels) * step
            error += (np.square(rounded - values) * counts).sum()
        if error < best:
            best, clip = error, candidate
    return float(clip)


def _rounded(node: FloatNode) -> bool:
    """Whether it is an activation that is to get levels."""
    return node.activates and not node.quantised


def _leads_to_linear(network: FloatNetwork, name: str) -> bool:
    """Whether a linear layer reads `name` with no ReLU in between (then it takes one scale per tensor)."""
    for reader in network.consumers(name):
        if reader.weighted:
            return True
        if not _rounded(reader) and _leads_to_linear(network, reader.name):
            return True
    return False


def _mean_inputs(network: FloatNetwork, x: np.ndarray) -> dict[str, np.ndarray]:
    """Mean over the samples of what enters each linear layer."""
    sources = {n.name: n.inputs[0] for n in network.nodes if n.weighted}
    sums: dict[str, np.ndarray] = {}
    for values in blocks(network, x, record=sorted(set(sources.values()))):
        for name, value in values.items():
            sums[name] = sums.get(name, 0) + value.sum(axis=0, dtype=np.float64)
    return {name: sums[source] / len(x) for name, source in sources.items()}


def _mean_error(layer, quantised, mean: np.ndarray) -> np.ndarray:
    """``E[(W - Wq) x]`` per output channel: the layer is linear, so the mean input suffices."""
    weight = layer.weight.astype(np.float64) - quantised.weight
    out = replace(layer, weight=weight, bias=None).apply([mean[None].astype(np.float64)])[0]
    return out if out.ndim == 1 else out.mean(axis=(1, 2))


def quantise_network(
    network: FloatNetwork,
    raw: np.ndarray | Calibration,
    *,
    weight_bits: int = 8,
    activation_bits: int = 4,
    input_scale: InputScale | None = None,
    input_format: Fixed | None = None,
    first_last_bits: int | None = None,
    bias_correction: bool = True,
    rounding: str = "auto",
) -> Quantisation:
    """Quantise a folded float network (`intsnn.conversion.fold.fold`) with calibration data.

    Parameters
    ----------
    network : FloatNetwork
        Linear layers, ReLUs, pools, flattens, adds.
    raw : (N, *shape) integers, or Calibration
        Calibration samples as they will come in (labels are not needed), or what `calibrate` found on them.
    weight_bits : 1 to 8
    activation_bits : 1 to 8
        L = 2**bits - 1 levels.
    input_scale : InputScale
        Real input of a raw integer; default raw / 255. A `Calibration` brings its own.
    first_last_bits : int, optional
        Other width for the first and the last linear layer.
    bias_correction : bool
        Add ``E[(W - Wq) x]`` to the biases.
    rounding : {"auto", "nearest", "compensated"}
        Nearest codes, or codes that make up for each other's errors (`intsnn.conversion.compensate`; biases are then
        fitted, not corrected). ``"auto"``: both are made with the first half of the calibration samples, and that is
        taken whose outputs come nearer to those of `network` on up to 1,000 samples of the other half; nearest
        without a look at the other where the weights then add little to the error that the activations make.

    Raises
    ------
    ConversionError
        Without calibration samples or without a linear layer.
    """
    instance(network, "network", FloatNetwork)
    weight_bits = whole(weight_bits, "weight_bits", 1, 8)
    activation_bits = whole(activation_bits, "activation_bits", 1, 8)
    first_last_bits = whole_or_none(first_last_bits, "first_last_bits", 1, 8)
    bias_correction = flag(bias_correction, "bias_correction")
    instance(input_scale, "input_scale", InputScale, none=True)
    instance(input_format, "input_format", Fixed, none=True)
    choice(rounding, "rounding", ROUNDINGS)
    found = raw if isinstance(raw, Calibration) else calibrate(network, raw, input_scale)
    if found.network is not network:
        raise ConversionError("calibration: it was made with another network; calibrate this one")
    levels = (1 << activation_bits) - 1
    linear = [n.name for n in network.nodes if n.weighted]
    if not linear:
        raise ConversionError("the network has no convolution or dense layer; there is nothing to convert")
    clips = _clips(network, found, levels)
    clipped_net, levelled = _with_levels(network, clips, FINE), _with_levels(network, clips, levels)
    ends = (linear[0], linear[-1]) if first_last_bits else ()
    widths = {
        name: Width(
            first_last_bits if first_last_bits and name in ends else weight_bits, not _leads_to_linear(network, name)
        )
        for name in linear
    }
    final = nearest = _nearest(levelled, widths)
    stages = [("clip", clipped_net), (f"activations {activation_bits} bit", levelled)]
    stages.append((f"weights {weight_bits} bit", nearest))
    errors: dict[str, float] = {}
    if rounding == "auto":
        rounding, errors = _better_rounding(network, levelled, nearest, found.inputs, widths, bias_correction)
    if rounding == "compensated":
        final = compensate(levelled, found.inputs, widths, bias_correction)
        stages.append(("compensation", final))
    elif bias_correction:
        if activation_bits not in found.means:
            found.means[activation_bits] = _mean_inputs(levelled, found.inputs)
        final = _corrected(levelled, nearest, found.means[activation_bits])
        stages.append(("bias correction", final))
    zeroed, beyond = _lost(levelled, final, widths)
    fmt = input_format or Fixed(8, signed=False)
    made = QuantisedNetwork(final, found.input_scale, fmt)
    return Quantisation(made, tuple(stages), zeroed, beyond, rounding, errors)


def _clips(network: FloatNetwork, found: Calibration, levels: int) -> dict[str, float]:
    """Where each activation saturates, the same for those that are tied."""
    leaders, groups = tied(network), {}
    for name, leader in leaders.items():
        counts, top = found.histograms[name]
        groups.setdefault(leader, []).append((counts, top, cast(Any, network[name]).max_value))
    clips = {leader: _shared_clip(group, levels) for leader, group in groups.items()}
    return {name: clips[leader] for name, leader in leaders.items()}


def _rebuilt(network: FloatNetwork, nodes) -> FloatNetwork:
    """The network with other nodes."""
    return FloatNetwork(tuple(nodes), network.output, network.metadata)


def _with_levels(network: FloatNetwork, clips: dict[str, float], levels: int) -> FloatNetwork:
    """The network with activations of so many levels up to their clips."""
    nodes = []
    for node in network.nodes:
        if _rounded(node):
            form = QuantHardTanh if node.two_sided else QuantReLU
            step = clips[node.name] / levels
            node = form(name=node.name, inputs=node.inputs, source=node.source, step=step, levels=levels)
        nodes.append(node)
    return _rebuilt(network, nodes)


def _nearest(levelled: FloatNetwork, widths: Mapping[str, Width]) -> FloatNetwork:
    """The network with the nearest codes for its weights."""
    nodes = []
    node: Any
    for node in levelled.nodes:
        if node.weighted:
            width = widths[node.name]
            codes, scale = quantise_weights(node.weight, width.bits, width.per_channel)
            node = quantised_node(node, codes, scale, width.bits)
        nodes.append(node)
    return _rebuilt(levelled, nodes)


def _better_rounding(
    network: FloatNetwork, levelled: FloatNetwork, nearest: FloatNetwork, inputs: np.ndarray,
    widths: Mapping[str, Width], bias_correction: bool,
) -> tuple[str, dict[str, float]]:  # fmt: skip
    """``"nearest"`` or ``"compensated"``, and the errors of the outputs that were looked at.

    Candidates are made with half of the samples and judged on the other.
    """
    fit, judged = _halves(inputs)
    wanted = forward(network, judged)

    def error_of(candidate: FloatNetwork) -> float:
        return float(np.square(forward(candidate, judged) - wanted).mean() / (wanted.var() or 1.0))

    if bias_correction:
        nearest = _corrected(levelled, nearest, _mean_inputs(levelled, fit))
    errors = {"activations": error_of(levelled), "nearest": error_of(nearest)}
    if errors["nearest"] > ENOUGH * errors["activations"]:
        errors["compensated"] = error_of(compensate(levelled, fit, widths, bias_correction))
        if errors["compensated"] < errors["nearest"]:
            return "compensated", errors
    return "nearest", errors


def _lost(
    levelled: FloatNetwork, final: FloatNetwork, widths: Mapping[str, Width]
) -> tuple[dict[str, int], dict[str, int]]:
    """How many weights of each layer became 0, and how many lie beyond the largest code."""
    zeroed, beyond = {}, {}
    for name, width in widths.items():
        node, weight = cast(Any, final[name]), cast(Any, levelled[name]).weight
        codes, scale = node.codes, np.asarray(node.scale)
        top = (max(1, (1 << (width.bits - 1)) - 1) + 0.5) * scale.reshape(-1, *(1,) * (codes.ndim - 1))
        zeroed[name] = int(((codes == 0) & (weight != 0)).sum())
        beyond[name] = int((np.abs(weight) > top).sum())
    return zeroed, beyond


def _halves(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first half of the samples, and up to `JUDGED` of the rest; a single sample is both."""
    half = len(inputs) // 2
    return (inputs[:half], inputs[half : half + JUDGED]) if half else (inputs, inputs)


def _corrected(levelled: FloatNetwork, weighted: FloatNetwork, means: dict[str, np.ndarray]) -> FloatNetwork:
    """The network `weighted` with the mean errors of its weights added to the biases."""
    nodes = []
    after: Any
    for before, after in zip(levelled.nodes, weighted.nodes, strict=True):
        if after.weighted:
            shift = _mean_error(before, after, means[after.name])
            bias = shift if after.bias is None else after.bias.astype(np.float64) + shift
            after = replace(after, bias=bias, weight=None)
        nodes.append(after)
    return _rebuilt(levelled, nodes)
