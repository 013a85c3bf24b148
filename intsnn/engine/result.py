"""What did a run give: outputs, decisions, what each layer did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from .state import State

__all__ = ["LayerReport", "Result", "decide", "places", "predict", "to_api"]


def decide(outputs: np.ndarray, axis: int = 1) -> np.ndarray:
    """The class that outputs stand for: the first largest; of one output alone, 1 where it is above 0.

    Parameters
    ----------
    outputs : (N, K) or (N, K, H, W) numbers
        K along `axis`, which the result lacks.

    Returns
    -------
    ndarray of int64
    """
    if outputs.shape[axis] == 1:
        return (np.take(outputs, 0, axis=axis) > 0).astype(np.int64)
    return np.argmax(outputs, axis=axis)


@dataclass
class LayerReport:
    """What one spiking layer did over a whole run.

    `saturations`, `wraps`, `traps`: results that a format did not hold; `underflows`: non-zero states that a decay
    made zero; `dead`: neurons that never fired; `always_on`: neurons that fired in every driven step of every sample;
    `peak_v`, `peak_sum`: largest absolute membrane (before reset) and synaptic sum; `v_low`, `v_high`, `sum_low`,
    `sum_high`: the ends of both, 0 among them; `spikes`: absolute sum.
    """

    name: str
    neurons: int
    spikes: int = 0
    saturations: int = 0
    wraps: int = 0
    traps: int = 0
    underflows: int = 0
    dead: int = 0
    always_on: int = 0
    peak_v: int = 0
    peak_sum: int = 0
    v_low: int = 0
    v_high: int = 0
    sum_low: int = 0
    sum_high: int = 0

    @classmethod
    def of_parts(cls, name: str, neurons: int, parts: Sequence[Mapping[str, Any]]) -> LayerReport:
        """What is known of parts of the samples, together; how many neurons never or always fire is not."""
        found = cls(name, neurons)
        for key in ("spikes", "saturations", "wraps", "traps", "underflows"):
            setattr(found, key, sum(part[key] for part in parts))
        for key in ("peak_v", "peak_sum", "v_high", "sum_high"):
            setattr(found, key, max((part[key] for part in parts), default=0))
        for key in ("v_low", "sum_low"):
            setattr(found, key, min((part[key] for part in parts), default=0))
        return found

    @property
    def overflows(self) -> int:
        """Results outside their format, whatever became of them."""
        return self.saturations + self.wraps + self.traps


@dataclass(eq=False)
class Result:
    """Outcome of a run, of whichever backend; what a backend does not give is empty.

    Attributes
    ----------
    network : Network
    outputs : (B, K) int64
        Accumulated readout (or net counts, or first-spike steps) of each sample; of several outputs, those of the
        first.
    steps : int
        Steps of the longest sample.
    extra_steps : (B,) int64
        Steps beyond the drive until the last spike (settling runs only, else 0).
    settled : bool or None
        Whether every sample came to rest; None when not asked for.
    layers : dict of name to LayerReport
    records : dict of ``"layer.quantity"`` to array ``(T, B, *shape)``
        After a sample has come to rest its spikes and currents are 0 and its states stay.
    final : dict of ``"layer.counts"`` and ``"layer.v"`` to ``(B, *shape)`` int64
        Net counts and membranes at the end (with ``keep_final=True``).
    state : State or None
        From which another run goes on (with ``keep_state=True``).
    named : dict of name to ``(B, K)`` int64
        Outputs of every output of the network.
    backend : str
        What ran it.
    """

    network: object
    outputs: np.ndarray
    steps: int
    extra_steps: np.ndarray
    settled: bool | None
    layers: dict[str, LayerReport] = field(default_factory=dict)
    records: dict[str, np.ndarray] = field(default_factory=dict)
    final: dict[str, np.ndarray] = field(default_factory=dict)
    state: State | None = None
    named: dict[str, np.ndarray] = field(default_factory=dict)
    backend: str = ""

    @cached_property
    def predictions(self) -> np.ndarray:
        """Decision of each sample ``(B,)`` int64, or of each pixel ``(B, H, W)`` where the outputs are maps.

        Index of the first best output (of a pixel, the first best channel). Of a single output, 1 where it is above 0,
        else 0.
        """
        if not self.outputs.shape[1]:
            return np.zeros(len(self.outputs), np.int64)
        return predict(self.network, self.outputs)

    @property
    def samples(self) -> int:
        """Number of samples."""
        return len(self.outputs)

    @property
    def overflows(self) -> int:
        """Overflows of all layers together."""
        return sum(layer.overflows for layer in self.layers.values())

    @property
    def spikes_per_neuron(self) -> float:
        """Mean number of spikes per neuron and sample (max-pools are no neurons)."""
        layers = [layer for layer in self.layers.values() if layer.neurons]
        neurons = sum(layer.neurons for layer in layers)
        return sum(layer.spikes for layer in layers) / max(1, neurons * self.samples)


def to_api(flat: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``(..., H * W * C)`` of the kernels as ``(..., C, H, W)`` (or ``(..., N)``)."""
    if len(shape) == 1:
        return flat
    channels, height, width = shape
    return np.moveaxis(flat.reshape(*flat.shape[:-1], height, width, channels), -1, -3)


def predict(network, outputs: np.ndarray) -> np.ndarray:
    """First best output of each sample; where outputs are maps (C, H, W), the first best channel of each pixel.

    A network of one output says class 1 where it is above 0; one that answers the step of a spike, where it fired.
    """
    shape = network.shapes[network.output_name]
    if len(shape) == 3 and shape[1:] != (1, 1):
        outputs = outputs.reshape(-1, *shape)
    if getattr(network.nodes[network.output_name], "by_time", False):
        if outputs.shape[1] == 1:
            return decide(outputs + 1)
        never = np.iinfo(np.int64).max
        return np.argmin(np.where(outputs < 0, never, outputs), axis=1)
    return decide(outputs)


def places(network) -> tuple[int, int]:
    """Outputs that one label stands for, and how many labels a sample has: ``(K, 1)``, of maps ``(C, H * W)``."""
    shape = network.shapes[network.output_name]
    return int(shape[0]), math.prod(shape[1:])
