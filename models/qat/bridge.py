"""The door from training to simulation: a trained network as a `QuantisedNetwork`, which goes into HDF5.

BatchNorm is folded into the scale of each channel and the bias, in float64; a channel whose BatchNorm turns the sign
around gets its codes negated. Nothing is rounded here that was not rounded in training.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from ...errors import ConversionError
from ...files.network_file import save
from ...formats.fixed import Fixed
from ...network.float_nodes import FloatAdd, FloatAvgPool2d, FloatFlatten, FloatInput, FloatMaxPool2d, FloatUpsample2d
from ...network.floating import FloatNetwork
from ...network.node import FloatNode
from ...network.quantised import InputScale, QuantAffine, QuantConv2d, QuantisedNetwork, QuantReLU
from ..training import blueprint as parts
from .network import Linear, QuantNetwork, Weighted, statistics
from .quantisers.activations import Activation

__all__ = ["LevelComparison", "compare_levels", "export", "frozen", "levels_of", "quantised"]

FAINT = 2.0**-18  # of a step: what the largest input times one code has to make at least


def _linear(layer: Weighted, inputs: tuple[str, ...], module: Linear) -> QuantConv2d | QuantAffine:
    integers, factors, fmt = module.quantiser.codes(module.weight)
    codes: np.ndarray = integers.cpu().numpy().astype(np.int64)
    scale: np.ndarray = factors.cpu().numpy().astype(np.float64)
    bias = None if module.bias is None else module.bias.detach().cpu().numpy().astype(np.float64)
    norm = module.norm
    if norm is not None:
        mean, variance = (values.cpu().numpy().astype(np.float64) for values in statistics(norm))
        factor = norm.weight.detach().cpu().numpy().astype(np.float64) / np.sqrt(variance + norm.eps)
        bias = norm.bias.detach().cpu().numpy().astype(np.float64) - factor * mean
        shape = (-1, *(1,) * (codes.ndim - 1))
        codes = np.where(factor.reshape(shape) < 0, -codes, codes)
        scale = scale * np.abs(factor)
        dead = scale == 0
        if dead.any():  # gamma is zero: what is left of the channel is its bias
            if (codes[dead] != 0).any() and not isinstance(fmt, Fixed) and 0 not in getattr(fmt, "table", ()):
                raise ConversionError(
                    f"layer {layer.name!r}: the BatchNorm of channel {int(dead.argmax())} has gamma 0, and its weights "
                    "have no zero; remove the channel"
                )
            codes[dead] = 0
            scale[dead] = np.median(scale[~dead]) if not dead.all() else 1.0
    common: dict[str, Any] = {
        "name": layer.name, "inputs": inputs, "codes": codes, "scale": scale, "weight_format": fmt, "bias": bias,
    }  # fmt: skip
    if isinstance(layer, parts.Dense):
        return QuantAffine(**common)
    if isinstance(layer, parts.ConvTranspose):  # zeros between the inputs, then the kernel turned by half a circle
        common["codes"] = codes[:, :, ::-1, ::-1]
        return QuantConv2d(**common, padding=((layer.kernel - 1 - layer.padding,) * 2,) * 2)
    if isinstance(layer, parts.Conv):
        padding = ((layer.padding,) * 2,) * 2
        return QuantConv2d(**common, stride=(layer.stride,) * 2, padding=padding, groups=layer.groups)
    raise ConversionError(f"layer {layer.name!r}: the weights of a {type(layer).__name__} have no integer form")


def _raised(node: QuantConv2d | QuantAffine, top: float, step: float, levels: int) -> QuantConv2d | QuantAffine:
    """`node` with the scales of dead channels raised to what a threshold can express.

    Training leaves channels whose weights are so small that their level never moves; their threshold would be
    astronomical in their own unit. Where the level is the same for every possible input before and after, the scale is
    raised, and nothing else changes. `top` is the largest input.
    """
    least = step / top * FAINT
    faint = node.scale < least
    if not np.any(faint):
        return node
    rows = node.codes.reshape(len(node.codes), -1)
    bias = np.zeros(len(rows)) if node.bias is None else node.bias

    def level(sums: np.ndarray) -> np.ndarray:
        return np.clip(np.floor((bias + sums * least * top) / step + 0.5), 0, levels)

    still = level(np.maximum(rows, 0).sum(1)) == level(np.minimum(rows, 0).sum(1))
    return replace(node, scale=np.where(faint & still, least, node.scale), weight=None)


def step_of(module: Activation) -> float:
    """Step of an activation in float64: a clip that is learned in float32 is divided exactly."""
    return float(copy.deepcopy(module).double().step.detach())


def quantised(
    network: QuantNetwork,
    *,
    input_scale: InputScale | None = None,
    input_format: Fixed | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> QuantisedNetwork:
    """A trained network with integer weights, ready for `intsnn.convert` and `intsnn.files.save`.

    Parameters
    ----------
    network : QuantNetwork
        With bits set for weights and activations.
    input_scale : InputScale
        Real input of a raw code; default 1/255.
    input_format : Fixed
        Of the raw codes; default 8 bits, unsigned.
    metadata : mapping, optional
        Plain JSON values that travel with the network.

    Raises
    ------
    ConversionError
        If the network is not quantised, or a layer has no integer form; the layer is named.
    """
    plan = network.blueprint
    nodes: list[FloatNode] = [FloatInput(name="input", shape=tuple(plan.input_shape))]
    for name, linear in network.linear.items():
        if linear.quantiser.bits is None:
            raise ConversionError(f"layer {name!r}: its weights are float; set the bits of the network")
    for name, activation in network.activations.items():
        if activation.bits is None:
            raise ConversionError(f"layer {name!r}: it is not quantised; set the bits of the network")
    renamed = {"input": "input"}
    scale_in = input_scale or InputScale()
    fmt = input_format or Fixed(8, signed=False)
    tops = {} if scale_in.offset else {"input": float(scale_in.scale * fmt.max)}  # largest value, where it is known
    for layer in plan.layers:
        inputs = tuple(renamed[name] for name in layer.inputs)
        renamed[layer.name] = layer.name
        node: FloatNode
        if isinstance(layer, parts.ConvTranspose) and layer.stride > 1:
            factor = (layer.stride,) * 2
            nodes.append(FloatUpsample2d(name=f"{layer.name}_zeros", inputs=inputs, factor=factor, mode="zeros"))
            inputs = (nodes[-1].name,)
        if isinstance(layer, Weighted):
            made = _linear(layer, inputs, network.linear[layer.name])
            readers = plan.readers(layer.name)
            if len(readers) == 1 and readers[0].name in network.activations and tops.get(layer.inputs[0], 0.0) > 0:
                after = network.activations[readers[0].name]
                made = _raised(made, tops[layer.inputs[0]], step_of(after), after.levels)
            node = made
        elif isinstance(layer, parts.Relu):
            found = network.activations[layer.name]
            node = QuantReLU(name=layer.name, inputs=inputs, step=step_of(found), levels=found.levels)
            tops[layer.name] = node.step * node.levels
        elif isinstance(layer, parts.MaxPool):
            padding = ((layer.padding,) * 2,) * 2
            node = FloatMaxPool2d(
                name=layer.name, inputs=inputs, kernel=(layer.kernel,) * 2, stride=(layer.stride,) * 2, padding=padding
            )
        elif isinstance(layer, parts.AvgPool):
            size = plan.shapes[layer.inputs[0]][1:]
            kernel = (layer.kernel,) * 2 if layer.kernel else (size[0], size[1])
            stride = (layer.stride,) * 2 if layer.kernel else kernel
            node = FloatAvgPool2d(name=layer.name, inputs=inputs, kernel=kernel, stride=stride)
        elif isinstance(layer, parts.Upsample):
            node = FloatUpsample2d(name=layer.name, inputs=inputs, factor=(layer.factor,) * 2)
        elif isinstance(layer, parts.Flatten):
            node = FloatFlatten(name=layer.name, inputs=inputs)
        elif layer.joins:
            node = FloatAdd(name=layer.name, inputs=inputs)
        elif isinstance(layer, parts.Dropout):
            tops[layer.name] = tops.get(layer.inputs[0], 0.0)
            renamed[layer.name] = inputs[0]
            continue
        else:
            raise ConversionError(f"layer {layer.name!r}: a {type(layer).__name__} has no integer form")
        nodes.append(node)
        if layer.passive:
            tops[layer.name] = tops.get(layer.inputs[0], 0.0)
    graph = FloatNetwork(tuple(nodes), renamed[plan.output], dict(metadata or {}))
    return QuantisedNetwork(graph, scale_in, fmt)


def export(
    network: QuantNetwork,
    path: str | os.PathLike[str],
    *,
    maximum: int = 255,
    metadata: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> QuantisedNetwork:
    """Write a trained network to an HDF5 file of the kind ``quantised-ann``, and return what it holds.

    `maximum` is the raw code that stands for 1. Errors are those of `quantised` and `intsnn.files.save`.
    """
    fmt = Fixed.for_range(0, maximum)
    found = quantised(network, input_scale=InputScale(Fraction(1, maximum)), input_format=fmt, metadata=metadata)
    save(found, path, provenance=provenance)
    return found


# -- comparison --------------------------------------------------------------------------------------------------------


def frozen(network: QuantNetwork) -> QuantNetwork:
    """A copy that computes in float64 with the very weights of `network`: codes times scale, chosen in float32."""
    made = copy.deepcopy(network).double().eval()
    for name, module in network.linear.items():
        codes, scale, _ = module.quantiser.codes(module.weight)
        weight = codes.double() * scale.double().reshape(-1, *(1,) * (codes.ndim - 1))
        twin = made.linear[name]
        twin.weight.data, twin.quantiser.bits = weight, None
    return made


def levels_of(network: QuantNetwork, images: np.ndarray, maximum: int = 255, batch: int = 100) -> dict[str, np.ndarray]:
    """Levels of every activation as torch computes them, in the precision of the network.

    Parameters
    ----------
    network : QuantNetwork
        In evaluation mode; `frozen` gives it in float64.
    images : (N, *shape) integers
    maximum : int
        The code that stands for 1.

    Returns
    -------
    dict of str to (N, *shape) int64
    """
    names = list(network.activations)
    dtype = next(network.parameters()).dtype
    steps = {name: float(module.step.detach()) for name, module in network.activations.items()}
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    with torch.no_grad():
        for start in range(0, len(images), batch):
            part = torch.from_numpy(np.ascontiguousarray(images[start : start + batch])).to(dtype) / maximum
            values = network(part, record=names)
            for name in names:
                found[name].append(np.rint(values[name].double().numpy() / steps[name]).astype(np.int64))
    return {name: np.concatenate(blocks) for name, blocks in found.items()}


@dataclass(frozen=True, eq=False)
class LevelComparison:
    """Levels of a trained network in torch against those of its settled integer network.

    Attributes
    ----------
    compared : int
        Levels compared (neurons times samples).
    single, double : dict of str to int
        By activation: how many differ from torch in float32 and in float64.
    """

    compared: int
    single: dict[str, int]
    double: dict[str, int]

    @property
    def differing(self) -> tuple[int, int]:
        """Of all layers together: against float32, against float64."""
        return sum(self.single.values()), sum(self.double.values())


def compare_levels(
    network: QuantNetwork, converted, images: np.ndarray, maximum: int = 255, *, batch: int = 200, threads: int = 1
) -> LevelComparison:
    """Settle the integer network on `images` and compare the net counts of every neuron with torch's levels.

    Parameters
    ----------
    network : QuantNetwork
    converted : Network
        What `intsnn.convert` made of it.
    images : (N, *shape) integers
    """
    from ...engine.simulation import simulate

    network = network.eval()
    names = list(network.activations)
    exact = frozen(network)
    compared, single, double = 0, dict.fromkeys(names, 0), dict.fromkeys(names, 0)
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        run = simulate(converted, part, settle=True, keep_final=True, threads=threads)
        for wrong, torch_network in ((single, network), (double, exact)):
            for name, levels in levels_of(torch_network, part, maximum).items():
                wrong[name] += int((levels != run.final[f"{name}.counts"]).sum())
        compared += sum(run.final[f"{name}.counts"].size for name in names)
    return LevelComparison(compared, single, double)
