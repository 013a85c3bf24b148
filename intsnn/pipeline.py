"""The main job in one call: a float network and calibration data to an integer network, with the loss of each stage.

float -> activations clipped -> activation levels -> weights -> bias correction -> joins -> thresholds and biases
(the integer ANN) -> spikes in T steps -> spikes at rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from .ann import integer_ann
from .convert import Conversion, Rule, convert
from .datasets import Dataset
from .errors import ConversionError, ShapeError
from .floatnet import FloatNetwork, forward
from .fold import fold
from .network import Network
from .quantise import quantise_network
from .quantised import InputScale, QuantisedNetwork
from .scores import accuracy
from .simulate import simulate

__all__ = ["Pipeline", "Stage", "accuracy", "convert_float", "measure"]


@dataclass(frozen=True)
class Stage:
    """Accuracy in percent after a stage (None without labels) and what it lost against the one before."""

    name: str
    accuracy: float | None
    loss: float | None


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Result of `convert_float`: the integer network, what led to it and the accuracy of each stage.

    `zeroed` and `clipped` count, by layer, weights that became zero and weights beyond the largest code; `rounding` is
    what was done to the weights, and `errors` what ``"auto"`` decided it by (see `intsnn.quantise.Quantisation`).
    """

    network: Network
    quantised: QuantisedNetwork
    conversion: Conversion
    stages: tuple[Stage, ...]
    evaluated_on: str
    zeroed: dict[str, int] = field(default_factory=dict)
    clipped: dict[str, int] = field(default_factory=dict)
    rounding: str = "nearest"
    errors: dict[str, float] = field(default_factory=dict)


def check_fit(network: FloatNetwork | Network, data: Dataset) -> None:
    """Refuse data whose samples do not have the size of the input."""
    shape = network.input_shape if isinstance(network, FloatNetwork) else network.shapes[network.input_name]
    found = data.images.shape[1:]
    if int(np.prod(found)) != int(np.prod(shape)) or (len(shape) == 3 and found != shape):
        raise ShapeError(
            f"data {data.name}: its samples are {found}, the network takes {shape}; use data of that shape"
        )


def measure(stages, data: Dataset, scale: InputScale, converted: Network, threads: int = 1, progress=None):
    """Accuracy of the float stages, the integer ANN and the spiking network on labelled `data`, as `Stage` objects."""
    x = scale.apply(data.images)
    found = []
    total = len(stages) + 3

    def note(name: str, predictions: np.ndarray) -> None:
        found.append((name, accuracy(predictions, cast(np.ndarray, data.labels))))
        if progress is not None:
            progress(len(found), total)

    for name, graph in stages:
        note(name, forward(graph, x).argmax(axis=1))
    note("thresholds and biases (integer ANN)", integer_ann(converted, data.images).predictions)
    note(f"SNN, T = {converted.t_drive}", simulate(converted, data.images, threads=threads).predictions)
    note("SNN, settled", simulate(converted, data.images, settle=True, threads=threads).predictions)
    before = [None, *(value for _, value in found)]
    return tuple(
        Stage(name, value, None if last is None else last - value)
        for (name, value), last in zip(found, before, strict=False)
    )


def convert_float(
    network: FloatNetwork,
    calibration: Dataset,
    *,
    evaluation: Dataset | None = None,
    rule: Rule | None = None,
    weight_bits: int = 8,
    activation_bits: int = 4,
    input_scale: InputScale | None = None,
    first_last_bits: int | None = None,
    bias_correction: bool = True,
    rounding: str = "auto",
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Pipeline:
    """Quantise `network` with `calibration`, convert it and measure every stage on `evaluation`.

    Parameters
    ----------
    network : FloatNetwork
        As imported; it is folded here.
    calibration, evaluation : Dataset
        Evaluation defaults to the calibration data; without labels no accuracy is measured.
    rule : Rule
        Neuron of the converted network.
    weight_bits, activation_bits, first_last_bits, bias_correction, rounding
        See `intsnn.quantise.quantise_network`.
    input_scale : InputScale
        Default ``1 / calibration.maximum``.

    Raises
    ------
    ConversionError, UnsupportedError, ShapeError
        Naming the layer and why.
    """
    check_fit(network, calibration)
    evaluation = evaluation or calibration
    check_fit(network, evaluation)
    scale = input_scale or InputScale(calibration.scale)
    folded = fold(network)
    quantisation = quantise_network(
        folded, calibration.images, weight_bits=weight_bits, activation_bits=activation_bits, input_scale=scale,
        input_format=_input_format(calibration), first_last_bits=first_last_bits, bias_correction=bias_correction,
        rounding=rounding,
    )  # fmt: skip
    conversion = convert(quantisation.network, rule)
    stages = [("float", network), *quantisation.stages]
    if any(report.get("branches", 1) > 1 for report in conversion.layers.values()):
        stages.append(("joins in one unit", conversion.joined))
    measured: tuple[Stage, ...] = ()
    if evaluation.labels is not None:
        measured = measure(stages, evaluation, scale, conversion.network, threads, progress)
    return Pipeline(
        conversion.network, quantisation.network, conversion, measured, evaluation.name,
        quantisation.zeroed, quantisation.clipped, quantisation.rounding, quantisation.errors,
    )  # fmt: skip


def _input_format(data: Dataset):
    """Format of the raw integers of a data set: 8 bits for images, else what its dtype and maximum say."""
    from .formats import Fixed

    low, high = int(data.images.min(initial=0)), int(data.images.max(initial=0))
    if not np.issubdtype(data.images.dtype, np.integer):
        raise ConversionError(f"data {data.name}: found {data.images.dtype}; integer codes are needed")
    return Fixed.for_range(min(low, 0), max(high, int(data.maximum)))
