"""The integer quantised ANN that a converted network stands for, and when both must be equal.

Same weights, thresholds and integers; every neuron becomes
``n = clip(floor((V0 + Q) / theta), 0, L)`` of its total charge Q. `intsnn.verify` compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UnsupportedError
from ..formats.arguments import STEPS, whole, whole_or_none
from ..network.schedule import schedule
from ..network.spiking import spiking_network
from .backends.stepwise.plan import Plan, Worker
from .inputs import frames_given, sources_of
from .program import lower
from .result import predict, to_api

__all__ = ["AnnResult", "equality_conditions", "integer_ann"]


@dataclass(frozen=True, eq=False)
class AnnResult:
    """Outcome of `integer_ann`, all int64.

    Outputs are ``(B, K)``, predictions ``(B,)`` (of maps ``(B, H, W)``), levels by layer ``(B, *shape)``.
    """

    outputs: np.ndarray
    predictions: np.ndarray
    levels: dict[str, np.ndarray]


def _refusals(network) -> list[str]:
    """Why `network` has no integer ANN."""
    reasons = ["the network is recurrent"] if network.recurrent else []
    for name, layer in network.nodes.items():
        reasons += layer.no_ann(name, network.levels)
    return reasons


def equality_conditions(network) -> list[str]:
    """What stands between the settled network and equality with its integer ANN; empty if it must hold.

    The theorem (``docs/semantics.md``): no leak, reset by subtraction, `>=`, signed spikes with v_negative = 0,
    the net count capped at L, no overflow, run until quiet.
    """
    reasons = _refusals(spiking_network(network))
    for name in network.neurons:
        layer = network.nodes[name]
        if not layer.signed:
            reasons.append(f"{name} is unsigned: a spike too many is never taken back")
        elif np.any(layer.v_negative):
            reasons.append(f"{name} takes spikes back below v_negative = {int(layer.v_negative.min())}, not below 0")
        if layer.max_count is None:
            reasons.append(f"{name} has no cap: a saturated neuron never comes to rest")
        elif network.levels is not None and layer.max_count != network.levels:
            reasons.append(f"{name} is capped at {layer.max_count}, not at L = {network.levels}")
        if layer.compare != ">=":
            reasons.append(f"{name} compares with >: v = theta may stay")
    return reasons


def integer_ann(
    network, inputs, *, steps: int | None = None, batch_size: int = 64, time_axis: int | None = None
) -> AnnResult:
    """Levels and outputs of the integer quantised ANN of `network` on `inputs` (as in `simulate`).

    Parameters
    ----------
    network, inputs, time_axis
        As in `simulate`; the drive is that of a settling run.
    steps : int, optional
        Driven steps of a network without t_drive on constant codes: there they must be said.
    batch_size : int
        Samples at a time. Never changes a bit.

    Raises
    ------
    UnsupportedError
        If the network has none: leaks, other resets, recurrence, rounding pools.
    RangeError
        If a total of a layer could need more than 63 bits.
    FormatError
        If nothing says how many steps are driven.
    """
    reasons = _refusals(spiking_network(network))
    steps = whole_or_none(steps, "steps", 1, STEPS)
    batch_size = whole(batch_size, "batch_size", 1)
    if reasons:
        raise UnsupportedError(f"this network has no integer ANN: {'; '.join(reasons)}")
    sources = sources_of(network, inputs, time_axis)
    samples = next(iter(sources.values())).samples
    when = schedule(network, frames_given(sources), steps, settle=True).of_totals()
    worker = Worker(Plan(lower(network, when), "step"))
    outputs: list[np.ndarray] = []
    levels: dict[str, list[np.ndarray]] = {name: [] for name in network.spiking}
    for start in range(0, samples, batch_size):
        worker.begin(sources, start, min(start + batch_size, samples))
        worker.advance(0, 1)
        for name, found in levels.items():
            found.append(to_api(worker.values[name][:, 0].astype(np.int64), network.shapes[name]))
        state = worker.states[network.output_name]
        total = state["total"] if "total" in state else worker.values[network.output_name][:, 0]
        outputs.append(to_api(total.astype(np.int64), network.shapes[network.output_name]).reshape(worker.samples, -1))
    size = int(np.prod(network.shapes[network.output_name]))
    stacked = np.concatenate(outputs) if outputs else np.zeros((0, size), np.int64)
    return AnnResult(
        stacked,
        predict(network, stacked),
        {
            name: np.concatenate(found) if found else np.zeros((0, *network.shapes[name]), np.int64)
            for name, found in levels.items()
        },
    )
