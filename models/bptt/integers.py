"""The door from training through time to simulation: folded integers, their network, and torch on the same integers.

For a channel with charge unit alpha (its weights are ``alpha * k``) and BatchNorm, the input of the neuron is
``a * n + b`` with n = sum of k over the incoming spikes, ``a = gamma * alpha / sigma`` and
``b = beta - gamma * mu / sigma``; a negative a turns the signs of k around. In units of ``a / 2**f``, with f
`fraction_bits`::

    threshold = round(2**f / a)      bias = round(2**f * b / a)      (half up)
    v = (v * multiplier >> shift) + (n << f) + bias;  spike = v >= threshold;  v = 0 after a spike (or v - threshold)

These are integers; nothing else is rounded but the decay, which is floored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ...errors import ConversionError
from ...formats.fixed import Fixed
from ...formats.weights import Bipolar, Levels
from ...layers.connections import Affine, Conv2d
from ...layers.neurons import Decay
from ...layers.pooling import SumPool2d
from ...layers.ports import Input, Readout
from ...layers.presets import IF, LIF
from ...layers.reshape import Flatten
from ...network.spiking import Network
from ..training import blueprint as parts
from .network import EventNetwork

__all__ = ["Folded", "fold", "integer_network", "torch_integers"]

LARGEST = 1 << 30  # of a threshold or bias
EXACT_FLOAT32 = 1 << 24


@dataclass(frozen=True, eq=False)
class Folded:
    """Integers of one layer with weights.

    Attributes
    ----------
    codes : (O, ...) int64
    format : weight format
    bias : (O,) int64
    threshold : (O,) int64, None for the last layer
    """

    codes: np.ndarray
    format: Fixed | Bipolar | Levels
    bias: np.ndarray
    threshold: np.ndarray | None


def _numbers(tensor: torch.Tensor | None) -> np.ndarray:
    if tensor is None:
        raise ConversionError("a layer without BatchNorm has no bias, or a BatchNorm keeps no statistics")
    return tensor.detach().cpu().numpy().astype(np.float64)


def _half_up(values: np.ndarray) -> np.ndarray:
    return np.floor(values + 0.5).astype(np.int64)


def fold(network: EventNetwork, fraction_bits: int | None = None) -> dict[str, Folded]:
    """Integers of every layer with weights, by name.

    Raises
    ------
    ConversionError
        If weights are float, or a channel has no threshold that can be expressed; the layer is named.
    """
    bits = network.recipe.fraction_bits if fraction_bits is None else fraction_bits
    found = {}
    for name, module in network.linear.items():
        if module.quantiser.bits is None:
            raise ConversionError(f"layer {name!r}: its weights are float and have no integer form; train it quantised")
        codes_, scale_, fmt = module.quantiser.codes(module.weight)
        codes, scale = codes_.cpu().numpy().astype(np.int64), _numbers(scale_)
        if module.norm is None:
            bias = _half_up(_numbers(module.bias) / scale * 2.0**bits)
            if len(np.unique(scale)) > 1:
                raise ConversionError(f"layer {name!r}: the outputs have different scales; the last layer needs one")
            threshold = None
        else:
            factor = _numbers(module.norm.weight) / np.sqrt(_numbers(module.norm.running_var) + module.norm.eps)
            offset = _numbers(module.norm.bias) - factor * _numbers(module.norm.running_mean)
            codes = np.where((factor < 0).reshape(-1, *(1,) * (codes.ndim - 1)), -codes, codes)
            # a channel that hardly reads its input keeps a threshold that can be expressed
            unit = np.maximum(np.abs(factor) * scale, 2.0**bits / LARGEST)
            threshold, bias = _half_up(2.0**bits / unit), _half_up(2.0**bits * offset / unit)
        if np.abs(bias).max() > LARGEST or (threshold is not None and threshold.min() < 1):
            raise ConversionError(
                f"layer {name!r}: bias up to {np.abs(bias).max()}, thresholds from "
                f"{None if threshold is None else threshold.min()}; change the binary places ({bits})"
            )
        found[name] = Folded(codes, fmt, bias, threshold)
    return found


def _charge(folded: Folded, top: int, bits: int) -> int:
    """Largest charge of a step, if every input is `top`."""
    rows = np.abs(folded.codes.reshape(len(folded.codes), -1)).sum(1)
    return int(((rows * top << bits) + np.abs(folded.bias)).max())


def _membrane(network: EventNetwork, folded: Folded, charge: int) -> int:
    """Bound of a membrane between the steps."""
    multiplier, shift = network.recipe.decay
    steps = network.recipe.binning.steps
    bound = 0
    for _ in range(steps):
        bound = (bound * multiplier >> shift) + charge + 1
        if network.recipe.reset == "subtract":
            bound = max(bound, charge + int(folded.threshold.max()))  # type: ignore[union-attr]
    return bound


def integer_network(
    network: EventNetwork, *, fraction_bits: int | None = None, metadata: Mapping[str, Any] | None = None
) -> Network:
    """The trained network in integers, ready for `intsnn.simulate` and `intsnn.files.save`.

    Returns
    -------
    Network
        Input frames of 0 to `clip`; it runs for the steps of the recipe. A max-pool is a sum that a neuron with
        threshold 1 and reset to zero follows: it fires where any input does.
    """
    recipe, plan = network.recipe, network.blueprint
    bits = recipe.fraction_bits if fraction_bits is None else fraction_bits
    folded = fold(network, bits)
    top = recipe.binning.clip
    chain: list[tuple[str, Any]] = [("input", Input(tuple(plan.input_shape), Fixed.for_range(0, top)))]
    last = None
    for layer in plan.layers:
        if isinstance(layer, parts.Conv | parts.Dense):
            last = folded[layer.name]
            common: dict[str, Any] = {
                "weight": last.codes, "weight_format": last.format, "multiplier": 1 << bits,
                "bias": last.bias if last.threshold is None else None,
            }  # fmt: skip
            if isinstance(layer, parts.Conv):
                found: Any = Conv2d(**common, stride=layer.stride, padding=layer.padding, groups=layer.groups)
            else:
                found = Affine(**common)
            charge = _charge(last, top, bits)
            chain.append((layer.name, found))
        elif isinstance(layer, parts.Relu):
            if last is None or last.threshold is None:
                raise ConversionError(f"layer {layer.name!r}: neurons follow a layer with weights and BatchNorm")
            bound = _membrane(network, last, charge)
            neuron = LIF(
                last.threshold, Decay.by_multiply(*recipe.decay), bias=last.bias, reset=recipe.reset,
                v_format=Fixed.for_range(-bound, bound),
                threshold_format=Fixed.for_range(0, int(last.threshold.max())),
                bias_format=Fixed.for_range(int(min(0, last.bias.min())), int(max(1, last.bias.max()))),
            )  # fmt: skip
            chain.append((layer.name, neuron))
            top = 1
        elif isinstance(layer, parts.MaxPool):
            chain.append((f"{layer.name}_sum", SumPool2d(layer.kernel, layer.stride, layer.padding)))
            most = layer.kernel**2 * top
            chain.append((layer.name, IF(1, reset="zero", v_format=Fixed.for_range(-1, most))))
            top = 1
        elif isinstance(layer, parts.Flatten):
            chain.append((layer.name, Flatten()))
        elif isinstance(layer, parts.Dropout):
            continue  # nothing is left of it
        else:
            raise _unknown(layer)
    chain.append(("readout", Readout()))
    facts = {"events": vars(recipe.binning) | {"data": recipe.data}, **(metadata or {})}
    return Network.sequential(*chain, t_drive=recipe.binning.steps, metadata=facts)


def torch_integers(
    network: EventNetwork, frames: np.ndarray, *, fraction_bits: int | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What the integer network computes, by the convolutions of torch on floats that hold whole numbers exactly.

    Parameters
    ----------
    frames : (B, T, C, H, W) integers

    Returns
    -------
    spikes : dict of str to (T, B, ...) int8
        Of every spiking layer.
    outputs : (B, K) int64

    Raises
    ------
    ConversionError
        If a sum could leave the whole numbers that float64 holds exactly.
    """
    recipe, plan = network.recipe, network.blueprint
    bits = recipe.fraction_bits if fraction_bits is None else fraction_bits
    folded, top = fold(network, bits), recipe.binning.clip
    multiplier, shift = recipe.decay
    x = torch.from_numpy(np.ascontiguousarray(frames.swapaxes(0, 1)).astype(np.float64))
    steps, samples = x.shape[:2]
    x = x.flatten(0, 1)
    spikes: dict[str, np.ndarray] = {}
    last: Folded | None = None
    for layer in plan.layers:
        if isinstance(layer, parts.Conv | parts.Dense):
            last = folded[layer.name]
            if (_membrane_bound(network, last, top, bits) << shift) * multiplier >= 1 << 53:
                raise ConversionError(f"layer {layer.name!r}: its sums can leave what float64 holds exactly")
            kind = torch.float32 if _charge(last, top, 0) < EXACT_FLOAT32 else torch.float64
            weight = torch.from_numpy(last.codes).to(kind)
            if isinstance(layer, parts.Conv):
                x = F.conv2d(x.to(kind), weight, None, layer.stride, layer.padding, 1, layer.groups)
            else:
                x = F.linear(x.to(kind), weight)
            shape = (1, -1, *(1,) * (x.ndim - 2))
            x = x.to(torch.float64) * (1 << bits) + torch.from_numpy(last.bias).to(torch.float64).reshape(shape)
        elif isinstance(layer, parts.Relu):
            charges = x.unflatten(0, (steps, samples))
            threshold = torch.from_numpy(last.threshold).to(torch.float64).reshape(shape)  # type: ignore[union-attr]
            v = torch.zeros_like(charges[0])
            fired = torch.empty_like(charges)
            for t in range(steps):
                v = torch.floor(v * multiplier / (1 << shift)) + charges[t]
                fired[t] = v >= threshold
                v = v * (1 - fired[t]) if recipe.reset == "zero" else v - fired[t] * threshold
            x, top = fired.flatten(0, 1), 1
        elif isinstance(layer, parts.MaxPool):
            x, top = F.max_pool2d(x, layer.kernel, layer.stride, layer.padding), 1
        elif isinstance(layer, parts.Flatten):
            x = x.flatten(1)
        elif isinstance(layer, parts.Dropout):
            continue
        else:
            raise _unknown(layer)
        if isinstance(layer, parts.Relu | parts.MaxPool):
            spikes[layer.name] = x.unflatten(0, (steps, samples)).numpy().astype(np.int8)
    return spikes, x.unflatten(0, (steps, samples)).sum(0).numpy().astype(np.int64)


def _unknown(layer: parts.Layer) -> ConversionError:
    return ConversionError(f"layer {layer.name!r}: a {type(layer).__name__} has no form in an event network")


def _membrane_bound(network: EventNetwork, folded: Folded, top: int, bits: int) -> int:
    charge = _charge(folded, top, bits)
    return charge * network.recipe.binning.steps if folded.threshold is None else _membrane(network, folded, charge)
