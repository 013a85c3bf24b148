"""Do the spikes of the integer network equal those of torch, and what is it where they do not?

Against torch on the same integers nothing may differ. Against the float network two things are rounded: thresholds and
biases to `fraction_bits` binary places, and the decay to whole charges; with more places what differs goes to zero.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from ...engine.simulation import simulate
from ...network.spiking import Network
from .integers import integer_network, torch_integers
from .network import EventNetwork

__all__ = ["SpikeComparison", "compare_spikes", "float_spikes"]

BATCH = 50


@dataclass(frozen=True)
class SpikeComparison:
    """Spikes of all layers and steps of some samples.

    Attributes
    ----------
    compared : int
        How many values there are (spike or none).
    spikes : int
        How many of them are spikes of the integer network.
    integers : int
        How many differ from torch on the same integers, outputs included.
    single, double : int
        How many differ from the float network in float32 and float64.
    double_by_bits : dict of int to int
        How many differ from float64 with other numbers of binary places.
    """

    compared: int
    spikes: int
    integers: int
    single: int
    double: int
    double_by_bits: dict[int, int]


def float_spikes(network: EventNetwork, frames: np.ndarray, kind: torch.dtype) -> dict[str, np.ndarray]:
    """Spikes ``(T, B, ...)`` int8 of every spiking layer of the trained network for frames ``(B, T, C, H, W)``."""
    network = copy.deepcopy(network).to(kind).eval()
    x = torch.from_numpy(np.ascontiguousarray(frames.swapaxes(0, 1))).to(kind)
    with torch.no_grad():
        found = network(x, record=network.spiking)
    return {name: value.numpy().astype(np.int8) for name, value in found.items()}


def _differing(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> int:
    return sum(int((one[name] != other[name]).sum()) for name in other)


def _engine(network: Network, frames: np.ndarray, names: Iterable[str]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    wanted = [f"{name}.spikes" for name in names]
    run = simulate(network, frames.swapaxes(0, 1), record=wanted, strict=True)
    return {name: run.records[f"{name}.spikes"] for name in names}, run.outputs


def compare_spikes(
    network: EventNetwork, integers: Network, frames: np.ndarray, bits: Iterable[int] = (4, 8, 12, 16)
) -> SpikeComparison:
    """Compare every spike of `integers` with torch.

    Parameters
    ----------
    network : EventNetwork
        As trained.
    integers : Network
        What was made of it (`integer_network`), or read from its file.
    frames : (N, T, C, H, W) integers
    bits : iterable of int
        Binary places to try against float64.
    """
    totals = dict.fromkeys(("compared", "spikes", "integers", "single", "double"), 0)
    others = {b: integer_network(network, fraction_bits=b) for b in bits}
    by_bits = dict.fromkeys(others, 0)
    for start in range(0, len(frames), BATCH):
        part = frames[start : start + BATCH]
        found, outputs = _engine(integers, part, network.spiking)
        exact, exact_outputs = torch_integers(network, part)
        double = float_spikes(network, part, torch.float64)
        totals["compared"] += sum(values.size for values in found.values())
        totals["spikes"] += sum(int(np.abs(values).sum(dtype=np.int64)) for values in found.values())
        totals["integers"] += _differing(found, exact) + int((outputs != exact_outputs).sum())
        totals["single"] += _differing(found, float_spikes(network, part, torch.float32))
        totals["double"] += _differing(found, double)
        for b, other in others.items():
            by_bits[b] += _differing(_engine(other, part, network.spiking)[0], double)
    return SpikeComparison(**totals, double_by_bits=by_bits)
