"""What does a network of integrate-and-fire neurons compute? Said a second time, in floating point.

Layer by layer over all steps, with matrix products of float32: every integer below 2**24 is exact there, and anything
larger is an error. Shares no code with the engine, so the speed comparison can trust what both agree on; it is also
what finds thresholds for a wanted spike rate and counts synaptic operations.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...errors import RangeError, UnsupportedError
from ...layers.base import padding_pairs, pair
from ...layers.connections import Affine, Conv2d
from ...layers.joins import Add, Scale
from ...layers.neurons import Neuron
from ...layers.pooling import MaxPool2d, SumPool2d
from ...layers.ports import Input, Readout
from ...layers.reshape import Flatten

__all__ = ["SHARE_PLACES", "Evaluation", "apply", "evaluate", "fire", "kept_share", "threshold_for"]

EXACT = 1 << 24  # integers up to here are exact in float32
SAMPLED = 1 << 17  # neurons that a threshold is chosen on
HALVINGS = 24
SHARE_PLACES = 4  # binary places of what a leak leaves of a membrane


@dataclass
class Evaluation:
    """Outcome of `evaluate`.

    Attributes
    ----------
    outputs : (B, K) int64
    rates : dict of neuron layer to its spikes per neuron and step
    synops : dict of connection to its synaptic operations a sample (additions that the spikes of its input cause)
    macs : dict of connection to its products a sample and step, were it computed densely
    """

    outputs: np.ndarray
    rates: dict[str, float] = field(default_factory=dict)
    synops: dict[str, float] = field(default_factory=dict)
    macs: dict[str, int] = field(default_factory=dict)


def _exact(values: np.ndarray, name: str) -> np.ndarray:
    if values.size and max(float(values.max()), -float(values.min())) >= EXACT:
        raise RangeError(f"{name}: a sum of 2**24 or more is not exact in float32; use smaller weights or fewer steps")
    return values


def _padded(frames: np.ndarray, padding) -> np.ndarray:
    return np.pad(frames, ((0, 0), (0, 0), *padding)) if np.any(padding) else frames


def _conv(frames: np.ndarray, layer: Conv2d, height: int, width: int) -> np.ndarray:
    """Cross-correlation of ``(N, C, H, W)``: one matrix product a group for each position in the kernel."""
    groups = layer.groups
    weight = layer.weight.astype(np.float32).reshape(groups, -1, *layer.weight.shape[1:])
    frames = _padded(frames, padding_pairs(layer.padding, "padding"))
    (sy, sx), (dy, dx) = pair(layer.stride, "stride"), pair(layer.dilation, "dilation")
    out = np.zeros((len(frames), groups, weight.shape[1], height * width), np.float32)
    for y in range(weight.shape[3]):
        for x in range(weight.shape[4]):
            seen = frames[:, :, y * dy :, x * dx :][:, :, : (height - 1) * sy + 1 : sy, : (width - 1) * sx + 1 : sx]
            out += np.ascontiguousarray(weight[..., y, x]) @ seen.reshape(len(seen), groups, weight.shape[2], -1)
    return out.reshape(len(frames), -1, height, width)


def _pool(frames: np.ndarray, layer, combine: np.ufunc, height: int, width: int) -> np.ndarray:
    frames = _padded(frames, layer.padding)
    (sy, sx), (ky, kx) = layer.stride, layer.kernel_size
    out = np.zeros((*frames.shape[:2], height, width), np.float32)
    for y in range(ky):
        for x in range(kx):
            seen = frames[:, :, y:, x:][:, :, : (height - 1) * sy + 1 : sy, : (width - 1) * sx + 1 : sx]
            combine(out, seen, out=out)
    return out


def _max_pool(spikes: np.ndarray, layer: MaxPool2d, shape: tuple[int, ...]) -> np.ndarray:
    """By how much the largest count of each window grows in each step."""
    counts = np.cumsum(spikes, axis=0, dtype=np.float32)
    largest = _pool(counts.reshape(-1, *spikes.shape[2:]), layer, np.maximum, *shape[1:])
    largest = largest.reshape(*spikes.shape[:2], *shape)
    return np.diff(largest, axis=0, prepend=np.zeros_like(largest[:1]))


def _per_channel(values, rank: int) -> np.ndarray:
    values = np.asarray(values, np.float32)
    return values.reshape(-1, *(1,) * (rank - 1)) if values.ndim else values


def apply(layer, sources: list[np.ndarray], shape: tuple[int, ...], name: str) -> np.ndarray:
    """What `layer` makes of ``(T, B, *source shape)``: ``(T, B, *shape)``; T is 1 for what is the same in all steps."""
    first = sources[0]
    steps, samples = first.shape[:2]
    frames = first.reshape(steps * samples, *first.shape[2:])
    if isinstance(layer, Conv2d):
        out = _conv(frames, layer, *shape[1:])
    elif isinstance(layer, Affine):
        out = frames @ layer.weight.T.astype(np.float32)
    elif isinstance(layer, SumPool2d):
        out = _pool(frames, layer, np.add, *shape[1:])
    elif isinstance(layer, MaxPool2d):
        return _max_pool(first, layer, shape)
    elif isinstance(layer, Flatten):
        out = frames.reshape(len(frames), -1)
    elif isinstance(layer, Scale):
        out = frames * _per_channel(layer.scale, len(shape))
    elif isinstance(layer, Add):
        return _exact(np.asarray(np.sum(np.broadcast_arrays(*sources), axis=0, dtype=np.float32)), name)
    else:
        raise UnsupportedError(f"{name} ({type(layer).__name__}) is not among the benchmarks")
    if isinstance(layer, Affine | Conv2d):
        if layer.bias is not None or layer.delay or np.any(layer.multiplier != 1):
            raise UnsupportedError(f"{name}: biases, delays and multipliers are not among the benchmarks")
    return _exact(out, name).reshape(steps, samples, *shape)


def kept_share(layer: Neuron, name: str) -> np.ndarray | None:
    """What is left of a membrane in a step, ``m / 2**k`` with k up to `SHARE_PLACES`; None: all, there is no leak.

    Raises `UnsupportedError` for neurons that are neither integrate-and-fire (``>=``) nor leak by a product that is
    rounded down, with ``>`` and a reset a step later, as snnTorch's `Leaky` does.
    """
    decay = layer.v_decay
    plain = layer.reset == "subtract" and layer.u_format is None and not np.any(layer.bias)
    if plain and decay.kind == "none" and layer.compare == ">=" and not layer.reset_delay:
        return None
    leaks = decay.kind == "multiply" and decay.rounding.name == "TRN" and np.max(decay.shift) <= SHARE_PLACES
    if plain and leaks and layer.compare == ">" and layer.reset_delay and not layer.signed and layer.max_count is None:
        return np.asarray(decay.multiplier, np.float32) / np.float32(2) ** decay.shift
    raise UnsupportedError(
        f"{name}: of neurons, integrate-and-fire, and leaks by multiplication with a reset a step later, are among the "
        "benchmarks"
    )


def fire(current: np.ndarray, threshold, steps: int, kept: np.ndarray | None = None) -> np.ndarray:
    """Spikes ``(T, B, ...)`` of an integrate-and-fire neuron: v += I; s = v >= threshold; v -= s * threshold.

    Where a share `kept` is left in a step: v = floor(kept * v) + I - (s before) * threshold; s = v > threshold.
    """
    threshold = np.float32(threshold)
    v = np.zeros(current.shape[1:], np.float32)
    spikes = np.empty((steps, *v.shape), np.float32)
    for t in range(steps):
        now = current[t if len(current) > 1 else 0]
        if kept is None:
            v += now
            np.greater_equal(v, threshold, out=spikes[t])
            v -= spikes[t] * threshold
        else:
            _exact(v * 2**SHARE_PLACES, "the product of a leak")
            v = np.floor(kept * v) + now
            if t:
                v -= spikes[t - 1] * threshold
            np.greater(v, threshold, out=spikes[t])
    _exact(v, "a membrane")
    return spikes


def threshold_for(current: np.ndarray, steps: int, rate: float, kept: np.ndarray | None = None) -> int:
    """The threshold with which neurons spike at `rate` (spikes per neuron and step), as near as whole numbers go."""
    flat = current.reshape(len(current), 1, -1)
    every = max(1, flat.shape[2] // SAMPLED)
    flat = flat[:, :, ::every]
    if kept is not None:
        kept = np.broadcast_to(kept, current.shape[1:]).reshape(1, -1)[:, ::every]
    low, high = 1, max(2, int(np.abs(flat).max()) * steps)
    for _ in range(HALVINGS):
        if high - low <= 1:
            break
        middle = (low + high) // 2
        if fire(flat, middle, steps, kept).mean() > rate:
            low = middle
        else:
            high = middle
    return high


def _reach(size: int, kernel: int, stride: int, before: int, dilation: int, outputs: int) -> np.ndarray:
    """In how many windows each of `size` positions lies."""
    seen = np.zeros(size, np.int64)
    for k in range(kernel):
        at = np.arange(outputs) * stride - before + k * dilation
        np.add.at(seen, at[(at >= 0) & (at < size)], 1)
    return seen


def _fan_out(layer, shape: tuple[int, ...], target: tuple[int, ...]) -> np.ndarray:
    """Additions that one spike causes, by its position ``(H, W)``; one number for a dense connection."""
    if isinstance(layer, Affine):
        return np.asarray(layer.weight.shape[0])
    rows, columns = (
        _reach(shape[1 + i], layer.weight.shape[2 + i], layer.stride[i], layer.padding[i][0], layer.dilation[i], n)
        for i, n in enumerate(target[1:])
    )
    return np.outer(rows, columns) * (layer.weight.shape[0] // layer.groups)


def evaluate(network, inputs: np.ndarray, steps: int) -> Evaluation:
    """Run `network` on constant codes ``(B, *shape)`` or frames ``(T, B, *shape)``.

    Raises `UnsupportedError` for layers and neurons that no benchmark has, `RangeError` beyond exact float32.
    """
    values: dict[str, np.ndarray] = {}
    found = Evaluation(np.zeros((0, 0), np.int64))
    for name in network.order:
        layer, shape = network.nodes[name], network.shapes[name]
        sources = [values[source] for source in network.inputs_of(name)]
        if isinstance(layer, Input):
            values[name] = as_frames(inputs, shape)
        elif isinstance(layer, Neuron):
            values[name] = fire(sources[0], _one_threshold(layer, name), steps, kept_share(layer, name))
            found.rates[name] = float(values[name].mean())
        elif isinstance(layer, Readout):
            total = sources[0].sum(axis=0) * (steps if len(sources[0]) == 1 else 1)
            found.outputs = _exact(total, name).reshape(len(total), -1).astype(np.int64)
        else:
            values[name] = apply(layer, sources, shape, name)
            if isinstance(layer, Affine | Conv2d):
                source = network.inputs_of(name)[0]
                reach = _fan_out(layer, network.shapes[source], shape)
                found.macs[name] = layer.weight.size * int(np.prod(shape[1:]))
                if len(sources[0]) > 1:  # a constant input is no spikes
                    found.synops[name] = float((sources[0] * reach).sum(dtype=np.float64)) / sources[0].shape[1]
    return found


def as_frames(inputs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Inputs as ``(T, B, *shape)`` float32, T = 1 for constant codes."""
    constant = np.ndim(inputs) == len(shape) + 1
    return np.asarray(inputs, np.float32)[None] if constant else np.asarray(inputs, np.float32)


def _one_threshold(layer: Neuron, name: str) -> int:
    values = np.unique(layer.threshold)
    if len(values) != 1 or layer.signed or layer.max_count is not None or np.any(layer.v_initial):
        raise UnsupportedError(f"{name}: only unsigned neurons with one threshold, no cap and V0 = 0 are evaluated")
    return int(values[0])
