"""The main job in one call: a float network and calibration data to an integer network, with the loss of each stage.

float -> activations clipped -> activation levels -> weights -> bias correction -> joins -> thresholds and biases
(the integer ANN) -> spikes in T steps -> spikes at rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from ..analysis.scores import Aim, OutputError, accuracy, aim_of, near_chance, output_error
from ..datasets.catalogue import Dataset
from ..datasets.overlap import Overlap, check_overlap
from ..engine.ann import integer_ann
from ..engine.result import decide, places
from ..engine.settled import settle, unproven
from ..engine.simulation import simulate
from ..errors import ConversionError, ShapeError
from ..network.floating import FloatNetwork, forward
from ..network.quantised import InputScale, QuantisedNetwork
from ..network.spiking import Network
from .fold import fold, without_rescaling
from .quantise import quantise_network
from .spikes import Conversion, NeuronRule, convert

__all__ = ["Pipeline", "Stage", "accuracy", "aim", "convert_float", "doubts", "measure"]

SETTLED_CHECKED = 32  # samples of the last stage that are simulated, where the theorem gives the others


@dataclass(frozen=True)
class Stage:
    """What a network is worth after a stage.

    Attributes
    ----------
    accuracy, loss : float or None
        Per cent right, and what was lost against the stage before; None where outputs are no classes.
    error : OutputError or None
        Where they are none: distance of the outputs from those of the first stage, in real units.
    target_error : OutputError or None
        ... and from what they should be, where that is known.
    """

    name: str
    accuracy: float | None
    loss: float | None
    error: OutputError | None = None
    target_error: OutputError | None = None


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Result of `convert_float`: the integer network, what led to it and the accuracy of each stage.

    `zeroed` and `clipped` count, by layer, weights that became zero and weights beyond the largest code; `rounding` is
    what was done to the weights, and `errors` what ``"auto"`` decided it by (see `intsnn.conversion.Quantisation`).
    `aim` is what the outputs were held against, `overlap` what was allowed to be in both data sets, `warnings` what
    makes the figures doubtful.
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
    aim: Aim = field(default_factory=lambda: Aim("nothing"))
    overlap: Overlap | None = None
    warnings: tuple[str, ...] = ()


def aim(network: Network, data) -> Aim:
    """What the outputs of `network` are held against on `data` (see `intsnn.analysis.scores.aim_of`)."""
    outputs, pixels = places(network)
    return aim_of(data, outputs, pixels, int(np.prod(network.shapes[network.input_name])))


def wanted(found: Aim, data, x: np.ndarray) -> np.ndarray | None:
    """Real values that the outputs should have, if they are known: targets, or the real input `x`."""
    return data.targets if found.kind == "targets" else x if found.kind == "input" else None


def doubts(accuracy: float | None, data: Dataset, network: Network, scale: InputScale) -> tuple[str, ...]:
    """What makes an `accuracy` of the network before its conversion doubtful."""
    why = None
    if accuracy is not None and data.labels is not None:
        why = near_chance(accuracy, data.labels, places(network)[0])
    if why is None:
        return ()
    return (
        f"before its conversion the network has {accuracy:.2f} % on {data.name}, and {why}: it may have been trained "
        f"with another input scale than {scale}, or with other data",
    )


def check_fit(network: FloatNetwork | Network, data: Dataset) -> None:
    """Refuse data whose samples do not have the size of the input."""
    shape = network.input_shape if isinstance(network, FloatNetwork) else network.shapes[network.input_name]
    found = data.images.shape[1:]
    if int(np.prod(found)) != int(np.prod(shape)) or (len(shape) == 3 and found != shape):
        raise ShapeError(
            f"data {data.name}: its samples are {found}, the network takes {shape}; use data of that shape"
        )


def measure(stages, data: Dataset, scale: InputScale, converted: Network, threads: int = 1, progress=None):
    """What the float stages, the integer ANN and the spiking network are worth on `data`, as `Stage` objects.

    Raises
    ------
    ShapeError, RangeError
        Labels or targets that the outputs cannot stand for.
    """
    found_aim = aim(converted, data)
    x = scale.apply(data.images)
    target = wanted(found_aim, data, x)
    unit = converted.metadata["readout_unit"]
    found: list[Stage] = []
    first = None
    total = len(stages) + 3

    def note(name: str, outputs: np.ndarray, predictions: np.ndarray) -> None:
        nonlocal first
        if found_aim.kind == "classes":
            value = accuracy(predictions, cast(np.ndarray, data.labels))
            last = found[-1].accuracy if found else None
            found.append(Stage(name, value, None if last is None else last - value))
        else:
            first = outputs if first is None else first
            to_target = None if target is None else output_error(outputs, target)
            found.append(Stage(name, None, None, output_error(outputs, first), to_target))
        if progress is not None:
            progress(len(found), total)

    for name, graph in stages:
        outputs = forward(graph, x)
        note(name, outputs, decide(outputs))
    ann: Any
    at_rest: Any
    if unproven(converted, data.images):
        ann = integer_ann(converted, data.images, levels=False, threads=threads)
        at_rest = simulate(converted, data.images, settle=True, threads=threads, reports=False)
    else:  # the theorem: both are one, and some samples are looked at
        ann = at_rest = settle(converted, data.images, checked=SETTLED_CHECKED, threads=threads, reports=False)
    note("thresholds and biases (integer ANN)", ann.outputs * unit, ann.predictions)
    run = simulate(converted, data.images, threads=threads, reports=False)
    note(f"SNN, T = {converted.t_drive}", run.outputs * unit, run.predictions)
    note("SNN, settled", at_rest.outputs * unit, at_rest.predictions)
    return tuple(found)


def convert_float(
    network: FloatNetwork,
    calibration: Dataset,
    *,
    evaluation: Dataset | None = None,
    rule: NeuronRule | None = None,
    weight_bits: int = 8,
    activation_bits: int = 4,
    input_scale: InputScale | None = None,
    first_last_bits: int | None = None,
    bias_correction: bool = True,
    rounding: str = "auto",
    allow_overlap: bool = False,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Pipeline:
    """Quantise `network` with `calibration`, convert it and measure every stage on `evaluation`.

    Parameters
    ----------
    network : FloatNetwork
        As imported; it is folded here.
    calibration, evaluation : Dataset
        Evaluation defaults to the calibration data. Where they have no labels of classes, the distance of the outputs
        from those of the float network is measured, and from targets where there are some.
    rule : NeuronRule
        Neuron of the converted network.
    weight_bits, activation_bits, first_last_bits, bias_correction, rounding
        See `intsnn.conversion.quantise.quantise_network`.
    input_scale : InputScale
        Default ``1 / calibration.maximum``, and 1 for a network whose first layer scales its input, which is then part
        of the scale.
    allow_overlap : bool
        Measure also on `evaluation` data of which some are calibration data; the result says how many.

    Raises
    ------
    ConversionError, UnsupportedError, ShapeError
        Naming the layer and why.
    """
    check_fit(network, calibration)
    overlap = None
    if evaluation is not None:
        check_fit(network, evaluation)
        overlap = check_overlap(
            calibration.digests(), evaluation.digests(), (calibration.name, evaluation.name), allow_overlap,
            "calibrate with other data, such as the training part, or allow it (--allow-overlap)",
        )  # fmt: skip
    evaluation = evaluation or calibration
    network, scale = without_rescaling(network, input_scale, InputScale(calibration.scale))
    folded = fold(network)
    quantisation = quantise_network(
        folded, calibration.images, weight_bits=weight_bits, activation_bits=activation_bits, input_scale=scale,
        input_format=input_format(calibration), first_last_bits=first_last_bits, bias_correction=bias_correction,
        rounding=rounding,
    )  # fmt: skip
    conversion = convert(quantisation.network, rule)
    found_aim = aim(conversion.network, evaluation)
    # outputs are compared as they are converted: without a softmax at the end
    stages = [("float", network if found_aim.kind == "classes" else folded), *quantisation.stages]
    if any(report.get("branches", 1) > 1 for report in conversion.layers.values()):
        stages.append(("joins in one unit", conversion.joined))
    measured = measure(stages, evaluation, scale, conversion.network, threads, progress)
    return Pipeline(
        conversion.network, quantisation.network, conversion, measured, evaluation.name, quantisation.zeroed,
        quantisation.clipped, quantisation.rounding, quantisation.errors, found_aim, overlap,
        doubts(measured[0].accuracy, evaluation, conversion.network, scale),
    )  # fmt: skip


def input_format(data: Dataset):
    """Format of the raw integers of a data set: 8 bits for images, else what its dtype and maximum say."""
    from ..formats.fixed import Fixed

    low, high = int(data.images.min(initial=0)), int(data.images.max(initial=0))
    if not np.issubdtype(data.images.dtype, np.integer):
        raise ConversionError(f"data {data.name}: found {data.images.dtype}; integer codes are needed")
    return Fixed.for_range(min(low, 0), max(high, int(data.maximum)))
